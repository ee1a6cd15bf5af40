"""The program in one sentence: a file is read and prepared as the model saw pictures in training, its codes'
surprise is measured, unlikely codes are resampled, and surprise and residual become a calibrated finding."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from pixelsleuth import __version__
from pixelsleuth.errors import InputError, ModelError
from pixelsleuth.models.folder import Model, load_model
from pixelsleuth.records import Box, Face, Finding
from pixelsleuth.scoring.calibration import Calibration, load_calibration, region_of
from pixelsleuth.scoring.examine import Examination, Examiner, settings_from_tree
from pixelsleuth.sources import faces
from pixelsleuth.sources.images import (
    VIDEO_SUFFIXES,
    Picture,
    decode,
    read_bytes,
)
from pixelsleuth.sources.reencoding import REENCODINGS, cut_reencoded

#: A re-encoding is tried only where p is within this factor of the rate.
NEAR_RATE = 3.0
#: Squares examined together unless told otherwise: on a CPU more is not faster; it holds some 12 MB a square.
BATCH = 32
BATCH_ON_GPU = 256

Input = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True)
class Prepared:
    """One input, ready for the networks.

    Attributes:
        path: as it was given, or "<array>".
        source: the encoded bytes, or the array that was given: decoded pixels of many photos would fill memory.
        shape: (H, W) of the upright input.
        face: the square that is cut; confidence 0 where it is the whole picture for want of a face.
        square: (size, size, 3) uint8, the cut.
    """

    path: str
    sha256: str
    source: bytes | np.ndarray
    shape: tuple[int, int]
    face: Face
    square: np.ndarray

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the whole input."""
        return decode(self.source).pixels if isinstance(self.source, bytes) else self.source


class Detector:
    """Judges inputs by one calibrated model. Made by `Detector.load`."""

    def __init__(self, name: str, examiner: Examiner, calibration: Calibration) -> None:
        self.name, self.examiner, self.calibration = name, examiner, calibration

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
                f"run `pixelsleuth calibrate --dtype {dtype}` on a copy of it first"
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
        return cls(name, Examiner(loaded, settings, dtype), calibration)

    @property
    def model(self) -> Model:
        return self.examiner.model

    def detect(self, source: Input, *, max_false_alarm: float = 0.01, heatmap: bool = True) -> Finding:
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
        max_false_alarm: float = 0.01,
        heatmap: bool = True,
        every_score: bool | None = None,
        batch_size: int | None = None,
        whole_without_face: bool = False,
    ) -> Iterator[Finding]:
        """Judges inputs in order, one finding each; a bad one becomes `not_applicable` with a reason.

        Reading and face detection of the next batch overlap with computing the present one; memory holds the encoded
        bytes of two batches, however many inputs there are and however large.

        Args:
            sources: as `detect`'s.
            heatmap: also map; takes about five times as long.
            every_score: take every score there is, else those the verdict rests on; as `heatmap` unless given.
            batch_size: inputs examined together; `BATCH` on a CPU and `BATCH_ON_GPU` on a GPU unless given. No
                finding depends on it.
            whole_without_face: judge the whole picture where a face is wanted and none is found.
        """
        self.calibration.check_rate(max_false_alarm)
        workers = min(4, os.cpu_count() or 1)
        if batch_size is None:
            batch_size = BATCH if self.examiner.device.type == "cpu" else BATCH_ON_GPU
        if every_score is None:
            every_score = heatmap
        waiting = iter(sources)
        with ThreadPoolExecutor(workers) as pool:

            def submit() -> list[Any]:
                return [pool.submit(self._prepare, s, whole_without_face) for s in islice(waiting, batch_size)]

            ahead = submit()
            while ahead:
                began = time.perf_counter()
                ready = [future.result() for future in ahead]
                ahead = submit()
                yield from self._judge(ready, max_false_alarm, heatmap, every_score, began)

    def prepare(self, source: Input, whole_without_face: bool = False) -> Prepared:
        """Reads one input and cuts the square that the networks see. Raises InputError."""
        path, picture = _read(source)
        config = self.model.config.preprocessing
        try:
            if config["crop"] == "face":
                face = faces.main_face(picture.pixels)
            else:
                face = Face(faces.whole_picture(picture.pixels), 1.0)
        except InputError as error:
            if not whole_without_face:
                raise InputError(error.code, error.sentence, picture.sha256) from None
            face = Face(faces.whole_picture(picture.pixels), 0.0)
        square = faces.cut(picture.pixels, face.box, self.examiner.size)
        height, width = picture.pixels.shape[:2]
        return Prepared(path, picture.sha256, picture.encoded or picture.pixels, (height, width), face, square)

    def _prepare(self, source: Input, whole_without_face: bool) -> Prepared | Finding:
        try:
            return self.prepare(source, whole_without_face)
        except InputError as error:
            return Finding(
                path=_path_of(source),
                sha256=error.sha256,
                kind="image",
                model=self._identity(),
                verdict="not_applicable",
                reason={"code": error.code, "sentence": error.sentence},
                version=__version__,
            )

    def _judge(
        self, ready: Sequence[Prepared | Finding], rate: float, heatmap: bool, every_score: bool, began: float
    ) -> Iterator[Finding]:
        """Findings of one batch, in order."""
        inputs = [item for item in ready if isinstance(item, Prepared)]
        if inputs:
            squares = np.stack([item.square for item in inputs])
            seen = self.examiner.examine(
                squares, [item.sha256 for item in inputs], maps=heatmap, every_score=every_score
            )
            p_values = [self.calibration.p_value(s) for s in seen.scores[self.calibration.score]]
            verdicts = self._verdicts(inputs, p_values, rate)
        seconds = (time.perf_counter() - began) / len(ready)
        # One at a time: a finding holds maps as large as its input.
        i = 0
        for item in ready:
            if isinstance(item, Prepared):
                finding = self._finding(item, seen, i, p_values[i], verdicts[i], rate)
                i += 1
            else:
                finding = item
            yield replace(finding, max_false_alarm=rate, seconds=seconds)

    def _verdicts(self, inputs: Sequence[Prepared], p_values: Sequence[float], rate: float) -> list[dict[str, Any]]:
        """`verdict` and `reason` of each input; near the rate both mild re-encodings must agree."""
        verdicts: list[dict[str, Any]] = [
            {"verdict": "anomalous" if p <= rate else "normal", "reason": None} for p in p_values
        ]
        near = [i for i, p in enumerate(p_values) if rate / NEAR_RATE <= p <= rate * NEAR_RATE]
        if not near:
            return verdicts
        reencoded: dict[str, list[np.ndarray]] = {name: [] for name in REENCODINGS}
        for i in near:
            pixels = inputs[i].pixels()
            for name, squares in reencoded.items():
                squares.append(cut_reencoded(pixels, inputs[i].face.box, self.examiner.size, name))
        for encoding, squares in reencoded.items():
            scores = self._scores(np.stack(squares), [inputs[i].sha256 for i in near])
            for i, score in zip(near, scores, strict=True):
                again = self.calibration.p_value(score, encoding)
                if (again <= rate) != (p_values[i] <= rate):
                    verdicts[i] = {
                        "verdict": "unsure",
                        "reason": {
                            "code": "unstable",
                            "sentence": f"p is {p_values[i]:.3g}, but {again:.3g} after a mild re-encoding "
                            f"({encoding}), on the other side of {rate:g}",
                        },
                    }
        return verdicts

    def _scores(self, squares: np.ndarray, sha256: Sequence[str]) -> np.ndarray:
        """(B,) scores that verdicts rest on, and nothing else."""
        return self.examiner.examine(squares, sha256, maps=False, every_score=False).scores[self.calibration.score]

    def _finding(
        self, item: Prepared, seen: Examination, i: int, p_value: float, verdict: dict[str, Any], rate: float
    ) -> Finding:
        finding = Finding(
            path=item.path,
            sha256=item.sha256,
            kind="image",
            model=self._identity(),
            p_value=p_value,
            score=float(seen.scores[self.calibration.score][i]),
            scores={name: round(float(values[i]), 6) for name, values in seen.scores.items()},
            max_false_alarm=rate,
            faces=(item.face,) if item.face.landmarks else (),
            version=__version__,
            **verdict,
        )
        if not seen.maps or seen.restored is None:
            return finding
        raw = seen.maps[self.examiner.settings.default_map][i]
        excess = self.calibration.excess(raw)
        regions = [region_of(mask, p, item.face.box) for mask, p in self.calibration.regions(excess)]
        restoration = (seen.restored.mean[i].permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
        return replace(
            finding,
            regions=tuple(regions),
            heatmap=drawn_back(self.calibration.share(raw), item.face.box, item.shape),
            excess=drawn_back(excess / self.calibration.colour_from, item.face.box, item.shape),
            restoration=restoration,
            raw_maps={name: m[i] for name, m in seen.maps.items()},
            square=item.face.box,
        )

    def _identity(self) -> dict[str, str]:
        return {"name": self.name, "sha256": self.model.sha256}


def find_model(model: str | os.PathLike[str]) -> tuple[Path, str]:
    """Folder and name of a bundled model, a local folder, or a Hugging Face Hub repository.

    Raises:
        ModelError: none of these.
    """
    text = os.fspath(model)
    # A bundled name wins over a folder of pictures that happens to be called so; ./faces names the folder.
    bundled = Path(str(resources.files("pixelsleuth") / "assets" / text)) if text.isidentifier() else None
    if bundled is not None and (bundled / "config.json").is_file():
        return bundled, text
    folder = Path(text)
    if folder.is_dir():
        return folder, folder.resolve().name
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        patterns = ["config.json", "calibration.json", "*.safetensors", "README.md", "LICENSE-WEIGHTS"]
        try:
            return Path(snapshot_download(text, allow_patterns=patterns)), text
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"--model {text}: no such folder, and the Hub did not give it ({reason})") from error
    raise ModelError(f"--model {text}: expected a folder, the bundled 'faces', or a Hub id such as user/name")


def drawn_back(values: np.ndarray, box: Box, shape: tuple[int, ...]) -> np.ndarray:
    """A (size, size) map onto a (H, W) float32 canvas of zeros, over the square it was cut from."""
    canvas = np.zeros(shape[:2], np.float32)
    patch = cv2.resize(values.astype(np.float32), (box.width, box.height), interpolation=cv2.INTER_LINEAR)
    canvas[box.y0 : box.y1, box.x0 : box.x1] = patch
    return canvas


def _path_of(source: Input) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "<array>"


def _read(source: Input) -> tuple[str, Picture]:
    path = _path_of(source)
    if isinstance(source, str | os.PathLike):
        data = read_bytes(source)
        try:
            return path, decode(data)
        except InputError as error:
            code, sentence = error.code, error.sentence
            if code == "not_an_image" and Path(path).suffix.lower() in VIDEO_SUFFIXES:
                code, sentence = "unsupported_kind", "videos are not read yet; extract frames as pictures"
            if code == "not_an_image" and path.lower().endswith((".nii", ".nii.gz")):
                code, sentence = "unsupported_kind", "volumes are not read yet; export slices as pictures"
            raise InputError(code, sentence, hashlib.sha256(data).hexdigest()) from None
    array = np.asarray(source.convert("RGB")) if isinstance(source, Image.Image) else source
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise InputError(
            "wrong_array", f"expected (H, W, 3) uint8 RGB, got {array.shape} {array.dtype}; convert it first"
        )
    array = np.ascontiguousarray(array)
    if min(array.shape[:2]) < 32:
        raise InputError("too_small", f"the picture is {array.shape[1]} x {array.shape[0]}, at least 32 px are needed")
    return path, Picture(array, hashlib.sha256(array.tobytes()).hexdigest(), b"")
