"""The commands of docs/datasets.md on stand-ins of the trees: small, but every step of the text's experiments.

The stand-in of FFHQ holds shapes instead of faces and says `--crop none`; networks are tiny.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pixelsleuth.datasets.layouts import drawn_split
from pixelsleuth.datasets.store import Store
from tests.conftest import TINY, shape_picture
from tests.test_whole_run import run_cli
from tests.videofiles import face_frames, write_video


def quick(folder: Path) -> Path:
    """Settings of networks that are taught for a moment."""
    stages = {name: TINY[name] | {"epochs": 1} for name in ("vqvae_stage", "prior_stage", "detective_stage")}
    path = folder / "quick.yaml"
    path.write_text(yaml.safe_dump(TINY | stages | {"pairs": 4}))
    return path


def test_ffhq_against_real_and_fake_face(tmp_path: Path) -> None:
    for number in (*range(12), *range(57_500, 57_524), *range(60_000, 60_004)):
        folder = tmp_path / f"ffhq/{number // 1000 * 1000:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shape_picture(number)).save(folder / f"{number:05d}.png")
    raff = tmp_path / "real_and_fake_face"
    for name in ("training_real", "training_fake"):
        (raff / name).mkdir(parents=True)
    for number in range(8):
        # The first two are of the training set, encoded anew.
        seed = number if number < 2 else 90_000 + number
        Image.fromarray(shape_picture(seed)).save(raff / f"training_real/real_{number:05d}.jpg", quality=92)
        level = ("easy", "mid", "hard")[number % 3]
        picture = Image.fromarray(shape_picture(91_000 + number, anomalous=True))
        picture.save(raff / f"training_fake/{level}_{number}_1000.jpg")
    store, model, out = tmp_path / "ffhq.h5", tmp_path / "model", tmp_path / "out"
    plain = ("--crop", "none", "--size", 64, "--workers", 1)
    assert run_cli("prepare", "images", tmp_path / "ffhq", store, *plain)[0] == 0
    with Store(store) as opened:
        assert [len(opened.rows(split)) for split in ("train", "calib", "val")] == [12, 24, 4]
    assert run_cli("train", store, model, "--config", quick(tmp_path), "--no-progress")[0] == 0
    code, _, shown = run_cli("prepare", "images", raff, tmp_path / "raff.h5", "--not-near", store, *plain)
    assert code == 0
    assert "near_duplicate" in shown
    with Store(tmp_path / "raff.h5") as opened:
        assert not {"training_real/real_00000.jpg", "training_real/real_00001.jpg"} & set(opened.table["path"])
        assert set(opened.table["split"]) == {"test"}
    code, _, _ = run_cli(
        "evaluate", "--model", model, "--normal", raff / "training_real", "--anomalous", raff / "training_fake",
        "--not-near", store, "--out", out,
    )  # fmt: skip
    assert code == 0
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n_near_duplicates_left_out"] >= 2
    assert metrics["n_normal"] == 8 - metrics["n_near_duplicates_left_out"]
    assert set(metrics["levels"]) == {"easy", "mid", "hard"}
    assert "text_tail_sum" in metrics["scores"]


def test_faceforensics(tmp_path: Path) -> None:
    root = tmp_path / "ffpp"
    numbers = [f"{n:03d}" for n in range(1000)]
    calib = [n for n in numbers if drawn_split(f"ffpp/{n}") == "calib"][:20]
    train = [n for n in numbers if drawn_split(f"ffpp/{n}") == "train"][:4]
    test = [n for n in numbers if n not in calib and n not in train][:3]
    pairs = {"train": [[n, n] for n in (*calib, *train)], "val": [], "test": [[n, n] for n in test]}
    (root / "splits").mkdir(parents=True)
    for split, rows in pairs.items():
        (root / f"splits/{split}.json").write_text(json.dumps(rows))
    for place, number in enumerate((*calib, *train, *test)):
        path = root / f"original_sequences/youtube/c23/videos/{number}.mp4"
        write_video(path, face_frames(8, side=192, drift=0.2 + place / 10))
    made = (("Deepfakes", test[0], 1.7), ("FaceSwap", test[1], 2.3), ("Deepfakes", train[0], 2.9))
    for method, number, drift in made:
        path = root / f"manipulated_sequences/{method}/c23/videos/{number}_{number}.mp4"
        write_video(path, [frame // 2 + 60 for frame in face_frames(8, side=192, drift=drift)])
    store, model, out = tmp_path / "ffpp.h5", tmp_path / "model", tmp_path / "out"
    code, _, _ = run_cli("prepare", "videos", root, store, "--size", 64, "--workers", 1, "--figures", tmp_path / "fig")
    assert code == 0
    with Store(store) as opened:
        assert len(set(opened.table["group"][opened.rows("calib")])) == 20
        assert set(opened.table["method"]) == {"", "Deepfakes", "FaceSwap"}
    grouped = ("--set", "vqvae_stage.groups=2", "--set", "vqvae_stage.batch=4")
    assert run_cli("train", store, model, "--config", quick(tmp_path), "--no-progress", *grouped)[0] == 0
    code, _, _ = run_cli(
        "evaluate", "--model", model, "--normal", root / "original_sequences", "--anomalous",
        root / "manipulated_sequences", "--split", "test", "--out", out,
    )  # fmt: skip
    assert code == 0
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["n_normal"], metrics["n_anomalous"], metrics["n_calibration"]) == (3, 2, 20)
    assert set(metrics["videos"]) == {"all", "Deepfakes", "FaceSwap"}
    assert metrics["videos"]["FaceSwap"]["n_anomalous"] == 1


def test_a_split_without_videos_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}/val/v.mp4", face_frames(2))
    code, _, error = run_cli("evaluate", "--normal", tmp_path / "a", "--anomalous", tmp_path / "b", "--split", "test")
    assert code == 2
    assert "normal: nothing is left of split 'test'" in error


@pytest.mark.parametrize("word", ["https://github.com/NVlabs/ffhq-dataset", "--not-near", "--split test"])
def test_the_guide_names_what_is_tested_here(word: str) -> None:
    guide = Path(__file__).parents[1] / "docs/datasets.md"
    if not guide.is_file():
        pytest.skip("no docs beside the tests")
    assert word in guide.read_text(encoding="utf-8")
