"""The web page in a real browser: upload, progress, verdict, slider, report, a bad file, phone and dark mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelsleuth.detector import Detector
from tests.conftest import shape_picture
from tests.servers import serving

pytest.importorskip("fastapi", reason="needs the web extra")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium: apt-get install chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def address(model_folder: Path) -> Iterator[str]:
    from pixelsleuth.web.app import application

    with serving(application(Detector.load(model_folder), str(model_folder), rate=0.1)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    made = context.new_page()
    made.problems = []
    made.on("console", lambda message: made.problems.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: made.problems.append(str(error)))
    made.goto(address)
    made.wait_for_selector("#examples button")
    yield made
    context.close()


def picture(tmp_path: Path, anomalous: bool = True) -> Path:
    from PIL import Image

    path = tmp_path / "shape.png"
    Image.fromarray(shape_picture(9_000, anomalous)).save(path)
    return path


def test_from_a_file_to_its_verdict_slider_and_report(page: Any, tmp_path: Path) -> None:
    page.set_input_files("#file", picture(tmp_path))
    page.wait_for_selector("#finding:not([hidden])", timeout=30_000)
    assert page.text_content("#words") in ("Unusual", "Unsure: the answer changes under a mild re-encoding")
    assert "normal calibration images" in page.text_content("#explained")
    assert page.text_content("#progress") == ""
    assert page.evaluate("document.activeElement.id") == "words"
    shown = []
    for value in ("0", "1", "2"):
        page.fill("#slider", value)
        shown.append(
            (page.text_content("#shown"), page.get_attribute("#under", "src"), page.get_attribute("#over", "src"))
        )
    assert [caption.split(":")[0] for caption, _, _ in shown] == ["Input", "Restoration", "Where to look"]
    assert shown[0][1] != shown[1][1]
    page.focus("#slider")
    page.keyboard.press("Home")
    assert page.text_content("#shown").startswith("Input")
    with page.expect_download() as download:
        page.click("#report")
    report = Path(download.value.path()).read_text()
    assert "normal calibration images" in report
    assert page.locator("#history li").count() == 1
    assert page.problems == []


def test_a_bad_file_gets_its_message_and_the_next_is_judged(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_selector("#finding:not([hidden])", timeout=30_000)
    assert page.text_content("#words") == "Not judged"
    assert "expected JPEG" in page.text_content("#explained")
    assert not page.is_visible("figure")
    page.set_input_files("#file", picture(tmp_path, False))
    page.wait_for_selector("figure:not([hidden])", timeout=30_000)
    assert "normal" in page.get_attribute("#histogram svg", "aria-label")
    assert page.problems == []


def test_a_refusal_is_told(page: Any, tmp_path: Path) -> None:
    page.route("**/api/jobs", lambda route: route.fulfill(status=503, json={"reason": "32 inputs wait already"}))
    page.set_input_files("#file", picture(tmp_path))
    page.wait_for_selector("#problem:not(:empty)")
    assert page.text_content("#problem") == "32 inputs wait already"
    assert not page.is_visible("#finding")


def test_every_control_has_a_name_and_the_keyboard_reaches_it(page: Any) -> None:
    for control in page.locator("input:visible, button:visible, a[href]:visible").all():
        named = control.evaluate("e => (e.labels && e.labels.length && e.labels[0].textContent) || e.textContent")
        assert named.strip()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_light_and_dark(browser: Any, address: str, scheme: str, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.set_input_files("#file", picture(tmp_path))
    page.wait_for_selector("#finding:not([hidden])", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert _contrast(page, "body") >= 4.5
    assert _contrast(page, "#drop") >= 4.5
    context.close()


def _contrast(page: Any, selector: str) -> float:
    """Ratio of a text's colour to the page's ground (WCAG 2.1)."""
    colours = page.evaluate(
        "s => [getComputedStyle(document.querySelector(s)).color, getComputedStyle(document.body).backgroundColor]",
        selector,
    )
    light = []
    for colour in colours:
        parts = [int(v) / 255 for v in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)
