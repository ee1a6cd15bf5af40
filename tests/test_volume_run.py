"""Volumes from folder to verdict, with a tiny model taught on heads made at run time."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.detector import Detector
from pixelsleuth.errors import CalibrationError, ModelError, PixelsleuthError
from pixelsleuth.evaluation.curves import roc_curve
from pixelsleuth.evaluation.lesions import lesion_metrics, pieces_of
from pixelsleuth.evaluation.samples import Evaluation, ScoredSample
from pixelsleuth.evaluation.scored import scored_of
from pixelsleuth.evaluation.volumes import evaluate_volumes, pictured_case
from pixelsleuth.models.checkpoint import load_model
from pixelsleuth.progress import Step
from pixelsleuth.records import Finding
from pixelsleuth.reporting.restorations import steps_figure
from pixelsleuth.reporting.volumes import slices_figure
from pixelsleuth.sources.tracks import Policy
from pixelsleuth.walkthrough import story_of
from tests.volumefiles import bad_volumes, head, write


@pytest.fixture(scope="module")
def folders(heads: Path) -> Path:
    return heads


@pytest.fixture(scope="module")
def model(scans_model: Path) -> Path:
    return scans_model


def test_records_and_maps_of_volumes(model: Path, folders: Path, tmp_path: Path) -> None:
    bad = bad_volumes(tmp_path / "bad")
    runner = CliRunner()
    inputs = [str(folders / "sick/flair"), *(str(path) for path in bad.values()), str(folders / "tiny.yaml")]
    done = runner.invoke(
        app, ["detect", *inputs, "--model", str(model), "--max-false-alarm", "0.1", "--out", str(tmp_path)]
    )
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in (tmp_path / "findings.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(records) == 6 + len(bad) + 1
    for code, record in zip(bad, records[6:-1], strict=True):
        assert record["verdict"] == "not_applicable"
        assert record["reason"]["code"] == code
    assert records[-1]["reason"]["code"] == "unsupported_kind"
    sick = records[:6]
    assert sum(r["verdict"] == "anomalous" for r in sick) >= 5
    for record in sick:
        assert record["kind"] == "volume"
        source, drawn = nibabel.load(record["path"]), nibabel.load(tmp_path / record["heatmap"])
        assert drawn.shape == source.shape
        assert np.allclose(drawn.affine, source.affine)
        assert drawn.get_data_dtype() == np.float32
        mask = np.asarray(nibabel.load(record["path"].replace("/flair/", "/mask/")).dataobj) > 0
        share = np.asarray(drawn.dataobj)
        assert 0 <= share.min() <= share.max() < 1
        assert share[mask].mean() > share[np.asarray(source.dataobj) > 0].mean() + 0.2
        assert {one["index"] for one in record["slices"]} <= set(range(10))
        if record["regions"]:
            (x0, y0, x1, y1), (z0, z1) = record["regions"][0]["box"], record["regions"][0]["depth"]
            assert mask[x0:x1, y0:y1, z0:z1].any()
            assert 0 < record["regions"][0]["millilitres"] <= (x1 - x0) * (y1 - y0) * (z1 - z0) / 1000


def test_a_volume_on_the_web_page(model: Path, folders: Path) -> None:
    pytest.importorskip("fastapi", reason="needs the web extra")
    from starlette.testclient import TestClient

    from pixelsleuth.web.app import application

    path = folders / "sick/flair/s300.nii.gz"
    with TestClient(application(Detector.load(model), str(model), rate=0.1)) as client:
        assert client.get("/api/models").json()[0]["takes"] == ["volume"]
        number = client.post("/api/jobs", files={"file": (path.name, path.read_bytes())}).json()["id"]
        list(client.get(f"/api/jobs/{number}/events").iter_lines())
        told = client.get(f"/api/jobs/{number}").json()
        assert told["state"] == "done", told
        assert told["record"]["kind"] == "volume"
        assert list(told["pictures"]) == ["input", "map", "look"]
        assert "slice" in told["pictures"]["input"]["caption"]
        report = client.get(f"/api/jobs/{number}/report").text
        assert len(report) < 1_000_000
        # Three planes through the largest place, the places with their volumes, all slices behind.
        for name in ("map", "coronal", "sagittal", "slices"):
            assert f'data-layer="{name}"' in report
        assert re.search(r"<td>[\d.]+ ml</td>", report)


def test_a_finding_is_the_same_alone(model: Path, folders: Path) -> None:
    detector = Detector.load(model)
    paths = sorted((folders / "healthy").iterdir())
    steps: list[Step] = []
    together = [f.record() for f in detector.detect_many(paths, max_false_alarm=0.1, progress=steps.append)]
    first = [step for step in steps if step.path == str(paths[0])]
    assert [step.stage for step in first] == ["reading", *(["judging"] * (len(first) - 1))]
    assert first[-1].done == first[-1].total == len(together[0]["slices"])
    assert first[-1].share == 1
    alone = detector.detect(paths[3], max_false_alarm=0.1).record()
    for record in (alone, together[3]):
        record.pop("seconds")
    assert alone == together[3]
    assert sum(r["verdict"] == "normal" for r in together) >= 4
    with pytest.raises(CalibrationError, match="at least 99 calibration images"):
        detector.detect(paths[0], max_false_alarm=0.01)


def test_evaluation_of_volumes(model: Path, folders: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    base = ["evaluate", "--model", str(model), "--anomalous", str(folders / "sick/flair")]
    done = runner.invoke(app, [*base, "--normal", str(folders / "healthy"), "--out", str(tmp_path / "a")])
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads((tmp_path / "a/metrics.json").read_text(encoding="utf-8"))
    assert (found["n_normal"], found["n_anomalous"], found["unit"]) == (6, 6, "volume")
    assert found["scores"][found["default_score"]]["auroc"][0] > 0.9
    pixel = found["pixel"]
    assert found["default_map"] == "detective_x_brightness"
    assert pixel["detective_x_brightness"]["ap"][0] > 5 * found["pixel_prevalence"]
    for name in ("brightness", "atlas", "asymmetry", "centre", "position", "vae"):
        assert set(pixel[f"baseline_{name}"]) >= {"auroc", "ap", "dsc_best"}
        assert set(found["differences"][f"baseline_{name}"]) >= {"auroc", "ap", "dsc"}
    assert 0 <= pixel["text_restoration"]["ap"][0] <= 1
    assert 0 < found["lesions"]["f1"][0] <= 1
    assert (tmp_path / "a/slices.png").stat().st_size > 5000
    # Without healthy volumes, slices with an empty mask are the normal ones; thresholds may come from elsewhere.
    more = ["--thresholds", str(tmp_path / "a/metrics.json"), "--text-pairs", "0", "--out", str(tmp_path / "b")]
    done = runner.invoke(app, [*base, *more])
    assert done.exit_code == 0, (done.output, done.exception)
    again = json.loads((tmp_path / "b/metrics.json").read_text(encoding="utf-8"))
    assert again["unit"] == "slice"
    assert again["n_normal"] > 10
    assert again["pixel"]["baseline_brightness"]["dsc"][0] == pytest.approx(
        again["pixel"]["baseline_brightness"]["dsc_best"][0], abs=0.02
    )
    assert again["lesions"]["f1"][0] == pytest.approx(again["lesions"]["f1_best"][0], abs=0.02)


def test_findings_by_their_peaks() -> None:
    shape = (4, 24, 24)
    lesion, inside = np.zeros(shape, bool), np.ones(shape, bool)
    lesion[1:3, 4:10, 4:10] = True
    seen = np.zeros(shape, np.float32)
    seen[1:3, 4:8, 4:10] = 0.6
    seen[1, 5, 5] = 0.9  # the lesion's peak
    seen[0, 16:20, 16:20] = 0.7  # beside it
    seen[3, 0, 0] = 1.0  # too small to count
    finding = Finding("a.nii", None, "volume", {}, "anomalous")
    case = ScoredSample(Path("a.nii"), True, finding, "a", maps={"map": seen}, truth=lesion, region=inside)
    calm = replace(case, truth=np.zeros(shape, bool), maps={"map": np.zeros(shape, np.float32)})
    weights = np.ones((1, 2))
    found = lesion_metrics([case, calm], "map", 0.5, weights)
    assert found["n"] == 1
    assert found["f1"][0] == pytest.approx(2 / 3, abs=1e-3)
    assert found["f1_best"][0] == 1
    assert found["sensitivity_at_false_findings"]["0.5"][0] == 1
    best = pieces_of([case, calm], "map", 0.5).best_peak
    assert 0.7 < best <= 0.9
    assert lesion_metrics([case, calm], "map", 0.5, weights, best)["f1"][0] == 1
    # What no peak reaches is no finding, and neither is a map without any.
    assert lesion_metrics([case, calm], "map", 0.5, weights, 2.0)["f1"][0] == 0
    assert lesion_metrics([case, calm], "map", 5.0, weights)["f1"][0] == 0


def test_the_table_of_scores_gives_the_areas_of_the_metrics(model: Path, folders: Path) -> None:
    found = evaluate_volumes(Detector.load(model), folders / "healthy", folders / "sick/flair", text=False)
    table = scored_of(found)
    name = found.metrics["default_score"]
    assert next(iter(table.scores)) == name
    assert roc_curve(table.counts(name)).area[0] == found.metrics["scores"][name]["auroc"][0]
    slices = scored_of(Evaluation(found.metrics | {"unit": "slice"}, found.cases))
    assert roc_curve(slices.counts(name)).area[0] == found.metrics["slices"]["scores"][name]["auroc"][0]
    assert slices.paired


def test_figures_of_volumes(model: Path, folders: Path, tmp_path: Path) -> None:
    detector = Detector.load(model)
    paths = sorted((folders / "sick/flair").iterdir())
    case = pictured_case(detector, paths[0], folders / "sick/mask" / paths[0].name)
    k = int(np.argmax(case.truth.sum((1, 2))))
    axes = slices_figure([case], "detective_x_brightness").axes
    assert case.slices.pixels is not None
    np.testing.assert_array_equal(axes[0].images[0].get_array(), case.slices.pixels[k])
    np.testing.assert_array_equal(axes[3].images[0].get_array(), case.maps["detective_x_brightness"][k])
    # The outline is the mask's: what lies bright in the slice lies in it.
    assert case.slices.pixels[k][case.truth[k]].mean() > case.slices.pixels[k][case.region[k]].mean() + 30
    story = story_of(detector, paths[0], 0.1, index=int(k) + int(case.finding.slices[0].index))
    np.testing.assert_array_equal(story.steps.image[..., 0], case.slices.pixels[k])
    assert case.slices.restoration is not None
    np.testing.assert_array_equal(story.steps.restoration[..., 0], case.slices.restoration[k])
    np.testing.assert_array_equal(story.map, case.maps["detective_x_brightness"][k])
    assert story.where == f"slice {case.finding.slices[k].index}"
    assert story.finding.verdict == "anomalous"
    steps_figure(story)
    runner = CliRunner()
    options = ["--model", str(model), "--out"]
    for call in (
        ["slices", str(folders / "sick/flair"), "--count", "2", *options, str(tmp_path / "slices.pdf")],
        ["restoration", str(paths[1]), "--max-false-alarm", "0.1", *options, str(tmp_path / "steps.png")],
        ["samples", "--count", "2", *options, str(tmp_path / "samples.png")],
    ):
        done = runner.invoke(app, ["figures", *call])
        assert done.exit_code == 0, (done.output, done.exception)
        assert Path(call[-1]).stat().st_size > 3000
    done = runner.invoke(
        app, ["figures", "restoration", str(paths[1]), "--slice", "99", *options, str(tmp_path / "x.png")]
    )
    assert "slice: expected" in str(done.exception)
    done = runner.invoke(
        app, ["figures", "slices", str(paths[1]), "--model", "faces", "--out", str(tmp_path / "x.png")]
    )
    assert "expected a model for volumes" in str(done.exception)


def test_mood_s_call(model: Path, folders: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    source = tmp_path / "in"
    for number, lesion in ((400, False), (401, True)):
        write(source / f"{number}.nii.gz", head(number, lesion=lesion)[0])
    for mode in ("sample", "pixel"):
        done = runner.invoke(
            app, ["mood", "-i", str(source), "-o", str(tmp_path / mode), "--mode", mode, "--model", str(model)]
        )
        assert done.exit_code == 0, (done.output, done.exception)
    healthy, sick = (float((tmp_path / f"sample/{n}.nii.gz.txt").read_text(encoding="utf-8")) for n in (400, 401))
    assert 0 <= healthy < sick <= 1
    values = np.asarray(nibabel.load(tmp_path / "pixel/401.nii.gz").dataobj)
    assert values.shape == nibabel.load(source / "401.nii.gz").shape
    assert 0 <= values.min() < values.max() <= 1
    done = runner.invoke(
        app, ["mood", "-i", str(tmp_path / "sample"), "-o", str(tmp_path), "--mode", "pixel", "--model", str(model)]
    )
    assert isinstance(done.exception, PixelsleuthError)


def test_no_map_of_mood_s_call_is_written_over_a_scan(tmp_path: Path) -> None:
    source, other = tmp_path / "in", tmp_path / "other"
    scan = write(source / "a.nii.gz", head(400)[0])
    before = scan.read_bytes()
    (tmp_path / "link").symlink_to(source)
    # A folder of links to scans elsewhere, where the map of another would go.
    (tmp_path / "links").mkdir()
    (tmp_path / "links/b.nii.gz").symlink_to(write(other / "a.nii.gz", head(401)[0]))
    write(tmp_path / "links/a.nii.gz", head(402)[0])
    there = (other / "a.nii.gz").read_bytes()
    for folder, out in (("in", "in"), ("in", "link"), ("links", "other")):
        call = ["mood", "-i", str(tmp_path / folder), "-o", str(tmp_path / out), "--model", "brain_t1"]
        done = CliRunner().invoke(app, call)
        assert "the map of a.nii.gz would be written over a volume" in str(done.exception)
    assert scan.read_bytes() == before
    assert (other / "a.nii.gz").read_bytes() == there


def test_pictures_and_volumes_are_told_apart(model: Path, folders: Path, tmp_path: Path) -> None:
    finding = Detector.load("faces").detect(folders / "healthy/h200.nii.gz", max_false_alarm=0.1)
    assert finding.reason is not None
    assert finding.reason["code"] == "unsupported_kind"
    runner = CliRunner()
    done = runner.invoke(app, ["train", str(folders / "heads.h5"), str(tmp_path / "m"), "--preset", "paper-ffhq"])
    assert isinstance(done.exception, PixelsleuthError)
    assert "64 px" in str(done.exception)


def test_what_a_model_for_volumes_cannot_honour_is_an_error(model: Path, folders: Path) -> None:
    detector = Detector.load(str(model))
    path = folders / "healthy/h200.nii.gz"
    wrong: dict[str, Any] = {"policy": Policy(), "whole_without_face": True, "every_score": False}
    for setting, value in wrong.items():
        with pytest.raises(PixelsleuthError, match=f"^{setting}: .* is a model for volumes"):
            next(detector.detect_many([path], max_false_alarm=0.1, **{setting: value}))
    done = CliRunner().invoke(
        app, ["detect", str(path), "--model", str(model), "--max-false-alarm", "0.1", "--keep", "3"]
    )
    assert isinstance(done.exception, PixelsleuthError)
    # Those it can honour make no difference to the record.
    plain = next(detector.detect_many([path], max_false_alarm=0.1))
    other = next(detector.detect_many([path], max_false_alarm=0.1, restore=False, batch_size=3))
    assert plain.restoration is not None
    assert other.restoration is None or "restoration" in detector.scorer.settings.default_map
    assert "restoration" not in other.raw_maps or "restoration" in detector.scorer.settings.default_map
    assert plain.verdict == other.verdict
    assert plain.score == pytest.approx(other.score, abs=1e-4)


def test_a_missing_atlas_is_named(model: Path, tmp_path: Path) -> None:
    for path in model.iterdir():
        if path.is_file() and path.name != "atlas.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert load_model(tmp_path).vae is not None
    with pytest.raises(ModelError, match="atlas"):
        Detector.load(tmp_path)
