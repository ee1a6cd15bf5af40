"""The bundled model: the demo, and what is promised of it on real faces (where the shared data lies)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image
from skimage import data

import pixelsleuth
from pixelsleuth.detector import Detector
from pixelsleuth.evaluation.metrics import promised_band
from pixelsleuth.findings import tracks_of
from pixelsleuth.sources.images import find_images
from tests.conftest import SHARED, shape_picture
from tests.test_whole_run import run_cli

FACES = SHARED / "data/faces_utk/test/real"
RECURRING = SHARED / "data/faces_dfdc/val/real"
WORLD = SHARED / "data/faces_world/val/real"
needs_faces = pytest.mark.skipif(not FACES.is_dir(), reason=f"needs the shared faces at {FACES} (PIXELSLEUTH_SHARED)")


def test_the_demo_finds_the_tampered_copies_less_normal_than_the_original(tmp_path: Path) -> None:
    code, out, _ = run_cli("demo", "--out", tmp_path)
    assert code == 0
    records = [json.loads(line) for line in (tmp_path / "findings.jsonl").read_text(encoding="utf-8").splitlines()]
    by_name = {Path(r["path"]).stem: r for r in records}
    untouched = by_name.pop("untouched")
    assert len(by_name) >= 3
    assert all(r["p_value"] < untouched["p_value"] for r in by_name.values())
    assert untouched["verdict"] in ("normal", "unsure")
    for record in records:
        assert (tmp_path / record["heatmap"]).is_file()
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert "https://" not in report
    assert len(report) < 1_000_000 * len(records)
    assert "untouched" in out


def test_a_photo_is_cropped_and_the_map_drawn_back(faces_detector: Detector) -> None:
    photo = data.astronaut()
    finding = faces_detector.detect(photo)
    ((face,),) = [[f.face for f in finding.faces]]
    assert finding.heatmap.shape == photo.shape[:2]
    outside = np.ones(photo.shape[:2], bool)
    outside[face.box.y0 : face.box.y1, face.box.x0 : face.box.x1] = False
    assert not finding.heatmap[outside].any()
    assert finding.heatmap[~outside].any()
    assert finding.heatmap.max() < 1


def test_both_tracks_are_in_every_record_with_and_without_a_map(faces_detector: Detector) -> None:
    photo = data.astronaut()
    with_map, without = faces_detector.detect(photo), faces_detector.detect(photo, heatmap=False)
    assert with_map.score == pytest.approx(without.score, abs=1e-4)
    for finding in (with_map, without):
        codes, detective = finding.scores["combined"], finding.scores["detective_views"]
        assert finding.tracks == {"codes": codes, "detective": detective, "disagree": None}
        assert finding.scores["both_tracks"] == pytest.approx((codes + 0.7 * detective) / 1.49**0.5, abs=1e-5)
        # The verdict rests on what is left of both once the look of the picture is accounted for.
        assert finding.scores["levelled"] == pytest.approx(finding.score, abs=1e-5)
        assert finding.score != pytest.approx(finding.scores["both_tracks"], abs=1e-3)
    assert set(without.scores) < set(with_map.scores)


def test_a_track_that_alarms_alone_is_named() -> None:
    def disagreeing(codes: float, detective: float) -> str | None:
        told = tracks_of({"combined": codes, "detective_views": detective})
        assert told is not None
        return cast("str | None", told["disagree"])

    assert disagreeing(0.2, 4.0) == "detective"
    assert disagreeing(3.5, -1.0) == "codes"
    assert disagreeing(3.5, 4.0) is disagreeing(2.0, 4.0) is disagreeing(0.0, 0.0) is None
    assert tracks_of({"combined": 1.0}) is None


def test_no_face_is_a_reason(faces_detector: Detector) -> None:
    finding = faces_detector.detect(np.asarray(Image.fromarray(shape_picture(0)).resize((200, 200))))
    assert (finding.verdict, finding.reason["code"]) == ("not_applicable", "no_face")


def test_the_card_names_data_and_licence() -> None:
    _, out, _ = run_cli("info", "faces")
    for word in ("faces_dfdc/train", "faces_utk/train", "non-commercial", "Calibration"):
        assert word in out
    folder = Path(pixelsleuth.__file__).parent / "assets"
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 40_000_000


@pytest.fixture(scope="module")
def p_values(faces_detector: Detector) -> dict[Path, np.ndarray]:
    found = {}
    for folder in (FACES, RECURRING):
        judged = faces_detector.detect_many(sorted(folder.iterdir()), max_false_alarm=0.1, heatmap=False)
        found[folder] = np.array([f.p_value for f in judged if f.p_value is not None])
    return found


@needs_faces
@pytest.mark.parametrize(
    ("folder", "rate"),
    [
        *((FACES, rate) for rate in (0.01, 0.05, 0.1)),
        *((RECURRING, rate) for rate in (0.01, 0.05, 0.1)),
    ],
)
def test_the_promised_rate_holds_on_real_faces(
    p_values: dict[Path, np.ndarray], faces_detector: Detector, folder: Path, rate: float
) -> None:
    p = p_values[folder]
    assert len(p) >= 450
    low, high = promised_band(rate, faces_detector.calibration.count, len(p))
    share = (p <= rate).mean()
    assert low <= share <= high


@pytest.mark.skipif(not WORLD.is_dir(), reason=f"needs the shared faces at {WORLD} (PIXELSLEUTH_SHARED)")
def test_false_alarms_on_sources_that_were_left_out(faces_detector: Detector) -> None:
    judged = list(faces_detector.detect_many(find_images(WORLD), max_false_alarm=0.05, heatmap=False))
    p = np.array([f.p_value for f in judged if f.p_value is not None])
    assert len(p) > 250
    assert (p <= 0.01).mean() <= 0.03
    assert (p <= 0.05).mean() <= 0.10
    assert (p <= 0.10).mean() <= 0.17


def test_a_wheel_is_whole(tmp_path: Path) -> None:
    """Builds a wheel, installs it alone beside the dependencies of this environment, and runs its demo there."""
    root = Path(__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("the source tree is not here, so no wheel can be built")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(root)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 40_000_000
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True, capture_output=True)
    # The dependencies of this environment, without its editable install of the source tree.
    import torch

    site = next((tmp_path / "env/lib").glob("python*")) / "site-packages"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PYTHONPATH"] = f"{site}{os.pathsep}{Path(torch.__file__).parents[1]}"
    done = subprocess.run(
        [python, "-m", "pixelsleuth", "demo", "--out", tmp_path / "demo"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    where = subprocess.run(
        [python, "-c", "import pixelsleuth; print(pixelsleuth.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(tmp_path))
    assert (tmp_path / "demo/report.html").is_file()
