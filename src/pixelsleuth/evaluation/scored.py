"""The scores of an evaluation as a table, the input of figures and further statistics."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.protocol import baselines_of
from pixelsleuth.evaluation.samples import Evaluation, ScoredSample, pair_rows
from pixelsleuth.files import whole_file

#: Name of the table in an evaluation's folder.
FILE = "scores.csv"
_COLUMNS = ("path", "anomalous", "unit")


@dataclass(frozen=True)
class Scored:
    """n inputs that were scored.

    Attributes:
        paths: n names.
        anomalous: (n,) bool.
        units: n names; inputs of one name (a pair, a patient, a video) are resampled together.
        scores: name -> (n,) float64, the default score first; higher is more unusual.
    """

    paths: Sequence[str]
    anomalous: np.ndarray
    units: Sequence[str]
    scores: dict[str, np.ndarray]

    @property
    def paired(self) -> bool:
        """Whether a unit holds normal and anomalous inputs."""
        units = np.asarray(self.units)
        return bool(set(units[self.anomalous]) & set(units[~self.anomalous]))

    def weights(self) -> np.ndarray:
        """(R, n) the resamples that `evaluate` takes."""
        return metrics.resample_weights(self.units, None if self.paired else self.anomalous.astype(int))

    def counts(self, name: str, weights: np.ndarray | None = None) -> metrics.Counts:
        """Count inputs by the score of this name, under `weights` or the table's own.

        Raises:
            PixelsleuthError: no score of this name.
        """
        if name not in self.scores:
            raise PixelsleuthError(f"expected one of {', '.join(self.scores)}; got {name!r}", "score")
        return metrics.image_counts(self.scores[name], self.anomalous, self.weights() if weights is None else weights)


def scored_of(result: Evaluation) -> Scored:
    """The table of an evaluation, baselines included: one row an input, or a slice where masks tell slices apart."""
    default, cases = result.metrics["default_score"], result.cases
    if result.metrics.get("unit") == "slice":
        return _scored_slices(cases, default)
    names = [name for name in result.metrics["scores"] if not name.startswith("baseline_")]
    names.sort(key=lambda name: name != default)
    scores = {name: np.array([case.finding.scores[name] for case in cases]) for name in names}
    anomalous = np.array([case.anomalous for case in cases])
    units = [case.unit for case in cases]
    return Scored([str(case.path) for case in cases], anomalous, units, scores | baselines_of(cases))


def _scored_slices(cases: Sequence[ScoredSample], default: str) -> Scored:
    names = sorted(cases[0].slices.scores, key=lambda name: name != default)
    scores = {name: np.concatenate([case.slices.scores[name] for case in cases]) for name in names}
    anomalous = np.concatenate([case.truth.any((1, 2)) for case in cases])
    rows = [(f"{case.path} {one.index}", case.unit) for case in cases for one in case.finding.slices]
    return Scored([path for path, _ in rows], anomalous, [unit for _, unit in rows], scores)


def write_scored(table: Scored, path: Path) -> None:
    """Write CSV with columns path, anomalous (0 or 1), unit, and one a score."""
    with (
        whole_file(path) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, *table.scores])
        for i, row in enumerate(zip(table.paths, table.anomalous.astype(int), table.units, strict=True)):
            writer.writerow([*row, *(repr(float(values[i])) for values in table.scores.values())])


def read_scored(path: Path) -> Scored:
    """Read what `write_scored` wrote; `path` is the file or the folder it is in.

    Raises:
        PixelsleuthError: not there, or not such a table.
    """
    path = path / FILE if path.is_dir() else path
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in (rows[0] if rows else {}) if name not in _COLUMNS]
        anomalous = np.array([bool(int(row["anomalous"])) for row in rows])
        scores = {name: np.array([float(row[name]) for row in rows]) for name in names}
        table = Scored([row["path"] for row in rows], anomalous, [row["unit"] for row in rows], scores)
    except FileNotFoundError as error:
        raise PixelsleuthError(f"{path} is missing; expected a folder that `pixelsleuth evaluate` made") from error
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise PixelsleuthError(f"{path}: not the scores of `pixelsleuth evaluate` ({error})") from error
    return _checked(table, str(path))


def scored_from_findings(normal: Path, anomalous: Path, pairs: Path | None = None) -> Scored:
    """Read two files of records (`findings.jsonl`), one of normal and one of anomalous inputs, without those that could
    not be judged.

    Args:
        pairs: CSV with columns fake, real: the ends of the records' paths.

    Raises:
        PixelsleuthError: a file cannot be read, holds no judged record, or none of the pairs.
    """
    rows = [(record, False) for record in read_records(normal)] + [(r, True) for r in read_records(anomalous)]
    rows = [(record, bad) for record, bad in rows if record.get("p_value") is not None]
    paths = [str(record["path"]) for record, _ in rows]
    units = [f"{i} {path}" for i, path in enumerate(paths)] if pairs is None else _pair_units(paths, pairs)
    common = set.intersection(*(set(record["scores"]) for record, _ in rows)) if rows else set()
    # The score that verdicts rest on has no name of its own in a record; it stands first.
    scores = {"score": np.array([float(record["score"]) for record, _ in rows])}
    scores |= {name: np.array([float(record["scores"][name]) for record, _ in rows]) for name in sorted(common)}
    table = Scored(paths, np.array([bad for _, bad in rows], bool), units, scores)
    if pairs is not None and not table.paired:
        raise PixelsleuthError(f"{pairs}: none of its pairs is among the records of {normal} and {anomalous}", "pairs")
    return _checked(table, f"{normal} and {anomalous}")


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a findings.jsonl, or of the folder it is in.

    Raises:
        PixelsleuthError: it cannot be read, or is none.
    """
    path = path / "findings.jsonl" if path.is_dir() else path
    try:
        # By the line feed alone: names of files may hold what else ends a line of text, such as U+2028.
        lines = path.read_text(encoding="utf-8").split("\n")
        records = [json.loads(line) for line in lines if line.strip()]
        if not all({"path", "p_value", "score", "scores"} <= set(record) for record in records):
            raise ValueError("a line is no record")
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise PixelsleuthError(f"{path}: not the findings.jsonl of `pixelsleuth detect` ({error})") from error
    return records


def _pair_units(paths: Sequence[str], pairs: Path) -> list[str]:
    """A name for each path: its real partner's where it is in a pair, else its own."""
    rows = pair_rows(pairs)
    ends = {f"/{name}": real for fake, real in rows for name in (fake, real)}
    lengths = sorted({len(end) for end in ends})
    units = []
    for path in paths:
        found = [ends[end] for n in lengths if (end := f"/{path}"[-n:]) in ends]
        units.append(found[-1] if found else path)
    return units


def _checked(table: Scored, where: str) -> Scored:
    count = int(table.anomalous.sum())
    if not count or count == len(table.anomalous):
        normal = len(table.anomalous) - count
        raise PixelsleuthError(f"{where}: expected normal and anomalous inputs, got {normal} and {count} judged ones")
    return table
