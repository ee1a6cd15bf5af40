"""Named protocols: YAML files in `assets/protocols` that say which data are judged by which model, and which figures
result. Results carry the SHA-256 of the model, the data and the protocol; a second run gives the same figures to the
last digit."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.alarms import false_alarms
from pixelsleuth.evaluation.edited import face_photos, write_local_edits
from pixelsleuth.evaluation.pasted import paste_anomalies
from pixelsleuth.evaluation.protocol import evaluate
from pixelsleuth.evaluation.volumes import evaluate_volumes
from pixelsleuth.files import sha256_of
from pixelsleuth.models.configuration import find_model
from pixelsleuth.sources.images import find_images

Progress = Callable[[int, int], None]
#: What a protocol measures -> what it needs below the data's root.
KINDS = {
    "pictures": ("normal", "anomalous"),
    "local_edits": ("normal",),
    "false_alarms": (),
    "volumes": ("anomalous",),
    "lesions": ("validation", "validation_masks", "anomalous", "masks"),
    "pasted": ("validation", "normal"),
}


@dataclass(frozen=True)
class Protocol:
    """One protocol, as its file has it.

    Attributes:
        version: raised with every change that may move a figure.
        title: what is measured, in a line.
        measures: one of `KINDS`.
        split: of the data set, whose pictures these are.
        data: role -> file or folder below the data's root. `pictures` and `volumes`: as `evaluate` takes them, such as
            `normal`, `anomalous`, `masks`, `pairs`; `false_alarms`: a source's name -> its folder, or `*` -> a folder
            of such folders; `lesions` and `pasted`: also `validation`, on which thresholds are chosen.
        model: a bundled model; empty: one's own, trained as `guide` says.
        preprocessing: what the model must have been prepared with.
        seed: of what is drawn to make the data (pasted anomalies); resamples are always drawn with seed 0.
        options: settings of the measuring.
        metrics: dotted names of the figures that the protocol is about.
        after: the table that it answers to, where there is one.
        guide: how the data, and the model, are come by.
        data_sha256: of the data that published figures were taken on (see `data_digest`); empty: none were.
    """

    name: str
    version: int
    title: str
    measures: str
    split: str
    data: Mapping[str, str]
    model: str
    preprocessing: Mapping[str, Any]
    seed: int
    metrics: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    after: str = ""
    guide: str = ""
    data_sha256: str = ""

    @property
    def sha256(self) -> str:
        """Digest of everything that can change a figure."""
        tree = {k: v for k, v in asdict(self).items() if k not in ("title", "after", "guide", "data_sha256")}
        return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()


def names() -> list[str]:
    """List the names of the protocols shipped with the package."""
    return sorted(file.name.removesuffix(".yaml") for file in _shipped().iterdir() if file.name.endswith(".yaml"))


def load_protocol(name: str) -> Protocol:
    """Raise PixelsleuthError where there is no such protocol, or a file lacks a key or has one too many."""
    if name not in names():
        raise PixelsleuthError(f"expected one of {', '.join(names())}; got {name!r}", "protocol")
    return read_protocol(name, (_shipped() / f"{name}.yaml").read_text(encoding="utf-8"))


def read_protocol(name: str, text: str) -> Protocol:
    """The protocol that a YAML text describes. Raises PixelsleuthError naming what is wrong with it."""
    try:
        tree = yaml.safe_load(text)
        made = Protocol(**{**tree, "name": name, "metrics": tuple(tree["metrics"])})
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise PixelsleuthError(f"{name}.yaml is no protocol ({error})", "protocol") from error
    if made.measures not in KINDS:
        raise PixelsleuthError(f"{name}.yaml: measures: expected one of {', '.join(KINDS)}, got {made.measures!r}")
    missing = [role for role in KINDS[made.measures] if role not in made.data]
    if missing:
        raise PixelsleuthError(f"{name}.yaml: data: expected {missing[0]!r} for {made.measures}")
    return made


def _shipped() -> Any:
    return resources.files("pixelsleuth") / "assets" / "protocols"


def run_protocol(
    protocol: Protocol, root: Path, model: str | None = None, progress: Progress = lambda done, total: None
) -> dict[str, Any]:
    """Measure what a protocol says.

    Args:
        root: the folder that holds the data sets.
        model: in place of the protocol's own.

    Returns:
        What metrics.json holds: what `evaluate` gives, of several kinds or sources one each, and `protocol` {`name`,
        `version`, `sha256`, `model`, `model_sha256`, `calibration_sha256`, `data_sha256`, `published_data`, `n_files`,
        `figures` {a metric's name: its value}}. Nothing in it depends on where the data lie, or on time.

    Raises:
        PixelsleuthError: data that are not there, a model of other preprocessing, none given where one is needed, or a
            metric that the measuring does not give.
    """
    listed = {role: root / path for role, path in protocol.data.items()}
    for role, path in listed.items():
        if not path.exists():
            raise PixelsleuthError(f"protocol {protocol.name}: no {role} at {path}. {protocol.guide}".strip(), "data")
    chosen = model or protocol.model
    if not chosen:
        raise PixelsleuthError(f"protocol {protocol.name} needs a model of your own. {protocol.guide}", "model")
    detector = Detector.load(chosen)
    for key, value in protocol.preprocessing.items():
        has = detector.model.config.preprocessing.get(key)
        if has != value:
            raise PixelsleuthError(
                f"protocol {protocol.name} is for {key} = {value!r}, {detector.name} was prepared with {has!r}", "model"
            )
    data, count = data_digest(root, listed)
    with tempfile.TemporaryDirectory(prefix="pixelsleuth-") as made:
        measured = _MEASURE[protocol.measures](protocol, detector, listed, Path(made), progress)
        measured = _without_folder(measured, (str(root), made))
    figures = {name: _at(measured, name, protocol.name) for name in protocol.metrics}
    about = {
        "name": protocol.name, "version": protocol.version, "sha256": protocol.sha256, "model": detector.name,
        "model_sha256": detector.model.sha256,
        "calibration_sha256": sha256_of(find_model(chosen)[0] / "calibration.json"), "data_sha256": data,
        "published_data": data == protocol.data_sha256 if protocol.data_sha256 else None, "n_files": count,
        "figures": figures,
    }  # fmt: skip
    return {"protocol": about, "command": f"pixelsleuth evaluate --protocol {protocol.name}", **measured}


def data_digest(root: Path, listed: Mapping[str, Path]) -> tuple[str, int]:
    """SHA-256 over the sorted lines `name<TAB>SHA-256 of its bytes` of every file, names relative to `root` with
    forward slashes, hidden ones left out; and how many files."""
    files: set[Path] = set()
    for path in listed.values():
        files |= {path} if path.is_file() else {file for file in path.rglob("*") if file.is_file()}
    named = {file.relative_to(root).as_posix(): file for file in files}
    lines = [f"{name}\t{sha256_of(file)}\n" for name, file in sorted(named.items()) if "/." not in f"/{name}"]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest(), len(lines)


def _without_folder(tree: Any, folders: tuple[str, ...]) -> Any:
    """The figures, with the names of files told from the data's root."""
    if isinstance(tree, dict):
        return {key: _without_folder(value, folders) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_without_folder(value, folders) for value in tree]
    if isinstance(tree, str):
        for folder in folders:
            tree = tree.removeprefix(folder + os.sep)
    return tree


def _at(tree: Any, name: str, protocol: str, parent: Mapping[str, Any] | None = None) -> Any:
    """The value at a dotted name; a rate such as 0.05 has a dot of its own, so the longest key that fits is taken. Of
    scores and maps `default` is the one that what stands beside them calls so."""
    parent = parent or {}
    if not name:
        return tree
    for what in ("score", "map"):
        # The default is told by what was measured: it is another where a model is calibrated otherwise.
        if name.startswith("default.") and isinstance(tree, dict) and parent.get(f"default_{what}") in tree:
            return _at(tree[parent[f"default_{what}"]], name.removeprefix("default."), protocol)
    for key in sorted(tree, key=len, reverse=True) if isinstance(tree, dict) else ():
        if name == key or name.startswith(f"{key}."):
            return _at(tree[key], name[len(key) + 1 :], protocol, tree)
    raise PixelsleuthError(f"{protocol}.yaml: metrics: nothing was measured that is called {name!r}")


# --- what is measured, each by the room that measures it for `evaluate` ---


def _pictures(
    protocol: Protocol, detector: Detector, listed: Mapping[str, Path], made: Path, progress: Progress
) -> dict[str, Any]:
    asked: dict[str, Any] = {**listed, **protocol.options}
    return evaluate(detector, progress=progress, **asked).metrics


def _volumes(
    protocol: Protocol, detector: Detector, listed: Mapping[str, Path], made: Path, progress: Progress
) -> dict[str, Any]:
    asked: dict[str, Any] = {"normal": None, **listed, **protocol.options}
    return evaluate_volumes(detector, progress=progress, **asked).metrics


def _local_edits(
    protocol: Protocol, detector: Detector, listed: Mapping[str, Path], made: Path, progress: Progress
) -> dict[str, Any]:
    options = dict(protocol.options)
    kinds, count = options.pop("kinds"), options.pop("count")
    sources = face_photos(listed["normal"], count)
    found = {}
    for kind in kinds:
        folder = made / kind
        write_local_edits(sources, kind, folder)
        found[kind] = evaluate(
            detector, folder / "normal", folder / "anomalous", masks=folder / "masks", pairs=folder / "pairs.csv",
            progress=progress, **options,
        ).metrics  # fmt: skip
    return found


def _false_alarms(
    protocol: Protocol, detector: Detector, listed: Mapping[str, Path], made: Path, progress: Progress
) -> dict[str, Any]:
    folders = {name: path for name, path in listed.items() if name != "*"}
    if "*" in listed:
        folders = {path.name: path for path in sorted(listed["*"].iterdir()) if path.is_dir()} | folders
    pictures = {name: list(find_images(folder)) for name, folder in folders.items()}
    total, done = sum(map(len, pictures.values())), 0

    def told(name: str, row: dict[str, Any]) -> None:
        nonlocal done
        done += len(pictures[name])
        progress(done, total)

    return false_alarms(detector, pictures, progress=told, **protocol.options)


def _lesions(
    protocol: Protocol, detector: Detector, listed: Mapping[str, Path], made: Path, progress: Progress
) -> dict[str, Any]:
    chosen = evaluate_volumes(
        detector, None, listed["validation"], masks=listed["validation_masks"], text=False, progress=progress
    ).metrics
    return evaluate_volumes(
        detector, None, listed["anomalous"], masks=listed["masks"], thresholds=chosen["thresholds"],
        peak=chosen["peak"], progress=progress, **protocol.options,
    ).metrics  # fmt: skip


def _pasted(
    protocol: Protocol, detector: Detector, listed: Mapping[str, Path], made: Path, progress: Progress
) -> dict[str, Any]:
    levels: dict[str, Any] = {}
    # The validation subjects, on which thresholds are chosen, get anomalies of their own.
    for number, role in enumerate(("validation", "normal")):
        folder = made / role
        paste_anomalies(listed[role], folder, seed=protocol.seed + 1 - number)
        found = evaluate_volumes(
            detector, listed[role], folder / "volumes", masks=folder / "mask", progress=progress, **levels,
            **{**protocol.options, **({"text": False} if role == "validation" else {})},
        ).metrics  # fmt: skip
        levels = {"thresholds": found["thresholds"], "peak": found["peak"]}
    return found


_MEASURE: dict[str, Callable[[Protocol, Detector, Mapping[str, Path], Path, Progress], dict[str, Any]]] = {
    "pictures": _pictures,
    "local_edits": _local_edits,
    "false_alarms": _false_alarms,
    "volumes": _volumes,
    "lesions": _lesions,
    "pasted": _pasted,
}
