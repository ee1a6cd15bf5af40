"""The report: complete, self-contained, bounded, and safe from what files say of themselves."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelsleuth.detector import Detector
from pixelsleuth.records import Box, Face, FaceFinding, FrameFinding
from pixelsleuth.reporting import filefacts
from pixelsleuth.reporting.cautions import cautions
from pixelsleuth.reporting.exhibits import exhibit_of, layers
from pixelsleuth.reporting.figures import warmth
from pixelsleuth.reporting.filefacts import FileFacts, picture_facts
from pixelsleuth.reporting.report import Judge, Report, explained, section
from pixelsleuth.sources.compression import jpeg_quality
from tests.conftest import shape_picture
from tests.test_whole_run import run_cli


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
    for said in (record["sha256"], f"p = {record['p_value']:.4f}", "quantisation", "C2PA manifest", "--max-false-alarm",
                 "Model card", "are none of these", "quality about 40", "restoration"):  # fmt: skip
        assert said in page, said
    assert len(page) < 2_000_000


def test_layers_lie_on_each_other(detector: Detector, judge: Judge, tmp_path: Path) -> None:
    Image.fromarray(shape_picture(7, True)).resize((640, 640)).save(tmp_path / "a.png")
    exhibit = exhibit_of(detector.detect(tmp_path / "a.png", max_false_alarm=0.05), tmp_path / "a.png", "a")
    made = {layer.name: layer for layer in layers(exhibit, judge.grid)}
    assert list(made) == ["input", "restoration", "map", "look", "whole", "codes"]
    from base64 import b64decode

    sizes = {Image.open(io.BytesIO(b64decode(k.uri.split(",")[1]))).size for k in made.values() if k.aligned}
    assert sizes == {(480, 480)}
    assert Image.open(io.BytesIO(b64decode(made["codes"].uri.split(",")[1]))).size == judge.grid[::-1]


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
    assert ">three<" not in page
    assert "the 2 most unusual" in page


def test_jpeg_quality_is_told_from_its_table() -> None:
    for quality in (10, 49, 50, 75, 95, 100):
        buffer = io.BytesIO()
        Image.fromarray(shape_picture(2)).save(buffer, "JPEG", quality=quality)
        facts = picture_facts(buffer.getvalue())
        assert facts.quality == quality
        assert np.shape(facts.tables["luminance"]) == (8, 8)
    assert jpeg_quality([7] * 64)[1] is False


def test_file_facts_survive_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be read" in dict(picture_facts(b"\xff\xd8\xff broken").rows)["metadata"]
    assert dict(picture_facts(b"BM").rows)["C2PA manifest"] in (
        filefacts.C2PA_MISSING,
        "none can be carried by this format",
    )
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    assert dict(picture_facts(b"").rows)["C2PA manifest"] == "not looked for: pip install 'pixelsleuth[c2pa]'"


def test_cautions_name_what_is_unusual_besides_tampering(detector: Detector, judge: Judge, tmp_path: Path) -> None:
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05)
    calm = cautions(finding, shape_picture(3), FileFacts(quality=95), judge.settings, 64)
    assert calm == []
    flat = np.full((64, 64, 3), 90, np.uint8)
    said = " ".join(cautions(finding, flat, FileFacts(quality=30), judge.settings, 128))
    for word in ("blurrier", "quality about 30", "enlarged to 128"):
        assert word in said


def test_a_section_of_something_unreadable_gives_the_reason(detector: Detector, judge: Judge, tmp_path: Path) -> None:
    finding = detector.detect(tmp_path / "none.jpg", max_false_alarm=0.05)
    assert "no such file" in section(exhibit_of(finding, tmp_path / "none.jpg", "none"), judge)


def test_a_p_made_of_several_is_not_called_a_share(detector: Detector) -> None:
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05)
    assert "of normal calibration images" in explained(finding)
    face = FaceFinding(Face(Box(0, 0, 9, 9), 1.0), "normal", 0.5, 0.0, {})
    several = explained(replace(finding, faces=(face, face)))
    frames = explained(replace(finding, frames=(FrameFinding(0, 0.0, 0, face.face, 0.0, 0.5),)))
    assert "of normal calibration images" not in several + frames
    assert "times the 2 faces" in several
    assert "twice the mean" in frames
