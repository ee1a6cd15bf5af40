"""A volume's judgement: its slices brought to one scale, examined, ranked, and its map drawn back into its space."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from pixelsleuth import __version__
from pixelsleuth.errors import InputError
from pixelsleuth.records import Box, Finding, Region, SliceFinding, Verdict
from pixelsleuth.scoring.calibration import SLICE, Calibration
from pixelsleuth.scoring.origins import conformal_p
from pixelsleuth.scoring.scans import SliceEvidence, SliceExaminer, volume_scores
from pixelsleuth.sources.slices import SliceFraming, Slices, slices_of
from pixelsleuth.sources.volumes import Volume, in_file_order, key_of, read_volume

#: Fewest voxels that make a region.
MIN_REGION = 16


@dataclass(frozen=True)
class Scan:
    """A volume that was read and cut."""

    volume: Volume
    slices: Slices


class Scanner:
    """Judges volumes by one calibrated model."""

    def __init__(
        self,
        identity: dict[str, str],
        examiner: SliceExaminer,
        calibration: Calibration,
        preprocessing: Mapping[str, Any],
    ) -> None:
        self.identity, self.examiner, self.calibration = identity, examiner, calibration
        self.framing = SliceFraming.of(preprocessing)

    def read(self, path: str | os.PathLike[str]) -> Scan | Finding:
        """Reads one volume; what cannot be judged comes back as its record."""
        try:
            volume = read_volume(path)
            try:
                return Scan(volume, slices_of(volume, self.framing))
            except InputError as error:
                raise InputError(error.code, error.sentence, volume.sha256) from None
        except InputError as error:
            return self._refused(path, error.code, error.sentence, error.sha256)
        except Exception as error:
            # What a decoder makes of a broken file is not foreseeable; it must not stop a run of many.
            return self._refused(path, "failed", f"reading failed ({type(error).__name__}: {error}); look at the file")

    def examine(self, scan: Scan, *, maps: bool = True, baselines: bool = False, text: int = 0) -> SliceEvidence:
        """What the networks say of a volume's slices; `maps`: also restore; the rest as in `SliceExaminer.examine`."""
        cut = scan.slices
        keys = [key_of(scan.volume.sha256, int(k)) for k in cut.index]
        restore = maps or "restoration" in self.examiner.settings.default_map
        return self.examiner.examine(
            cut.pixels, cut.inside, cut.position, keys, restore=restore, baselines=baselines, text=text
        )

    def judge(self, scan: Scan, rate: float, heatmap: bool, seen: SliceEvidence | None = None) -> Finding:
        """The finding of one volume.

        Args:
            rate: p <= rate is `anomalous`.
            seen: what `examine` gave, where it was asked before.
        """
        began = time.perf_counter()
        default, cut = self.calibration.score, scan.slices
        seen = seen or self.examine(scan, maps=heatmap)
        values = seen.scores[default]
        of_slices = self.calibration.scores[SLICE]
        slices = tuple(
            SliceFinding(int(k), float(v), conformal_p(of_slices, float(v)))
            for k, v in zip(cut.index, values, strict=True)
        )
        scores = volume_scores(seen.scores)
        if self.calibration.about["unit"] == SLICE:
            # Valid however the slices depend on each other (Vovk & Wang 2020), as for a track of frames.
            p_value = min(1.0, 2 * float(np.mean([one.p_value for one in slices])))
        else:
            p_value = self.calibration.p_value(scores[default])
        verdict: Verdict = "anomalous" if p_value <= rate else "normal"
        finding = Finding(
            scan.volume.path, scan.volume.sha256, "volume", self.identity, verdict, p_value=p_value,
            score=scores[default], scores={name: round(v, 6) for name, v in scores.items()}, max_false_alarm=rate,
            slices=slices, notes=scan.volume.notes, version=__version__, affine=scan.volume.affine,
        )  # fmt: skip
        if heatmap:
            finding = self._mapped(finding, scan, seen)
        return replace(finding, seconds=time.perf_counter() - began)

    def _mapped(self, finding: Finding, scan: Scan, seen: SliceEvidence) -> Finding:
        raw, cut = seen.maps[self.examiner.settings.default_map], scan.slices
        excess = np.stack([self.calibration.excess(one) for one in raw]) * (raw > 0)
        share = np.stack([self.calibration.share(one) for one in raw]) * (raw > 0)
        heatmap = in_file_order(cut.drawn_back(share), scan.volume)
        over = in_file_order(cut.drawn_back(excess), scan.volume)
        restoration = None
        if seen.restoration is not None:
            restoration = np.repeat(
                seen.restoration[int(np.argmax(seen.scores[self.calibration.score]))][..., None], 3, 2
            )
        return replace(
            finding,
            heatmap=heatmap,
            excess=self.calibration.coloured(over),
            regions=self._regions(over),
            raw_maps=seen.maps,
            restoration=restoration,
        )

    def _regions(self, excess: np.ndarray) -> tuple[Region, ...]:
        """Connected parts of (X, Y, Z) excess that are coloured, in voxels of the file, the most unusual first."""
        labels, _ = ndimage.label(excess >= self.calibration.colour_from)
        found = []
        for number, (i, j, k) in enumerate(ndimage.find_objects(labels), 1):
            part = labels[i, j, k] == number
            if part.sum() < MIN_REGION:
                continue
            peak = float(excess[i, j, k][part].max())
            box = Box(i.start, j.start, i.stop, j.stop)
            found.append(Region(box, conformal_p(self.calibration.largest, peak), (k.start, k.stop)))
        return tuple(sorted(found, key=lambda r: r.p_value))

    def _refused(self, path: Any, code: str, sentence: str, sha256: str | None = None) -> Finding:
        # Names of files, and what damaged headers hold, need not be of one line.
        told = "".join(c if c.isprintable() else " " for c in sentence)
        return Finding(
            os.fspath(path), sha256, "volume", self.identity, "not_applicable",
            reason={"code": code, "sentence": told}, version=__version__,
        )  # fmt: skip
