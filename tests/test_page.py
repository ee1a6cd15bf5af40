"""The web page in a real browser: upload, progress, verdict, slider, report, bad files, silence, phone, dark, print."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixelsleuth.detector import Detector
from tests.conftest import shape_picture
from tests.servers import serving

pytest.importorskip("fastapi", reason="needs the web extra")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
# On a busy machine the five seconds that it waits by itself are short.
sync_api.expect.set_options(timeout=30_000)
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium: apt-get install chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip

#: Every text that is shown, with its contrast to what lies behind it (WCAG 2.1) and whether it is large.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (parts) => {
    const [r, g, b] = parts.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    let behind = element;
    while (behind && rgba(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
    const style = getComputedStyle(element);
    const colour = rgba(element.closest("svg") ? style.fill : style.color);
    const pair = [light(colour), behind ? light(rgba(getComputedStyle(behind).backgroundColor)) : 1];
    found.push([text, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def served(model_folder: Path) -> Iterator[Callable[[str], str]]:
    """Gives the address of a server with a token, or with none."""
    from pixelsleuth.web.app import application

    def made(token: str) -> Any:
        return application(Detector.load(model_folder), str(model_folder), rate=0.1, token=token)

    with serving(made("")) as port, serving(made("secret")) as locked:
        yield lambda token: f"http://127.0.0.1:{locked if token else port}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def opened(browser: Any, served: Callable[[str], str]) -> Iterator[Callable[..., Any]]:
    """Opens the page; at the end no page may have said an error."""
    contexts, said = [], []

    def opened(
        token: str = "", width: int = 1000, before: Callable[[Any], Any] | None = None, until: str = "load", **how: Any
    ) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **how)
        contexts.append(context)
        made = context.new_page()
        made.set_default_timeout(30_000)
        made.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        made.on("pageerror", lambda error: said.append(str(error)))
        made.problems = said
        if before:
            before(made)
        made.goto(served(token), wait_until=until)
        return made

    yield opened
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def page(opened: Callable[..., Any]) -> Any:
    made = opened()
    made.wait_for_selector("#examples button")
    return made


def picture(tmp_path: Path, anomalous: bool = True, name: str = "shape.png") -> Path:
    path = tmp_path / name
    Image.fromarray(shape_picture(9_000, anomalous)).save(path)
    return path


def let_go(page: Any, held: list[Any]) -> None:
    """Lets the first call go on that is held back; waits until there is one."""
    deadline = time.monotonic() + 30
    while not held:
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)
    held[0].continue_()


def judged(page: Any, path: Path) -> None:
    page.set_input_files("#file", path)
    page.wait_for_selector("#finding:not([hidden])")


def test_from_a_file_to_its_verdict_slider_and_report(page: Any, tmp_path: Path) -> None:
    assert "calibrated on 120 untouched pictures" in page.text_content("#model")
    assert "up to 100 MB" in page.text_content("#limit")
    judged(page, picture(tmp_path))
    alarm = page.text_content("#words") == "Unusual: look closer"
    assert alarm or page.text_content("#words") == "No clear answer"
    answer = page.inner_text("#answer")
    assert "Content Credentials" in page.text_content("#evidence")
    for part in ("What was found", "How often", "What to keep in mind", "What to do next", "in 100"):
        assert part in answer
    assert page.text_content("#progress") == ""
    assert page.evaluate("document.activeElement.id") == "words"
    # An alarm is shown where it is: what few normal images have, where there is such a place.
    found = page.locator("#places li").count()
    assert found == 0 or alarm
    first = "The part of the picture that was judged" if not alarm else "Unusual" if found else "Where to look"
    assert page.text_content("#shown").startswith(first)
    shown = []
    for value in ("0", "1", "2", "3"):
        page.fill("#slider", value)
        shown.append(
            (page.text_content("#shown"), page.get_attribute("#under", "src"), page.get_attribute("#over", "src"))
        )
    assert [caption.split(":")[0].split(",")[0] for caption, _, _ in shown] == [
        "The part of the picture that was judged", "Restoration",
        *(["Unusual", "Where to look first"] if alarm else ["Not a finding", "Error level"])]  # fmt: skip
    named = page.locator("#steps button").all_text_contents()
    assert named[-3:] == ["error level", "JPEG ghost", "noise"]
    page.click("#steps button >> nth=0")
    assert page.text_content("#shown").startswith("The part of the picture")
    assert page.get_attribute("#steps button >> nth=0", "aria-pressed") == "true"
    assert len({under for _, under, _ in shown[:3]}) == 3
    with page.expect_download() as download:
        page.click("#report")
    report = Path(download.value.path()).read_text(encoding="utf-8")
    assert answer.splitlines()[1] in report
    assert len(report) < 1_000_000


def test_a_bad_file_gets_its_message_and_the_next_is_judged(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    judged(page, tmp_path / "notes.txt")
    assert page.text_content("#words") == "Not judged"
    assert "Expected JPEG" in page.text_content("#answer")
    assert "a video (MP4" in page.text_content("#answer")
    for gone in ("#looks", "#places *", "#compare", "#legend"):
        assert not page.is_visible(gone)
    judged(page, picture(tmp_path, False))
    page.wait_for_selector("#looks:not([hidden])")
    assert "120 scores" in page.locator("#drawings svg").last.get_attribute("aria-label")
    assert page.text_content("#shown").startswith("The part of the picture")


def test_examples_and_the_history_of_the_session(page: Any, tmp_path: Path) -> None:
    names = page.locator("#examples button").all_text_contents()
    assert names[0] == "untouched"
    assert "cat’s nose" in names
    page.click("#examples button >> nth=0")
    page.wait_for_selector("#finding:not([hidden])")
    judged(page, picture(tmp_path))
    sync_api.expect(page.locator("#history tbody tr")).to_have_count(2)
    assert '"path": "shape.png"' in page.text_content("#record")
    page.click("#history button >> nth=0")
    assert '"path": "untouched.jpg"' in page.text_content("#record")
    sync_api.expect(page.locator("#report")).to_have_attribute("href", re.compile("^blob:"))


def test_several_files_have_a_table_and_one_report(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    files = [picture(tmp_path, True, "one.png"), tmp_path / "notes.txt", picture(tmp_path, False, "two.png")]
    page.set_input_files("#file", files)
    page.wait_for_selector("#finding:not([hidden])")
    rows = page.locator("#history tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["one.png", "notes.txt", "two.png"]
    assert "Not judged" in rows[1]
    assert page.text_content("#name") == "one.png"
    with page.expect_download() as download:
        page.click("#together")
    report = Path(download.value.path()).read_text(encoding="utf-8")
    assert report.count('<article class="finding">') == 3
    assert all(f">{path.name}<" in report for path in files)


def test_looking_at_a_result_does_not_end_the_batch(page: Any, tmp_path: Path) -> None:
    files = [picture(tmp_path, True, f"{name}.png") for name in ("one", "two", "three", "four", "five")]
    asked: list[str] = []
    held: list[Any] = []

    def third_waits(route: Any) -> None:
        # What became of the third file is first told once an earlier result has been looked at.
        known = route.request.url in asked
        asked.append(route.request.url)
        if known or len(set(asked)) != 3:
            route.continue_()
        else:
            held.append(route)

    rows = page.locator("#history tbody tr")
    page.route(re.compile("/api/jobs/[^/]+$"), third_waits)
    page.set_input_files("#file", files)
    sync_api.expect(page.locator("#progress")).to_contain_text("three.png")
    sync_api.expect(rows).to_have_count(2)
    page.click("#history button >> nth=1")
    sync_api.expect(page.locator("#name")).to_have_text("two.png")
    sync_api.expect(page.locator("#report")).to_have_attribute("href", re.compile("^blob:"))
    assert "three.png" in page.text_content("#progress")
    let_go(page, held)
    sync_api.expect(rows).to_have_count(5)
    sync_api.expect(page.locator("#progress")).to_have_text("")
    # What is looked at stays where it is.
    assert page.text_content("#name") == "two.png"
    assert page.text_content("#problem") == ""
    assert [row.split()[0] for row in rows.all_inner_texts()] == [path.name for path in files]


def test_an_earlier_copy_is_laid_over_the_file(page: Any, tmp_path: Path) -> None:
    # Without the chance noise of the shapes, which would differ everywhere.
    pixels = shape_picture(9_000)
    Image.fromarray(pixels).resize((512, 512)).save(tmp_path / "earlier.png")
    pixels[20:34, 24:40] = (30, 90, 200)
    Image.fromarray(pixels).resize((512, 512)).save(tmp_path / "suspect.jpg", quality=85)
    judged(page, tmp_path / "suspect.jpg")
    assert page.is_visible("label[for=original]")
    page.set_input_files("#original", tmp_path / "earlier.png")
    page.wait_for_selector("#pair:not([hidden])")
    assert "Number of places that differ by more than re-saving explains: 1" in page.inner_text("#differs")
    sync_api.expect(page.locator("#history tbody tr")).to_have_count(1)
    record = json.loads(page.text_content("#record"))
    (change,) = record["against"]["changes"]
    x0, y0, x1, y1 = change["box"]
    assert x0 <= 200 < 300 <= x1
    assert y0 <= 170 < 260 <= y1
    assert record["against"]["path"] == "earlier.png"
    cut = "getComputedStyle(at('earlier')).clipPath"
    assert "50%" in page.evaluate(cut)
    page.fill("#wiper", "20")
    assert "20%" in page.evaluate(cut)
    assert page.get_attribute("#suspect", "src") != page.get_attribute("#earlier", "src")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.set_input_files("#original", tmp_path / "broken.png")
    sync_api.expect(page.locator("#problem")).to_contain_text("broken.png: ")


def test_what_may_be_quoted_can_be_copied(opened: Callable[..., Any], tmp_path: Path) -> None:
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    page.wait_for_selector("#examples button")
    judged(page, picture(tmp_path))
    page.click("#quotes button >> nth=0")
    sync_api.expect(page.locator("#quotes button >> nth=0")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    record = json.loads(page.text_content("#record"))
    assert record["sha256"][:12] in copied
    assert page.text_content("#words") in copied


def test_a_video(page: Any, tmp_path: Path) -> None:
    from tests.videofiles import write_video

    frames = [shape_picture(9_000 + k, k > 4).repeat(2, 0).repeat(2, 1) for k in range(8)]
    judged(page, write_video(tmp_path / "clip.mp4", frames))
    assert "twice the mean p of" in page.text_content("#answer")
    assert "p-value of" in page.locator("#drawings svg").first.get_attribute("aria-label")
    assert page.locator("#drawings .pictures img").count() >= 1
    assert page.is_visible("#stage img")


def test_a_model_of_volumes_asks_for_volumes(opened: Callable[..., Any], browser: Any) -> None:
    page = opened()
    model = {"name": "brains", "takes": ["volume"], "most_bytes": 5e8, "n_calibration": 99, "max_false_alarm": 0.05}
    page.route("**/api/models", lambda route: route.fulfill(json=[model]))
    page.reload()
    page.wait_for_selector("#model:not(:empty)")
    assert page.text_content("#takes") == "Choose scans"
    assert page.text_content("#limit") == "NIfTI, Analyze, MGH, NRRD, DICOM in one file, up to 500 MB each"
    assert not page.is_visible("#examples")


def test_refusals_and_silence_are_told(page: Any, tmp_path: Path) -> None:
    # Made in the page: as a file it would have to be carried there.
    page.evaluate("judge(new File([new Uint8Array(100000001)], 'large.bin'))")
    told = "large.bin has 100,000,001 bytes, at most 100,000,000 are taken"
    sync_api.expect(page.locator("#problem")).to_contain_text(told)
    page.route("**/api/jobs", lambda route: route.fulfill(status=503, json={"reason": "32 inputs wait already"}))
    page.set_input_files("#file", [picture(tmp_path, name="one.png"), picture(tmp_path, name="two.png")])
    sync_api.expect(page.locator("#problem")).to_have_text("32 inputs wait already")
    assert not page.is_visible("#finding")
    page.unroute("**/api/jobs")
    page.route("**/api/jobs/*", lambda route: route.fulfill(json={"id": "1", "state": "failed", "reason": "it broke"}))
    page.set_input_files("#file", picture(tmp_path))
    sync_api.expect(page.locator("#problem")).to_have_text("it broke")
    page.unroute("**/api/jobs/*")
    # The server falls silent while the job waits, and stays so.
    page.route("**/api/jobs/*", lambda route: route.abort())
    page.set_input_files("#file", picture(tmp_path))
    sync_api.expect(page.locator("#problem")).to_contain_text("does not answer")
    assert page.text_content("#progress") == ""
    page.unroute("**/api/jobs/*")
    judged(page, picture(tmp_path))
    assert page.text_content("#problem") == ""
    # The browser says these itself: the two refusals and each silence.
    assert len(page.problems) == 2 + 5
    page.problems.clear()


def test_a_short_silence_loses_no_result(page: Any, tmp_path: Path) -> None:
    fails = iter(range(2))
    page.route("**/api/jobs/*", lambda route: route.continue_() if next(fails, None) is None else route.abort())
    judged(page, picture(tmp_path))
    assert page.text_content("#problem") == ""
    assert len(page.problems) == 2
    page.problems.clear()


def test_progress_is_told_while_it_waits(page: Any, tmp_path: Path) -> None:
    states = iter(["waiting", "working"])
    page.route("**/api/jobs/*", lambda route: (
        route.fulfill(json={"id": "1", "state": state, "reason": ""}) if (state := next(states, "")) else
        route.continue_()))  # fmt: skip
    page.evaluate("""() => { window.seen = []; new MutationObserver(() => seen.push(at("progress").textContent))
        .observe(at("progress"), { childList: true }) }""")
    judged(page, picture(tmp_path))
    said = ["Sending shape.png…", "shape.png waits for its turn…", "Looking at shape.png…", ""]
    assert page.evaluate("seen") == said


def test_time_left_of_a_video_is_told(page: Any, tmp_path: Path) -> None:
    steps = {"stage": "reading", "done": 8, "total": 32, "share": 0.1, "seconds_left": 41.3}
    told = iter([steps, {**steps, "stage": "judging", "seconds_left": 130.0}])
    page.route("**/api/jobs/*", lambda route: (
        route.fulfill(json={"id": "1", "state": "working", "reason": "", "steps": step}) if (step := next(told, None))
        else route.continue_()))  # fmt: skip
    page.evaluate("""() => { window.seen = []; new MutationObserver(() => seen.push(at("step").textContent))
        .observe(at("step"), { childList: true }) }""")
    judged(page, picture(tmp_path))
    said = ["Looking for faces: frame 8 of 32. About 42 s left.", "Judging faces: 8 of 32. About 3 minutes left."]
    assert page.evaluate("seen") == said
    assert page.evaluate("at('share').value") == 0.1
    assert not page.is_visible("#steps-taken")


def test_a_token_is_asked_for(opened: Callable[..., Any], tmp_path: Path) -> None:
    page = opened("secret")
    page.wait_for_selector("#token-form:not([hidden])")
    assert "asks for its token" in page.text_content("#problem")
    page.fill("#token", "secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#examples button")
    assert page.text_content("#problem") == ""
    judged(page, picture(tmp_path))
    # What the browser says of the first, refused call.
    assert len(page.problems) == 1
    page.problems.clear()


def test_the_keyboard_alone_is_enough(page: Any, tmp_path: Path) -> None:
    for first in ("language", "file"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == first
    # Seen though the field itself is not.
    assert page.evaluate("getComputedStyle(at('drop')).outlineStyle") == "solid"
    # A trusted click with a user behind it is what makes a browser ask for a file. The question itself is stopped here:
    # whether it is announced in time depends on the browser and on how busy the machine is.
    page.evaluate("""at("file").addEventListener("click", (event) => {
        event.preventDefault();
        window.clicked = event.isTrusted && navigator.userActivation.isActive;
    })""")
    page.keyboard.press("Space")
    page.wait_for_function("window.clicked === true")
    judged(page, picture(tmp_path))
    for wanted in ("report", "slider"):
        for _ in range(16):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == wanted:
                break
        assert page.evaluate("document.activeElement.id") == wanted
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        if wanted == "slider":
            page.keyboard.press("Home")
            assert page.text_content("#shown").startswith("The part of the picture")
            page.keyboard.press("End")
            assert page.text_content("#shown").startswith("Noise")
        else:
            with page.expect_download():
                page.keyboard.press("Enter")


def test_everything_has_a_name(page: Any, tmp_path: Path) -> None:
    judged(page, picture(tmp_path))
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "slider", "textbox", "image", "DisclosureTriangle", "heading", "table"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert {"button", "link", "slider", "image", "DisclosureTriangle"} <= {role for role, _ in named}
    assert [role for role, name in named if not name.strip() and role != "table"] == []
    assert page.get_attribute("html", "lang") == "en"
    assert page.locator("h1").count() == 1


def test_a_file_chosen_before_the_page_has_its_words_is_judged(opened: Callable[..., Any], tmp_path: Path) -> None:
    held: list[Any] = []
    page = opened(before=lambda made: made.route("**/words/*", lambda route: held.append(route)))
    page.set_input_files("#file", picture(tmp_path))
    let_go(page, held)
    page.wait_for_selector("#finding:not([hidden])")
    assert page.text_content("#problem") == ""


def test_words_that_could_not_be_had_are_asked_for_again(opened: Callable[..., Any], tmp_path: Path) -> None:
    fails = iter(range(1))
    page = opened(before=lambda made: made.route("**/words/*", lambda route: (
        route.continue_() if next(fails, None) is None else route.abort())))  # fmt: skip
    sync_api.expect(page.locator("#problem")).not_to_have_text("")
    judged(page, picture(tmp_path))
    assert page.text_content("#problem") == ""
    assert page.text_content("#takes") == "Choose pictures or videos"
    assert "calibrated on" in page.text_content("#model")
    assert len(page.problems) == 1
    page.problems.clear()


def test_a_file_chosen_before_the_script_runs_is_judged(opened: Callable[..., Any], tmp_path: Path) -> None:
    held: list[Any] = []
    page = opened(before=lambda made: made.route("**/page.js", lambda route: held.append(route)), until="commit")
    page.set_input_files("#file", picture(tmp_path))
    let_go(page, held)
    page.wait_for_selector("#finding:not([hidden])")


def test_a_model_unknown_at_first_is_asked_for_when_a_file_comes(opened: Callable[..., Any], tmp_path: Path) -> None:
    page = opened("secret")
    page.wait_for_selector("#token-form:not([hidden])")
    page.set_input_files("#file", picture(tmp_path))
    sync_api.expect(page.locator("#problem")).to_contain_text("asks for its token")
    # The token is there, but the button beside it was not pressed; steps are what a video tells.
    page.fill("#token", "secret")
    step = {"stage": "reading", "done": 8, "total": 32, "share": 0.1, "seconds_left": 41.3}
    told = iter([{"id": "1", "state": "working", "reason": "", "steps": step}])
    page.route("**/api/jobs/*", lambda route: (
        route.fulfill(json=state) if (state := next(told, None)) else route.continue_()))  # fmt: skip
    judged(page, picture(tmp_path))
    assert page.text_content("#problem") == ""
    assert not page.is_visible("#token-form")
    assert "calibrated on" in page.text_content("#model")
    # What the browser says of the calls without a token.
    assert len(page.problems) == 2
    page.problems.clear()


def test_a_finding_is_shown_though_its_report_is_gone(page: Any, tmp_path: Path) -> None:
    page.route("**/report", lambda route: route.fulfill(status=404, json={"reason": "no such job"}))
    judged(page, picture(tmp_path))
    sync_api.expect(page.locator("#problem")).to_contain_text("Its report is no longer kept")
    page.set_input_files("#original", picture(tmp_path, name="earlier.png"))
    page.wait_for_selector("#pair:not([hidden])")
    sync_api.expect(page.locator("#problem")).to_contain_text("Its report is no longer kept")
    assert page.get_attribute("#report", "href") is None
    # What the browser says of the two refusals.
    assert len(page.problems) == 2
    page.problems.clear()


def test_the_language_chosen_last_is_spoken(page: Any) -> None:
    held: list[Any] = []
    page.route("**/words/de", lambda route: held.append(route))
    page.select_option("#language", "de")
    page.select_option("#language", "en")
    sync_api.expect(page.locator("#takes")).to_have_text("Choose pictures or videos")
    with page.expect_response("**/words/de"):
        let_go(page, held)
    page.wait_for_timeout(300)
    assert page.text_content("#takes") == "Choose pictures or videos"
    assert page.get_attribute("html", "lang") == "en"
    page.unroute("**/words/de")
    page.route("**/words/de", lambda route: route.abort())
    page.select_option("#language", "de")
    sync_api.expect(page.locator("#problem")).to_contain_text("The server does not answer")
    assert page.input_value("#language") == "en"
    # What the browser says of the silence.
    assert len(page.problems) == 1
    page.problems.clear()


def test_a_file_that_misses_the_field_leaves_the_page_as_it_is(page: Any) -> None:
    dropped = """(kind) => {
        const carried = new DataTransfer();
        carried.items.add(new File(["x"], "x.jpg"));
        const event = new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true });
        return !document.querySelector("footer").dispatchEvent(event);
    }"""
    assert page.evaluate(dropped, "dragover")
    assert page.evaluate(dropped, "drop")
    assert page.text_content("#progress") == ""


def test_a_file_that_is_gone_by_now_is_named(opened: Callable[..., Any], tmp_path: Path) -> None:
    held: list[Any] = []
    page = opened(before=lambda made: made.route("**/words/*", lambda route: held.append(route)))
    gone = picture(tmp_path, name="gone.png")
    page.set_input_files("#file", [gone, picture(tmp_path)])
    gone.unlink()
    let_go(page, held)
    page.wait_for_selector("#finding:not([hidden])")
    sync_api.expect(page.locator("#problem")).to_contain_text("gone.png could not be read")
    assert page.text_content("#name") == "shape.png"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_light_and_dark(opened: Callable[..., Any], scheme: str, tmp_path: Path) -> None:
    page = opened(width=360, color_scheme=scheme)
    judged(page, picture(tmp_path, name="a_name_without_any_place_to_break_it_for_as_long_as_one_cares_to_look.png"))
    page.click("summary")
    page.evaluate("at('problem').textContent = 'A problem'; at('progress').textContent = 'Waiting'")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    found = page.evaluate(CONTRASTS)
    texts = " ".join(text for text, _ in found)
    for expected in (
        "or drop them here",
        "A problem",
        "Waiting",
        "What was found",
        "Download",
        "Scores of",
        "calibrated on",
    ):
        assert expected in texts
    assert {text: ratio for text, ratio in found if ratio < 4.5} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_reads_on_screen_and_on_paper(browser: Any, model_folder: Path, tmp_path: Path, scheme: str) -> None:
    from pixelsleuth.reporting.report import Judge, Report

    detector = Detector.load(model_folder)
    report = Report(Judge.of(detector, str(model_folder)), "made")
    for name in ("one.png", "two.png", "three.png"):
        report.add(detector.detect(picture(tmp_path, name=name), max_false_alarm=0.1))
    report.write(tmp_path / "report.html")
    context = browser.new_context(viewport={"width": 360, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert {text: ratio for text, ratio in page.evaluate(CONTRASTS) if ratio < 4.5} == {}
    # One page of each finding first: the rest is folded.
    assert not page.is_visible("[data-part=histogram]")
    assert page.is_visible("[data-part=answer]")
    unfolded = "[...document.querySelectorAll('details pre')].every((e) => e.checkVisibility())"
    assert not page.evaluate(unfolded)
    page.emulate_media(media="print")
    # Verdicts keep their colour, and what is folded on the screen is printed.
    assert page.evaluate("getComputedStyle(document.querySelector('.verdict')).printColorAdjust") == "exact"
    assert {text: ratio for text, ratio in page.evaluate(CONTRASTS) if ratio < 4.5} == {}
    assert page.evaluate(unfolded)
    printed = page.pdf(format="A4", path=str(tmp_path / "report.pdf"))
    # A sheet for the list, two a finding, two for the model.
    assert 4 <= len(re.findall(rb"/Type /Page\b", printed)) <= 9
    context.close()
