"""The program in one sentence: an input is read to crops as the model saw them in training, the crops are scored, the
scores judged by what normal images scored, and the most unusual places mapped: a calibrated finding."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pixelsleuth.errors import InputError, ModelError, PixelsleuthError
from pixelsleuth.evidence.statements import captured, picture_statements, statements_of
from pixelsleuth.findings import Assembler
from pixelsleuth.models.configuration import ModelConfig, digest_of, find_model, load_config
from pixelsleuth.progress import Progress, Step, unheard
from pixelsleuth.records import MAX_FALSE_ALARM, Finding
from pixelsleuth.scoring.atlas import load_atlas
from pixelsleuth.scoring.calibration import Calibration, load_calibration
from pixelsleuth.scoring.judgement import Judgement, judgement, limit_of, p_values
from pixelsleuth.scoring.levelling import LEVELLED
from pixelsleuth.scoring.origins import Promise
from pixelsleuth.scoring.scanlooks import model_traits
from pixelsleuth.scoring.scorer import EVERYTHING, PLAIN, Crops, Described, ScoreOptions, Scorer, Scores, stacked
from pixelsleuth.scoring.settings import ScoreSettings, settings_from_tree
from pixelsleuth.sources.faces import Views, check_choice
from pixelsleuth.sources.inputs import Input, kind_of, path_of
from pixelsleuth.sources.reencoding import REENCODINGS
from pixelsleuth.sources.samples import Crop, CropSettings, Sample, read_sample
from pixelsleuth.sources.scantraits import scan_traits
from pixelsleuth.sources.slices import SCAN_REENCODINGS, reencoded_slices
from pixelsleuth.sources.tracks import Policy
from pixelsleuth.sources.traits import traits_of

#: What can run the networks.
RUNTIMES = ("torch", "onnx")
#: Slices scored together.
SLICES = 16
#: Videos, and volumes, read ahead together: each holds the crops of all its frames or slices.
TOGETHER = {"video": 2, "volume": 1}
#: Frames of a video that are mapped, the most unusual ones.
STILLS = 4


@dataclass(frozen=True)
class Rule:
    """What a verdict rests on; see `Detector.detect_many`."""

    rate: float
    promise: Promise = "calibration"
    typicality: bool = True
    doubt: bool = True
    raised: bool = False


class Detector:
    """Judges inputs by one calibrated model. Made by `Detector.load`."""

    def __init__(self, name: str, scorer: Scorer, calibration: Calibration) -> None:
        self.name, self.scorer, self.calibration = name, scorer, calibration
        identity = {"name": name, "sha256": scorer.model.sha256}
        self.assembler = Assembler(identity, calibration, scorer.settings.default_map)

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = "faces",
        dtype: str = "float32",
        device: str | None = None,
        runtime: str | None = None,
    ) -> Detector:
        """Loads a model and its calibration.

        Args:
            model: a bundled name (`faces`), a folder, a Hugging Face Hub repository id, or a graph that
                `pixelsleuth export` wrote (`.onnx`).
            dtype: must be the type the model was calibrated in, or verdicts would not be the same.
            device: `cpu` or `cuda`; a GPU where there is one unless given. Graphs run on the CPU.
            runtime: `torch`, or `onnx`: ONNX Runtime, which needs no torch; torch where it is installed unless given. A
                graph is always run by ONNX Runtime.

        Raises:
            ModelError: the model cannot be found or read, or was calibrated in another type.
        """
        runtime = runtime or ("torch" if find_spec("torch") else "onnx")
        if runtime not in RUNTIMES:
            raise PixelsleuthError(f"expected one of {', '.join(RUNTIMES)}; got {runtime!r}", "runtime")
        if runtime == "onnx" or os.fspath(model).endswith(".onnx"):
            return cls._of_graph(model)
        folder, name = find_model(model)
        config = load_config(folder)
        calibration = load_calibration(folder / "calibration.json", digest_of(folder, config))
        if dtype != calibration.dtype:
            raise ModelError(
                f"{name} was calibrated in {calibration.dtype}, {dtype} was asked for; "
                f"calibrate a copy of it in {dtype} first"
            )
        settings = _settings(config, calibration, name)
        atlas = load_atlas(folder) if config.preprocessing["crop"] == "volume" else None
        if find_spec("torch") is None:
            raise PixelsleuthError("torch is not installed here; only onnx can run", "runtime")
        # Only what runs on torch should pay for loading it.
        from pixelsleuth.scoring.networks import load_networks

        networks = load_networks(folder, settings, dtype, device, atlas)
        return cls(name, Scorer(networks, calibration.levelling), calibration)

    @classmethod
    def _of_graph(cls, model: str | os.PathLike[str]) -> Detector:
        from pixelsleuth.scoring.graphs import FILE, GraphNetworks

        if os.fspath(model).endswith(".onnx"):
            path = Path(model)
            networks = GraphNetworks(path)
            calibration = networks.calibration()
            return cls(networks.about["name"], Scorer(networks, calibration.levelling), calibration)
        folder, name = find_model(model)
        if not (folder / FILE).is_file():
            raise ModelError(
                f"{name} holds no {FILE}; run `pixelsleuth export {name} {name}.onnx` where torch is, then give "
                f"{name}.onnx as the model",
                "model",
            )
        networks = GraphNetworks(folder / FILE)
        config = load_config(folder)
        calibration = load_calibration(folder / "calibration.json", digest_of(folder, config))
        if networks.model.sha256 != calibration.model_sha256:
            raise ModelError(f"{folder / FILE} was exported of other weights; export the model again", "model")
        return cls(name, Scorer(networks, calibration.levelling), calibration)

    @property
    def model(self) -> Described:
        return self.scorer.model

    @property
    def takes(self) -> str:
        """Kind of inputs: `images` (and videos) or `volumes`."""
        return self.crop_settings().takes

    def detect(self, source: Input, *, max_false_alarm: float | None = None, heatmap: bool = True) -> Finding:
        """Judges one input.

        Args:
            source: a path, a PIL image, or (H, W, 3) uint8 RGB.
            max_false_alarm: rate in (0, 1); `anomalous` means p <= this. Unless given it is `MAX_FALSE_ALARM`, or the
                lowest rate that a model's few calibration scans can promise.

        Raises:
            CalibrationError: the calibration set is too small for the rate.
        """
        return next(self.detect_many([source], max_false_alarm=max_false_alarm, heatmap=heatmap))

    def detect_many(
        self,
        sources: Iterable[Input],
        *,
        max_false_alarm: float | None = None,
        heatmap: bool = True,
        restore: bool = True,
        every_score: bool | None = None,
        batch_size: int | None = None,
        policy: Policy | None = None,
        whole_without_face: bool = False,
        face: str = "all",
        promise: Promise = "calibration",
        typicality: bool = True,
        progress: Progress = unheard,
    ) -> Iterator[Finding]:
        """Judges inputs in order, one finding each; a bad one becomes `not_applicable` with a reason.

        Reading and face detection of the next batch overlap with computing the present one; memory holds the encoded
        bytes of two batches, however many inputs there are and however large; of a video the crops of its faces, of a
        volume its voxels.

        Args:
            sources: as `detect`'s.
            heatmap: also map; takes about five times as long.
            restore: with a heatmap, also restore where the map itself rests on no restoration: half of the work, and no
                record depends on it.
            every_score: take every score there is, else those the verdict rests on; as `heatmap` unless given.
            batch_size: crops scored together; 32 on a CPU and 256 on a GPU unless given, of slices
                `SLICES`. No finding depends on it.
            policy: which frames of a video are judged.
            whole_without_face: judge the whole image where a face is wanted and none is found.
            face: which faces of an image to judge: `all` (p is the smallest, times their number), `largest`, or the
                number of one, 1 being the largest. To be chosen before the answer is known.
            promise: which images the rate is promised for, and so which p-value verdicts rest on (see
                scoring.origins).
            typicality: images unlike those of calibration are `unsure`, where the model knows what those are like.
            progress: gets how far each video and volume has come, from threads of its own too.

        Raises:
            CalibrationError: the calibration set is too small for the rate, or has too few sources for the promise.
            PixelsleuthError: an option that the model cannot honour: frames picked otherwise than those it was
                calibrated on; a `face` that is no such choice; of a model for volumes `policy`, `whole_without_face`,
                `face` or fewer scores than all.
        """
        rate = self.calibration.rate_for(max_false_alarm, MAX_FALSE_ALARM)
        self.calibration.check_rate(rate, promise)
        check_choice(face)
        how = replace(self.crop_settings(policy), face=face)
        if how.takes == "volumes":
            asked = {
                "whole_without_face": whole_without_face,
                "every_score": every_score is False,
                "face": face != "all",
            }
            for setting, given in asked.items():
                if given:
                    raise PixelsleuthError(f"{self.name} is a model for volumes, which know no such choice", setting)
        options = ScoreOptions(heatmap, restore, heatmap if every_score is None else every_score)
        rule, batch = Rule(rate, promise, typicality, raised=max_false_alarm is None), batch_size or self._batch(how)
        for began, ready in self._read_ahead(sources, how, whole_without_face, batch, progress):
            yield from self._found(ready, rule, options, batch, began, progress)

    def crop_settings(self, policy: Policy | None = None) -> CropSettings:
        """How inputs are cut for this model. Raises PixelsleuthError where frames would be picked otherwise than those
        it was calibrated on: the best frames of a video are more normal than its others."""
        how = CropSettings.of(self.model.config.preprocessing, self.scorer.sizes)
        if policy is None:
            return how
        if how.takes == "volumes":
            raise PixelsleuthError(f"{self.name} is a model for volumes, which have no frames to choose from", "policy")
        if policy.pick != how.policy.pick:
            raise PixelsleuthError(
                f"{self.name} was calibrated on frames picked {how.policy.pick!r}, {policy.pick!r} was asked for; "
                "train and calibrate on a store whose frames are picked so"
            )
        return replace(how, policy=policy)

    def read(self, source: Input, whole_without_face: bool = False) -> Sample | Finding:
        """Reads one input; what cannot be judged comes back as its finding."""
        return self._read(source, kind_of(source), self.crop_settings(), whole_without_face, unheard)

    def score(
        self, samples: Sequence[Sample], options: ScoreOptions = EVERYTHING, batch: int | None = None,
        progress: Progress = unheard,
    ) -> list[Scores]:  # fmt: skip
        """Scores of the crops of each sample; all crops of images and videos are scored together, in order."""
        batch = batch or self._batch(self.crop_settings())
        if samples and samples[0].kind == "volume":
            return [
                self.scorer.score(_told(_batches_of_slices(sample, batch), [sample], progress), options)
                for sample in samples
            ]
        crops = [crop for sample in samples for crop in sample.crops]
        batches = _batches([c.views for c in crops], [c.key for c in crops], batch)
        return _parts(self.scorer.score(_told(batches, samples, progress), options), samples)

    def judge(
        self, samples: Sequence[Sample], scores: Sequence[Scores], rule: Rule, batch: int | None = None
    ) -> list[Judgement]:
        """Verdicts by the p-values of the promise; near the rate both mild re-encodings must agree."""
        limits = [self._limits(sample, rule) for sample in samples]
        found = [self._judged(*one, rule) for one in zip(samples, scores, limits, strict=True)]
        found = [self._checked(*one, rule) for one in zip(samples, scores, found, strict=True)]
        doubtful = [i for i, judged in enumerate(found) if judged.near and rule.doubt]
        near = [samples[i] for i in doubtful]
        for encoding in self._reencodings(near):
            for i, part in zip(
                doubtful, self._scored_again(near, encoding, batch or self.scorer.networks.batch), strict=True
            ):
                other = self._judged(samples[i], part, limits[i], rule, encoding)
                found[i] = found[i].doubted(other, encoding)
        return found

    def _reencodings(self, samples: Sequence[Sample]) -> Sequence[str]:
        """Those that the calibration was ranked after; a calibration of volumes may be older than theirs."""
        names = SCAN_REENCODINGS if samples and samples[0].kind == "volume" else REENCODINGS
        return [name for name in names if samples and name in self.calibration.scores]

    def _scored_again(self, samples: Sequence[Sample], encoding: str, batch: int) -> list[Scores]:
        """Scores of the re-encoded samples, one each."""
        if samples[0].kind == "volume":
            return [self.scorer.score(_batches_of_slices(one, SLICES, encoding), PLAIN) for one in samples]
        views = [view for sample in samples for view in sample.reencoded(encoding, self.scorer.sizes)]
        keys = [crop.key for sample in samples for crop in sample.crops]
        return _parts(self.scorer.score(_batches(views, keys, batch), PLAIN), samples)

    def _read_ahead(
        self, sources: Iterable[Input], how: CropSettings, whole_without_face: bool, batch: int, progress: Progress
    ) -> Iterator[tuple[float, list[Sample | Finding]]]:
        """Groups of inputs, read while the group before is computed, and when each began."""
        groups = _grouped(sources, batch)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            read = partial(self._read, how=how, whole_without_face=whole_without_face, progress=progress)

            def submit() -> list[Future[Sample | Finding]]:
                kind, group = next(groups, ("", []))
                return [pool.submit(read, source, kind) for source in group]

            ahead = submit()
            while ahead:
                began = time.perf_counter()
                ready = [future.result() for future in ahead]
                ahead = submit()
                yield began, ready

    def _read(
        self, source: Input, kind: str, how: CropSettings, whole_without_face: bool, progress: Progress
    ) -> Sample | Finding:
        def told(done: int, total: int) -> None:
            progress(Step(path_of(source), kind, "reading", done, total))

        if kind == "volume":
            # Read in one go; its slices take longer.
            told(0, 1)
        try:
            return read_sample(source, kind, how, whole_without_face, told)
        except InputError as error:
            return replace(self.assembler.refused(path_of(source), kind, error), evidence=statements_of(source))

    def _found(
        self, ready: Sequence[Sample | Finding], rule: Rule, options: ScoreOptions, batch: int, began: float,
        progress: Progress,
    ) -> Iterator[Finding]:  # fmt: skip
        """Findings of one group, in order."""
        samples = [item for item in ready if isinstance(item, Sample)]
        # A video has many frames, of which few are mapped once their scores are known.
        video = bool(samples) and samples[0].kind == "video"
        scores = self.score(samples, replace(options, maps=options.maps and not video), batch, progress)
        judged = self.judge(samples, scores, rule, batch)
        seconds = (time.perf_counter() - began) / len(ready)
        # One at a time: a finding holds maps as large as its input.
        of_samples = iter(zip(samples, scores, judged, strict=True))
        for item in ready:
            began = time.perf_counter()
            if isinstance(item, Finding):
                finding = item
            else:
                sample, part, verdict = next(of_samples)
                if video:
                    progress(Step(sample.path, sample.kind, "mapping", 0, STILLS))
                mapped = self._stills(sample, part, verdict, options, batch) if video and options.maps else None
                if not options.maps:
                    part = replace(part, maps={}, restoration=None)
                finding = self.assembler.finding(sample, part, verdict, mapped)
                if rule.raised and rule.rate > MAX_FALSE_ALARM:
                    finding = replace(finding, notes=(*finding.notes, self.calibration.raised(MAX_FALSE_ALARM)))
                if isinstance(sample.source, bytes):
                    finding = replace(
                        finding, evidence=picture_statements(sample.source), captured=captured(sample.source)
                    )
                elif video:
                    finding = replace(finding, evidence=statements_of(sample.path))
            yield replace(finding, max_false_alarm=rule.rate, seconds=seconds + time.perf_counter() - began)

    def _stills(
        self, sample: Sample, scores: Scores, judged: Judgement, options: ScoreOptions, batch: int
    ) -> tuple[list[int], Scores]:
        """The most unusual crops of a video's most unusual track, by number, and their scores with maps."""
        track, rows = sample.tracks[judged.decisive], sample.rows[judged.decisive]
        values = scores.scores[self.calibration.score][list(rows)]
        order = sorted(range(len(track)), key=lambda k: (-values[k], k))[:STILLS]
        views, keys = [track[k].views for k in order], [track[k].key for k in order]
        return order, self.scorer.score(_batches(views, keys, batch), replace(options, every_score=False))

    def _judged(
        self, sample: Sample, scores: Scores, limits: Sequence[dict[str, str] | None], rule: Rule,
        encoding: str = "original",
    ) -> Judgement:  # fmt: skip
        _, p_tracks = p_values(self.calibration, sample.kind, sample.rows, scores.scores, rule.promise, encoding)
        return judgement(p_tracks, rule.rate, limits)

    def _checked(self, sample: Sample, scores: Scores, judged: Judgement, rule: Rule) -> Judgement:
        """Of a scan that is not prepared like those of calibration no verdict, or at best an unsure one."""
        usual = self.calibration.typicality
        if sample.kind != "volume" or usual is None or not rule.typicality:
            return judged
        cut = sample.slices
        of_model = model_traits(
            cut.pixels, cut.inside, cut.position, self.scorer.networks.atlas, scores.scores["mean_nll"],
            scores.maps["reconstruction"],
        )  # fmt: skip
        traits = np.concatenate([scan_traits(sample.volume, cut), of_model])
        reason = usual.reason(traits)
        if reason is None:
            return judged
        return judged.overruled("not_applicable" if usual.far(traits) else "unsure", reason)

    def _limits(self, sample: Sample, rule: Rule) -> list[dict[str, str] | None]:
        """Of each track why it cannot be judged surely, or None; of images with a face alone."""
        return [
            self._limit(track[0], sample, rule) if sample.kind == "image" and track[0].face.landmarks else None
            for track in sample.tracks
        ]

    def _limit(self, crop: Crop, sample: Sample, rule: Rule) -> dict[str, str] | None:
        face, square = crop.face, crop.views.square
        limit = limit_of(face, square)
        usual = self.calibration.typicality
        if limit is not None or usual is None or not rule.typicality:
            return limit
        encoded = sample.source if isinstance(sample.source, bytes) else None
        return usual.reason(traits_of(square, face.box.width, encoded, face.landmarks))

    def _batch(self, how: CropSettings) -> int:
        if how.takes == "volumes":
            return SLICES
        return self.scorer.networks.batch


def _settings(config: ModelConfig, calibration: Calibration, name: str) -> ScoreSettings:
    """What was fitted on normal training images. Raises ModelError where another score was calibrated."""
    settings = settings_from_tree(config.scoring)
    if calibration.score != (LEVELLED if calibration.levelling else settings.default):
        raise ModelError(
            f"{name}: config.json says the score is {settings.default!r}, calibration.json {calibration.score!r}; "
            "run `pixelsleuth calibrate` again"
        )
    return settings


def _grouped(sources: Iterable[Input], size: int) -> Iterator[tuple[str, list[Input]]]:
    """Inputs in order, in groups of one kind: `size` images, or a few videos or volumes."""
    group: list[Input] = []
    kind = ""
    for source in sources:
        this = kind_of(source)
        if group and (this != kind or len(group) >= TOGETHER.get(kind, size)):
            yield kind, group
            group = []
        kind = this
        group.append(source)
    if group:
        yield kind, group


def _batches(views: Sequence[Views], keys: Sequence[str], size: int) -> Iterator[Crops]:
    for i in range(0, len(views), size):
        yield stacked(views[i : i + size], keys[i : i + size])


def _batches_of_slices(sample: Sample, size: int, encoding: str = "original") -> Iterator[Crops]:
    cut, keys = sample.slices, [crop.key for crop in sample.crops]
    pixels = reencoded_slices(cut.pixels, encoding)
    for i in range(0, len(keys), size):
        some = slice(i, i + size)
        yield Crops(pixels[some], keys[some], inside=cut.inside[some], position=cut.position[some])


def _told(batches: Iterable[Crops], samples: Sequence[Sample], progress: Progress) -> Iterator[Crops]:
    """The batches as they are, telling before each, and behind the last, how many crops of each sample are done."""

    def tell(behind: int) -> None:
        first = 0
        for sample in samples:
            count = len(sample.crops)
            if sample.kind != "image":
                done = min(count, max(0, behind - first))
                progress(Step(sample.path, sample.kind, "judging", done, count))
            first += count

    behind = 0
    for crops in batches:
        tell(behind)
        yield crops
        behind += len(crops.square)
    tell(behind)


def _parts(scores: Scores, samples: Sequence[Sample]) -> list[Scores]:
    """The scores of all crops, sample by sample."""
    found, first = [], 0
    for sample in samples:
        count = len(sample.crops)
        found.append(scores.part(slice(first, first + count)))
        first += count
    return found
