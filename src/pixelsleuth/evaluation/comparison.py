"""Measure baselines on the inputs of an evaluation, each baseline fitted on normal images alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pixelsleuth.baselines.baseline import Baseline, ComparedCrop, compared_crop
from pixelsleuth.baselines.registry import ALWAYS, baseline
from pixelsleuth.datasets.store import Store
from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation.samples import PIXEL_SIDE, ScoredSample
from pixelsleuth.records import Finding
from pixelsleuth.scoring.networks import torch_of
from pixelsleuth.sources.faces import drawn_back
from pixelsleuth.sources.images import decode, find_images
from pixelsleuth.sources.inputs import Input
from pixelsleuth.sources.samples import Sample

#: Largest number of normal crops that baselines are fitted on: some hold all of them in memory, 350 kB each.
MAX_NORMALS = 2000
#: Crops scored together.
BATCH = 32


@dataclass(frozen=True)
class Baselines:
    """The baselines to compare with, and what they are fitted on.

    Attributes:
        names: of `baselines.registry`, or model folders.
        normals: a store, whose training crops baselines are fitted on, or a folder of normal images; None: each half of
            the inputs is scored by baselines fitted on the normal ones of the other half, which then know the source
            of the very images they judge.
        most: normal crops that they are fitted on at most.
        fitted: the baselines themselves, where they are fitted already; see `fitted_once`.
    """

    names: tuple[str, ...]
    normals: Path | None = None
    most: int = MAX_NORMALS
    fitted: tuple[Baseline, ...] = ()


def check_baselines(baselines: Baselines, detector: Detector) -> None:
    """Raise PixelsleuthError for an unknown name or a missing package, before anything is scored."""
    if not baselines.fitted:
        _made(baselines, detector)


def fitted_once(baselines: Baselines, detector: Detector) -> Baselines:
    """The same baselines fitted on their `normals`, for several evaluations."""
    if baselines.normals is None:
        raise PixelsleuthError("expected a store or a folder of normal images, got none", "compare_normals")
    crops = [crop for crop, _ in normal_crops(detector, baselines.normals, baselines.most)]
    return replace(baselines, fitted=_fitted(baselines, detector, crops, str(baselines.normals)))


def compare(
    detector: Detector,
    cases: Sequence[ScoredSample],
    baselines: Baselines,
    *,
    maps: bool,
    given: Callable[[Path], Input] = lambda path: path,
) -> None:
    """Add the baselines' scores, and with `maps` their maps, to each case.

    Args:
        cases: of images; of several faces the largest is judged.
        given: what is read for a path, where it is not the file itself.

    Raises:
        PixelsleuthError: a case is no image, or there are no normal images to fit on.
    """
    if any(case.finding.kind != "image" for case in cases):
        raise PixelsleuthError("baselines judge images; expected no video among the inputs", "compare")
    if baselines.normals is not None:
        known = baselines if baselines.fitted else fitted_once(baselines, detector)
        _score(detector, cases, known.fitted, maps, given)
        return
    units = {unit: number % 2 for number, unit in enumerate(sorted({case.unit for case in cases}))}
    for fold in (0, 1):
        inside = [case for case in cases if units[case.unit] == fold]
        others = [case for case in cases if units[case.unit] != fold and not case.anomalous][: baselines.most]
        crops = [crop for crop, _ in _crops(detector, [given(case.path) for case in others])]
        _score(detector, inside, _fitted(baselines, detector, crops, "the normal inputs"), maps, given)


def normal_crops(detector: Detector, normals: Path, most: int) -> Iterator[tuple[ComparedCrop, str]]:
    """Pick at most `most` crops of normal images evenly, from a store's training images or a folder's, with where each
    came from."""
    if normals.suffix == ".h5":
        with Store(normals) as store:
            rows = store.rows("train")
            for row in rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]:
                pixels = decode(store.encoded(int(row))).pixels
                yield compared_crop(pixels, store.box(int(row))), str(store.table["path"][row])
        return
    if not normals.is_dir():
        raise PixelsleuthError(f"{normals}: expected a store or a folder of normal images", "compare_normals")
    paths = sorted(find_images(normals))
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int)] if paths else []
    for crop, sample in _crops(detector, chosen):
        yield crop, sample.path


def _crops(detector: Detector, inputs: Sequence[Input]) -> Iterator[tuple[ComparedCrop, Sample]]:
    """Of each input that can be read the crop of its largest face, or of the whole image where there is none."""
    for source in inputs:
        sample = detector.read(source, whole_without_face=True)
        if isinstance(sample, Finding):
            continue
        pixels = decode(sample.source).pixels if isinstance(sample.source, bytes) else sample.source
        assert isinstance(pixels, np.ndarray), "an image keeps its bytes or its pixels"
        yield compared_crop(pixels, sample.main.face.box), sample


def _made(baselines: Baselines, detector: Detector) -> list[Baseline]:
    model = torch_of(detector.scorer).model
    return [baseline(name, model) for name in baselines.names if name not in ALWAYS]


def _fitted(
    baselines: Baselines, detector: Detector, crops: Sequence[ComparedCrop], where: str
) -> tuple[Baseline, ...]:
    if len(crops) < 2:
        raise PixelsleuthError(f"{where}: expected at least 2 normal images to fit baselines on, got {len(crops)}")
    made = _made(baselines, detector)
    for one in made:
        one.fit(crops)
    return tuple(made)


def _score(
    detector: Detector, cases: Sequence[ScoredSample], fitted: Sequence[Baseline], maps: bool,
    given: Callable[[Path], Input],
) -> None:  # fmt: skip
    for start in range(0, len(cases), BATCH):
        some = cases[start : start + BATCH]
        read = list(_crops(detector, [given(case.path) for case in some]))
        if len(read) != len(some):
            raise InputError("failed", "an input that was scored cannot be read any more")
        for one in fitted:
            found = one.compare([crop for crop, _ in read])
            for i, (case, (_, sample)) in enumerate(zip(some, read, strict=True)):
                case.compared |= {name: float(values[i]) for name, values in found.scores.items()}
                if maps:
                    for name, values in found.maps.items():
                        whole = drawn_back(values[i], sample.main.face.box, sample.shape)
                        drawn = cv2.resize(whole, (PIXEL_SIDE,) * 2, interpolation=cv2.INTER_AREA)
                        case.maps[f"baseline_{name}"] = drawn
