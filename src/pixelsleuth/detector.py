"""The program in one sentence: a file is read and prepared as the model saw pictures in training, its codes'
surprise is measured, unlikely codes are resampled, and surprise and residual become a calibrated finding."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pixelsleuth import __version__
from pixelsleuth.errors import InputError, ModelError, PixelsleuthError
from pixelsleuth.evidence.statements import statements_of
from pixelsleuth.models.folder import Model, find_model, load_model
from pixelsleuth.records import MAX_FALSE_ALARM, FaceFinding, Finding, FrameFinding, Region, Statement, Still
from pixelsleuth.scanner import Scan, Scanner
from pixelsleuth.scoring.atlas import load_atlas
from pixelsleuth.scoring.calibration import Calibration, load_calibration, region_of
from pixelsleuth.scoring.examine import Examination, Examiner, joined_examinations, settings_from_tree, stacked
from pixelsleuth.scoring.judgement import Judgement, judgement, limit_of, of_input, of_tracks
from pixelsleuth.scoring.origins import PROMISES, Promise
from pixelsleuth.scoring.scans import SliceExaminer
from pixelsleuth.sources.faces import Framing, Sizes, Views, check_choice, drawn_back
from pixelsleuth.sources.inputs import Input, Look, Preparation, Prepared, check_kind, kind_of, path_of, prepare
from pixelsleuth.sources.reencoding import REENCODINGS, cut_reencoded
from pixelsleuth.sources.tracks import Policy
from pixelsleuth.sources.traits import traits_of

#: Squares examined together unless told otherwise: on a CPU more is not faster; it holds some 12 MB a square.
BATCH = 32
BATCH_ON_GPU = 256
#: Videos read ahead together: each holds the squares of all its frames.
VIDEOS = 2
#: Frames of a video that are mapped, the most unusual ones.
STILLS = 4

#: An input ready to be judged, or refused, and what its file tells of itself.
Ready = tuple[Prepared | Finding, tuple[Statement, ...]]


@dataclass(frozen=True)
class _Rule:
    """What a verdict rests on; see `Detector.detect_many`."""

    rate: float
    promise: Promise
    typicality: bool


class Detector:
    """Judges inputs by one calibrated model. Made by `Detector.load`.

    Attributes:
        scanner: of a model for volumes, what judges them; else None.
    """

    def __init__(self, name: str, examiner: Examiner, calibration: Calibration, scanner: Scanner | None = None) -> None:
        self.name, self.examiner, self.calibration, self.scanner = name, examiner, calibration, scanner

    @classmethod
    def load(
        cls, model: str | os.PathLike[str] = "faces", dtype: str = "float32", device: str | None = None
    ) -> Detector:
        """Loads a model and its calibration.

        Args:
            model: a bundled name (`faces`), a folder, or a Hugging Face Hub repository id.
            dtype: must be the type the model was calibrated in, or verdicts would not be the same.
            device: `cpu` or `cuda`; a GPU where there is one unless given.

        Raises:
            ModelError: the model cannot be found or read, or was calibrated in another type.
        """
        folder, name = find_model(model)
        loaded = load_model(folder)
        calibration = load_calibration(folder / "calibration.json", loaded.sha256)
        if dtype != calibration.dtype:
            raise ModelError(
                f"{name} was calibrated in {calibration.dtype}, {dtype} was asked for; "
                f"calibrate a copy of it in {dtype} first"
            )
        settings = settings_from_tree(loaded.config.scoring)
        if settings.default != calibration.score:
            raise ModelError(
                f"{name}: config.json says the score is {settings.default!r}, calibration.json {calibration.score!r}; "
                "run `pixelsleuth calibrate` again"
            )
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device != "cpu":
            # TF32 keeps 10 bits: scores would leave their calibration.
            torch.backends.cudnn.allow_tf32 = False
            for network in loaded.networks:
                network.to(device)
        examiner = Examiner(loaded, settings, dtype)
        if loaded.config.preprocessing["crop"] != "volume":
            return cls(name, examiner, calibration)
        identity = {"name": name, "sha256": loaded.sha256}
        slices = SliceExaminer(loaded, settings, load_atlas(folder))
        return cls(name, examiner, calibration, Scanner(identity, slices, calibration, loaded.config.preprocessing))

    @property
    def model(self) -> Model:
        return self.examiner.model

    def detect(self, source: Input, *, max_false_alarm: float = MAX_FALSE_ALARM, heatmap: bool = True) -> Finding:
        """Judges one input.

        Args:
            source: a path, a PIL image, or (H, W, 3) uint8 RGB.
            max_false_alarm: rate in (0, 1); `anomalous` means p <= this.

        Raises:
            CalibrationError: the calibration set is too small for the rate.
        """
        return next(self.detect_many([source], max_false_alarm=max_false_alarm, heatmap=heatmap))

    def detect_many(
        self,
        sources: Iterable[Input],
        *,
        max_false_alarm: float = MAX_FALSE_ALARM,
        heatmap: bool = True,
        restore: bool = True,
        every_score: bool | None = None,
        batch_size: int | None = None,
        policy: Policy | None = None,
        whole_without_face: bool = False,
        face: str = "all",
        promise: Promise = "calibration",
        typicality: bool = True,
    ) -> Iterator[Finding]:
        """Judges inputs in order, one finding each; a bad one becomes `not_applicable` with a reason.

        Reading and face detection of the next batch overlap with computing the present one; memory holds the encoded
        bytes of two batches, however many inputs there are and however large; of a video the squares of its faces.

        Args:
            sources: as `detect`'s.
            heatmap: also map; takes about five times as long.
            restore: with a heatmap, also restore where the map itself rests on no restoration: half of the work, and no
                record depends on it.
            every_score: take every score there is, else those the verdict rests on; as `heatmap` unless given.
            batch_size: squares examined together; `BATCH` on a CPU and `BATCH_ON_GPU` on a GPU unless given. No
                finding depends on it.
            policy: which frames of a video are judged.
            whole_without_face: judge the whole picture where a face is wanted and none is found.
            face: which faces of a picture to judge: `all` (p is the smallest, times their number), `largest`, or the
                number of one, 1 being the largest. To be chosen before the answer is known.
            promise: which pictures the rate is promised for, and so which p-value verdicts rest on (see
                scoring.origins).
            typicality: pictures unlike those of calibration are `unsure`, where the model knows what those are like.

        Raises:
            CalibrationError: the calibration set is too small for the rate, or has too few sources for the promise.
            PixelsleuthError: `face` is none of these, or frames are to be picked otherwise than those the model was
                calibrated on: the best frames of a video are more normal than its others.
        """
        self.calibration.check_rate(max_false_alarm, promise)
        if self.scanner is not None:
            yield from self._scan(self.scanner, sources, max_false_alarm, heatmap)
            return
        check_choice(face)
        how = replace(self.preparation(policy), face=face)
        if batch_size is None:
            batch_size = BATCH if self.examiner.device.type == "cpu" else BATCH_ON_GPU
        if every_score is None:
            every_score = heatmap
        waiting = _batches(sources, batch_size)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:

            def submit() -> list[Any]:
                return [pool.submit(self._prepare, s, how, whole_without_face) for s in next(waiting, [])]

            ahead = submit()
            while ahead:
                began = time.perf_counter()
                ready = [future.result() for future in ahead]
                ahead = submit()
                rule = _Rule(max_false_alarm, promise, typicality)
                yield from self._judge(ready, rule, heatmap, restore, every_score, batch_size, began)

    def _scan(self, scanner: Scanner, sources: Iterable[Input], rate: float, heatmap: bool) -> Iterator[Finding]:
        """Findings of volumes in order; the next is read while one is computed."""
        with ThreadPoolExecutor(1) as pool:
            waiting = iter(sources)

            def submit() -> Any:
                source = next(waiting, None)
                return None if source is None else pool.submit(self._read_scan, scanner, source)

            ahead = submit()
            while ahead is not None:
                began = time.perf_counter()
                scan = ahead.result()
                ahead = submit()
                finding = scan if isinstance(scan, Finding) else scanner.judge(scan, rate, heatmap)
                yield replace(finding, max_false_alarm=rate, seconds=time.perf_counter() - began)

    def _read_scan(self, scanner: Scanner, source: Input) -> Scan | Finding:
        try:
            check_kind(source, "volumes")
        except InputError as error:
            return self._not_read(source, error)
        return scanner.read(os.fspath(source))  # type: ignore[arg-type]

    def _not_read(self, source: Input, error: InputError) -> Finding:
        return Finding(
            path_of(source), error.sha256, kind_of(source), self._identity(), "not_applicable",
            reason={"code": error.code, "sentence": error.sentence}, notes=error.notes, version=__version__,
        )  # fmt: skip

    def preparation(self, policy: Policy | None = None) -> Preparation:
        """How inputs are cut for this model. Raises PixelsleuthError where frames would be picked otherwise than those
        it was calibrated on: the best frames of a video are more normal than its others."""
        config = self.model.config.preprocessing
        picked = config.get("pick", "even")
        policy = policy or Policy(pick=picked)
        if policy.pick != picked:
            raise PixelsleuthError(
                f"{self.name} was calibrated on frames picked {picked!r}, {policy.pick!r} was asked for; train and "
                f"calibrate on a store whose frames are picked so"
            )
        return Preparation(self.examiner.sizes, config["crop"], Framing.of(config), policy)

    def _prepare(self, source: Input, how: Preparation, whole_without_face: bool) -> Ready:
        try:
            prepared = prepare(source, how, whole_without_face)
        except InputError as error:
            return self._not_read(source, error), statements_of(source)
        return prepared, statements_of(source, prepared.source)

    def _judge(
        self, ready: Sequence[Ready], rule: _Rule, heatmap: bool, restore: bool, every_score: bool,
        batch: int, began: float,
    ) -> Iterator[Finding]:  # fmt: skip
        """Findings of one batch, in order."""
        inputs = [item for item, _ in ready if isinstance(item, Prepared)]
        # A video has many frames, of which few are mapped once their scores are known.
        mapped = heatmap and all(item.kind != "video" for item in inputs)
        seen = self._examined(inputs, mapped, every_score, batch, restore)
        judged = self._judged(inputs, seen.scores[self.calibration.score], rule, batch) if inputs else []
        seconds = (time.perf_counter() - began) / len(ready)
        # One at a time: a finding holds maps as large as its input.
        of_inputs = zip(judged, _rows(inputs), strict=True)
        for item, statements in ready:
            if isinstance(item, Finding):
                finding = item
            else:
                verdict, rows = next(of_inputs)
                if item.kind == "video":
                    finding = self._of_video(item, verdict, seen, rows, heatmap, restore, batch)
                else:
                    finding = self._of_picture(item, verdict, seen, rows)
            yield replace(finding, max_false_alarm=rule.rate, seconds=finding.seconds + seconds, evidence=statements)

    def _examined(
        self, inputs: Sequence[Prepared], maps: bool, every_score: bool, batch: int, restore: bool = True
    ) -> Examination:
        """All squares of several inputs, `batch` at a time, in order of input, track and time."""
        squares = [look.views for item in inputs for track in item.tracks for look in track]
        return self._chunked(squares, _keys(inputs), maps, every_score, batch, restore)

    def _chunked(
        self, squares: Sequence[Views], keys: Sequence[str], maps: bool, every_score: bool, batch: int,
        restore: bool = True,
    ) -> Examination:  # fmt: skip
        needed = restore or self.examiner.settings.default_map == "restoration"
        parts = []
        for i in range(0, len(squares), batch):
            parts.append(
                self.examiner.examine(
                    stacked(squares[i : i + batch]),
                    keys[i : i + batch],
                    maps=maps,
                    restorations=needed,
                    every_score=every_score,
                )
            )
        return joined_examinations(parts)

    def _judged(self, inputs: Sequence[Prepared], scores: np.ndarray, rule: _Rule, batch: int) -> list[Judgement]:
        """p-values and verdicts; near the rate both mild re-encodings must agree."""
        limits = [self._limits(item, rule) for item in inputs]
        everything = list(zip(inputs, _rows(inputs), limits, strict=True))
        found = [self._judgement(*one, scores, rule) for one in everything]
        doubtful = [i for i, judged in enumerate(found) if judged.near]
        near = [inputs[i] for i in doubtful]
        for encoding in REENCODINGS if near else ():
            squares = [square for item in near for square in _reencoded(item, self.examiner.sizes, encoding)]
            again = self._chunked(squares, _keys(near), False, False, batch).scores[self.calibration.score]
            for i, rows in zip(doubtful, _rows(near), strict=True):
                other = self._judgement(inputs[i], rows, limits[i], again, rule, encoding)
                found[i] = found[i].doubted(other, encoding)
        return found

    def _judgement(
        self, item: Prepared, rows: Sequence[range], limits: Sequence[dict[str, str] | None], scores: np.ndarray,
        rule: _Rule, encoding: str = "original",
    ) -> Judgement:  # fmt: skip
        return judgement(self._p_looks(rows, scores, rule.promise, encoding), item.kind, rule.rate, limits)

    def _p_looks(
        self, rows: Sequence[range], scores: np.ndarray, promise: Promise = "calibration", encoding: str = "original"
    ) -> list[list[float]]:
        """p-values of an input's squares, by track."""
        p = self.calibration.p_by(promise)
        return [[p(float(scores[k]), encoding) for k in track] for track in rows]

    def _limits(self, item: Prepared, rule: _Rule) -> list[dict[str, str] | None]:
        """Of each track why it cannot be judged surely, or None; of pictures with a face alone."""
        return [
            self._limit(track[0], item, rule) if item.kind == "image" and track[0].face.landmarks else None
            for track in item.tracks
        ]

    def _limit(self, look: Look, item: Prepared, rule: _Rule) -> dict[str, str] | None:
        face, square = look.face, look.views.square
        limit = limit_of(face, square)
        usual = self.calibration.typicality
        if limit is not None or usual is None or not rule.typicality:
            return limit
        encoded = item.source if isinstance(item.source, bytes) else None
        return usual.reason(traits_of(square, face.box.width, encoded, face.landmarks))

    def _of_picture(self, item: Prepared, judged: Judgement, seen: Examination, rows: Sequence[range]) -> Finding:
        """The finding of a picture, its maps drawn where they were made."""
        default = self.calibration.score
        count = len(item.tracks)
        faces = [
            FaceFinding(look.face, verdict, p, float(seen.scores[default][i]), _scores(seen, [i]), reason=reason)
            for (look,), (i,), p, verdict, reason in zip(
                item.tracks, rows, self._p_tracks(item, rows, seen), judged.verdicts, judged.reasons, strict=True
            )
        ]
        best = judged.decisive
        finding = replace(
            self._finding(item, judged, seen, rows), score=faces[best].score, scores=faces[best].scores,
            square=faces[best].face.box,
        )  # fmt: skip
        if seen.maps:
            heatmap, excess = np.zeros(item.shape, np.float32), np.zeros(item.shape, np.float32)
            for k, ((i,), face) in enumerate(zip(rows, faces, strict=True)):
                raw = seen.maps[self.examiner.settings.default_map][i]
                over = self.calibration.excess(raw)
                box = face.face.box
                faces[k] = replace(face, regions=self._regions(over, box, item.shape, count))
                np.maximum(heatmap, drawn_back(self.calibration.share(raw), box, item.shape), out=heatmap)
                np.maximum(excess, drawn_back(self.calibration.coloured(over), box, item.shape), out=excess)
            (i,) = rows[best]
            regions = sorted((r for face in faces for r in face.regions), key=lambda r: r.p_value)
            finding = replace(
                finding, regions=tuple(regions), heatmap=heatmap, excess=excess,
                restoration=None if seen.restoration is None else seen.restoration[i],
                raw_maps={name: m[i] for name, m in seen.maps.items()},
            )  # fmt: skip
        return replace(finding, faces=tuple(face for face in faces if face.face.landmarks))

    def _of_video(
        self, item: Prepared, judged: Judgement, seen: Examination, rows: Sequence[range], heatmap: bool,
        restore: bool, batch: int,
    ) -> Finding:  # fmt: skip
        """The finding of a video; the most unusual frames of its most unusual track are mapped now."""
        began = time.perf_counter()
        values = seen.scores[self.calibration.score]
        p_looks = self._p_looks(rows, values)
        frames = [
            FrameFinding(look.index, look.time, number, look.face, float(values[i]), p)
            for number, (track, where, ps) in enumerate(zip(item.tracks, rows, p_looks, strict=True))
            for look, i, p in zip(track, where, ps, strict=True)
        ]
        faces = []
        by_track = zip(item.tracks, rows, of_tracks(p_looks, "video"), judged.verdicts, judged.reasons, strict=True)
        for track, where, p, verdict, reason in by_track:
            of_track = [float(values[i]) for i in where]
            worst = track[int(np.argmax(of_track))]
            scores = _scores(seen, where) | _robust(self.calibration.score, of_track)
            faces.append(FaceFinding(worst.face, verdict, p, float(np.mean(of_track)), scores, reason=reason))
        best = judged.decisive
        finding = replace(
            self._finding(item, judged, seen, rows), score=faces[best].score, scores=faces[best].scores,
            frames=tuple(frames),
        )  # fmt: skip
        if heatmap:
            track, where = item.tracks[best], rows[best]
            order = sorted(range(len(track)), key=lambda k: (-values[where[k]], k))[:STILLS]
            finding, faces[best] = self._with_stills(finding, faces[best], item, best, order, restore, batch)
        faces = [face for face in faces if face.face.landmarks]
        return replace(finding, faces=tuple(faces), seconds=time.perf_counter() - began)

    def _with_stills(
        self, finding: Finding, face: FaceFinding, item: Prepared, best: int, order: Sequence[int], restore: bool,
        batch: int,
    ) -> tuple[Finding, FaceFinding]:  # fmt: skip
        """Maps of the frames of one track that are numbered in `order`, the most unusual first."""
        looks = [item.tracks[best][k] for k in order]
        squares, keys = [look.views for look in looks], [_key(item, look) for look in looks]
        mapped = self._chunked(squares, keys, True, False, batch, restore)
        raw = mapped.maps[self.examiner.settings.default_map]
        before = sum(len(track) for track in item.tracks[:best])
        stills = []
        for number, (k, look) in enumerate(zip(order, looks, strict=True)):
            assert look.surroundings is not None
            pixels, box = look.surroundings
            over = self.calibration.excess(raw[number])
            excess = drawn_back(self.calibration.coloured(over), box, pixels.shape)
            whole = drawn_back(self.calibration.share(raw[number]), look.face.box, item.shape)
            stills.append(Still(before + k, pixels, excess, whole))
            if number == 0:
                looked_at = sum(map(len, item.tracks))
                face = replace(face, regions=self._regions(over, look.face.box, item.shape, looked_at))
        finding = replace(
            finding, regions=face.regions, heatmap=stills[0].heatmap, stills=tuple(stills),
            restoration=None if mapped.restoration is None else mapped.restoration[0],
            raw_maps={name: m[0] for name, m in mapped.maps.items()}, square=looks[0].face.box,
        )  # fmt: skip
        return finding, face

    def _regions(self, excess: np.ndarray, box: Any, shape: tuple[int, int], looks: int) -> tuple[Region, ...]:
        """Regions of one square in pixels of the input, p-values times the `looks` that were taken (Bonferroni)."""
        found = [region_of(mask, min(1.0, looks * p), box, shape) for mask, p in self.calibration.regions(excess)]
        return tuple(found)

    def _p_tracks(
        self, item: Prepared, rows: Sequence[range], seen: Examination, promise: Promise = "calibration"
    ) -> list[float]:
        return of_tracks(self._p_looks(rows, seen.scores[self.calibration.score], promise), item.kind)

    def _finding(self, item: Prepared, judged: Judgement, seen: Examination, rows: Sequence[range]) -> Finding:
        p: dict[Promise, float | None] = {
            promise: of_input(self._p_tracks(item, rows, seen, promise), judged.counted)
            for promise in PROMISES
            if promise == "calibration" or self.calibration.sources
        }
        return Finding(
            path=item.path,
            sha256=item.sha256,
            kind=item.kind,
            model=self._identity(),
            verdict=judged.verdict,
            reason=judged.reason,
            p_value=p["calibration"],
            p_value_any_source=p.get("any-source"),
            p_value_new_source=p.get("new-source"),
            notes=item.notes,
            version=__version__,
        )

    def _identity(self) -> dict[str, str]:
        return {"name": self.name, "sha256": self.model.sha256}


def _batches(sources: Iterable[Input], size: int) -> Iterator[list[Input]]:
    """Inputs in order, in groups of one kind: `size` pictures, or `VIDEOS` videos."""
    group: list[Input] = []
    kind = ""
    for source in sources:
        this = kind_of(source)
        if group and (this != kind or len(group) >= (VIDEOS if kind == "video" else size)):
            yield group
            group = []
        kind = this
        group.append(source)
    if group:
        yield group


def _rows(inputs: Iterable[Prepared]) -> list[list[range]]:
    """Of each input, by track, the rows of its squares where all squares are examined as one batch."""
    found: list[list[range]] = []
    first = 0
    for item in inputs:
        found.append([])
        for track in item.tracks:
            found[-1].append(range(first, first + len(track)))
            first += len(track)
    return found


def _keys(inputs: Iterable[Prepared]) -> list[str]:
    """Keys of all squares, in order of input, track and time."""
    return [_key(item, look) for item in inputs for track in item.tracks for look in track]


def _key(item: Prepared, look: Look) -> str:
    """What random draws are keyed by: the input's SHA-256, and of a further face or frame which it is."""
    if look is item.main and item.kind == "image":
        return item.sha256
    box = look.face.box
    return hashlib.sha256(f"{item.sha256} {look.index} {box.as_list()}".encode()).hexdigest()


def _reencoded(item: Prepared, sizes: Sizes, encoding: str) -> list[Views]:
    """The squares of an input after a mild re-encoding: of the whole picture, or of each frame around the face."""
    if item.kind == "video":
        around = [look.surroundings for track in item.tracks for look in track]
        return [cut_reencoded(*pair, sizes, encoding) for pair in around if pair is not None]
    pixels = item.pixels()
    return [cut_reencoded(pixels, look.face.box, sizes, encoding) for (look,) in item.tracks]


def _scores(seen: Examination, where: Sequence[int]) -> dict[str, float]:
    """Every score by name, its mean over the squares at `where`."""
    return {name: round(float(np.mean(values[list(where)])), 6) for name, values in seen.scores.items()}


def _robust(name: str, values: Sequence[float]) -> dict[str, float]:
    """Alternatives to a track's mean: the median, and the mean of its most unusual quarter."""
    ordered = np.sort(values)
    top = ordered[-max(1, len(ordered) // 4) :]
    return {
        f"{name}_frames_median": round(float(np.median(ordered)), 6),
        f"{name}_frames_top_quarter": round(float(top.mean()), 6),
    }
