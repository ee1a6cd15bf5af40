"""Shapes made at run time, and one tiny model trained on them, shared by the whole session."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.datasets.preparation import prepare_images
from pixelsleuth.detector import Detector
from pixelsleuth.memory import keep_freed_memory
from pixelsleuth.training.calibrating import calibrate
from pixelsleuth.training.presets import Settings, resolve
from pixelsleuth.training.run import train
from tests.shapes import check_shapes
from tests.volumefiles import head, write

keep_freed_memory()
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-goldens", action="store_true", help="write tests/goldens anew (see test_goldens.py)")
    parser.addoption("--exact-goldens", action="store_true", help="compare goldens to the last bit")
    parser.addoption("--skip-shapes", action="store_true", help="do not check shapes and dtypes (see shapes.py)")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--skip-shapes"):
        check_shapes()


SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))

TINY = {
    "vqvae": {"size": 64, "codes": 32, "dimensions": 16, "widths": [32, 32]},
    "vqvae_stage": {"epochs": 30, "precision": "32-true", "augment": "none"},
    "priors": [
        {"kind": "masked", "codes": 32, "grid": [8, 8], "width": 32, "blocks": 3, "heads": 2},
        {"kind": "pixelsnail", "codes": 32, "grid": [8, 8], "width": 16, "blocks": 1, "pairs": 1, "embedding": 8},
    ],
    "prior_stage": {"epochs": 30, "precision": "32-true", "augment": "none"},
    "detective": {"width": 16},
    "detective_stage": {"epochs": 12, "batch": 16, "precision": "32-true", "augment": "none"},
    "pairs": 64,
}

TINY_SCANS = {
    "vqvae": {"size": 64, "codes": 32, "dimensions": 16, "widths": [32, 32], "context": 1},
    "vqvae_stage": {"epochs": 12, "precision": "32-true", "augment": "scans"},
    "priors": [
        {"kind": "masked", "codes": 32, "grid": [8, 8], "width": 32, "blocks": 2, "heads": 2, "context": 1},
        {"kind": "pixelsnail", "codes": 32, "grid": [8, 8], "width": 16, "blocks": 1, "pairs": 1, "embedding": 8,
         "context": 1},
    ],
    "prior_stage": {"epochs": 6, "precision": "32-true", "augment": "scans"},
    "detective": {"width": 16, "mirror": True, "atlas": True},
    "detective_stage": {"epochs": 6, "batch": 16, "precision": "32-true", "augment": "none"},
    "pairs": 200,
    "vae": {"size": 64, "widths": [16, 16, 16, 16, 16], "latents": 16},
    "vae_stage": {"epochs": 4, "precision": "32-true"},
}  # fmt: skip


def shape_picture(seed: int, anomalous: bool = False) -> np.ndarray:
    """(64, 64, 3) uint8: a bright disc on a slope of grey; anomalous: with a square of checks pasted in."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    grey = 60 + x * generator.uniform(0.5, 1) + y * generator.uniform(0.2, 0.6)
    cx, cy, radius = generator.uniform(24, 40), generator.uniform(24, 40), generator.uniform(10, 16)
    picture = np.repeat(grey[..., None], 3, 2)
    picture[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = (220, 180, generator.uniform(120, 160))
    picture += generator.normal(0, 3, picture.shape)
    if anomalous:
        x0, y0 = anomaly_corner(seed)
        checks = ((x // 3 + y // 3) % 2)[..., None] * np.array([250, 20, 230])
        inside = (x >= x0) & (x < x0 + 20) & (y >= y0) & (y < y0 + 20)
        picture[inside] = checks[inside]
    return np.clip(picture, 0, 255).astype(np.uint8)


def anomaly_corner(seed: int) -> tuple[int, int]:
    x0, y0 = np.random.default_rng(seed + 10_000).integers(4, 40, 2)
    return int(x0), int(y0)


def write_shapes(folder: Path, count: int, first: int, anomalous: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        Image.fromarray(shape_picture(seed, anomalous)).save(folder / f"{seed:05d}.png")
    return folder


def tiny_settings(tmp: Path, **changes: object) -> Settings:
    path = tmp / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return resolve("fast", path)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of shapes: train, calib, val and test, each real; test also fake and masks."""
    root = tmp_path_factory.mktemp("shapes")
    write_shapes(root / "train/real", 300, 0)
    write_shapes(root / "calib/real", 120, 1000)
    write_shapes(root / "val/real", 20, 2000)
    write_shapes(root / "test/real", 60, 3000)
    write_shapes(root / "test/fake", 40, 4000, anomalous=True)
    for seed in range(4000, 4040):
        x0, y0 = anomaly_corner(seed)
        mask = np.zeros((64, 64), np.uint8)
        mask[y0 : y0 + 20, x0 : x0 + 20] = 255
        (root / "test/masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / f"test/masks/{seed:05d}.png")
    return root


@pytest.fixture(scope="session")
def store(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "shapes.h5"
    prepare_images([shapes / "train", shapes / "calib", shapes / "val"], path, size=64, crop="none", workers=1)
    return path


@pytest.fixture(scope="session")
def model_folder(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "shapes"
    settings = tiny_settings(tmp_path_factory.mktemp("config"))
    train(store, folder, settings, progress=False, say=lambda text: None)
    calibrate(folder, store)
    return folder


@pytest.fixture(scope="session")
def detector(model_folder: Path) -> Detector:
    return Detector.load(model_folder)


@pytest.fixture(scope="session")
def faces_detector() -> Detector:
    return Detector.load("faces")


@pytest.fixture(scope="session")
def brain_detector() -> Detector:
    return Detector.load("brain_t1")


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads made at run time: train, calib and healthy; sick with lesions and their masks."""
    root = tmp_path_factory.mktemp("heads")
    for split, first, count in (("train", 0, 16), ("calib", 100, 12), ("healthy", 200, 6)):
        for number in range(first, first + count):
            write(root / split / f"h{number:03d}.nii.gz", head(number)[0])
    for number in range(300, 306):
        values, blob = head(number, lesion=True)
        write(root / f"sick/flair/s{number}.nii.gz", values)
        write(root / f"sick/mask/s{number}.nii.gz", blob.astype(np.float32))
    return root


@pytest.fixture(scope="session")
def scans_model(heads: Path) -> Path:
    """One tiny model for volumes, taught on the healthy heads."""
    runner = CliRunner()
    (heads / "tiny.yaml").write_text(yaml.safe_dump(TINY_SCANS))
    store, out = heads / "heads.h5", heads / "model"
    sources = [str(heads / "train"), str(heads / "calib")]
    for call in (
        ["prepare", "volumes", *sources, str(store), "--size", "64", "--workers", "1"],
        [
            "train",
            str(store),
            str(out),
            "--preset",
            "scans-bright",
            "--config",
            str(heads / "tiny.yaml"),
            "--no-progress",
        ],
    ):
        done = runner.invoke(app, call)
        assert done.exit_code == 0, (done.output, done.exception)
    return out
