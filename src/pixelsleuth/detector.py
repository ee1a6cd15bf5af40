"""The program in one sentence: an input is read to crops as the model saw them in training, the crops are scored, the
scores judged by what normal images scored, and the most unusual places mapped: a calibrated finding."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from pixelsleuth.errors import InputError, ModelError, PixelsleuthError
from pixelsleuth.evidence.statements import evidence_of
from pixelsleuth.findings import Assembler
from pixelsleuth.models.configuration import ModelConfig, digest_of, find_model, load_config
from pixelsleuth.progress import Progress, Step, unheard
from pixelsleuth.records import MAX_FALSE_ALARM, Finding, Note
from pixelsleuth.scoring.atlas import load_atlas
from pixelsleuth.scoring.calibration import Calibration, load_calibration
from pixelsleuth.scoring.judgement import Judgement, judgement, limits_of, p_values
from pixelsleuth.scoring.levelling import LEVELLED
from pixelsleuth.scoring.origins import Promise
from pixelsleuth.scoring.scorer import EVERYTHING, PLAIN, Crops, ScoreOptions, Scorer, Scores, stacked
from pixelsleuth.scoring.sessions import SESSIONS
from pixelsleuth.scoring.settings import ScoreSettings, settings_from_tree
from pixelsleuth.sources.inputs import Input, kind_of, path_of
from pixelsleuth.sources.samples import CropSettings, Sample, read_sample
from pixelsleuth.sources.tracks import Policy

#: What can run the networks.
RUNTIMES = ("torch", *SESSIONS)
#: Videos, and volumes, read ahead of scoring: each holds the crops of all its frames or slices.
READ_AHEAD = {"video": 2, "volume": 1}
#: Frames of a video that are mapped, the most unusual ones.
STILLS = 4


@dataclass(frozen=True)
class Rule:
    """What a verdict rests on; see `Detector.detect_many`.

    Attributes:
        doubt: where it is near the rate, mild re-encodings must agree.
        notes: what is told of the rule with each finding.
    """

    rate: float
    promise: Promise = "calibration"
    typicality: bool = True
    doubt: bool = True
    notes: tuple[Note, ...] = ()


class Detector:
    """Judges inputs by one calibrated model. Made by `Detector.load`.

    Attributes:
        model: what is known of it beside its networks.
        cropping: how inputs are cut for it, unless told otherwise.
        takes: kind of inputs: `images` (and videos) or `volumes`.
        batch: crops scored together unless told otherwise.
    """

    def __init__(self, name: str, scorer: Scorer, calibration: Calibration) -> None:
        self.name, self.scorer, self.calibration, self.model = name, scorer, calibration, scorer.model
        identity = {"name": name, "sha256": self.model.sha256}
        self.assembler = Assembler(identity, calibration, scorer.settings.default_map)
        self.cropping = CropSettings.of(self.model.config.preprocessing, scorer.sizes)
        self.takes = self.cropping.takes
        self.batch = self.cropping.batch or scorer.networks.batch

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
            dtype: must be the type the model was calibrated in, or verdicts would not be the same; of graphs float32.
            device: `cpu` or `cuda`; a GPU where there is one unless given. Graphs run on the CPU.
            runtime: `torch`, or what runs graphs without it, `onnx` (ONNX Runtime) or `openvino`; unless given torch
                where it is installed, and of a graph `onnx`.

        Raises:
            ModelError: the model cannot be found or read, or was calibrated in another type.
            PixelsleuthError: what is to run it cannot do so in this type, or on this device.
        """
        graph = os.fspath(model).endswith(".onnx")
        runtime = runtime or ("torch" if not graph and find_spec("torch") else "onnx")
        if runtime not in RUNTIMES:
            raise PixelsleuthError(f"expected one of {', '.join(RUNTIMES)}; got {runtime!r}", "runtime")
        if graph and runtime == "torch":
            raise PixelsleuthError(
                f"{model} is a graph, which torch does not run; name {' or '.join(SESSIONS)}, or the model's folder",
                "runtime",
            )
        if runtime in SESSIONS:
            for setting, given, can in (("dtype", dtype, "float32"), ("device", device or "cpu", "cpu")):
                if given != can:
                    raise PixelsleuthError(
                        f"{runtime} runs graphs in float32 on the cpu, {given} was asked for", setting
                    )
            return cls._of_graph(model, runtime)
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
            raise PixelsleuthError(f"torch is not installed here; only {' and '.join(SESSIONS)} can run", "runtime")
        # Only what runs on torch should pay for loading it.
        from pixelsleuth.scoring.networks import load_networks

        networks = load_networks(folder, settings, dtype, device, atlas)
        return cls(name, Scorer(networks, calibration.levelling), calibration)

    @classmethod
    def _of_graph(cls, model: str | os.PathLike[str], runtime: str) -> Detector:
        from pixelsleuth.scoring.graphs import FILE, GraphNetworks

        if os.fspath(model).endswith(".onnx"):
            path = Path(model)
            networks = GraphNetworks(path, runtime)
            calibration = networks.calibration()
            return cls(networks.about["name"], Scorer(networks, calibration.levelling), calibration)
        folder, name = find_model(model)
        if not (folder / FILE).is_file():
            raise ModelError(
                f"{name} holds no {FILE}; run `pixelsleuth export {name} {name}.onnx` where torch is, then give "
                f"{name}.onnx as the model",
                "model",
            )
        networks = GraphNetworks(folder / FILE, runtime)
        config = load_config(folder)
        calibration = load_calibration(folder / "calibration.json", digest_of(folder, config))
        if networks.model.sha256 != calibration.model_sha256:
            raise ModelError(f"{folder / FILE} was exported of other weights; export the model again", "model")
        return cls(name, Scorer(networks, calibration.levelling), calibration)

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
                `SLICE_BATCH`. No finding depends on it.
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
        raised = max_false_alarm is None and rate > MAX_FALSE_ALARM
        notes = (self.calibration.raised(MAX_FALSE_ALARM),) if raised else ()
        rule, batch = Rule(rate, promise, typicality, notes=notes), batch_size or self.batch
        options = ScoreOptions(heatmap, restore, heatmap if every_score is None else every_score)
        how = self.cropping.with_options(self.name, policy, face, whole_without_face, every_score)
        for began, read in self._read_ahead(sources, how, batch, progress):
            yield from self._findings(read, rule, options, batch, began, progress)

    def _findings(
        self, read: Sequence[Sample | Finding], rule: Rule, options: ScoreOptions, batch: int, began: float,
        progress: Progress,
    ) -> Iterator[Finding]:  # fmt: skip
        """Of inputs of one kind that were read: scored and judged together, assembled one by one, for a finding holds
        maps as large as its input."""
        samples = [item for item in read if isinstance(item, Sample)]
        # A video has many frames, of which few are mapped once their scores are known.
        video = bool(samples) and samples[0].kind == "video"
        scores = self.score(samples, replace(options, maps=options.maps and not video), batch, progress)
        judged = self.judge(samples, scores, rule, batch)
        seconds = (time.perf_counter() - began) / len(read)
        of_samples = iter(zip(samples, scores, judged, strict=True))
        for item in read:
            began = time.perf_counter()
            if isinstance(item, Finding):
                finding = item
            else:
                sample, part, verdict = next(of_samples)
                if not options.maps:
                    part = replace(part, maps={}, restoration=None)
                stills = self._stills(sample, part, verdict, options, batch, progress) if video else None
                finding = self.assembler.finding(sample, part, verdict, stills)
                told = evidence_of(sample.path if video else sample.source, sample.kind)
                finding = replace(
                    finding, evidence=told.statements, captured=told.captured, notes=finding.notes + rule.notes
                )
            finding = replace(finding, max_false_alarm=rule.rate, promise=rule.promise)
            yield replace(finding, seconds=seconds + time.perf_counter() - began)

    def check_takes(self, inputs: str) -> None:
        """Raises PixelsleuthError where the model judges others than these, `images` or `volumes`."""
        if self.takes != inputs:
            raise PixelsleuthError(
                f"expected a model for {inputs}, got {self.name}, which is for {self.takes}", "model"
            )

    def read(
        self, source: Input, whole_without_face: bool = False, *, kind: str = "", how: CropSettings | None = None,
        progress: Progress = unheard,
    ) -> Sample | Finding:  # fmt: skip
        """Reads one input; what cannot be judged comes back as its finding.

        Args:
            kind: of the input, where it is known.
            how: as `CropSettings.with_options` gives it, in place of `whole_without_face`.
        """
        kind = kind or kind_of(source)
        how = how or replace(self.cropping, whole_without_face=whole_without_face)
        try:
            return read_sample(source, kind, how, progress)
        except InputError as error:
            refused = self.assembler.refused(path_of(source), kind, error)
            return replace(refused, evidence=evidence_of(source, kind).statements)

    def sample_of(self, source: Input) -> Sample:
        """Reads one input that must be one to judge.

        Raises:
            PixelsleuthError: it cannot be judged; with what its finding says.
        """
        read = self.read(source)
        if isinstance(read, Finding):
            raise PixelsleuthError(f"{read.path}: {read.reason_sentence}")
        return read

    def score(
        self, samples: Sequence[Sample], options: ScoreOptions = EVERYTHING, batch: int | None = None,
        progress: Progress = unheard, encoding: str = "original",
    ) -> list[Scores]:  # fmt: skip
        """Scores of the crops of each sample, perhaps after a mild re-encoding; those of images and videos are scored
        together, in order, those of volumes one by one: maps are pooled within a volume."""
        batch, found = batch or self.batch, []
        for group in [samples] if self.cropping.together else [[one] for one in samples]:
            scores = self.scorer.score(self._batches(group, encoding, batch, progress), options)
            first = 0
            for sample in group:
                found.append(scores.part(slice(first, first + len(sample.crops))))
                first += len(sample.crops)
        return found

    def judge(
        self, samples: Sequence[Sample], scores: Sequence[Scores], rule: Rule, batch: int | None = None
    ) -> list[Judgement]:
        """Verdicts by the p-values of the promise; near the rate both mild re-encodings must agree."""
        usual, atlas = self.calibration.typicality if rule.typicality else None, self.scorer.networks.atlas
        limits = [limits_of(sample, part, usual, atlas) for sample, part in zip(samples, scores, strict=True)]
        found = []
        for sample, part, limit in zip(samples, scores, limits, strict=True):
            p = p_values(self.calibration, sample, part)
            found.append(judgement(p, rule.rate, limit, rule.promise))
        near = [number for number, judged in enumerate(found) if judged.could_turn and rule.doubt]
        # A calibration of volumes may be older than their re-encodings.
        known = [name for name in self.cropping.reencodings if name in self.calibration.scores]
        for encoding in known if near else []:
            again = self.score([samples[number] for number in near], PLAIN, batch, encoding=encoding)
            for number, part in zip(near, again, strict=True):
                p = p_values(self.calibration, samples[number], part, encoding)
                other = judgement(p, rule.rate, limits[number], rule.promise)
                found[number] = found[number].doubted(other, encoding)
        return found

    def _read_ahead(
        self, sources: Iterable[Input], how: CropSettings, batch: int, progress: Progress
    ) -> Iterator[tuple[float, list[Sample | Finding]]]:
        """Groups of inputs, read while the group before is computed, and when each began."""
        ahead: list[Future[Sample | Finding]] = []
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            # Behind the last group there is none to read.
            for kind, group in chain(_grouped(sources, batch), [("", [])]):
                began = time.perf_counter()
                ready = [future.result() for future in ahead]
                ahead = [pool.submit(self.read, one, kind=kind, how=how, progress=progress) for one in group]
                if ready:
                    yield began, ready

    def _batches(self, samples: Sequence[Sample], encoding: str, size: int, progress: Progress) -> Iterator[Crops]:
        """The crops of samples as the networks see them, telling before each batch, and behind the last, how many of
        each video and volume are done."""
        views = [view for sample in samples for view in sample.views(encoding, self.scorer.sizes)]
        keys = [crop.key for sample in samples for crop in sample.crops]
        for first in [*range(0, len(views), size), len(views)]:
            before = 0
            for sample in samples:
                count = len(sample.crops)
                if sample.kind != "image":
                    progress(Step(sample.path, sample.kind, "judging", min(count, max(0, first - before)), count))
                before += count
            if first < len(views):
                yield stacked(views[first : first + size], keys[first : first + size])

    def _stills(
        self, sample: Sample, scores: Scores, judged: Judgement, options: ScoreOptions, batch: int, progress: Progress
    ) -> tuple[list[int], Scores] | None:
        """The most unusual crops of a video's most unusual track, by number, and their scores with maps; None without
        maps."""
        progress(Step(sample.path, sample.kind, "mapping", 0, STILLS))
        if not options.maps:
            return None
        track, rows = sample.tracks[judged.decisive], sample.rows[judged.decisive]
        values = scores.scores[self.calibration.score][list(rows)]
        order = sorted(range(len(track)), key=lambda k: (-values[k], k))[:STILLS]
        (mapped,) = self.score(
            [replace(sample, tracks=(tuple(track[k] for k in order),))], replace(options, every_score=False), batch
        )
        return order, mapped


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
        if group and (this != kind or len(group) >= READ_AHEAD.get(kind, size)):
            yield kind, group
            group = []
        kind = this
        group.append(source)
    if group:
        yield kind, group
