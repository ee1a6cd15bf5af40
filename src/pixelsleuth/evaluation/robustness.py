"""`robustness`: the metrics of the same images, unchanged and after each corruption at each severity."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.protocol import sharpness
from pixelsleuth.evaluation.samples import inputs_of, read_pairs
from pixelsleuth.evaluation.scored import Scored
from pixelsleuth.sources.images import read_picture
from pixelsleuth.sources.inputs import kind_of
from pixelsleuth.synthesis.corruptions import CORRUPTIONS

#: False-alarm rates that are promised for pictures like the calibration set, and looked at here.
RATES = (0.01, 0.05, 0.1)


@dataclass(frozen=True)
class Pictures:
    """n readable pictures, normal and anomalous, that every treatment is measured on.

    Attributes:
        anomalous: (n,) bool.
        units: n names; pictures of one name, such as a pair, are resampled together.
        too_large: how many more there were, larger than a treatment can take.
        unreadable: how many files were left out for being videos, or because they cannot be read.
    """

    paths: Sequence[Path]
    anomalous: np.ndarray
    units: Sequence[str]
    too_large: int = 0
    unreadable: int = 0

    @classmethod
    def of(cls, normal: Path, anomalous: Path, pairs: Path | None = None, largest: float = math.inf) -> Pictures:
        """Collect the images of two folders, paired by a CSV with columns fake, real where one is given.

        Args:
            largest: side in pixels beyond which an image is left out, and counted.

        Raises:
            PixelsleuthError: a folder without a readable picture, or a CSV that names none of them.
        """
        partner = read_pairs(pairs, normal, anomalous).real_of if pairs else {}
        paths: list[Path] = []
        labels: list[bool] = []
        too_large = unreadable = 0
        for root, label in ((normal, "normal"), (anomalous, "anomalous")):
            given = inputs_of(root, label)
            sides = {path: side for path in given if (side := _longest_side(path))}
            found = [path for path, side in sides.items() if side <= largest]
            too_large += len(sides) - len(found)
            unreadable += len(given) - len(sides)
            if not found:
                more = f", but {len(sides)} larger than {largest:g} px on a side" if sides else ""
                raise PixelsleuthError(f"{root}: no readable picture{more}", label)
            paths += found
            labels += [label == "anomalous"] * len(found)
        names = {path: str(real) for fake, real in partner.items() for path in (fake, real)}
        units = [names.get(path, str(path)) for path in paths]
        return cls(paths, np.array(labels), units, too_large, unreadable)


@dataclass(frozen=True)
class Judged:
    """The same pictures after one treatment: their scores, the blur baseline among them, (n,) p-values, and in how many
    no face was found where one is wanted."""

    table: Scored
    p_values: np.ndarray
    no_face: int

    def summary(self) -> dict[str, Any]:
        """`scores`, `false_alarm` and `found` (shares of normal and of anomalous pictures at each of `RATES`), and
        `n_no_face`, with intervals."""
        weights = self.table.weights()
        shares = {}
        for key, chosen in (("false_alarm", ~self.table.anomalous), ("found", self.table.anomalous)):
            shares[key] = {
                f"{rate:g}": metrics.share_with_interval(self.p_values[chosen] <= rate, weights[:, chosen])
                for rate in RATES
            }
        scores = {name: metrics.score_metrics(self.table.counts(name, weights)) for name in self.table.scores}
        return {"scores": scores, **shares, "n_no_face": self.no_face}


def judged(
    detector: Detector,
    pictures: Pictures,
    change: Callable[[np.ndarray], np.ndarray],
    *,
    every_score: bool = True,
    progress: Callable[[], None] = lambda: None,
) -> Judged:
    """Judge pictures after a treatment; faces are searched for anew, and without one the whole picture is judged.

    Args:
        change: (H, W, 3) uint8 -> the same, of any size.

    Raises:
        PixelsleuthError: a picture can no longer be judged.
    """
    # p-values are wanted, no verdicts: at the smallest rate hardly any picture is near it and re-encoded for `unsure`.
    rate = 1 / (detector.calibration.count + 1)
    scores, p_values, no_face = [], [], 0
    blur: list[float] = []
    for finding in detector.detect_many(
        _changed(pictures.paths, change, blur), max_false_alarm=rate, heatmap=False, every_score=every_score,
        whole_without_face=True,
    ):  # fmt: skip
        if finding.p_value is None:
            raise PixelsleuthError(f"a picture could not be judged: {finding.reason_sentence}")
        scores.append(finding.scores)
        p_values.append(finding.p_value)
        no_face += not finding.faces and detector.model.config.preprocessing["crop"] == "face"
        progress()
    table = {name: np.array([one[name] for one in scores]) for name in scores[0]} | {"baseline_blur": np.array(blur)}
    return Judged(
        Scored([str(path) for path in pictures.paths], pictures.anomalous, pictures.units, table),
        np.array(p_values),
        no_face,
    )


def measure_robustness(
    detector: Detector,
    normal: Path,
    anomalous: Path,
    *,
    pairs: Path | None = None,
    kinds: Collection[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure a detector's scores against severity; no maps. Normal and anomalous pictures are corrupted alike.

    Args:
        pairs: CSV with columns fake, real, as `evaluate` takes it; intervals are then by pair.
        kinds: of `CORRUPTIONS`; all unless given.

    Returns:
        What robustness.json holds: `n_too_large` (pictures left out, larger than a corruption's format can hold; all
        are measured on the same pictures), `n_unreadable` (files left out: videos, and what cannot be read),
        `unchanged`, and `corruptions` {kind: {`unit`, `severities`, and one entry a
        severity of `scores`, `false_alarm`, `found`, `n_no_face`}}; all intervals on the same resamples.

    Raises:
        PixelsleuthError: a folder without a readable picture, a model for volumes, or an unknown kind.
    """
    detector.check_takes("images")
    for kind in kinds:
        if kind not in CORRUPTIONS:
            raise PixelsleuthError(f"expected one of {', '.join(CORRUPTIONS)}; got {kind!r}", "corruption")
    chosen = {kind: CORRUPTIONS[kind] for kind in CORRUPTIONS if kind in kinds or not kinds}
    largest = min(one.largest or math.inf for one in chosen.values())
    pictures = Pictures.of(normal, anomalous, pairs, largest)
    total = len(pictures.paths) * (1 + sum(len(one.severities) for one in chosen.values()))
    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    def measured(change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
        return judged(detector, pictures, change, progress=told).summary()

    bad = int(pictures.anomalous.sum())
    result: dict[str, Any] = {
        "n_normal": len(pictures.paths) - bad, "n_anomalous": bad, "n_too_large": pictures.too_large,
        "n_unreadable": pictures.unreadable,
        "n_calibration": detector.calibration.count, "default_score": detector.calibration.score,
        "model_sha256": detector.model.sha256,
        "paired": pairs is not None, "unchanged": measured(lambda pixels: pixels), "corruptions": {},
    }  # fmt: skip
    for kind, corruption in chosen.items():
        each = [measured(corruption.at(severity)) for severity in corruption.severities]
        by_key = {key: [one[key] for one in each] for key in each[0]}
        result["corruptions"][kind] = {"unit": corruption.unit, "severities": list(corruption.severities), **by_key}
    return result


def _longest_side(path: Path) -> int:
    """In pixels; 0 of what is no image that can be read."""
    if kind_of(path) != "image":
        return 0
    try:
        return max(read_picture(path).pixels.shape[:2])
    except InputError:
        return 0


def _changed(
    paths: Sequence[Path], change: Callable[[np.ndarray], np.ndarray], blur: list[float]
) -> Iterator[np.ndarray]:
    """The pictures after a treatment; how blurred each then is goes to `blur`."""
    for path in paths:
        pixels = np.ascontiguousarray(change(read_picture(path).pixels))
        blur.append(-sharpness(pixels))
        yield pixels
