"""MOOD's container interface: turn each volume into one number or one map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import write_text
from pixelsleuth.records import Finding
from pixelsleuth.sources.scans.volumes import in_file_order, save_volume


def write_sample(detector: Detector, path: Path, out: Path) -> str:
    """Write `NAME.txt` with one number in [0, 1]; what cannot be read gets 1. Gives the reason then, else "".

    The number is the normal distribution's share below the score, with the calibration scores' mean and spread: ranks
    alone would tie all that lies beyond them.
    """
    (finding,) = detector.detect_many([path], max_false_alarm=0.5, heatmap=False, typicality=False)
    if finding.score is None:
        write_text(out / f"{path.name}.txt", "1.0\n")
        return _reason(path, finding)
    known = detector.calibration.scores["original"]
    value = float(stats.norm.cdf((finding.score - known.mean()) / max(float(known.std()), 1e-9)))
    write_text(out / f"{path.name}.txt", f"{value:.9g}\n")
    return ""


def check_apart(paths: Sequence[Path], out: Path) -> None:
    """Raise PixelsleuthError where a map, which takes its volume's name, would be written over one of the volumes."""
    # By what the system knows a file by: two names may lead to one file, through links or where case does not count.
    known = {(found.st_dev, found.st_ino) for found in (path.stat() for path in paths if path.exists())}
    for target in (out / path.name for path in paths):
        if target.exists() and (target.stat().st_dev, target.stat().st_ino) in known:
            raise PixelsleuthError(
                f"{out}: the map of {target.name} would be written over a volume that is read; name another folder"
            )


def write_pixels(detector: Detector, path: Path, out: Path) -> str:
    """Write `NAME`, a float32 map in [0, 1] in the volume's space; nothing where it cannot be read, for its shape is
    not known. Gives the reason then, else "".

    Raises:
        PixelsleuthError: the map would be written over the volume.
    """
    check_apart([path], out)
    sample = detector.read(path)
    if isinstance(sample, Finding):
        return _reason(path, sample)
    raw = detector.score([sample])[0].maps[detector.scorer.settings.default_map]
    largest = max(float(detector.calibration.quantiles.max()), 1e-9)
    # Squashed, not cut off: what lies beyond every healthy pixel still has its order.
    drawn = sample.slices.drawn_back(np.maximum(raw, 0) / (np.maximum(raw, 0) + largest))
    save_volume(out / path.name, in_file_order(drawn, sample.volume), sample.volume.affine, sample.volume.unit)
    return ""


def _reason(path: Path, finding: Finding) -> str:
    return f"{path.name}: {finding.reason_sentence}"
