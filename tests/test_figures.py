"""The figures of a paper: what is drawn is what was measured."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as oracle
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.curves import precision_recall_curve, roc_curve
from pixelsleuth.evaluation.phases import phases_of
from pixelsleuth.evaluation.scored import Scored, read_scored
from pixelsleuth.models.masked import sampling_steps
from pixelsleuth.reporting import figures as drawing
from pixelsleuth.reporting.curves import histogram_figure
from pixelsleuth.reporting.grids import examples, reconstruction_figure
from pixelsleuth.reporting.heatmaps import SIDE, ends
from pixelsleuth.reporting.restorations import steps_figure
from pixelsleuth.scoring.restoration import pooled
from pixelsleuth.scoring.spectrum import checkerboard_energy, mean_phase
from pixelsleuth.walkthrough import reconstructed, sampled, squares_of, story_of
from tests.conftest import shape_picture
from tests.videofiles import face_frames, write_video

RUNNER = CliRunner()


def run(*call: object) -> str:
    """The output of a command that must go well."""
    done = RUNNER.invoke(app, [str(word) for word in call])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def refused(*call: object) -> str:
    """The one line with which a command stops."""
    done = RUNNER.invoke(app, [str(word) for word in call])
    assert isinstance(done.exception, PixelsleuthError), (done.output, done.exception)
    return str(done.exception)


def texts(svg: Path) -> str:
    """The words of an SVG, which are written as text."""
    found = re.findall(r"<text[^>]*>(.*?)</text>", svg.read_text(encoding="utf-8"), re.S)
    return "\n".join(re.sub(r"<[^>]+>", "", text) for text in found)


@pytest.fixture(scope="module")
def evaluated(model_folder: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `evaluate` wrote of 60 normal and 40 anomalous shapes."""
    out = tmp_path_factory.mktemp("evaluated")
    real, fake = shapes / "test/real", shapes / "test/fake"
    run("evaluate", "--model", model_folder, "--normal", real, "--anomalous", fake, "--no-heatmap", "--out", out)
    return out


@pytest.fixture(scope="module")
def judged(model_folder: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `detect` wrote of the same, in two folders."""
    out = tmp_path_factory.mktemp("judged")
    for name in ("real", "fake"):
        found = ("--model", model_folder, "--max-false-alarm", 0.1, "--out", out / name)
        run("detect", shapes / "test" / name, *found)
    return out


def test_the_curves_name_the_areas_that_scikit_learn_finds(evaluated: Path, tmp_path: Path) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text(encoding="utf-8"))
    default = metrics["default_score"]
    with open(evaluated / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [int(row["anomalous"]) for row in rows]
    for kind, name, area in (
        ("roc", "auroc", oracle.roc_auc_score),
        ("precision-recall", "ap", oracle.average_precision_score),
    ):
        run("figures", kind, evaluated, "--out", tmp_path / "one.svg")
        for score in (default, "text_tail_sum", "baseline_blur"):
            value = area(labels, [float(row[score]) for row in rows])
            _, low, high = metrics["scores"][score][name]
            assert f"{score}  {round(value, 4):.3f} [{low:.3f}, {high:.3f}]" in texts(tmp_path / "one.svg")
    assert "60 normal, 40 anomalous" in texts(tmp_path / "one.svg")


def test_the_curves_are_scikit_learns_and_lie_in_their_bands(evaluated: Path) -> None:
    table = read_scored(evaluated)
    name = "masked_mean_nll"
    labels, values = table.anomalous, table.scores[name]
    roc = roc_curve(table.counts(name))
    fpr, tpr, _ = oracle.roc_curve(labels, values, drop_intermediate=False)
    np.testing.assert_allclose(np.stack([roc.x, roc.y]), [fpr, tpr], atol=1e-12)
    curve = precision_recall_curve(table.counts(name))
    precision, recall, _ = oracle.precision_recall_curve(labels, values)
    np.testing.assert_allclose(curve.x, recall[-2::-1], atol=1e-12)
    np.testing.assert_allclose(curve.y, precision[-2::-1], atol=1e-12)
    inside = (np.interp(roc.grid, roc.x, roc.y) >= roc.low) & (np.interp(roc.grid, roc.x, roc.y) <= roc.high)
    assert inside.mean() > 0.97
    assert 0.05 < (roc.high - roc.low).mean() < 0.5
    assert (curve.low <= curve.high).all()
    # The highest threshold that finds everything.
    assert curve.low[-1] < precision[recall == 1][-1] < curve.high[-1]


def test_two_files_of_records_give_the_same_curve_and_pairs_their_bands(
    evaluated: Path, judged: Path, tmp_path: Path
) -> None:
    default = json.loads((evaluated / "metrics.json").read_text(encoding="utf-8"))["default_score"]
    area = json.loads((evaluated / "metrics.json").read_text(encoding="utf-8"))["scores"][default]["auroc"]
    run("figures", "roc", judged / "real", judged / "fake/findings.jsonl", "--out", tmp_path / "two.svg")
    assert f"score  {area[0]:.3f} [" in texts(tmp_path / "two.svg")
    assert "by pair" not in texts(tmp_path / "two.svg")
    (tmp_path / "pairs.csv").write_text(
        "fake,real\n" + "".join(f"0{4000 + i}.png,0{3000 + i}.png\n" for i in range(40))
    )
    call = ("figures", "roc", judged / "real", judged / "fake", "--pairs", tmp_path / "pairs.csv")
    run(*call, "--out", tmp_path / "pairs.svg")
    assert "bands by pair" in texts(tmp_path / "pairs.svg")
    assert f"score  {area[0]:.3f} [" in texts(tmp_path / "pairs.svg")
    (tmp_path / "pairs.csv").write_text("fake,real\nnone.png,neither.png\n")
    assert "none of its pairs" in refused(*call, "--out", tmp_path / "pairs.svg")
    assert "expected one of" in refused("figures", "roc", evaluated, "--score", "beauty", "--out", tmp_path / "no.png")
    assert "`pixelsleuth evaluate` made" in refused("figures", "roc", tmp_path, "--out", tmp_path / "no.png")


def test_the_bars_of_a_histogram_are_shares_of_each_class(evaluated: Path) -> None:
    table = read_scored(evaluated)
    name = next(iter(table.scores))
    (axes,) = histogram_figure(table).axes
    bars = [np.array([patch.get_height() for patch in group]) for group in axes.containers]
    assert [float(one.sum()) for one in bars] == pytest.approx([1.0, 1.0])
    # The mean that the bars have is the mean of the scores, to within a bar.
    for bad, group, one in zip((False, True), axes.containers, bars, strict=True):
        middles = np.array([patch.get_x() + patch.get_width() / 2 for patch in group])
        assert (middles * one).sum() == pytest.approx(table.scores[name][table.anomalous == bad].mean(), abs=0.5)


def test_a_table_of_one_class_is_refused(evaluated: Path, tmp_path: Path) -> None:
    lines = (evaluated / "scores.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "scores.csv").write_text("\n".join(lines[:30]) + "\n")
    assert "30 and 0" not in (told := refused("figures", "roc", tmp_path, "--out", tmp_path / "one.png"))
    assert "got 29 and 0" in told


def test_files_are_written_by_their_suffix_whole_or_not_at_all(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        for name in ("one", "other"):
            run("figures", "histogram", evaluated, "--out", tmp_path / f"{name}.{suffix}", "--dpi", 60)
        assert (tmp_path / f"one.{suffix}").read_bytes().startswith(magic)
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"other.{suffix}").read_bytes()
    assert ".png, .pdf, .svg" in refused("figures", "roc", evaluated, "--out", tmp_path / "roc.docx")
    there = sorted(tmp_path.iterdir())

    def broken(self: object, file: Path, **options: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(drawing.Figure, "savefig", broken)
    assert RUNNER.invoke(app, ["figures", "histogram", str(evaluated), "--out", str(tmp_path / "new.png")]).exit_code
    assert sorted(tmp_path.iterdir()) == there


def test_reconstructions_carry_their_psnr(detector: Detector, model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    squares = squares_of(detector, sorted((shapes / "val/real").iterdir())[:3])
    image = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        made = (detector.model.vqvae.decode(detector.model.vqvae.encode(image)) * 255).round()
    psnr = 20 * np.log10(255) - 10 * (made - image * 255).square().mean((1, 2, 3)).log10().numpy()
    below = reconstruction_figure(reconstructed(detector.model, squares)).axes[3:]
    assert [axes.get_xlabel().split(" dB")[0] for axes in below] == [f"{value:.1f}" for value in psnr]
    drawn = below[1].images[0].get_array()
    np.testing.assert_array_equal(drawn, made[1].permute(1, 2, 0).numpy())
    call = ("figures", "reconstructions", shapes / "val", "--model", model_folder, "--count", 4)
    run(*call, "--out", tmp_path / "rec.png")
    (tmp_path / "text.png").write_text("no picture")
    told = refused(
        "figures", "reconstructions", tmp_path / "text.png", "--model", model_folder, "--out", tmp_path / "x.png"
    )
    assert "none of 1 pictures can be read" in told


def test_samples_are_as_likely_as_normal_images(detector: Detector, model_folder: Path, tmp_path: Path) -> None:
    model = detector.model
    real = torch.from_numpy(np.stack([shape_picture(s) for s in range(5000, 5016)])).permute(0, 3, 1, 2).float() / 255
    uniforms = torch.rand(16, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for kind, prior in model.priors.items():
        codes = prior.sample(uniforms)
        assert torch.equal(prior.sample(uniforms[3:5]), codes[3:5])
        normal = float(prior.log_prob(model.vqvae.encode(real)).nll.mean())
        drawn = float(prior.log_prob(codes).nll.mean())
        random = float(
            prior.log_prob(torch.randint(32, codes.shape, generator=torch.Generator().manual_seed(2))).nll.mean()
        )
        assert drawn < normal + 0.25 * (random - normal), kind
        assert (sampled(model, kind, 3, seed=1) == sampled(model, kind, 3, seed=1)).all()
        assert (sampled(model, kind, 3, seed=1) != sampled(model, kind, 3, seed=2)).any()
    run("figures", "samples", "--model", model_folder, "--count", 10, "--out", tmp_path / "samples.png")
    told = refused("figures", "samples", "--model", model_folder, "--prior", "oracle", "--out", tmp_path / "x.png")
    assert "masked, pixelsnail" in told


@pytest.mark.parametrize("grid", [(8, 8), (5, 7), (1, 3)])
def test_sampling_draws_each_place_once_and_neighbours_last(grid: tuple[int, int]) -> None:
    steps = sampling_steps(grid)
    assert (torch.stack(steps).sum(0) == 1).all()
    assert steps[0].sum() == 1
    if grid == (8, 8):
        # The first quarter of an 8 x 8 grid leaves no two neighbours.
        first = torch.stack(steps).cumsum(0)[[int(s) <= 16 for s in torch.stack(steps).sum((1, 2)).cumsum(0)]][-1]
        assert not (first[1:] * first[:-1]).any()
        assert not (first[:, 1:] * first[:, :-1]).any()


def test_a_context_reaches_the_samples() -> None:
    from pixelsleuth.models.checkpoint import build_prior
    from pixelsleuth.models.configuration import PriorConfig

    torch.manual_seed(0)
    prior = build_prior(PriorConfig("masked", 8, (4, 4), width=16, blocks=1, heads=2, context=1)).eval()
    with torch.no_grad():
        prior.head[2].bias.zero_()
        prior.scalars.weight.mul_(40)
    uniforms = torch.rand(64, 4, 4, dtype=torch.float64)
    low, high = (prior.sample(uniforms, torch.full((64, 1), value)) for value in (-0.5, 0.5))
    assert (low != high).float().mean() > 0.1


def test_examples_are_rows_of_pictures_and_levels(shapes: Path, store: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("easy_1_1000", "easy_2_0100", "mid_3_0011", "hard_4_1111")):
        Image.fromarray(np.full((40, 60, 3), 50 * number, np.uint8)).save(tmp_path / f"{name}.png")
    rows = examples([tmp_path, shapes / "test/real", store], 3)
    assert [(name.split("/")[-1], len(row)) for name, row in rows.items()] == [
        (f"{tmp_path.name}, easy", 2), (f"{tmp_path.name}, mid", 1), (f"{tmp_path.name}, hard", 1), ("real", 3),
        ("shapes", 3),
    ]  # fmt: skip
    levels = list(rows.values())
    assert [int(row[0].mean()) for row in levels[:3]] == [0, 100, 150]
    assert all(picture.shape == (256, 256, 3) for picture in levels[3])
    run("figures", "examples", tmp_path, shapes / "test/fake", store, "--out", tmp_path / "out/grid.pdf")
    (tmp_path / "none").mkdir()
    assert "no readable picture" in refused("figures", "examples", tmp_path / "none", "--out", tmp_path / "x.png")
    assert "prepare videos" in refused("figures", "frames", store, "--out", tmp_path / "x.png")


def test_an_up_sampled_video_shows_its_lattice_in_the_phase(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    still = face_frames(26, 192, drift=0.05)
    frames = [np.clip(f + generator.normal(0, 6, f.shape), 0, 255).astype(np.uint8) for f in still]
    halved = [cv2.resize(frame, (96, 96), interpolation=cv2.INTER_AREA) for frame in frames]
    doubled = [np.kron(frame, np.ones((2, 2, 1), np.uint8)) for frame in halved]
    write_video(tmp_path / "original.mp4", frames)
    write_video(tmp_path / "doubled.mp4", doubled)
    original, doubled_ = (phases_of(tmp_path / f"{n}.mp4", size=96, face=False) for n in ("original", "doubled"))
    assert original.count == doubled_.count == 26
    assert doubled_.checkerboard > 1.6 * original.checkerboard
    middle = np.stack(frames)[:, 48:144, 48:144].mean(0)
    assert np.abs(original.frame.astype(float) - middle).mean() < 3
    call = ("figures", "phase", tmp_path / "original.mp4", tmp_path / "doubled.mp4", "--no-face")
    run(*call, "--size", 96, "--out", tmp_path / "phase.svg")
    assert f"at period two {doubled_.checkerboard:.3f}" in texts(tmp_path / "phase.svg")
    assert "smaller size" in refused(*call, "--size", 300, "--out", tmp_path / "x.png")


def test_frames_that_are_all_alike_have_one_phase() -> None:
    frame = np.random.default_rng(1).normal(0, 1, (32, 32))
    spectrum, picture = mean_phase(np.stack([frame] * 3))
    assert checkerboard_energy(spectrum) == pytest.approx(1.0)
    # Without amplitudes: a flat power spectrum, and so a picture of energy one.
    assert (picture**2).sum() == pytest.approx(1.0, abs=1e-3)
    frames = np.random.default_rng(2).normal(0, 1, (50, 32, 32))
    assert checkerboard_energy(mean_phase(frames)[0]) == pytest.approx(1 / 50, abs=0.01)


def test_the_mean_heatmap_is_the_mean_of_the_ends(judged: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    maps = generator.integers(0, 65536, (7, SIDE, SIDE)).astype(np.uint16)
    (tmp_path / "heatmaps").mkdir()
    lines = []
    for number, values in enumerate(maps):
        # One picture is larger, and a face is a part of it.
        whole = np.pad(values, ((10, 6), (20, 30))) if number == 5 else values
        cv2.imwrite(str(tmp_path / f"heatmaps/{number}.png"), whole)
        face = {"box": [20, 10, 20 + SIDE, 10 + SIDE], "p_value": 0.2, "angle": 0.0}
        lines.append({
            "path": f"{number}.png", "kind": "image", "p_value": 0.2, "score": float((3 * number) % 7), "scores": {},
            "heatmap": f"heatmaps/{number}.png", "faces": [face] if number == 5 else [],
        })  # fmt: skip
    lines.append(lines[0] | {"p_value": None, "score": None, "heatmap": None})
    (tmp_path / "findings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Scores of 0 to 6 are 0, 3, 6, 2, 5, 1, 4.
    normal, anomalous = ends(tmp_path, 2)
    np.testing.assert_allclose(normal.heatmap, maps[[0, 5]].mean(0) / 65535, atol=1e-6)
    np.testing.assert_allclose(anomalous.heatmap, maps[[2, 4]].mean(0) / 65535, atol=1e-6)
    assert (normal.scores, anomalous.scores, normal.picture) == ((0.0, 1.0), (5.0, 6.0), None)
    assert ends(tmp_path, 100)[0].count == 3
    run("figures", "mean-heatmap", judged / "fake", "--count", 10, "--out", tmp_path / "mean.svg")
    assert "10 most anomalous" in texts(tmp_path / "mean.svg")
    for line in lines:
        line["heatmap"] = None
    (tmp_path / "findings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "judge them again with heatmaps" in refused("figures", "mean-heatmap", tmp_path, "--out", tmp_path / "x.png")


def test_the_steps_are_those_that_detect_takes(detector: Detector, model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    Image.fromarray(shape_picture(4000, anomalous=True)).save(path)
    story = story_of(detector, path, 0.1)
    steps, finding = story.steps, detector.detect(path, max_false_alarm=0.1)
    assert finding.restoration is not None
    np.testing.assert_array_equal(steps.restoration, finding.restoration)
    residual = pooled(torch.from_numpy(steps.residual_restoration)[None])[0].numpy()
    np.testing.assert_allclose(residual, finding.raw_maps["restoration"], atol=1e-6)
    np.testing.assert_array_equal(story.map, finding.raw_maps[story.map_name])
    np.testing.assert_allclose(story.excess, finding.excess, atol=1e-5)
    flagged = detector.model.priors["masked"].log_prob(torch.from_numpy(steps.codes)[None]).nll[0].numpy()
    np.testing.assert_array_equal(steps.flagged, flagged > detector.scorer.settings.lambda_p["masked"])
    assert 0 < steps.replaced <= steps.flagged.mean()
    assert steps.residual_restoration.mean() > steps.residual_reconstruction.mean()
    figure = steps_figure(story)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), shape_picture(4000, anomalous=True))
    np.testing.assert_array_equal(figure.axes[6].images[0].get_array(), steps.surprise)
    assert f"{steps.flagged.sum()} drawn anew" in figure.axes[7].get_title()
    assert f"{finding.verdict}, p = {finding.p_value:.4f}" in figure.get_suptitle()
    other = story_of(detector, path, 0.1, "pixelsnail").steps
    assert (other.surprise != steps.surprise).any()
    call = ("figures", "restoration", path, path, "--model", model_folder, "--max-false-alarm", 0.1)
    run(*call, "--out", tmp_path / "both")
    assert sorted(p.name for p in (tmp_path / "both").iterdir()) == ["000_odd.png", "001_odd.png"]
    assert "masked, pixelsnail" in refused(*call[:3], *call[4:], "--prior", "x", "--out", tmp_path / "x.png")


def test_a_score_may_be_the_same_everywhere() -> None:
    table = Scored(list("abcd"), np.array([0, 0, 1, 1], bool), list("abcd"), {"flat": np.ones(4)})
    assert roc_curve(table.counts("flat")).area == [0.5, 0.5, 0.5]
    assert precision_recall_curve(table.counts("flat")).area[0] == 0.5
    histogram_figure(table)
