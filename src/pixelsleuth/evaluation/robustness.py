"""`robustness`: the same metrics on the same pictures as they are and after each corruption at each severity."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.protocol import inputs_of, read_pairs, sharpness
from pixelsleuth.evaluation.scored import Scored
from pixelsleuth.sources.corruptions import CORRUPTIONS, Corruption
from pixelsleuth.sources.images import read_picture
from pixelsleuth.sources.inputs import kind_of

#: False-alarm rates that are promised for pictures like the calibration set, and looked at here.
RATES = (0.01, 0.05, 0.1)


def measure_robustness(
    detector: Detector,
    normal: Path,
    anomalous: Path,
    *,
    pairs: Path | None = None,
    kinds: Collection[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measures a detector's scores against severity; no maps. Normal and anomalous pictures are corrupted alike, and
    faces are searched for anew, as they would be.

    Args:
        pairs: CSV with columns fake, real, as `evaluate` takes it; intervals are then by pair.
        kinds: of `CORRUPTIONS`; all unless given.

    Returns:
        What robustness.json holds: `unchanged`, and `corruptions` {kind: {`unit`, `severities`, and one entry a
        severity of `scores`, `false_alarm`, `n_no_face`}}; all intervals on the same resamples.

    Raises:
        PixelsleuthError: a folder without a readable picture, a model for volumes, or an unknown kind.
    """
    if detector.takes == "volumes":
        raise PixelsleuthError(f"expected one for pictures, got {detector.name}, which is for volumes", "model")
    for kind in kinds:
        if kind not in CORRUPTIONS:
            raise PixelsleuthError(f"expected one of {', '.join(CORRUPTIONS)}; got {kind!r}", "corruption")
    partner = read_pairs(pairs, normal, anomalous) if pairs else {}
    paths, labels = [], []
    for root, label in ((normal, "normal"), (anomalous, "anomalous")):
        found = [path for path in inputs_of(root, label) if _readable(path)]
        if not found:
            raise PixelsleuthError(f"{root}: no readable picture", label)
        paths += found
        labels += [label == "anomalous"] * len(found)
    names = {path: str(real) for fake, real in partner.items() for path in (fake, real)}
    units = [names.get(path, str(path)) for path in paths]
    chosen = {kind: CORRUPTIONS[kind] for kind in CORRUPTIONS if kind in kinds or not kinds}
    total = len(paths) * (1 + sum(len(one.severities) for one in chosen.values()))
    done = 0
    # p-values are wanted, no verdicts: at the smallest rate hardly any picture is near it and re-encoded for `unsure`.
    rate = 1 / (detector.calibration.count + 1)

    def measured(corruption: Corruption | None, severity: float) -> dict[str, Any]:
        nonlocal done
        scores, p_values, no_face = [], [], 0
        blur: list[float] = []
        sources = _corrupted(paths, corruption, severity, blur)
        for finding in detector.detect_many(
            sources, max_false_alarm=rate, heatmap=False, every_score=True, whole_without_face=True
        ):
            if finding.p_value is None:
                raise PixelsleuthError(f"a picture could not be judged: {(finding.reason or {}).get('sentence')}")
            scores.append(finding.scores)
            p_values.append(finding.p_value)
            no_face += not finding.faces and detector.model.config.preprocessing["crop"] == "face"
            done += 1
            progress(done, total)
        table = {name: np.array([one[name] for one in scores]) for name in scores[0]}
        scored = Scored(
            [str(path) for path in paths], np.array(labels), units, table | {"baseline_blur": np.array(blur)}
        )
        return _summary(scored, np.array(p_values), no_face)

    result: dict[str, Any] = {
        "n_normal": labels.count(False), "n_anomalous": labels.count(True), "n_calibration": detector.calibration.count,
        "default_score": detector.calibration.score, "model_sha256": detector.model.sha256, "paired": bool(partner),
        "unchanged": measured(None, 0.0), "corruptions": {},
    }  # fmt: skip
    for kind, corruption in chosen.items():
        each = [measured(corruption, severity) for severity in corruption.severities]
        by_key = {key: [one[key] for one in each] for key in each[0]}
        result["corruptions"][kind] = {"unit": corruption.unit, "severities": list(corruption.severities), **by_key}
    return result


def _readable(path: Path) -> bool:
    if kind_of(path) != "image":
        return False
    try:
        read_picture(path)
    except InputError:
        return False
    return True


def _corrupted(
    paths: Sequence[Path], corruption: Corruption | None, severity: float, blur: list[float]
) -> Iterator[np.ndarray]:
    """The pictures after a corruption; how blurred each then is goes to `blur`."""
    for path in paths:
        pixels = read_picture(path).pixels
        if corruption is not None:
            pixels = corruption.change(pixels, severity)
        blur.append(-sharpness(pixels))
        yield np.ascontiguousarray(pixels)


def _summary(table: Scored, p_values: np.ndarray, no_face: int) -> dict[str, Any]:
    weights = table.weights()
    normal = ~table.anomalous
    return {
        "scores": {name: metrics.score_metrics(table.counts(name, weights)) for name in table.scores},
        "false_alarm": {
            f"{rate:g}": metrics.share_with_interval(p_values[normal] <= rate, weights[:, normal]) for rate in RATES
        },
        "n_no_face": no_face,
    }
