"""Assemble a finding from a sample, its scores and its verdict: maps are drawn back into the input. No network runs
here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from pixelsleuth import __version__
from pixelsleuth.errors import InputError
from pixelsleuth.records import Box, FaceFinding, Finding, FrameFinding, Region, SliceFinding, Still
from pixelsleuth.scoring.calibration import MIN_REGION, Calibration, region_of
from pixelsleuth.scoring.combination import volume_scores
from pixelsleuth.scoring.judgement import Judgement
from pixelsleuth.scoring.origins import PROMISES, conformal_p
from pixelsleuth.scoring.scorer import Scores
from pixelsleuth.scoring.settings import COMBINED, DETECTIVE, DETECTIVE_VIEWS
from pixelsleuth.sources.faces import draw_over, drawn_back
from pixelsleuth.sources.samples import Sample
from pixelsleuth.sources.scans.volumes import in_file_order, voxel_sizes_of

#: Standard deviations of normal training images from which one kind of evidence alarms, and up to which it is calm.
ALARMING, CALM = 3.0, 1.0


@dataclass(frozen=True)
class Assembler:
    """Assembles findings of one model: holds what they have in common.

    Attributes:
        identity: the model's name and SHA-256.
        default_map: name of the map that is calibrated.
    """

    identity: dict[str, str]
    calibration: Calibration
    default_map: str

    def refused(self, path: str, kind: str, error: InputError) -> Finding:
        """The finding of what could not be read."""
        # Names of files, and what damaged headers hold, need not be of one line.
        sentence = "".join(c if c.isprintable() else " " for c in error.sentence)
        return Finding(
            path, error.sha256, kind, self.identity, "not_applicable",
            reason={"code": error.code, "sentence": sentence}, notes=error.notes, version=__version__,
        )  # fmt: skip

    def finding(
        self, sample: Sample, scores: Scores, judged: Judgement, mapped: tuple[Sequence[int], Scores] | None = None
    ) -> Finding:
        """The finding of one sample.

        Args:
            scores: of its crops, with maps where these are wanted.
            mapped: of a video, the crops of its most unusual track that were mapped, the most unusual first, and their
                scores with maps.
        """
        p, refused = judged.p_input, judged.verdict == "not_applicable"
        plain = Finding(
            path=sample.path,
            sha256=sample.sha256,
            kind=sample.kind,
            model=self.identity,
            verdict=judged.verdict,
            reason=judged.reason,
            p_value=None if refused else p["calibration"],
            p_value_any_source=p.get("any-source"),
            p_value_new_source=p.get("new-source"),
            max_false_alarm=judged.rate,
            promise=judged.promise,
            notes=sample.notes,
            version=__version__,
        )
        if sample.kind == "volume":
            return self._of_volume(plain, sample, scores, judged)
        if sample.kind == "video":
            return self._of_video(plain, sample, scores, judged, mapped)
        return self._of_image(plain, sample, scores, judged)

    def _of_image(self, finding: Finding, sample: Sample, scores: Scores, judged: Judgement) -> Finding:
        values = scores.scores[self.calibration.score]
        faces = []
        for i, crop in enumerate(sample.crops):
            every = _means(scores, [i])
            verdict, reason = judged.verdicts[i], judged.reasons[i]
            p_face, score = _p_of(judged, i), float(values[i])
            faces.append(FaceFinding(crop.face, verdict, p_face[0], score, every, (), reason, *p_face[1:]))
        best = judged.decisive
        finding = replace(finding, score=faces[best].score, scores=faces[best].scores, square=faces[best].face.box)
        if scores.maps:
            heatmap, excess = np.zeros(sample.shape, np.float32), np.zeros(sample.shape, np.float32)
            for i, crop in enumerate(sample.crops):
                raw, box = scores.maps[self.default_map][i], crop.face.box
                over = self.calibration.excess(raw)
                faces[i] = replace(faces[i], regions=self._regions(over, box, sample.shape, len(faces)))
                draw_over(heatmap, self.calibration.share(raw), box)
                draw_over(excess, self.calibration.coloured(over), box)
            regions = sorted((r for face in faces for r in face.regions), key=lambda r: r.p_value)
            finding = replace(
                finding, regions=tuple(regions), heatmap=heatmap, excess=excess,
                restoration=None if scores.restoration is None else scores.restoration[best],
                raw_maps={name: m[best] for name, m in scores.maps.items()},
            )  # fmt: skip
        there = tuple(face for face in faces if face.face.landmarks)
        return replace(finding, faces=there, tracks=tracks_of(finding.scores))

    def _of_video(
        self, finding: Finding, sample: Sample, scores: Scores, judged: Judgement,
        mapped: tuple[Sequence[int], Scores] | None,
    ) -> Finding:  # fmt: skip
        values, p_crops = scores.scores[self.calibration.score], judged.promised["calibration"].crops
        frames, faces = [], []
        for number, (track, rows) in enumerate(zip(sample.tracks, sample.rows, strict=True)):
            for crop, i, p in zip(track, rows, p_crops[number], strict=True):
                frames.append(FrameFinding(crop.index, crop.time, number, crop.face, float(values[i]), p))
            of_track = [float(values[i]) for i in rows]
            worst = track[int(np.argmax(of_track))]
            every = _means(scores, rows) | _robust(self.calibration.score, of_track)
            verdict, reason, mean = judged.verdicts[number], judged.reasons[number], float(np.mean(of_track))
            p_track = _p_of(judged, number)
            faces.append(FaceFinding(worst.face, verdict, p_track[0], mean, every, (), reason, *p_track[1:]))
        best = judged.decisive
        finding = replace(finding, score=faces[best].score, scores=faces[best].scores, frames=tuple(frames))
        if mapped is not None:
            finding = self._with_stills(finding, sample, best, *mapped)
            faces[best] = replace(faces[best], regions=finding.regions)
        there = tuple(face for face in faces if face.face.landmarks)
        return replace(finding, faces=there, tracks=tracks_of(finding.scores))

    def _with_stills(
        self, finding: Finding, sample: Sample, best: int, order: Sequence[int], mapped: Scores
    ) -> Finding:
        """With the maps of the crops of one track that are numbered in `order`, the most unusual first."""
        before = sample.rows[best].start
        crops = [sample.tracks[best][k] for k in order]
        stills = []
        for k, crop, raw in zip(order, crops, mapped.maps[self.default_map], strict=True):
            assert crop.surroundings is not None
            assert crop.shape is not None
            pixels, box = crop.surroundings
            excess = drawn_back(self.calibration.coloured(self.calibration.excess(raw)), box, pixels.shape)
            whole = drawn_back(self.calibration.share(raw), crop.face.box, crop.shape)
            stills.append(Still(before + k, pixels, excess, whole))
        over, box = self.calibration.excess(mapped.maps[self.default_map][0]), crops[0].face.box
        return replace(
            finding, regions=self._regions(over, box, stills[0].heatmap.shape, len(sample.crops)),
            heatmap=stills[0].heatmap, stills=tuple(stills),
            restoration=None if mapped.restoration is None else mapped.restoration[0], square=box,
            raw_maps={name: m[0] for name, m in mapped.maps.items()},
        )  # fmt: skip

    def _of_volume(self, finding: Finding, sample: Sample, scores: Scores, judged: Judgement) -> Finding:
        values, (p_slices,) = scores.scores[self.calibration.score], judged.promised["calibration"].crops
        slices = [
            SliceFinding(crop.index, float(value), p)
            for crop, value, p in zip(sample.crops, values, p_slices, strict=True)
        ]
        every = volume_scores(scores.scores)
        finding = replace(
            finding, score=every[self.calibration.score], scores={name: round(v, 6) for name, v in every.items()},
            affine=sample.volume.affine, unit=sample.volume.unit,
        )  # fmt: skip
        if finding.p_value is None:
            # Of a scan that is not prepared like those of calibration neither slices nor places have a p-value.
            return finding
        finding = replace(finding, slices=tuple(slices))
        if not scores.maps:
            return finding
        raw = scores.maps[self.default_map]
        excess = np.stack([self.calibration.excess(one) for one in raw]) * (raw > 0)
        share = np.stack([self.calibration.share(one) for one in raw]) * (raw > 0)
        over = in_file_order(sample.slices.drawn_back(excess), sample.volume)
        restoration = None
        if scores.restoration is not None:
            restoration = np.repeat(scores.restoration[int(np.argmax(values))], 3, 2)
        return replace(
            finding,
            heatmap=in_file_order(sample.slices.drawn_back(share), sample.volume),
            excess=self.calibration.coloured(over),
            regions=self._regions_of_volume(over, float(np.prod(voxel_sizes_of(sample.volume)))),
            raw_maps=scores.maps,
            restoration=restoration,
        )

    def _regions(self, excess: np.ndarray, box: Box, shape: Sequence[int], crops: int) -> tuple[Region, ...]:
        """Regions of one crop in pixels of the input, p-values times the `crops` that were judged (Bonferroni)."""
        found = self.calibration.regions(excess)
        return tuple(region_of(mask, min(1.0, crops * p), box, (shape[0], shape[1])) for mask, p in found)

    def _regions_of_volume(self, excess: np.ndarray, voxel: float) -> tuple[Region, ...]:
        """Connected parts of (X, Y, Z) excess that are coloured, in voxels of the file, the most unusual first, of
        equally unusual ones the largest; `voxel` is one's volume in cubic millimetres."""
        labels, _ = ndimage.label(excess >= self.calibration.colour_from)
        found = []
        for number, (i, j, k) in enumerate(ndimage.find_objects(labels), 1):
            part = labels[i, j, k] == number
            size = int(part.sum())
            if size < MIN_REGION:
                continue
            peak = float(excess[i, j, k][part].max())
            box = Box(i.start, j.start, i.stop, j.stop)
            p_value = conformal_p(self.calibration.largest, peak)
            found.append(Region(box, p_value, (k.start, k.stop), round(size * voxel / 1000, 4)))
        return tuple(sorted(found, key=lambda r: (r.p_value, -(r.millilitres or 0.0))))


def tracks_of(scores: Mapping[str, float]) -> dict[str, Any] | None:
    """Say what the codes and the detective say alone; see `Finding.tracks`. None without both."""
    detective = scores.get(DETECTIVE_VIEWS, scores.get(f"{DETECTIVE}_adjusted"))
    if detective is None or COMBINED not in scores:
        return None
    told: dict[str, Any] = {"codes": scores[COMBINED], "detective": detective, "disagree": None}
    for name, other in (("codes", "detective"), ("detective", "codes")):
        if told[name] >= ALARMING and told[other] <= CALM:
            told["disagree"] = name
    return told


def _p_of(judged: Judgement, track: int) -> tuple[float, float | None, float | None]:
    """p-values of one track by each promise, None by what the calibration cannot give."""
    one, *others = (judged.promised.get(promise) for promise in PROMISES)
    assert one is not None, "this promise can always be given"
    any_source, new_source = (None if p is None else p.tracks[track] for p in others)
    return one.tracks[track], any_source, new_source


def _means(scores: Scores, rows: Sequence[int]) -> dict[str, float]:
    """Every score by name, its mean over some of the crops."""
    return {name: round(float(np.mean(values[list(rows)])), 6) for name, values in scores.scores.items()}


def _robust(name: str, values: Sequence[float]) -> dict[str, float]:
    """Alternatives to a track's mean: the median, and the mean of its most unusual quarter."""
    ordered = np.sort(values)
    top = ordered[-max(1, len(ordered) // 4) :]
    return {
        f"{name}_frames_median": round(float(np.median(ordered)), 6),
        f"{name}_frames_top_quarter": round(float(top.mean()), 6),
    }
