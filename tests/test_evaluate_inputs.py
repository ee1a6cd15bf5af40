"""What `evaluate` is given beside pictures: masks and lists that do not fit are told before anything is scored."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from skimage import data
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.datasets.video_layouts import read_labels
from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.groups import read_groups
from pixelsleuth.evaluation.localisation import masked_cases, pixel_metrics, read_masks, tells_pixels_apart
from pixelsleuth.evaluation.metrics import spearman
from pixelsleuth.evaluation.protocol import _null_controls, evaluate
from pixelsleuth.evaluation.samples import ScoredSample, read_pairs
from pixelsleuth.evaluation.scored import read_records
from pixelsleuth.records import Finding
from pixelsleuth.reporting.tables import show
from tests.videofiles import write_video

HALF = np.zeros((64, 64), np.uint8)
HALF[:, 32:] = 255


def saved(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def masks_in(root: Path, **masks: np.ndarray) -> tuple[Path, Path, list[Path]]:
    """A folder of masks named NAME.png, that of the pictures, and NAME.jpg there."""
    for name, mask in masks.items():
        saved(root / f"masks/{name}.png", mask)
    return root / "masks", root, [root / f"{name}.jpg" for name in masks]


def test_transparent_parts_of_a_mask_mark_nothing(tmp_path: Path) -> None:
    white = np.full((64, 64), 255, np.uint8)
    layers = {
        "grey": HALF, "la": np.dstack([white, HALF]), "rgba": np.dstack([white, white, white, HALF]),
        "black": np.dstack([HALF, HALF, HALF, HALF]), "unpainted": np.dstack([white, 0 * white]),
    }  # fmt: skip
    found = read_masks(*masks_in(tmp_path, **layers))
    half = np.arange(128) >= 64
    for name in layers:
        assert (found[tmp_path / f"{name}.jpg"] == (half & (name != "unpainted"))).all(), name


def test_masks_that_cannot_be_measured_by_are_told_by_name(tmp_path: Path) -> None:
    speck = np.zeros((1024, 1024), np.uint8)
    speck[:2, :2] = 255
    for name, mask, marked in (
        ("empty", 0 * HALF, "nothing"), ("speck", speck, "nothing"), ("full", 0 * HALF + 1, "everything"),
    ):  # fmt: skip
        with pytest.raises(PixelsleuthError, match=f"{name}/masks: .*mark {marked}"):
            read_masks(*masks_in(tmp_path / name, a=mask))
    folder, root, paths = masks_in(tmp_path / "some", a=HALF, b=0 * HALF)
    assert set(read_masks(folder, root, paths)) == set(paths)
    with pytest.raises(PixelsleuthError, match=r"masks: none of its 2 images is named like one of .*some"):
        read_masks(folder, root, [root / "other.jpg", tmp_path / "elsewhere/a.jpg"])
    (folder / "b.png").write_text("no picture")
    with pytest.raises(PixelsleuthError, match=r"masks/b\.png: .*none of these"):
        read_masks(folder, root, paths)
    saved(folder / "a.tif", HALF)
    with pytest.raises(PixelsleuthError, match=r"a\.png and a\.tif: expected one mask of a\.jpg, got two|a\.tif and"):
        read_masks(folder, root, paths)


def case_of(path: str, anomalous: bool, mapped: bool = True) -> ScoredSample:
    maps = {"detective": np.arange(128 * 128, dtype=np.float32).reshape(128, 128)} if mapped else {}
    return ScoredSample(Path(path), anomalous, Finding(path, None, "image", {}, "normal"), path, maps=maps)


def test_only_what_has_maps_is_measured_by_masks(faces_detector: Detector) -> None:
    video, real, fake = case_of("n.mp4", False, False), case_of("n.jpg", False), case_of("a.jpg", True)
    film = case_of("a.mp4", True, False)
    mask = np.arange(128 * 128).reshape(128, 128) > 9999
    masks = {case.path: mask for case in (fake, film)}
    (masked,) = masked_cases([video, film, fake, real], [(fake, video), (film, real)], masks)
    assert (masked.path, masked.partner) == (fake.path, None)
    assert list(masked_cases([video, film], [(film, video)], None)) == []
    for normal in ([real], []):
        # Without a map of a normal image there is no level above which a pixel is called anomalous.
        found = pixel_metrics(faces_detector, [masked], normal, 0)["pixel"]["detective"]
        assert found["auroc"][0] == 1
        assert ("dsc" in found) == bool(normal)
    assert not tells_pixels_apart([])


def test_videos_among_masked_pictures_are_scored_without_maps(
    faces_detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = np.ascontiguousarray(data.astronaut()[:128, 150:278])
    write_video(tmp_path / "n/a.mp4", [photo] * 2)
    saved(tmp_path / "n/b.png", photo)
    blurred = cv2.GaussianBlur(photo, (0, 0), 3)
    saved(tmp_path / "a/f.png", np.where(np.arange(128)[:, None] < 64, photo, blurred))
    write_video(tmp_path / "a/z.mp4", [blurred] * 2)
    saved(tmp_path / "masks/f.png", HALF)
    saved(tmp_path / "masks/z.png", HALF)
    (tmp_path / "pairs.csv").write_text("fake,real\nf.png,b.png\nz.mp4,a.mp4\nz.mp4,typo.mp4\nf,b\n")
    found = evaluate(
        faces_detector, tmp_path / "n", tmp_path / "a", masks=tmp_path / "masks", pairs=tmp_path / "pairs.csv",
        text_pairs=0,
    ).metrics  # fmt: skip
    assert (found["n_masked"], found["n_pairs"], found["n_pairs_left_out"]) == (1, 2, 2)
    assert {"auroc", "dsc", "change_auroc"} <= set(found["pixel"]["detective"])
    json.dumps(found, allow_nan=False, default=str)
    show(found, Console())
    assert "2 pairs; 2 left out" in capsys.readouterr().out


def test_few_or_equal_pictures_leave_figures_out_rather_than_lose_all() -> None:
    """No number is no JSON: metrics.json would be lost."""
    assert set(_null_controls(np.array([1.0, 2.0]), np.array([False, True]))) == {"labels_permuted"}
    assert set(_null_controls(np.arange(3.0), np.arange(3) > 1)) == {"labels_permuted", "normals_split"}
    assert spearman(np.ones(3), np.arange(3.0)) is None
    assert spearman(np.arange(3.0), np.arange(3.0)) == 1


def test_a_pair_is_read_or_counted(tmp_path: Path) -> None:
    for name in ("n/r.png", "a/f.png", "a/g.png"):
        saved(tmp_path / name, HALF)
    table = tmp_path / "pairs.csv"
    table.write_text(f"fake,real\nf.png,r.png\ng.png,typo.png\n{'x' * 300}.png,r.png\n,\n", encoding="utf-8-sig")
    found = read_pairs(table, tmp_path / "n", tmp_path / "a")
    assert found.real_of == {tmp_path / "a/f.png": tmp_path / "n/r.png"}
    assert found.missing == 3
    table.write_text("fake,real\na/f.png,n/r.png\n")
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\na/f.png,fake\nn/r.png,real\n")
    assert read_pairs(table, labels, labels).missing == 0
    table.write_text("fake,real\nf.png,r.png\ng.png\n")
    with pytest.raises(PixelsleuthError, match=r"pairs\.csv, line 3: expected fake,real; got g\.png"):
        read_pairs(table, tmp_path / "n", tmp_path / "a")
    labels.write_text("file,label\na/f.png,fake\na/g.png\n")
    with pytest.raises(PixelsleuthError, match=r"labels\.csv, line 3: expected file,label; got a/g\.png"):
        read_labels(labels)
    table.write_text("path,age\nn/r.png,3\n", encoding="utf-8-sig")
    labels.write_text("file,label\na/f.png,fake\n")
    assert list(read_groups(table, labels)["age"].values()) == ["3"]


def test_records_end_where_json_lines_do(tmp_path: Path) -> None:
    record = {"path": "a\u2028b\x85c.png", "p_value": 0.5, "score": 1.0, "scores": {}}
    (tmp_path / "findings.jsonl").write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_records(tmp_path) == [record]


@pytest.mark.parametrize("command", ["evaluate", "robustness"])
def test_inputs_that_count_as_both_are_told(command: str, tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "all/real").mkdir(parents=True)
    (tmp_path / "fake").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "all")
    for normal, anomalous, shared in (
        ("all", "all", True), ("all/real", "all", True), ("link/real", "all", True), ("all", "all/real", True),
        ("all", "fake", False),
    ):  # fmt: skip
        folders = ["--normal", str(tmp_path / normal), "--anomalous", str(tmp_path / anomalous)]
        done = CliRunner().invoke(app, [command, "--model", str(model_folder), *folders])
        assert ("inputs in both count as both" in done.stderr.replace("\n", "")) == shared
