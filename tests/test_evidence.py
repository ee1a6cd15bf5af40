"""Evidence beside the model's: what is said of files made for it, signatures, traces, and conflicts."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pixelsleuth.evidence import credentials
from pixelsleuth.evidence.containers import video_statements
from pixelsleuth.evidence.metadata import MAX_SEARCHED, decoded, read_metadata
from pixelsleuth.evidence.programs import EDITORS, named, source_type_of
from pixelsleuth.evidence.statements import evidence_of, picture_evidence
from pixelsleuth.evidence.thumbnails import likeness
from pixelsleuth.evidence.traces import BLOCK, blocks_around, error_level, ghost, noise
from pixelsleuth.language import LANGUAGES, language
from pixelsleuth.records import Box, Finding, Statement
from pixelsleuth.reporting.together import together
from pixelsleuth.sources.compression import is_standard, jpeg_quality
from pixelsleuth.sources.images import jpeg_round_trip
from tests.evidencefiles import (
    FILES,
    OWN_TABLES,
    VIDEOS,
    exif,
    iptc,
    jpeg,
    photo,
    png,
    signed,
    video,
    webp,
    with_thumbnail,
    xmp,
)

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.mark.parametrize("name", FILES)
def test_what_is_said_of_a_file(name: str) -> None:
    made, wanted, unwanted = FILES[name]
    said = {one.code for one in picture_evidence(made()).statements}
    assert wanted <= said
    assert not unwanted & said


@pytest.mark.parametrize("name", VIDEOS)
def test_what_is_said_of_a_video(name: str, tmp_path: Path) -> None:
    made, wanted, unwanted = VIDEOS[name]
    (tmp_path / name).write_bytes(made())
    told = evidence_of(tmp_path / name, "video").statements
    said = {one.code for one in told}
    assert wanted <= said
    assert not unwanted & said
    assert all("{" not in one.sentence(language(code)) for one in told for code in LANGUAGES)


def test_dates_and_manifests_of_videos(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    taken = {"com.apple.quicktime.creationdate": "2024-05-03T10:00:00+0000", "creation_time": "2024-05-01T10:00:00Z"}
    path.write_bytes(video(taken, suffix="mov"))
    assert "changed_before_taken" in {one.code for one in evidence_of(path, "video").statements}
    path.write_bytes(video({"creation_time": "1970-01-01T00:00:00Z"}, suffix="mov"))
    assert "no_video_metadata" in {one.code for one in evidence_of(path, "video").statements}
    path.write_bytes(b"no video")
    assert video_statements(path) == ()
    pytest.importorskip("c2pa", reason="needs c2pa-python")
    data = signed(video({}), [{"action": "c2pa.created", "digitalSourceType": SOURCE + "trainedAlgorithmicMedia"}],
                  "video/mp4")  # fmt: skip
    (tmp_path / "b.mp4").write_bytes(data)
    assert {"c2pa_untrusted", "c2pa_ai"} <= {one.code for one in evidence_of(tmp_path / "b.mp4", "video").statements}


def test_the_table_of_evidence_is_what_the_program_says(tmp_path: Path) -> None:
    """docs/evidence.md says what is said of each file that is made here."""
    from experiments.tools.evidence_table import table

    written = (Path(__file__).parents[1] / "docs/evidence.md").read_text(encoding="utf-8")
    assert table(tmp_path) in written, "run experiments/tools/evidence_table.py docs/evidence.md"


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_statement_is_a_sentence_and_none_is_called_proof(code: str) -> None:
    say = language(code)
    for made, _, _ in FILES.values():
        for statement in picture_evidence(made()).statements:
            sentence = statement.sentence(say)
            assert sentence[0].isupper()
            assert sentence.endswith(".")
            assert "{" not in sentence
            assert "prov" not in sentence.lower()
            assert set(statement.record()) == {"code", "says", "sentence"}


def test_what_a_file_says_cannot_become_markup_or_a_novel() -> None:
    (said,) = [
        one
        for one in picture_evidence(jpeg(exif=exif("GIMP <script>\n" + 9_000 * "x"))).statements
        if one.code == "editor"
    ]
    assert len(said.values["program"]) <= 80
    assert "\n" not in said.values["program"]
    # Whatever a zipped text unpacks to.
    texts = read_metadata(png(biggz="y" * 900_000)).texts
    assert len(texts["biggz"]) <= 500


@pytest.mark.parametrize("cut", [0, 3, 40, 400, 4_000])
def test_a_file_that_is_cut_off_costs_no_more_than_its_statements(cut: int) -> None:
    for made, _, _ in FILES.values():
        assert isinstance(picture_evidence(made()[:cut]).statements, tuple)


def test_only_files_tell_of_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(exif=exif("GIMP 2.10")))
    assert "editor" in {one.code for one in evidence_of(tmp_path / "a.jpg", "image").statements}
    assert evidence_of(np.zeros((64, 64, 3), np.uint8), "image").statements == ()
    assert evidence_of(tmp_path / "none.jpg", "image").statements == ()


def test_programs_are_matched_as_words() -> None:
    assert named(EDITORS, ["made with gimp 2.10"])
    assert not named(EDITORS, ["gimpel's camera"])
    assert source_type_of(SOURCE + "trainedAlgorithmicMedia") == ("trainedAlgorithmicMedia", "ai")
    assert source_type_of("digsrctype:compositeCapture")[1] == "edited"
    assert source_type_of("nothing known")[1] == "unknown"


#: Statements that a program's name leads to.
NAMING = {"generator", "editor", "developer", "video_editor", "video_site", "generator_settings"}


@pytest.mark.parametrize(
    ("credit", "code"),
    [("Luma Press / Gemini Agency", ""), ("UN Photos", ""), ("Aperture Foundation", ""), ("Created by Sora Tanaka", ""),
     ("Canva", ""), ("Not made with Google AI", ""), ("Made with Google AI", "generator"),
     ("Edited with Google AI", "generator"), ("Jane Doe; Made with Google AI.", "generator"),
     ("Apple Photos Clean Up", "generator"), ("Created with GIMP", "editor"),
     ("Edited with Adobe Lightroom Classic 13.2", "developer")],
)  # fmt: skip
def test_of_a_credit_line_only_phrases_name_programs(credit: str, code: str) -> None:
    start = 'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:'
    files = [jpeg(xmp=xmp(f'{start}{name}="{credit}"')) for name in ("Credit", "creditLine")]
    files += [iptc(credit, 110), jpeg(comment=credit), png(Comment=credit)]
    for file in files:
        said = {one.code for one in picture_evidence(file).statements}
        assert NAMING & said == ({code} if code else set())
        assert "no_metadata" not in said


@pytest.mark.parametrize("side", [1280, 1281])
def test_a_comment_is_no_empty_file(side: int) -> None:
    told, bare = (
        {one.code for one in picture_evidence(jpeg(photo(side), **how)).statements} for how in ({"comment": "x"}, {})
    )
    assert ("no_metadata" in bare, "passed_on" in bare) == (True, side == 1280)
    assert not {"no_metadata", "passed_on"} & told


def test_settings_are_found_in_the_comment_of_a_jpeg() -> None:
    text = "a portrait\nSteps: 20, Sampler: Euler a, CFG scale: 7"
    assert "generator_settings" in {one.code for one in picture_evidence(jpeg(comment=text)).statements}


@pytest.mark.parametrize(
    ("key", "text", "code"),
    [("comment", "Directed by Sora Tanaka", ""), ("description", "Mein Urlaub in Vegas", ""),
     ("comment", "A talk at Blender Foundation about Resolve and Luma", ""), ("synopsis", "Veo, Veo: a game", ""),
     ("description", "Follow me on TikTok and YouTube: https://www.youtube.com/@me", ""),
     ("comment", "https://www.youtube.com/watch?v=abc-123", "video_site"), ("comment", "vid:v09044g4", "video_site"),
     ("comment", "Made with KineMaster", "video_editor"), ("description", "Made with Google AI", "generator")],
)  # fmt: skip
def test_of_a_video_s_comment_only_phrases_name_programs(key: str, text: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(video({key: text}))
    said = {one.code: one for one in video_statements(path)}
    assert NAMING & set(said) == ({code} if code else set())
    assert "converted" not in said


def test_in_a_field_that_programs_fill_in_a_name_is_enough(tmp_path: Path) -> None:
    said = picture_evidence(jpeg(xmp=xmp('xmp:CreatorTool="Gemini"'))).statements
    assert "generator" in {one.code for one in said}
    (tmp_path / "a.mp4").write_bytes(video({}, {"handler_name": "Sora"}))
    assert "generator" in {one.code for one in video_statements(tmp_path / "a.mp4")}


SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
JOB = "Job ID: 01234567-89ab-cdef-0123-456789abcdef"


def codes(data: bytes) -> set[str]:
    return {one.code for one in picture_evidence(data).statements}


@pytest.mark.parametrize("code", ["ascii", "utf-16-be", "utf-16-le", "utf-16", "utf-8"])
def test_settings_are_found_behind_a_prompt_of_any_length(code: str) -> None:
    prompt = "a portrait, " if code == "ascii" else "ein Porträt, 人像, "
    assert "generator_settings" in codes(jpeg(exif=exif(comment=f"{prompt * 150}\n{SETTINGS}", code=code)))
    assert "generator_settings" not in codes(jpeg(exif=exif(comment=prompt * 150, code=code)))


@pytest.mark.parametrize("key", ["Description", "Descriptionz"])
def test_settings_are_found_behind_long_prompts_of_a_png(key: str) -> None:
    data = png(**{key: "a portrait, " * 400 + JOB})
    assert "generator_settings" in codes(data)
    assert len(read_metadata(data).texts[key]) <= 500
    assert "generator_settings" not in codes(png(**{key: "a portrait, " * 400}))


def test_comments_are_read_in_their_code_and_searched_no_further_than_the_bound() -> None:
    for code in ("utf-16-be", "utf-16-le", "utf-16"):
        assert (
            read_metadata(jpeg(exif=exif(comment="Grüße aus 東京", code=code))).exif["UserComment"] == "Grüße aus 東京"
        )
    # As some programs write it.
    assert decoded(b"UNICODE\0plain letters") == "plain letters"
    assert decoded(b"UNICODE\0" + "odd".encode("utf-16-be") + b"\0").startswith("odd")
    assert len(decoded(b"UNICODE\0" + "a".encode("utf-16-le") * 10**6)) == MAX_SEARCHED
    assert len(decoded(b"a" * 10**6)) == len(decoded("a" * 10**6)) == MAX_SEARCHED
    assert len(read_metadata(png(Descriptionz="y" * 900_000)).searched["Descriptionz"]) == MAX_SEARCHED


@pytest.mark.parametrize("text", ["Steps: " + "1" * 65_000, "Steps: 1" * 8_000, "{" + '"prompt' * 9_000, " " * 65_000])
def test_many_long_texts_take_no_time(text: str) -> None:
    data = png(**{f"{k}z": text for k in range(200)})
    began = time.process_time()
    assert "generator_settings" not in codes(data)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("held", ['prompt:{"3": {}}', 'workflow: {"nodes": []}', '{"extra": 1, "prompt": {}}'])
def test_settings_in_place_of_a_camera_are_no_camera(held: str) -> None:
    for data in (webp(make="", model=held), webp(make=held, model="x"), jpeg(exif=exif(camera=held))):
        assert "generator_settings" in codes(data)
        assert not {"camera", "camera_saved_again"} & codes(data)
    assert "generator_settings" in codes(jpeg(exif=exif(camera="NIKON D850", comment=held)))
    assert "camera" in codes(jpeg(exif=exif(camera="NIKON D850", comment=held)))
    assert "generator_settings" not in codes(jpeg(exif=exif(comment="workflow: raw, then black and white")))


def test_a_camera_s_name_is_short() -> None:
    (said,) = [one for one in picture_evidence(webp("A maker", "x" * 400)).statements if one.code == "camera"]
    assert len(said.values["camera"]) == 80


def test_a_thumbnail_shows_its_picture_under_any_shape() -> None:
    image = photo().crop((0, 100, 512, 400))
    small, other = io.BytesIO(), io.BytesIO()
    image.resize((160, 94)).save(small, "JPEG")
    Image.fromarray(np.ascontiguousarray(np.asarray(image)[:, ::-1])).resize((160, 94)).save(other, "JPEG")
    assert likeness(jpeg(image), small.getvalue()) > 0.95
    assert likeness(jpeg(image), other.getvalue()) < 0.6
    assert likeness(jpeg(image), b"no picture") is None
    assert read_metadata(jpeg(exif=with_thumbnail(image, image))).thumbnail.startswith(b"\xff\xd8")


def test_tables_are_told_apart() -> None:
    for quality in (30, 75, 92):
        tables = read_metadata(jpeg(quality=quality)).tables
        assert jpeg_quality(tables[0]) == (quality, True)
        assert is_standard(tables)
    assert not is_standard(read_metadata(jpeg(qtables=OWN_TABLES)).tables)


# --- Content Credentials ---


def test_signed_credentials_are_read_and_a_change_breaks_them() -> None:
    pytest.importorskip("c2pa", reason="needs the c2pa extra")
    pytest.importorskip("cryptography", reason="comes with the c2pa extra")
    actions = [{"action": "c2pa.created", "digitalSourceType": SOURCE + "digitalCapture"}, {"action": "c2pa.cropped"}]
    data = signed(jpeg(), actions)
    said = {one.code: one for one in picture_evidence(data).statements}
    assert {"c2pa_untrusted", "c2pa_camera", "c2pa_actions"} <= set(said)
    assert said["c2pa_untrusted"].values["signer"] == "A tester"
    assert said["c2pa_actions"].values["actions"] == "cropped"
    assert "no_metadata" not in said
    changed = bytearray(data)
    changed[-2_000] ^= 255
    broken = {one.code: one for one in picture_evidence(bytes(changed)).statements}
    assert "c2pa_invalid" in broken
    assert "c2pa_camera" not in broken
    ai = picture_evidence(
        signed(jpeg(), [{**actions[0], "digitalSourceType": SOURCE + "trainedAlgorithmicMedia"}])
    ).statements
    assert "c2pa_ai" in {one.code for one in ai}


#: What an editor says that opened a signed picture and changed it.
OPENED = [{"action": "c2pa.opened", "parameters": {"ingredientIds": ["xmp:iid:1"]}}, {"action": "c2pa.cropped"}]


def created(code: str) -> list[dict[str, str]]:
    return [{"action": "c2pa.created", "digitalSourceType": SOURCE + code}]


def test_what_earlier_versions_were_signed_as_is_not_lost() -> None:
    pytest.importorskip("c2pa", reason="needs the c2pa extra")
    pytest.importorskip("cryptography", reason="comes with the c2pa extra")
    first = signed(jpeg(), [*created("trainedAlgorithmicMedia"), {"action": "c2pa.resized"}], signer="A generator")
    second = signed(first, OPENED, of=first)
    for data in (second, signed(second, OPENED, of=second)):
        said = {one.code: one for one in picture_evidence(data).statements}
        assert {"c2pa_untrusted", "c2pa_earlier_ai", "c2pa_actions"} <= set(said)
        assert not {"c2pa_ai", "c2pa_camera", "c2pa_earlier_camera", "c2pa_invalid"} & set(said)
        assert said["c2pa_earlier_ai"].says == "ai"
        assert said["c2pa_earlier_ai"].values == {"signer": "A generator", "type": "trainedAlgorithmicMedia"}
        assert said["c2pa_actions"].values["actions"] == "cropped, resized"
        for code in LANGUAGES:
            assert "A generator" in said["c2pa_earlier_ai"].sentence(language(code))
    taken = signed(jpeg(), created("digitalCapture"))
    said_codes = codes(signed(taken, OPENED, of=taken))
    assert "c2pa_earlier_camera" in said_codes
    assert not {"c2pa_camera", "c2pa_earlier_ai"} & said_codes
    assert all(
        "{" not in Statement("c2pa_earlier_camera", "camera", {"signer": "A"}).sentence(language(code))
        for code in LANGUAGES
    )


def test_only_a_whole_earlier_version_of_the_picture_counts() -> None:
    pytest.importorskip("c2pa", reason="needs the c2pa extra")
    pytest.importorskip("cryptography", reason="comes with the c2pa extra")
    first = signed(jpeg(), created("trainedAlgorithmicMedia"))
    # A picture made by AI that was placed in a photograph is another picture.
    placed = [*created("digitalCapture"), {"action": "c2pa.placed", "parameters": {"ingredientIds": ["xmp:iid:1"]}}]
    assert not {"c2pa_ai", "c2pa_earlier_ai"} & codes(signed(jpeg(), placed, of=first, relationship="componentOf"))
    # What was changed after it was signed is not what had been signed.
    changed = bytearray(first)
    changed[-2_000] ^= 255
    assert "c2pa_earlier_ai" not in codes(signed(bytes(changed), OPENED, of=bytes(changed)))
    # The earlier manifest itself was changed.
    second = signed(first, OPENED, of=first)
    forged = second.replace(b"trainedAlgorithmicMedia", b"trainedAlgorithmicMedja")
    assert "c2pa_invalid" in codes(forged)
    assert "c2pa_earlier_ai" not in codes(forged)


def chain(length: int, **last: object) -> dict[str, object]:
    """A tree of manifests of which each is the parent of the one before it; `last` is added to the last."""
    manifests: dict[str, dict[str, object]] = {
        str(k): {"ingredients": [{"relationship": "parentOf", "active_manifest": str(k + 1)}]} for k in range(length)
    }
    manifests[str(length - 1)] |= last
    return {"active_manifest": "0", "manifests": manifests}


def test_earlier_versions_are_followed_once_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [{"label": "c2pa.actions.v2", "data": {"actions": created("trainedAlgorithmicMedia")}}]

    def said_of(tree: dict[str, object]) -> set[str]:
        monkeypatch.setattr(credentials, "manifest_store", lambda *_: tree)
        return {one.code for one in credentials.credentials(jpeg() + b"jumb")}

    within = credentials.MAX_VERSIONS + 1
    assert "c2pa_earlier_ai" in said_of(chain(within, assertions=made))
    assert said_of(chain(within + 1, assertions=made)) == {"c2pa_valid"}
    # One that names itself and the first as its parents, again and again, does not hide the next.
    tree = chain(3, assertions=made)
    again = [{"relationship": "parentOf", "active_manifest": label} for label in "01"]
    tree["manifests"]["1"]["ingredients"][:0] = again * credentials.MAX_VERSIONS
    assert "c2pa_earlier_ai" in said_of(tree)
    # In the form of C2PA 1, and with contents of other kinds than are expected.
    tree = chain(2, assertions=made)
    tree["manifests"]["0"]["ingredients"][0]["validation_status"] = [{"code": "assertion.dataHash.mismatch"}]
    assert said_of(tree) == {"c2pa_valid"}
    odd = [{"label": "c2pa.actions", "data": data} for data in ([], "x", {"actions": "x"}, {"actions": ["x", {}]})]
    assert said_of(chain(1, assertions=odd)) == {"c2pa_valid"}


def test_without_the_library_credentials_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    (said,) = credentials.credentials(jpeg() + b"jumb c2pa")
    assert (said.code, said.says) == ("c2pa_not_read", "unknown")
    (said,) = credentials.credentials(jpeg())
    assert (said.code, said.says) == ("c2pa_none", "unknown")
    assert credentials.credentials(b"no format that carries any") == []


# --- traces ---


def pasted(quality: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph saved at 90 with a part in it that was saved before at another quality, and where."""
    pixels = np.ascontiguousarray(np.asarray(photo()))
    inside = np.zeros(pixels.shape[:2], bool)
    inside[160:320, 160:320] = True
    once = jpeg_round_trip(pixels, quality)
    return jpeg_round_trip(np.where(inside[..., None], once, jpeg_round_trip(pixels, 95)), 95), inside


@pytest.mark.parametrize("quality", [60, 70, 80])
def test_a_ghost_shows_a_part_that_was_saved_before_at_lower_quality(quality: int) -> None:
    pixels, inside = pasted(quality)
    strength, found = ghost(pixels)
    assert found == quality
    assert np.median(strength[inside]) > 3 * np.quantile(strength[~inside], 0.9)
    untouched, _ = ghost(jpeg_round_trip(np.asarray(photo()), 95))
    assert np.median(untouched[inside]) < 0.5 * np.median(strength[inside])


def test_error_level_is_lower_where_it_was_saved_before() -> None:
    pixels, inside = pasted(60)
    level = error_level(pixels).mean(2)
    reference = error_level(jpeg_round_trip(np.asarray(photo()), 95)).mean(2)
    assert level[inside].mean() / reference[inside].mean() < 0.9 * level[~inside].mean() / reference[~inside].mean()


def test_noise_is_seen_where_a_part_was_smoothed() -> None:
    grainy = np.clip(np.asarray(photo()) + np.random.default_rng(0).normal(0, 6, (512, 512, 1)), 0, 255).astype(
        np.uint8
    )
    smooth = grainy.copy()
    smooth[160:320, 160:320] = cv2.GaussianBlur(grainy, (0, 0), 2)[160:320, 160:320]
    shown = noise(smooth).astype(float) - 128
    assert shown[170:310, 170:310].std() < 0.5 * shown[:150].std()


def test_traces_are_cut_at_the_borders_of_blocks() -> None:
    around = blocks_around(Box(13, 21, 50, 60), (200, 300))
    assert around.as_list() == [8, 16, 56, 64]
    assert all(side % BLOCK == 0 for side in around.as_list())
    assert blocks_around(Box(-5, -5, 999, 999), (200, 300)).as_list() == [0, 0, 300, 200]


# --- together ---


def finding(verdict: str, *says: str) -> Finding:
    codes = {"ai": "source_type_ai", "edited": "editor", "camera": "camera", "neutral": "thumbnail_agrees"}
    values = {"type": "t", "program": "GIMP", "camera": "c"}
    told = tuple(Statement(codes[one], one, values) for one in says)
    return Finding("a.jpg", "0", "image", {"name": "m", "sha256": "0"}, verdict, evidence=told)


def test_lines_of_evidence_that_differ_are_said_to() -> None:
    say = language()
    differs = together(finding("normal", "neutral", "edited"), say)
    assert "differ" in differs.agreement
    assert [one for one, _ in differs.telling] == ["edited"]
    assert len(differs.rest) == 1
    assert "differ" in together(finding("normal", "edited", "ai"), say).agreement
    assert together(finding("normal", "edited", "ai"), say).telling[0][0] == "ai"
    assert "same way" in together(finding("anomalous", "edited"), say).agreement
    assert "differ" in together(finding("anomalous", "camera"), say).agreement
    for calm in (finding("normal", "camera"), finding("normal", "neutral"), finding("anomalous")):
        assert together(calm, say).agreement == ""


def test_evidence_stands_in_the_record() -> None:
    record = replace(finding("normal", "edited")).record()
    assert record["evidence"] == [
        {
            "code": "editor",
            "says": "edited",
            "sentence": Statement("editor", "edited", {"program": "GIMP"}).sentence(language()),
        }
    ]
    json.dumps(record)


def test_twelve_megapixels_take_no_time() -> None:
    image = photo().resize((4000, 3000))
    block = with_thumbnail(image, image.resize((160, 120)))
    data = jpeg(image, exif=block)
    began = time.process_time()
    assert {"thumbnail_agrees", "tables_standard"} <= {one.code for one in picture_evidence(data).statements}
    assert time.process_time() - began < 0.3


def test_when_a_picture_was_taken_is_read_from_it() -> None:
    taken = Image.Exif()
    taken.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    data = io.BytesIO()
    photo().save(data, "jpeg", exif=taken)
    assert picture_evidence(data.getvalue()).captured == "2024-05-06T07:08:09"
    assert picture_evidence(jpeg()).captured is None
    assert picture_evidence(b"no picture").captured is None
