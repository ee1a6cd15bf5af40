"""The report: complete, self-contained, bounded, and safe from what files say of themselves."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelsleuth.detector import Detector
from pixelsleuth.language import LANGUAGES, language
from pixelsleuth.records import Box, Face, FaceFinding, FrameFinding, Region, Still
from pixelsleuth.reporting.answer import answer_of, places, ranked
from pixelsleuth.reporting.cautions import cautions, reason_caution
from pixelsleuth.reporting.drawings import timeline
from pixelsleuth.reporting.filefacts import FileFacts, picture_facts, video_facts
from pixelsleuth.reporting.layers import FindingView, Layer, layers, view_of
from pixelsleuth.reporting.overlays import warmth
from pixelsleuth.reporting.places import where_of
from pixelsleuth.reporting.report import Judge, Report, section, without_folders
from pixelsleuth.sources.compression import jpeg_quality
from tests.conftest import shape_picture
from tests.test_whole_run import run_cli
from tests.videofiles import write_sound


@pytest.fixture(scope="module")
def judge(detector: Detector, model_folder: Path) -> Judge:
    return Judge.of(detector, str(model_folder))


def test_detect_writes_a_report_in_which_nothing_of_a_file_is_markup(model_folder: Path, tmp_path: Path) -> None:
    evil = tmp_path / '<img src=x onerror="alert(1)">.jpg'
    exif = Image.Exif()
    exif[0x0131] = "<script>alert(2)</script>"
    Image.fromarray(shape_picture(5, True)).save(evil, exif=exif, quality=40)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    arguments = ("detect", evil, tmp_path / "bad.jpg", "--model", model_folder, "--max-false-alarm", 0.05, "--report")
    assert run_cli(*arguments)[0] == 2
    assert run_cli(*arguments, "--out", tmp_path / "out")[0] == 0
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    record = json.loads((tmp_path / "out/findings.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(2)" in page
    assert str(tmp_path) not in page
    for said in (record["sha256"], f"p = {record['p_value']:.4f}", "quantisation", "Content Credentials",
                 "--max-false-alarm", "Model card", "are none of these", "quality about 40",
                 "restoration"):  # fmt: skip
        assert said in page, said
    assert len(page) < 2_000_000


def test_layers_lie_on_each_other(detector: Detector, judge: Judge, tmp_path: Path) -> None:
    Image.fromarray(shape_picture(7, True)).resize((640, 640)).save(tmp_path / "a.png")
    finding = replace(detector.detect(tmp_path / "a.png", max_false_alarm=0.05), verdict="anomalous")
    view = view_of(finding, tmp_path / "a.png", "a")
    made = {layer.name: layer for layer in layers(view, judge.grid)}
    assert list(made) == ["input", "restoration", "map", "look", "whole", "codes"]
    from base64 import b64decode

    sizes = {Image.open(io.BytesIO(b64decode(k.uri.split(",")[1]))).size for k in made.values() if k.aligned}
    assert sizes == {(480, 480)}
    assert Image.open(io.BytesIO(b64decode(made["codes"].uri.split(",")[1]))).size == judge.grid[::-1]


@pytest.mark.parametrize(("count", "rate"), [(120, 0.1), (28, 0.1), (19, 0.1), (19, 0.05), (19, 0.04)])
def test_the_histogram_parts_what_reaches_the_rate_from_what_does_not(
    detector: Detector, judge: Judge, count: int, rate: float
) -> None:
    normal = np.sort(np.random.default_rng(count).normal(size=count))
    calibration = replace(judge.calibration, scores={"original": normal}, source_of={}, sources=())
    finding = replace(detector.detect(shape_picture(3), max_false_alarm=0.1, heatmap=False), max_false_alarm=rate)
    compared = []
    # Between each two of the highest, where a border that was interpolated would stand.
    for score in (*np.convolve(normal[-6:], (0.2, 0.8), "valid"), normal[-1] + 0.2):
        p = calibration.p_value(float(score))
        view = FindingView(replace(finding, score=float(score), p_value=p), None, FileFacts(), "a")
        drawn = section(view, replace(judge, calibration=calibration))
        lines = re.findall('<line class="(rate|this)" x1="([0-9.]+)"', drawn)
        places = {name: float(x) for name, x in lines}
        right = "rate" in places and places["this"] > places["rate"]
        compared.append((right, p <= rate))
        assert (f"p is {rate:g} or less" in drawn) == ("rate" in places) == (rate * (count + 1) >= 1)
    assert [right for right, _ in compared] == [reached for _, reached in compared]
    other = replace(finding, promise="any-source", p_value_any_source=0.5, score=float(normal[-1]) + 0.2)
    drawn = section(FindingView(other, None, FileFacts(), "a"), replace(judge, calibration=calibration))
    assert 'class="this"' in drawn
    assert 'class="rate"' not in drawn, "by another promise p does not hang on the place among all"


def test_where_to_look_is_a_tenth_of_any_picture() -> None:
    pixels = np.full((50, 60, 3), 120, np.uint8)
    excess = np.zeros((50, 60), np.float32)
    excess[:, :40] = np.random.default_rng(0).random((50, 40)) * 0.1 + 0.01
    excess[10:14, 10:15] = 0.2
    for level in (1, 15):
        tinted = (warmth(pixels, level * excess) != 120).any(2)
        assert 0.09 < tinted[:, :40].mean() < 0.11
        assert tinted[10:14, 10:15].all()
        assert not tinted[:, 40:].any()
    assert (warmth(pixels, np.zeros_like(excess)) == 120).all()


def test_the_most_unusual_are_kept_in_input_order(detector: Detector, judge: Judge, tmp_path: Path) -> None:
    Image.fromarray(shape_picture(1)).save(tmp_path / "a.png")
    finding = detector.detect(tmp_path / "a.png", max_false_alarm=0.05)
    report = Report(judge, "made", most=2)
    for p, name in ((0.9, "one"), (0.01, "two"), (None, "three"), (0.3, "four")):
        report.add(replace(finding, p_value=p, verdict="normal" if p else "not_applicable", reason={
            "code": "x", "sentence": "why"}), name)  # fmt: skip
    page = report.html()
    assert page.index(">two<") < page.index(">four<")
    assert ">one<" not in page
    by_other = Report(judge, "made", most=1)
    for p, name in ((0.2, "one"), (0.1, "two")):
        by_other.add(replace(finding, p_value=1 - p, promise="any-source", p_value_any_source=p), name)
    assert ">two<" in by_other.html()
    assert ">three<" not in page
    assert "The 2 most unusual" in page


def test_jpeg_quality_is_told_from_its_table() -> None:
    for quality in (10, 49, 50, 75, 95, 100):
        buffer = io.BytesIO()
        Image.fromarray(shape_picture(2)).save(buffer, "JPEG", quality=quality)
        facts = picture_facts(buffer.getvalue())
        assert facts.quality == quality
        assert np.shape(facts.tables["luminance"]) == (8, 8)
    assert jpeg_quality([7] * 64)[1] is False


def test_file_facts_survive_anything() -> None:
    assert "cannot be read" in dict(picture_facts(b"\xff\xd8\xff broken").rows)["metadata"]


def test_facts_of_a_video_without_a_picture_are_those_there_are(tmp_path: Path) -> None:
    facts = dict(video_facts(write_sound(tmp_path / "v.mp4")).rows)
    assert "metadata" not in facts
    assert facts["bytes"] == f"{(tmp_path / 'v.mp4').stat().st_size:,}"
    assert facts["format"].startswith("QuickTime / MOV, 1.")
    # Nor is another file opened that one names.
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/v.mp4\n")
    assert "format" not in dict(video_facts(tmp_path / "list.mp4").rows)


def test_cautions_name_what_is_unusual_besides_tampering(detector: Detector, judge: Judge, tmp_path: Path) -> None:
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05)
    calm = cautions(finding, shape_picture(3), FileFacts(quality=95), judge.settings, 64)
    assert calm == []
    flat = np.full((64, 64, 3), 90, np.uint8)
    told = cautions(finding, flat, FileFacts(quality=30), judge.settings, 128)
    said = " ".join(one.what for one in told)
    for word in ("blurrier", "quality about 30", "enlarged to 128"):
        assert word in said
    assert all(one.why.endswith(".") and one.do.endswith(".") and one.why != one.do for one in told)
    made = section(FindingView(finding, flat, FileFacts(quality=30), "a"), judge)
    assert made.count('<details class="why">') >= 1
    unsure = replace(finding, verdict="unsure", reason={"code": "unstable", "sentence": "it turns over"})
    for code in LANGUAGES:
        why = reason_caution(unsure, language(code))
        assert why is not None
        assert why.why in section(FindingView(unsure, flat, FileFacts(), "a"), judge, spoken=code)
    assert reason_caution(finding, language()) is None


def test_a_video_of_few_judged_frames_says_so(detector: Detector, judge: Judge) -> None:
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05)
    frame = FrameFinding(0, 0.0, 0, Face(Box(0, 0, 64, 64), 1.0), 0.0, 0.5)
    for frames, said in ((0, ""), (2, "only 2"), (3, "only 3"), (4, "")):
        # Two people in each.
        judged = tuple(replace(frame, index=n, track=track) for n in range(frames) for track in (0, 1))
        video = replace(finding, kind="video", square=None, frames=judged)
        told = " ".join(one.what for one in cautions(video, None, FileFacts(), judge.settings, 64))
        assert ("Frames in which" in told, said in told) == (bool(said), True)


def test_a_section_of_something_unreadable_gives_the_reason(detector: Detector, judge: Judge, tmp_path: Path) -> None:
    finding = detector.detect(tmp_path / "none.jpg", max_false_alarm=0.05)
    assert "No such file" in section(view_of(finding, tmp_path / "none.jpg", "none"), judge)


def test_a_p_made_of_several_is_not_called_a_share(detector: Detector) -> None:
    say, calibration = language(), detector.calibration
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05)
    assert "of the 120" in ranked(finding, calibration, say)
    face = FaceFinding(Face(Box(0, 0, 9, 9), 1.0), "normal", 0.5, 0.0, {})
    several = ranked(replace(finding, faces=(face, face)), calibration, say)
    frames = ranked(replace(finding, frames=(FrameFinding(0, 0.0, 0, face.face, 0.0, 0.5),)), calibration, say)
    assert "of the 120" not in several + frames
    assert "of 2 faces" in several
    assert "twice the mean p of" in frames


def test_p_of_several_people_is_the_smallest_times_their_number(detector: Detector, judge: Judge) -> None:
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05, heatmap=False)
    face = FaceFinding(Face(Box(0, 0, 9, 9), 1.0, ((1.0, 1.0),) * 5), "normal", 0.06, 0.0, {})
    frames = tuple(FrameFinding(k, 0.04 * k, k % 2, face.face, 0.0, 0.03 + 0.2 * (k % 2)) for k in range(6))
    two = replace(finding, kind="video", verdict="normal", faces=(face, face), frames=frames, p_value=0.12)
    one = replace(two, faces=(face,), frames=frames[::2], p_value=0.06)
    for code, times, twice in (("en", "2 times the smallest p of the 2 people", "It is twice the mean p of 3 frames"),
                               ("de", "mit 2 malgenommen", "Es ist das Doppelte des mittleren p von 3")):  # fmt: skip
        say = language(code)
        told, alone = ranked(two, detector.calibration, say), ranked(one, detector.calibration, say)
        assert times in told
        assert twice in alone
        assert times not in alone
        assert say("rank.most") not in told
        # No p is above 1, so that twice a mean is not always what it is.
        assert ranked(replace(two, p_value=1.0), detector.calibration, say).endswith(say("rank.most"))
    assert "twice the mean p of 6" not in ranked(two, detector.calibration, language())
    view = FindingView(two, None, FileFacts(), "a")
    assert "times the number of people" in section(view, judge)


def test_a_face_that_cannot_be_judged_multiplies_no_p(detector: Detector) -> None:
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05, heatmap=False)
    face = FaceFinding(Face(Box(0, 0, 9, 9), 1.0), "normal", 0.06, 0.0, {})
    blurred = replace(face, verdict="unsure", reason={"code": "blurred", "sentence": "it is blurred"})
    unstable = replace(face, verdict="unsure", reason={"code": "unstable", "sentence": "it changes"})
    for faces, said in (
        ((face, face, blurred), "of 2 faces"), ((face, unstable), "of 2 faces"), ((face, blurred), "of the 120"),
        ((blurred, blurred), "of 2 faces"),
    ):  # fmt: skip
        assert said in ranked(replace(finding, faces=faces), detector.calibration, language())


@pytest.mark.parametrize(("as_unusual", "said"), [(0, "None of the 120"), (1, "1 of the 120"), (12, "12 of the 120")])
def test_who_is_as_unusual_is_counted_without_the_input_itself(detector: Detector, as_unusual: int, said: str) -> None:
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05)
    normal = detector.calibration.scores["original"]
    score = normal[-as_unusual] if as_unusual else normal[-1] + 1
    p = detector.calibration.p_value(float(score))
    assert p == (1 + as_unusual) / 121
    text = ranked(replace(finding, p_value=p, score=float(score)), detector.calibration, language())
    assert text.startswith(said)
    assert "0%" not in text or as_unusual == 12


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_answer_says_how_often_what_not_and_what_next(detector: Detector, code: str) -> None:
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05)
    say = language(code)
    reasons = {"unsure": {"code": "unstable", "sentence": "why"}, "not_applicable": {"code": "x", "sentence": "why"}}
    told = []
    for verdict in ("normal", "anomalous", "unsure", "not_applicable"):
        made = replace(
            finding, verdict=verdict, p_value=None if verdict == "not_applicable" else 0.04, reason=reasons.get(verdict)
        )
        told.append(answer_of(made, detector.calibration, say))
    assert len({one.headline for one in told}) == len({one.not_meant for one in told}) == 4
    normal, anomalous, unsure, _ = told
    # What alarms, what is unsure and the rest are no more than all.
    assert "80" in normal.often
    assert "95" in normal.often
    assert "5" in anomalous.often
    assert "15" in unsure.often
    assert all(one.next_steps for one in told)


@pytest.mark.parametrize(
    ("rate", "said"),
    [(0.01, "up to 3 in 100 of its untouched pictures were called unusual instead of the promised 1 in 100"),
     (0.04, "up to 12 in 100 of its untouched pictures were called unusual instead of the promised 5 in 100"),
     (0.1, "")],
)  # fmt: skip
def test_false_alarms_elsewhere_are_those_of_the_worst_source_left_out(
    detector: Detector, rate: float, said: str
) -> None:
    measured = {"a": {"0.01": 0.0323, "0.05": 0.02, "0.1": 0.1}, "b": {"0.01": 0.0, "0.05": 0.1169, "0.1": 0.02}}
    finding = replace(detector.detect(shape_picture(3), max_false_alarm=0.05, heatmap=False), max_false_alarm=rate)
    alarm = replace(finding, verdict="anomalous", p_value=0.001, p_value_new_source=None)
    calibration = replace(detector.calibration, about=detector.calibration.about | {"left_out": measured})
    often = answer_of(alarm, calibration, language()).often
    assert said in often
    assert ("other sources" in often) == bool(said)
    unknown = replace(detector.calibration, about={k: v for k, v in calibration.about.items() if k != "left_out"})
    assert "other sources" not in answer_of(alarm, unknown, language()).often
    unsure = replace(alarm, verdict="unsure", reason={"code": "unstable", "sentence": "it changes"})
    assert "other sources" not in answer_of(unsure, calibration, language()).often


def test_what_to_do_about_an_unjudged_file_stands_under_what_to_do(detector: Detector, judge: Judge) -> None:
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05, heatmap=False)
    reason = {"code": "no_face", "sentence": "no face was found; use a picture with a face"}
    unjudged = replace(finding, verdict="not_applicable", p_value=None, score=None, square=None, reason=reason)
    answer = answer_of(unjudged, detector.calibration, language())
    assert answer.found == "No face was found."
    assert answer.next_steps == ("Use a picture with a face.",)
    made = section(FindingView(unjudged, shape_picture(3), FileFacts(), "a"), judge)
    first = made[: made.index('<details class="rest"')]
    assert first.count('data-layer="whole"') == 1
    assert "did not judge this file" in made
    assert "were sought" not in made


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize(
    ("reason", "sentence"),
    [("no_video_stream", "the file has sound or data but no picture; expected a video"),
     ("not_a_video", "no video can be read from it (moov atom not found); it may be cut off or be of another kind"),
     ("encrypted", "the video is encrypted (DRM); expected one that any player can show"),
     ("no_contrast", "every voxel is 0; there is nothing to judge"),
     ("not_an_image", "expected JPEG or PNG; the bytes are none of these")],
)  # fmt: skip
def test_what_to_do_next_is_advice_and_no_half_sentence(
    detector: Detector, code: str, reason: str, sentence: str
) -> None:
    kind = {"not_an_image": "image", "no_contrast": "volume"}.get(reason, "video")
    finding = replace(
        detector.detect(shape_picture(3), max_false_alarm=0.05, heatmap=False), kind=kind, verdict="not_applicable",
        p_value=None, score=None, reason={"code": reason, "sentence": sentence},
    )  # fmt: skip
    say = language(code)
    answer = answer_of(finding, detector.calibration, say)
    assert answer.next_steps == (say(f"reason.{reason}.do"),)
    if code == "en":
        # What only tells more stays where it is told what was found.
        assert answer.found == f"{sentence[0].upper()}{sentence[1:]}."


@pytest.mark.parametrize("code", LANGUAGES)
def test_of_a_scan_or_a_video_no_picture_is_spoken(detector: Detector, judge: Judge, code: str) -> None:
    say, finding = language(code), detector.detect(shape_picture(3), max_false_alarm=0.05)
    reason = {"code": "unlike_calibration", "sentence": "it is unlike"}
    unsure = replace(finding, verdict="unsure", reason=reason)
    wrong = {"en": "picture", "de": "Bild"}[code]
    scan = replace(unsure, kind="volume", faces=())
    assert wrong in answer_of(unsure, detector.calibration, say).often
    assert wrong not in answer_of(scan, detector.calibration, say).often
    told = reason_caution(scan, say)
    assert told is not None
    assert wrong not in f"{told.what} {told.why} {told.do}"
    scans = replace(judge, calibration=replace(judge.calibration, about={"unit": "volume"}))
    for kind, of in (("volume", scans), ("video", judge), ("image", judge)):
        view = FindingView(replace(finding, kind=kind), shape_picture(3), FileFacts(), "a")
        made = [Layer("input", "an input", "data:,")]
        legend = re.search('(?s)<figure[^>]*data-part="legend">.*?</figure>', section(view, of, made, spoken=code))
        assert legend is not None
        caption = re.sub(".*<figcaption>", "", legend[0])
        said = {
            "en": ("every picture", "every frame", "every scan"),
            "de": ("jedes Bild", "jedes Einzelbild", "jede Aufnahme"),
        }
        assert said[code][("image", "video", "volume").index(kind)] in caption


def test_times_differ_and_labels_hide_nothing(detector: Detector) -> None:
    say, generator = language(), np.random.default_rng(0)
    finding = detector.detect(shape_picture(3), max_false_alarm=0.01, heatmap=False)
    face, nothing = Face(Box(0, 0, 9, 9), 1.0), np.zeros((2, 2, 3), np.uint8)
    for count, apart in ((1, 0.0), (2, 0.04), (6, 0.04), (8, 0.03), (24, 0.5), (16, 7.0)):
        p = 10 ** generator.uniform(-2.2, -1.7, count)
        frames = tuple(FrameFinding(k, apart * k, 0, face, 0.0, float(p[k])) for k in range(count))
        # The most unusual one last, where the threshold's label would stand.
        stills = tuple(Still(k, nothing, nothing[..., 0], nothing[..., 0]) for k in range(count)[:-5:-1])
        drawn = timeline(replace(finding, kind="video", frames=frames, stills=stills), say)
        texts = re.findall('<text class="([^"]*)" x="([0-9.]+)" y="([0-9.]+)" text-anchor="([a-z]+)">([^<]+)<', drawn)
        ticks = [text for *_, text in texts if text.endswith(" s")]
        assert len(set(ticks)) == len(ticks) <= 6
        assert len(ticks) >= 3 or count == 1
        numbers = [(float(x), float(y)) for name, x, y, _, _ in texts if name == "this-text"]
        assert len(numbers) == len(stills)
        boxes = []
        for _, x, y, anchor, text in texts:
            width = 6.5 * len(text)
            at = float(x) - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            boxes.append((at, float(y) - 9, at + width, float(y)))
        touching = [
            (texts[i][-1], texts[j][-1]) for i, a in enumerate(boxes) for j, b in enumerate(boxes[:i])
            if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
        ]  # fmt: skip
        assert touching == []


def test_a_region_that_many_normal_pictures_have_is_no_place(detector: Detector, judge: Judge) -> None:
    finding = detector.detect(shape_picture(3, True), max_false_alarm=0.05)
    finding = replace(finding, regions=(Region(Box(2, 2, 9, 9), 0.04), Region(Box(20, 20, 30, 30), 0.42)))
    assert places(replace(finding, verdict="unsure")) == places(replace(finding, verdict="normal")) == []
    finding = replace(finding, verdict="anomalous")
    assert places(finding) == [0]
    made = section(FindingView(finding, shape_picture(3, True), FileFacts(), "a"), judge)
    assert "2, 2 – 9, 9" in made
    assert "20, 20" not in made
    assert "top left" in made


@pytest.mark.parametrize(
    ("middle", "said"),
    [((30, 30), "the eye on the left"), ((70, 31), "the eye on the right"), ((52, 48), "the nose"),
     ((50, 70), "the mouth"), ((12, 85), "elsewhere in the face"), ((180, 150), "bottom right")],
)  # fmt: skip
def test_a_place_is_named_by_the_part_of_the_face(detector: Detector, middle: tuple[int, int], said: str) -> None:
    landmarks = ((30.0, 30.0), (70.0, 30.0), (50.0, 50.0), (35.0, 70.0), (65.0, 70.0))
    face = FaceFinding(Face(Box(0, 0, 100, 100), 1.0, landmarks), "normal", 0.5, 0.0, {})
    finding = replace(detector.detect(shape_picture(3), max_false_alarm=0.05, heatmap=False), faces=(face,))
    x, y = middle
    assert said in where_of(Box(x - 3, y - 3, x + 3, y + 3), (200, 200), finding, language())


def test_of_a_normal_picture_no_place_is_tinted(detector: Detector, judge: Judge) -> None:
    finding = detector.detect(shape_picture(7, True), max_false_alarm=0.05)
    for verdict, names in (
        ("normal", {"input", "map"}), ("unsure", {"input", "map"}), ("anomalous", {"input", "map", "look"}),
    ):  # fmt: skip
        view = FindingView(replace(finding, verdict=verdict), shape_picture(7, True), FileFacts(), "a")
        found = {layer.name: layer.caption for layer in layers(view, judge.grid)}
        assert set(found) & {"input", "map", "look"} == names
        assert ("Not a finding" in found["map"]) == (verdict == "unsure")


def test_an_argument_loses_its_folders_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    assert without_folders(str(tmp_path / "a.jpg")) == "a.jpg"
    assert without_folders(f"--model={tmp_path}") == f"--model={tmp_path.name}"
    assert without_folders("/gone/secret/b.jpg") == "b.jpg"
    for same in ("detect", "--report", "0.05", "someone/model", "-", "a.jpg"):
        assert without_folders(same) == same


def test_every_language_says_all_there_is_to_say() -> None:
    english = language().texts
    for code in LANGUAGES:
        texts = language(code).texts
        assert set(texts) == set(english)
        for key, text in texts.items():
            assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", english[key])), (code, key)
    assert language("xx").code == "en"
    assert language().decimal(0.25, ".2f") == "0.25"
