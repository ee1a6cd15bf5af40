"""Calibrate on a folder of one's own untouched images, without a store and without training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from pixelsleuth.datasets.layouts import source_of
from pixelsleuth.errors import CalibrationError, InputError, PixelsleuthError
from pixelsleuth.models.checkpoint import load_model
from pixelsleuth.scoring.calibration import Calibration, save_calibration
from pixelsleuth.scoring.levelling import Levelling
from pixelsleuth.scoring.networks import torch_scorer
from pixelsleuth.scoring.origins import fewest
from pixelsleuth.scoring.scorer import stacked
from pixelsleuth.scoring.settings import settings_from_tree
from pixelsleuth.sources.duplicates import NO_HASHES, Hashes, load_hashes, near
from pixelsleuth.sources.faces import Sizes
from pixelsleuth.sources.inputs import Refused, find_inputs, kind_of
from pixelsleuth.sources.reencoding import REENCODINGS
from pixelsleuth.sources.samples import CropSettings, Sample, read_sample
from pixelsleuth.sources.traits import traits_of
from pixelsleuth.training.ranking import CalibrationBatch, ranked

#: Smallest number of images: the rate promised is at least 1 / (n + 1), so 19 promise 5%.
MIN_IMAGES = 19
BATCH = 16
#: What a model that was calibrated in this way says of it.
OWN = "own"


@dataclass
class Reading:
    """The result of reading a folder.

    Attributes:
        used: how many pictures; left_out: (path below the folder, code, sentence) of each other file.
    """

    used: int = 0
    left_out: list[tuple[str, str, str]] = field(default_factory=list)

    def reasons(self) -> str:
        """`12 no_face, 3 duplicate`."""
        counts = Counter(code for _, code, _ in self.left_out)
        return ", ".join(f"{count:,} {code}" for code, count in counts.most_common())


def calibrate_on_folder(
    folder: Path,
    normal: Path,
    *,
    known: Collection[str] = (),
    levelling: Levelling | None = None,
    dtype: str = "float32",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Calibration, Reading]:
    """Rank the images below `normal` and write `calibration.json` into the model folder; of several faces in one image
    the largest counts.

    Args:
        known: perceptual hashes, 16 hexadecimal digits each, of pictures that must not count.
        levelling: of the model's calibration before; it stays, for a folder is one source and cannot fit one.

    Raises:
        PixelsleuthError: no folder, a model for scans, or another dtype than there is.
        CalibrationError: fewer than `MIN_IMAGES` pictures can be used.
    """
    if dtype not in ("float32", "bfloat16"):
        raise PixelsleuthError(f"expected float32 or bfloat16, got {dtype!r}", "dtype")
    if not normal.is_dir():
        raise PixelsleuthError(f"expected a folder of untouched images, got {normal}", "normal")
    model = load_model(folder)
    config = model.config.preprocessing
    if config["crop"] == "volume":
        raise PixelsleuthError(
            "a folder of images calibrates a model for pictures, this one judges scans; calibrate it on a store of "
            "`pixelsleuth prepare volumes`"
        )
    # Videos have frames, which are not exchangeable with pictures.
    files = [one for one in find_inputs(normal) if isinstance(one, Refused) or kind_of(one) == "image"]
    if len(files) < MIN_IMAGES:
        raise _too_few(normal, f"{len(files)} images")
    scorer = torch_scorer(model, settings_from_tree(model.config.scoring), dtype)
    scorer.levelling = levelling
    how = replace(CropSettings.of(config, scorer.sizes), hashed=True)
    reading = Reading()
    # In an order that says nothing of them: not all need be mapped.
    order = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    usable = _read(order, normal, how, known, reading, progress, load_hashes(folder))
    # Too few is told before anything is computed.
    first = list(islice(usable, MIN_IMAGES))
    if len(first) < MIN_IMAGES:
        raise _too_few(normal, f"{len(first)} of {len(files)} images can be used (left out: {reading.reasons()})")
    source = source_of(normal.resolve())
    rest = chain(first, usable)

    def batches() -> Iterator[CalibrationBatch]:
        while batch := list(islice(rest, BATCH)):
            yield _ranked_images(batch, how.sizes, source)

    calibration = ranked(scorer, batches())
    calibration = replace(calibration, about=calibration.about | {OWN: True})
    save_calibration(folder / "calibration.json", calibration)
    return calibration, reading


def _too_few(normal: Path, found: str) -> CalibrationError:
    return CalibrationError(
        f"{normal}: {found}, at least {MIN_IMAGES} are needed: {fewest(0.1)} for a false-alarm rate of 10%, "
        f"{fewest(0.05)} for 5%, {fewest(0.01)} for 1%; 100 to 300 are advised",
        "normal",
    )


def _read(
    files: Sequence[Path | Refused], root: Path, how: CropSettings, known: Collection[str], reading: Reading,
    progress: Callable[[int, int], None], trained: Hashes = NO_HASHES,
) -> Iterator[tuple[Sample, str]]:  # fmt: skip
    """Each picture that can be used, with its perceptual hash; of the others `reading` tells why not. `trained`: of the
    pictures that the networks were trained on."""
    taken = np.array([int(one, 16) for one in known], np.uint64)
    own: dict[int, str] = {}
    files_seen: dict[str, str] = {}
    # Pictures of parts or shapes are all alike to a perceptual hash; photographs of people are not.
    looks = how.crop == "face"
    for number, one in enumerate(files, 1):
        path = Path(one.path if isinstance(one, Refused) else one)
        name = str(path.relative_to(root))
        try:
            sample = read_sample(one if isinstance(one, Refused) else path, "image", how)
            # Of several faces the largest; all would be one picture, not several.
            sample = replace(sample, tracks=sample.tracks[:1])
            hashed = sample.phash
            assert hashed is not None
            if sample.sha256 in files_seen:
                raise InputError("duplicate", f"the same file as {files_seen[sample.sha256]}; a picture counts once")
            if trained.has_file(sample.sha256) or (looks and near(hashed, trained.looks)):
                raise InputError("trained_on", "the networks were trained on it, or on nearly the same picture")
            if looks and near(hashed, taken):
                raise InputError("known", "nearly the same as a picture of the model's own calibration or of the demo")
            twin = near(hashed, np.array(list(own), np.uint64)) if looks else []
            if twin:
                raise InputError("duplicate", f"nearly the same picture as {own[twin[0]]}; a picture counts once")
        except InputError as error:
            reading.left_out.append((name, error.code, error.sentence))
        else:
            own[int(hashed)] = files_seen[sample.sha256] = name
            reading.used += 1
            yield sample, f"{int(hashed):016x}"
        progress(number, len(files))


def _ranked_images(batch: Sequence[tuple[Sample, str]], sizes: Sizes, source: str) -> CalibrationBatch:
    samples = [sample for sample, _ in batch]
    reencoded = {}
    keys = [sample.main.key for sample in samples]
    for name in REENCODINGS:
        reencoded[name] = stacked([view for sample in samples for view in sample.views(name, sizes)], keys)
    traits = []
    for sample in samples:
        face, encoded = sample.main.face, sample.source
        assert isinstance(encoded, bytes)
        traits.append(traits_of(sample.main.views.square, face.box.width, encoded, face.landmarks))
    crops = stacked([sample.main.views for sample in samples], keys)
    return CalibrationBatch(
        crops, reencoded, [source] * len(samples), np.stack(traits), [hashed for _, hashed in batch]
    )
