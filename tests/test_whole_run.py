"""The tiny whole run: prepare, train, calibrate, detect, evaluate, on shapes with a planted anomaly."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pixelsleuth import cli
from pixelsleuth.detector import Detector
from pixelsleuth.errors import CalibrationError, ModelError, PixelsleuthError
from pixelsleuth.models.checkpoint import load_model
from pixelsleuth.records import RECORD_FIELDS, Finding
from pixelsleuth.scoring.networks import torch_of, torch_scorer
from pixelsleuth.training import loop
from pixelsleuth.training.data import Sampler, augmented
from pixelsleuth.training.presets import Stage, resolve
from pixelsleuth.training.run import train
from tests.badfiles import BAD, write_bad_files
from tests.conftest import TINY, anomaly_corner, shape_picture, tiny_settings, write_shapes


def run_cli(*arguments: object, stdin: str | None = None):
    """Exit code, standard output and standard error of a command, run in this process as a user would."""
    runner = CliRunner()
    result = runner.invoke(cli.app, [str(a) for a in arguments], input=stdin)
    error = result.exception
    if isinstance(error, PixelsleuthError):
        return 2, result.stdout, str(error)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return result.exit_code, result.stdout, result.stderr


def test_the_planted_anomaly_is_found_and_located(detector: Detector, shapes: Path) -> None:
    fakes = sorted((shapes / "test/fake").iterdir())
    reals = sorted((shapes / "test/real").iterdir())
    found = list(detector.detect_many([*fakes, *reals], max_false_alarm=0.05))
    caught = [f for f in found[: len(fakes)] if f.p_value <= 0.05]
    assert len(caught) >= 0.65 * len(fakes)
    assert sum(f.p_value <= 0.05 for f in found[len(fakes) :]) <= 0.2 * len(reals)
    inside = 0
    for finding in found[: len(fakes)]:
        x0, y0 = anomaly_corner(int(Path(finding.path).stem))
        row, column = divmod(int(np.argmax(finding.excess)), 64)
        inside += x0 - 4 <= column < x0 + 24 and y0 - 4 <= row < y0 + 24
    assert inside >= 0.8 * len(fakes)
    assert all(f.regions for f in caught[:5])


def test_a_finding_does_not_depend_on_batch_or_order(detector: Detector, shapes: Path) -> None:
    paths = sorted((shapes / "test/real").iterdir())[:9] + sorted((shapes / "test/fake").iterdir())[:4]
    alone = [detector.detect(p) for p in paths]
    together = list(detector.detect_many(paths, batch_size=13))
    backwards = list(detector.detect_many(paths[::-1], batch_size=4))[::-1]
    ties = 0
    for a, b, c in zip(alone, together, backwards, strict=True):
        for other in (b, c):
            assert a.sha256 == other.sha256
            assert a.verdict == other.verdict
            assert a.score == pytest.approx(other.score, abs=1e-4)
            ties += a.p_value != other.p_value
            assert np.abs(a.heatmap - other.heatmap).max() < 1e-3
            assert np.abs(a.restoration.astype(int) - other.restoration).max() <= 1
    assert ties == 0


def test_arrays_and_pil_images_are_judged_like_files(detector: Detector, shapes: Path) -> None:
    path = next(iter(sorted((shapes / "test/fake").iterdir())))
    array = np.asarray(Image.open(path))
    by_path, by_array = detector.detect(path), detector.detect(array)
    assert by_path.score == pytest.approx(by_array.score, abs=1e-5)
    assert detector.detect(Image.fromarray(array)).p_value == by_array.p_value
    wrong = detector.detect(array.astype(float))
    assert (wrong.verdict, wrong.reason["code"]) == ("not_applicable", "wrong_array")
    for other in (None, [array], 3):
        wrong = detector.detect(other)  # type: ignore[arg-type]
        assert (wrong.verdict, wrong.reason["code"]) == ("not_applicable", "wrong_array")
        assert f"got {type(other).__name__}" in wrong.reason["sentence"]
    assert by_path.heatmap.shape == array.shape[:2]
    assert by_path.heatmap.dtype == np.float32


def test_slow_steps_are_kept_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill shall cost about a minute, however slow the machine is."""
    asked: list[int] = []
    steps = SimpleNamespace(world=1, after=lambda step, count: asked.append(count) or [])
    trainer = SimpleNamespace(global_step=0)
    # 20 steps take 40 s, the next 30 a minute, then steps are fast, then they stand still.
    clock = iter([100.0, 140.0, 200.0, 200.5, 900.5])
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    chunks = loop._Chunks(steps, trainer, 0)
    for _ in range(5):
        chunks.train_dataloader()
    assert asked == [20, 30, 30, 200, 17]
    # Several processes must stop at the same step, whatever each one's clock says.
    shared = loop._Chunks(SimpleNamespace(**vars(steps) | {"world": 2}), trainer, 0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: 0.0))
    shared.train_dataloader()
    assert asked[-1] == loop.CHECKPOINT_EVERY


def test_resuming_gives_the_same_losses_and_weights(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 4)
    short = {
        "vqvae_stage": {"epochs": 1.4, "precision": "32-true"},
        "prior_stage": {"epochs": 1.1, "precision": "32-true"},
        "detective_stage": {"epochs": 2.2, "batch": 16, "precision": "32-true"},
    }
    settings = tiny_settings(tmp_path, **short)
    losses: dict[str, list[float]] = {}

    def recorded(name: str, die_at: int | None):
        from pixelsleuth.training import stages

        losses[name] = []
        for stage in (stages.VQVAEStage, stages.PriorStage, stages.DetectiveStage):
            original = getattr(stage, "_original", stage.training_step)
            stage._original = original

            def step(self, batch, batch_idx, original=original):
                if die_at is not None and len(losses[name]) == die_at:
                    raise KeyboardInterrupt
                loss = original(self, batch, batch_idx)
                losses[name].append(float(loss.detach()))
                return loss

            monkeypatch.setattr(stage, "training_step", step)

    quiet = {"progress": False, "say": lambda text: None}
    recorded("unbroken", None)
    train(store, tmp_path / "a", settings, **quiet)
    for die_at in (6, 17, len(losses["unbroken"]) - 2):
        recorded(f"killed at {die_at}", die_at)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(store, tmp_path / f"b{die_at}", settings, **quiet)
        recorded(f"resumed {die_at}", None)
        train(store, tmp_path / f"b{die_at}", settings, resume=True, **quiet)
        rest = losses[f"resumed {die_at}"]
        assert 0 < len(rest) < len(losses["unbroken"])
        assert rest == pytest.approx(losses["unbroken"][-len(rest) :], abs=1e-6)
        for name in ("vqvae", "prior", "prior_pixelsnail", "detective"):
            whole, again = (load_file(tmp_path / f / f"{name}.safetensors") for f in ("a", f"b{die_at}"))
            for key in whole:
                assert torch.allclose(whole[key].float(), again[key].float(), atol=1e-6), (name, key)
    with pytest.raises(PixelsleuthError, match="resume it"):
        train(store, tmp_path / "a", settings, **quiet)


def test_a_trained_model_may_be_given_a_detective_but_no_other_settings(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {
        "vqvae_stage": {"epochs": 0.2, "precision": "32-true"},
        "prior_stage": {"epochs": 0.2, "precision": "32-true"},
    }
    quiet = {"progress": False, "say": lambda text: None}
    without = tiny_settings(tmp_path, **short, detective_stage={"epochs": 0})
    train(store, tmp_path / "model", without, **quiet)
    assert not (tmp_path / "model/detective.safetensors").exists()
    before = (tmp_path / "model/vqvae.safetensors").read_bytes()
    few = {"detective_stage": {"epochs": 1, "batch": 8, "precision": "32-true"}, "pairs": 16}
    longer = tiny_settings(tmp_path, **(short | {"vqvae_stage": {"epochs": 9}}), **few)
    with pytest.raises(PixelsleuthError, match="other settings"):
        train(store, tmp_path / "model", longer, resume=True, **quiet)
    train(store, tmp_path / "model", tiny_settings(tmp_path, **short, **few), resume=True, **quiet)
    assert (tmp_path / "model/detective.safetensors").exists()
    assert (tmp_path / "model/vqvae.safetensors").read_bytes() == before
    # Pictures of another number would be told by it; these are as many, under the same name.
    swapped = tmp_path / "other" / store.name
    swapped.parent.mkdir()
    shutil.copy(store, swapped)
    with h5py.File(swapped, "r+") as file:
        file["pixels"][0] = 255 - file["pixels"][0]
    with pytest.raises(PixelsleuthError, match="other settings or data"):
        train(swapped, tmp_path / "model", tiny_settings(tmp_path, **short, **few), resume=True, **quiet)
    other = tiny_settings(tmp_path, **short, **(few | {"pairs": 24}))
    with pytest.raises(PixelsleuthError, match="other settings"):
        train(store, tmp_path / "model", other, resume=True, **quiet)


@pytest.mark.parametrize("name", ["settings.json", "vqvae/last.ckpt", "codes.npy"])
def test_a_damaged_file_of_a_run_is_told_with_what_to_do(store: Path, tmp_path: Path, name: str) -> None:
    short = {"epochs": 0.2, "precision": "32-true"}
    settings = tiny_settings(tmp_path, vqvae_stage=short, prior_stage=short, detective_stage={"epochs": 0})
    quiet = {"progress": False, "say": lambda text: None}
    folder = tmp_path / "model"
    train(store, folder, settings, **quiet)
    expected = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    for path in folder.glob("*.safetensors"):
        path.unlink()
    damaged = folder / "training" / name
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(PixelsleuthError, match=rf"^[^\n]*{name} is damaged \([^\n]*$"):
        train(store, folder, settings, resume=True, **quiet)
    if name != "settings.json":
        damaged.unlink()
        train(store, folder, settings, resume=True, **quiet)
        assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == expected


def test_detect_writes_one_record_an_input_in_order(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    inputs = [
        *sorted((shapes / "test/real").iterdir())[:3],
        tmp_path / "none.png",
        *sorted((shapes / "test/fake").iterdir())[:2],
    ]
    code, _, _ = run_cli(
        "detect", *inputs, "--model", model_folder, "--out", tmp_path / "out", "--max-false-alarm", 0.05
    )
    assert code == 0
    records = [json.loads(line) for line in (tmp_path / "out/findings.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [r["path"] for r in records] == [str(p) for p in inputs]
    for record in records:
        assert tuple(record) == RECORD_FIELDS
    missing = records[3]
    assert (missing["verdict"], missing["reason"]["code"], missing["heatmap"]) == ("not_applicable", "missing", None)
    first = records[4]
    assert first["verdict"] in ("anomalous", "unsure")
    heat = cv2.imread(str(tmp_path / "out" / first["heatmap"]), cv2.IMREAD_UNCHANGED)
    assert heat.dtype == np.uint16
    assert heat.shape == (64, 64)
    found = Detector.load(model_folder).detect(inputs[4])
    assert np.abs(heat / 65535 - found.heatmap).max() < 1e-4
    assert first["p_value"] == found.p_value


def test_standard_input_output_and_other_formats(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    paths = sorted((shapes / "test/real").iterdir())[:2]
    listing = "\n".join(map(str, paths)) + "\n\n"
    code, out, _ = run_cli("detect", "-", "--model", model_folder, "--max-false-alarm", 0.05, stdin=listing)
    assert code == 0
    assert [json.loads(line)["path"] for line in out.splitlines()] == [str(p) for p in paths]
    code, out, _ = run_cli("detect", *paths, "--model", model_folder, "--max-false-alarm", 0.05, "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert tuple(rows[0]) == RECORD_FIELDS
    assert json.loads(rows[0]["scores"])
    code, _, _ = run_cli(
        "detect", *paths, "--model", model_folder, "--max-false-alarm", 0.05, "--format", "parquet", "--out", tmp_path
    )
    assert pq.read_table(tmp_path / "findings.parquet").num_rows == 2
    code, _, error = run_cli("detect", paths[0], "--model", model_folder, "--format", "parquet")
    assert code == 2
    assert "--out" in error


def test_exit_codes(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    fake = sorted((shapes / "test/fake").iterdir())
    base = ("--model", model_folder, "--max-false-alarm", 0.05)
    assert run_cli("detect", *fake, *base)[0] == 0
    assert run_cli("detect", *fake, *base, "--fail-on-anomaly")[0] == 1
    assert run_cli("detect", tmp_path / "none.png", *base)[0] == 2
    assert run_cli("detect")[0] == 2
    assert run_cli("detect", fake[0], "--model", tmp_path / "nowhere")[0] == 2
    code, out, error = run_cli("detect", fake[0], "--model", model_folder, "--max-false-alarm", 0.001)
    assert code == 2
    assert out == ""
    assert "at least 999 calibration images, this model has 120" in error


def test_bad_files_among_good_ones_never_stop_a_run(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    write_bad_files(folder)
    write_shapes(folder, 2, 0)
    code, _, _ = run_cli(
        "detect",
        folder,
        *[folder / n for n in BAD],
        "--model",
        model_folder,
        "--max-false-alarm",
        0.05,
        "--out",
        tmp_path / "o",
    )
    assert code == 0
    records = [json.loads(line) for line in (tmp_path / "o/findings.jsonl").read_text(encoding="utf-8").splitlines()]
    by_name = {Path(r["path"]).name: r for r in records}
    for name, reason in BAD.items():
        assert by_name[name]["verdict"] == "not_applicable"
        # What begins as a film does is tried as one, whatever its name; alone, a picture's decoder refuses the kind.
        expected = "not_a_video" if name == "film.jpg" else reason
        assert by_name[name]["reason"]["code"] == expected, name
    assert by_name["00000.png"]["verdict"] in ("normal", "unsure", "anomalous")
    assert by_name["cmyk.jpg"]["p_value"] is not None


def test_evaluate_gives_what_the_contract_says(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    code, _, _ = run_cli(
        "evaluate", "--model", model_folder, "--normal", shapes / "test/real", "--anomalous", shapes / "test/fake",
        "--masks", shapes / "test/masks", "--out", tmp_path,
    )  # fmt: skip
    assert code == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["n_normal"], metrics["n_anomalous"], metrics["n_calibration"]) == (60, 40, 120)
    assert {"text_tail_sum", "baseline_blur", "baseline_jpeg_size", "baseline_brightness"} <= set(metrics["scores"])
    default = metrics["scores"][metrics["default_score"]]
    assert default["auroc"][0] > 0.9
    assert all(default["auroc"][1] <= default["auroc"][0] <= default["auroc"][2] for _ in range(1))
    assert set(default) == {"auroc", "ap", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05"}
    pixel = metrics["pixel"][metrics["default_map"]]
    assert pixel["auroc"][0] > 0.85
    assert pixel["auroc"][0] > metrics["pixel"]["baseline_centre"]["auroc"][0] + 0.02
    assert {"auroc", "ap", "dsc", "dsc_best"} <= set(pixel)
    for low_high in metrics["null_controls"].values():
        assert low_high[1] <= 0.5 <= low_high[2]
    low, high = metrics["promised_band"]["0.05"]
    assert low <= metrics["false_alarm"]["0.05"][0] <= high
    assert (tmp_path / "roc.png").stat().st_size > 1000


def test_evaluate_with_pairs(model_folder: Path, tmp_path: Path) -> None:
    write_shapes(tmp_path / "real", 12, 7000)
    write_shapes(tmp_path / "fake", 12, 7000, anomalous=True)
    rows = "".join(f"{i:05d}.png,{i:05d}.png\n" for i in range(7000, 7012))
    (tmp_path / "pairs.csv").write_text("fake,real\n" + rows)
    arguments = (
        "evaluate", "--model", model_folder, "--normal", tmp_path / "real", "--anomalous", tmp_path / "fake",
        "--pairs", tmp_path / "pairs.csv", "--text-pairs", 3,
    )  # fmt: skip
    assert run_cli(*arguments, "--out", tmp_path / "o")[0] == 0
    metrics = json.loads((tmp_path / "o/metrics.json").read_text(encoding="utf-8"))
    assert metrics["paired_accuracy"][0] > 0.8
    assert metrics["pixel"][metrics["default_map"]]["change_auroc"][0] > 0.8
    # The partner is untouched: its map knows nothing of where the fake was altered.
    assert metrics["pixel"][metrics["default_map"]]["partner_auroc"][0] < 0.75
    assert 0 < metrics["pixel"]["text_restoration"]["replaced"] < 1
    assert metrics["n_text_restoration"] == 3
    assert run_cli(*arguments, "--match-sharpness", "--out", tmp_path / "m")[0] == 0
    matched = json.loads((tmp_path / "m/metrics.json").read_text(encoding="utf-8"))
    assert abs(matched["n_anomalous"] - 12) == 0
    code, _, error = run_cli(*arguments[:-4], "--pairs", tmp_path / "real/07000.png")
    assert code == 2
    assert error


def test_real_and_fake_face_names_give_levels(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    for i, level in enumerate(("easy", "mid", "hard")):
        for j in range(4):
            (tmp_path / "training_fake").mkdir(exist_ok=True)
            Image.fromarray(shape_picture(8000 + 4 * i + j, True)).save(
                tmp_path / f"training_fake/{level}_{j}_1000.png"
            )
    run_cli(
        "evaluate",
        "--model",
        model_folder,
        "--normal",
        shapes / "test/real",
        "--anomalous",
        tmp_path / "training_fake",
        "--out",
        tmp_path,
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert {level: metrics["levels"][level]["n"] for level in metrics["levels"]} == {"easy": 4, "mid": 4, "hard": 4}


def test_a_model_folder_is_read_strictly(model_folder: Path, tmp_path: Path) -> None:
    def copy() -> Path:
        shutil.rmtree(tmp_path / "m", ignore_errors=True)
        folder = Path(shutil.copytree(model_folder, tmp_path / "m", ignore=shutil.ignore_patterns("training")))
        # As calibrations of before are: without the digests that would name the changed file before all else.
        path = folder / "calibration.json"
        tree = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({key: value for key, value in tree.items() if key not in ("sha256", "files")}))
        return folder

    def edit(folder: Path, change) -> None:
        tree = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        change(tree)
        (folder / "config.json").write_text(json.dumps(tree))

    folder = copy()
    edit(folder, lambda tree: tree.update(format=99))
    with pytest.raises(ModelError, match="format version 99"):
        Detector.load(folder)
    folder = copy()
    edit(folder, lambda tree: tree.pop("vqvae"))
    with pytest.raises(ModelError, match="'vqvae' is missing"):
        Detector.load(folder)
    folder = copy()
    edit(folder, lambda tree: tree["scoring"].update(restorations=5))
    with pytest.raises(ModelError, match="made for other weights"):
        Detector.load(folder)
    folder = copy()
    weights = load_file(folder / "prior.safetensors")
    shape = weights["embed.weight"].shape
    save_file(weights | {"embed.weight": torch.zeros(3, 3)}, folder / "prior.safetensors")
    with pytest.raises(ModelError, match=rf"'embed.weight' has shape \(3, 3\), expected \({shape[0]}, {shape[1]}\)"):
        load_model(folder)
    folder = copy()
    weights.pop("place")
    save_file(weights, folder / "prior.safetensors")
    with pytest.raises(ModelError, match="'place' is missing"):
        load_model(folder)
    folder = copy()
    (folder / "vqvae.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        load_model(folder)
    with pytest.raises(ModelError, match="calibrated in float32, bfloat16 was asked for"):
        Detector.load(model_folder, dtype="bfloat16")
    with pytest.raises(CalibrationError, match="at least 999"):
        Detector.load(model_folder).detect(shape_picture(0), max_false_alarm=0.001)


def test_info_prints_the_card(model_folder: Path) -> None:
    code, out, _ = run_cli("info", model_folder)
    assert code == 0
    for word in ("SHA-256", "train 300", "calib 120", "masked", "pixelsnail", "Calibration: 120"):
        assert word in out


def test_settings_are_checked_and_named(tmp_path: Path) -> None:
    with pytest.raises(PixelsleuthError, match=r"unknown setting; expected one of .*epochs"):
        resolve("fast", None, ["vqvae_stage.epoch=3"])
    with pytest.raises(PixelsleuthError, match="expected one of fast, faces, scans, paper-ffhq"):
        resolve("slow")
    with pytest.raises(PixelsleuthError, match="seed: expected int, got 'x'"):
        resolve("fast", None, ["seed=x"])
    changed = resolve("fast", None, ["vqvae_stage.epochs=2", "priors.0.width=64"])
    assert (changed.vqvae_stage.epochs, changed.priors[0].width) == (2.0, 64)
    # As train_faces.sh has it; YAML 1.1 takes it for text.
    assert resolve("fast", None, ["vqvae_stage.learning_rate=1e-3"]).vqvae_stage.learning_rate == 1e-3
    for text in ("fast", "nan", "1_0"):
        with pytest.raises(PixelsleuthError, match=f"learning_rate: expected float, got '{text}'"):
            resolve("fast", None, [f"vqvae_stage.learning_rate={text!r}"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("seed=[1", "set: seed: '\\[1' cannot be read as YAML"),
        ("seed=-1", "seed: expected a number from 0 to 4.29497e\\+09, got -1"),
        ("vqvae=3", "vqvae: expected settings by their names, got 3"),
        ("vqvae.widths=[]", "vqvae.widths: expected a list such as \\[64, 128\\], got \\[\\]"),
        ("forgeries=noise", "forgeries: expected a list such as .*, got 'noise'"),
        ("priors.0.heads=0", "priors.0.heads: expected a number of 1 or more, got 0"),
        ("vqvae_stage.batch=0", "vqvae_stage.batch: expected a number of 1 or more, got 0"),
        ("vqvae_stage.epochs=.inf", "vqvae_stage.epochs: expected a number of 0 or more, got inf"),
        ("prior_stage.learning_rate=.nan", "prior_stage.learning_rate: expected a number .*, got nan"),
        ("vqvae_stage.optimizer=sgd", "vqvae_stage.optimizer: expected one of adamw, adam; got 'sgd'"),
        ("vqvae_stage.precision=64-true", "vqvae_stage.precision: expected one of 32-true"),
        ("detective_stage.augment=foo", "detective_stage.augment: expected one of none, flip"),
        ("preset=faces", "preset: .* begin with the preset faces, or leave it out"),
    ],
)
def test_settings_out_of_range_are_refused(change: str, told: str) -> None:
    with pytest.raises(PixelsleuthError, match=told):
        resolve("fast", None, [change])


@pytest.mark.parametrize("text", [b"a: [1\nb: }", b"\xff\xfe", b"seed: 1\n---\nseed: 2\n", b"[" * 3000])
def test_a_file_that_is_no_yaml_is_told_in_one_line(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "bad.yaml").write_bytes(text)
    with pytest.raises(PixelsleuthError, match=r"^config: [^\n]*bad.yaml cannot be read as YAML [^\n]*$"):
        resolve("fast", tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vqvae": TINY["vqvae"] | {"widths": [32, 36]}}, "vqvae: no network can be built"),
        ({"priors": [TINY["priors"][0] | {"width": 36}]}, "priors.0: no network can be built"),
        (
            {"priors": [TINY["priors"][0] | {"heads": 3}]},
            "priors.0: no network .*one that 3 heads divide, got 32",
        ),
        ({"priors": [TINY["priors"][0]] * 2}, "priors: expected each kind once, got masked, masked"),
        ({"detective": {"width": 5}}, "detective: no network can be built"),
        ({"pairs": 1}, "pairs: expected 2 or more"),
        ({"prior_stage": {"batch": 32, "groups": 5}}, "prior_stage.batch: expected a multiple of 5"),
        ({"init": "nosuch"}, "got 'nosuch'"),
        (
            {"vae_stage": {"epochs": 1}, "vae": {"size": 32, "channels": 3}},
            "vae.size.*expected 64 and 3 .*vae_stage.epochs=0",
        ),
        ({"vqvae": {"size": 128}}, "the store holds 64 px pictures, the preset wants 128"),
        ({"detective": {"channels": 1}}, "detective.channels: expected 3"),
        ({"forgeries": ["deform"]}, "forgeries: expected some of .*got 'deform'"),
    ],
)
def test_settings_that_do_not_fit_are_told_before_anything_is_written(
    store: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(PixelsleuthError, match=told):
        train(store, tmp_path / "model", tiny_settings(tmp_path, **changes), progress=False)
    assert not (tmp_path / "model").exists()


def test_groups_are_drawn_without_replacement() -> None:
    groups = [f"video{i // 20}" for i in range(200)]
    sampler = Sampler(groups, Stage(batch=64, groups=8), seed=0)
    seen = []
    for step in range(sampler.steps_per_epoch):
        rows = sampler.rows(step)
        assert len(set(rows.tolist())) == 64
        videos = [groups[r] for r in rows]
        assert sorted(videos.count(v) for v in set(videos)) == [8] * 8
        seen += sorted(set(videos))
    assert len(seen) == len(set(seen))
    assert np.array_equal(sampler.rows(3), Sampler(groups, Stage(batch=64, groups=8), seed=0).rows(3))
    single = Sampler([""] * 100, Stage(batch=32), seed=0)
    epoch = np.concatenate([single.rows(s) for s in range(single.steps_per_epoch)])
    assert len(set(epoch.tolist())) == len(epoch) == 96


def test_augmentation_keeps_range_and_moves_only_what_it_says() -> None:
    torch.manual_seed(0)
    image = torch.rand(16, 3, 32, 32)
    assert torch.equal(augmented(image, "none"), image)
    flipped = augmented(image, "flip")
    same = (flipped == image).flatten(1).all(1)
    mirrored = (flipped == image.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert same.any()
    assert mirrored.any()
    jittered = augmented(image, "faces")
    assert jittered.min() >= 0
    assert jittered.max() <= 1
    grey = torch.full((4, 3, 32, 32), 0.5)
    turned = augmented(grey, "faces")
    assert (turned.std(1) < 2e-3).all(), "a turn of the hue leaves grey grey"


def test_no_record_depends_on_restorations_unless_its_map_does(detector: Detector) -> None:
    def judged(default_map: str, restore: bool) -> Finding:
        settings = replace(detector.scorer.settings, default_map=default_map)
        by = Detector(detector.name, torch_scorer(torch_of(detector.scorer).model, settings), detector.calibration)
        return next(by.detect_many([shape_picture(4_001, True)], max_false_alarm=0.1, restore=restore))

    full, bare = judged("detective", True), judged("detective", False)
    assert full.restoration is not None
    assert bare.restoration is None
    assert {**bare.record(), "seconds": 0} == {**full.record(), "seconds": 0}
    assert np.array_equal(bare.heatmap, full.heatmap)
    assert judged("restoration", False).restoration is not None


def test_the_terminal_tells_every_verdict_and_what_it_rests_on(
    model_folder: Path, shapes: Path, tmp_path: Path
) -> None:
    real = next(iter(sorted((shapes / "test/real").iterdir())))
    code, _, told = run_cli(
        "detect", real, tmp_path / "gone.png", "--model", model_folder, "--max-false-alarm", 0.05,
        "--out", tmp_path / "out", "--no-heatmap",
    )  # fmt: skip
    assert code == 0
    (record, _) = [
        json.loads(line) for line in (tmp_path / "out/findings.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert f"{real.name}: {record['verdict']}, p = {record['p_value']:.4f} where 0.05 is anomalous" in told
    assert "gone.png: not applicable, no such file" in told
    assert f"records: {tmp_path / 'out/findings.jsonl'}" in told
