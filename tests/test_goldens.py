"""What the program says today of a few inputs, kept as files: rebuilding its inside must not change it.

After a bundled model or the method itself has changed on purpose, write the files anew with one command and look at
their difference before it is committed:

    python -m pytest tests/test_goldens.py --write-goldens

Codes, verdicts, words, integers and the shapes of arrays are compared exactly. Floats are compared to one part in
10,000: the order in which a processor's vector units and BLAS sum differs between machines, in the last bits. On the
machine that wrote the files `--exact-goldens` compares the bits too, of arrays by SHA-256. The images and the clip are
kept as files, for encoders write other bytes in other versions and random draws are keyed by the bytes; delete them to
have them made anew as well.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest

from pixelsleuth.datasets.preparation import prepare_images, prepare_videos
from pixelsleuth.datasets.volume_preparation import prepare_volumes
from pixelsleuth.demo import tampered_copies
from pixelsleuth.detector import Detector
from pixelsleuth.evaluation.protocol import evaluate
from pixelsleuth.evaluation.volumes import evaluate_volumes
from pixelsleuth.records import Finding
from pixelsleuth.sources.images import encode_jpeg
from pixelsleuth.sources.scans.slices import SliceFraming
from pixelsleuth.sources.tracks import Policy
from tests.videofiles import face_frames, write_video
from tests.volumefiles import head, write

HERE = Path(__file__).parent / "goldens"
TEMPLATE = Path(__file__).parent.parent / "src/pixelsleuth/assets/demo/icbm152_t1.nii.gz"
#: Largest difference of floats between machines, as a share of the larger one, and beside 0: a surprise near 0 is what
#: is left of two logits of about 30, which float32 holds to some 1e-6 each.
RELATIVE, ABSOLUTE = 1e-4, 1e-5
#: Sampled pixels of a stored or restored image may differ by this many grey levels: resizing rounds.
LEVELS = 1
#: Values that are sampled of each axis of an array.
SAMPLES = 4


@pytest.fixture(scope="module")
def pictures() -> list[Path]:
    """The demo's images, the untouched one first, cut to what lies around the face."""
    folder = HERE / "images"
    for number, (name, pixels) in enumerate(tampered_copies()):
        path = folder / f"{number}_{name}.jpg"
        if not path.exists():
            folder.mkdir(exist_ok=True)
            path.write_bytes(encode_jpeg(np.ascontiguousarray(pixels[:280, 90:370]), 90))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def clip() -> Path:
    path = HERE / "videos/clip.mp4"
    return path if path.exists() else write_video(path, face_frames(12))


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """normal, sick and mask: eight slices of the bundled template, as they are and with a bright blob."""
    folder = tmp_path_factory.mktemp("thin")
    image = nibabel.load(TEMPLATE)
    values = np.asarray(image.dataobj)[:, :, 8:16].astype(np.float32)
    grid = np.indices(values.shape, dtype=np.float32)
    middle, radii = np.array([60, 110, 4]), np.array([12, 12, 2.5])
    blob = (((grid.T - middle) / radii) ** 2).sum(-1).T < 1
    for name, content in (("normal", values), ("sick", np.where(blob, 240, values)), ("mask", blob)):
        (folder / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(content.astype(np.float32), image.affine), folder / name / "a.nii.gz")
    return folder


def array(values: np.ndarray) -> dict[str, Any]:
    """An array as JSON: shape, type, a few values, and the SHA-256 of its bytes."""
    where = np.ix_(*(np.unique(np.linspace(0, n - 1, SAMPLES).astype(int)) for n in values.shape))
    few = values[where].ravel().tolist() if values.size else []
    return {
        "shape": list(values.shape),
        "dtype": str(values.dtype),
        "mean": float(np.nan_to_num(values).mean()) if values.size else 0.0,
        "sample": ["nan" if value != value else value for value in few],
        "bits": hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest(),
    }


def finding(found: Finding) -> dict[str, Any]:
    """A record and the arrays that come with it."""
    record = {**found.record(), "path": Path(found.path).name, "seconds": 0}
    arrays = {name: getattr(found, name) for name in ("heatmap", "excess", "restoration")} | found.raw_maps
    for number, still in enumerate(found.stills):
        arrays |= {f"still {number} {name}": getattr(still, name) for name in ("pixels", "excess", "heatmap")}
    return {
        "record": record,
        "square": None if found.square is None else found.square.as_list(),
        "arrays": {name: array(values) for name, values in arrays.items() if values is not None},
    }


def stored(path: Path, root: Path) -> dict[str, Any]:
    """All that a store of files below `root` holds; its own bytes differ with the version of HDF5."""
    found: dict[str, Any] = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            if h5py.check_string_dtype(item.dtype) is None:
                found[name] = array(item[()])
            else:
                found[name] = item.asstr()[()] if item.shape == () else item.asstr()[:].tolist()

    with h5py.File(path) as file:
        file.visititems(keep)
        found["attributes"] = {name: str(value) for name, value in sorted(file.attrs.items())}
    return dict(json.loads(json.dumps(found).replace(str(root), "ROOT")))


def images_found(faces_detector: Detector, pictures: list[Path]) -> Any:
    return [finding(one) for one in faces_detector.detect_many(pictures, max_false_alarm=0.05)]


def scores_found(faces_detector: Detector, pictures: list[Path]) -> Any:
    return [finding(one) for one in faces_detector.detect_many(pictures[:2], heatmap=False)]


def clip_found(faces_detector: Detector, clip: Path) -> Any:
    return [finding(next(faces_detector.detect_many([clip], max_false_alarm=0.05, policy=Policy(4))))]


def volumes_found(brain_detector: Detector, thin: Path) -> Any:
    # Neither is prepared like the model's own: judged for the sake of maps, and once as people are told.
    paths = [TEMPLATE, thin / "sick/a.nii.gz"]
    found = list(brain_detector.detect_many(paths, max_false_alarm=0.1, typicality=False))
    return [finding(one) for one in (*found, brain_detector.detect(paths[1], heatmap=False))]


def images_measured(faces_detector: Detector, pictures: list[Path], tmp_path: Path) -> Any:
    for kind, these in (("normal", pictures[:1] * 2), ("anomalous", pictures[1:3])):
        (tmp_path / kind).mkdir()
        for number, path in enumerate(these):
            # Bytes after the end of a JPEG leave its pixels as they are and give it draws of its own.
            (tmp_path / kind / f"{number}.jpg").write_bytes(path.read_bytes() + bytes([number]))
    (tmp_path / "pairs.csv").write_text("fake,real\n0.jpg,0.jpg\n1.jpg,1.jpg\n")
    found = evaluate(
        faces_detector, tmp_path / "normal", tmp_path / "anomalous", pairs=tmp_path / "pairs.csv", text_pairs=1
    )
    return json.loads(json.dumps(found.metrics))


def volumes_measured(brain_detector: Detector, thin: Path) -> Any:
    found = evaluate_volumes(brain_detector, thin / "normal", thin / "sick", masks=thin / "mask", text=False)
    return json.loads(json.dumps(found.metrics))


def images_stored(pictures: list[Path], clip: Path, tmp_path: Path) -> Any:
    prepare_images([pictures[0].parent], tmp_path / "images.h5", workers=1)
    prepare_videos([clip.parent], tmp_path / "videos.h5", policy=Policy(4), workers=1)
    images, videos = (stored(tmp_path / f"{name}.h5", HERE) for name in ("images", "videos"))
    # Frames are kept as PNG, whose bytes are those of one version of zlib.
    return [images, {name: v for name, v in videos.items() if name not in ("encoded", "offset", "table/sha256")}]


def volumes_stored(tmp_path: Path) -> Any:
    for number in range(2):
        write(tmp_path / f"train/h{number}.nii.gz", head(number)[0])
    prepare_volumes([tmp_path / "train"], tmp_path / "volumes.h5", framing=SliceFraming(size=32), workers=1)
    return stored(tmp_path / "volumes.h5", tmp_path)


CASES: tuple[Callable[..., Any], ...] = (
    images_found, scores_found, clip_found, volumes_found, images_measured, volumes_measured, images_stored,
    volumes_stored,
)  # fmt: skip


def same(ours: Any, golden: Any, exact: bool, place: str = "", levels: int = 0) -> list[str]:
    """Places where two trees differ."""
    if isinstance(golden, dict) and isinstance(ours, dict) and set(ours) == set(golden):
        levels = LEVELS if golden.get("dtype") == "uint8" else 0
        return [
            line
            for key in golden
            if exact or key != "bits"
            for line in same(ours[key], golden[key], exact, f"{place}/{key}", levels)
        ]
    if isinstance(golden, list) and isinstance(ours, list) and len(ours) == len(golden):
        both = enumerate(zip(ours, golden, strict=True))
        return [line for i, (a, b) in both for line in same(a, b, exact, f"{place}/{i}", levels)]
    if not exact and isinstance(golden, float) and isinstance(ours, float):
        close = math.isclose(ours, golden, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    elif not exact and levels and isinstance(golden, int) and isinstance(ours, int):
        close = abs(ours - golden) <= levels
    else:
        close = ours == golden and type(ours) is type(golden)
    return [] if close else [f"{place}: {str(ours)[:80]}, was {str(golden)[:80]}"]


@pytest.mark.parametrize("make", CASES, ids=lambda make: str(make.__name__))
def test_says_what_it_said(make: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    wanted = make.__code__.co_varnames[: make.__code__.co_argcount]
    # Through JSON: what is read back is compared with what would be written.
    ours = json.loads(json.dumps(make(*(request.getfixturevalue(name) for name in wanted))))
    path = HERE / f"{make.__name__}.json"
    if request.config.getoption("--write-goldens"):
        path.write_text(json.dumps(ours, indent=0) + "\n", encoding="utf-8")
    golden = json.loads(path.read_text(encoding="utf-8"))
    differences = same(ours, golden, request.config.getoption("--exact-goldens"))
    assert not differences, "\n".join(differences[:20])


def test_a_difference_is_seen() -> None:
    golden = {"a": 1, "b": [0.5, "x"], "c": {"dtype": "uint8", "sample": [3], "bits": "0"}}
    assert not same({**golden, "b": [0.5 * (1 + 5e-5), "x"]}, golden, False)
    assert not same({**golden, "c": {"dtype": "uint8", "sample": [4], "bits": "1"}}, golden, False)
    for other in ({"a": 2}, {"a": True}, {"a": 1.0}, {"b": [0.5 * (1 + 5e-4), "x"]}, {"b": [0.5, "y"]}, {"b": [0.5]}):
        assert len(same({**golden, **other}, golden, False)) == 1
    assert same({**golden, "b": [math.nextafter(0.5, 1), "x"]}, golden, True)
    assert same({**golden, "c": {"dtype": "uint8", "sample": [3], "bits": "1"}}, golden, True)
