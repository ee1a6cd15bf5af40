"""Measure false alarms by group of people, source, face size and sharpness: does the promised rate hold for each?"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from pixelsleuth.datasets.layouts import source_of
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.samples import ScoredSample, folder_of

RATES = (0.01, 0.05, 0.1)
#: Widths of the face's square in pixels that divide pictures, and parts of the sharpness of all.
WIDTHS = (96, 192, 384)
PARTS = ("blurriest third", "middle third", "sharpest third")
#: What stands for a picture of which a column says nothing.
UNKNOWN = "not known"
#: Smallest number of images in a group whose share is reported.
MIN_GROUP_SIZE = 5


def read_groups(path: Path, root: Path) -> dict[str, dict[Path, str]]:
    """Read a CSV with `path` (below `root`, or its folder where that is a CSV too; beside the CSV; or absolute) and one
    column a grouping: name -> path -> group.

    Raises:
        PixelsleuthError: it cannot be read, has no column `path` or no other, or names no picture that is there.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PixelsleuthError(f"{path} cannot be read as CSV ({error})", "groups") from error
    names = [name for name in (rows[0] if rows else {}) if name]
    if "path" not in names or len(names) < 2:
        given = ",".join(names) or "none"
        raise PixelsleuthError(f"{path}: expected a column path and one a grouping (age, sex), got {given}", "groups")
    found: dict[str, dict[Path, str]] = {name: {} for name in names if name != "path"}
    for row in rows:
        places = [folder / (row["path"] or "") for folder in (folder_of(root), path.parent)]
        there = next((place for place in places if os.path.isfile(place)), None)
        if there is not None:
            for name, groups in found.items():
                groups[there.resolve()] = (row[name] or "").strip() or UNKNOWN
    if not any(found.values()):
        raise PixelsleuthError(f"none of the {len(rows)} pictures of {path} is in {root} or beside it", "groups")
    return found


def alarms_by_group(cases: Sequence[ScoredSample], groups: Mapping[str, Mapping[Path, str]]) -> dict[str, Any]:
    """Measure the false alarms of the normal ones among scored images, as `by_group` does.

    Args:
        groups: as `read_groups` gives them; source, face size and sharpness are told without.
    """
    normal = [case for case in cases if not case.anomalous and case.finding.p_value is not None]
    p = np.array([case.finding.p_value for case in normal], float)
    scores = np.array([case.finding.score for case in normal], float)
    columns = {name: [of.get(case.path.resolve(), UNKNOWN) for case in normal] for name, of in groups.items()}
    widths = [case.finding.faces[0].face.box.width if case.finding.faces else 0 for case in normal]
    sharpness = np.array([-case.shortcuts["blur"] for case in normal])
    columns |= {
        "source": [source_of(case.path.parent) for case in normal],
        "face_size": [face_size(width) for width in widths],
        "sharpness": thirds(sharpness),
    }
    return by_group(p, scores, columns)


def face_size(width: float) -> str:
    """
    >>> [face_size(width) for width in (0, 80, 192, 500)]
    ['no face', 'under 96 px', '192 to 383 px', '384 px and more']
    """
    if width <= 0:
        return "no face"
    if width < WIDTHS[0]:
        return f"under {WIDTHS[0]} px"
    if width >= WIDTHS[-1]:
        return f"{WIDTHS[-1]} px and more"
    number = int(np.searchsorted(WIDTHS, width, "right"))
    return f"{WIDTHS[number - 1]} to {WIDTHS[number] - 1} px"


def thirds(values: np.ndarray) -> list[str]:
    """Assign each of (n,) values to one of `PARTS`."""
    borders = np.quantile(values, (1 / 3, 2 / 3)) if len(values) else np.zeros(2)
    return [PARTS[number] for number in np.searchsorted(borders, values, "right")]


def by_group(p: np.ndarray, scores: np.ndarray, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Shares of p at or below each of `RATES` with Wilson's 95% interval (a bootstrap of none of n has no width).

    Args:
        p, scores: (n,) of normal pictures.
        columns: name -> n groups.

    Returns:
        column -> `groups` {group: {`n`, `"0.01"`, `"0.05"`, `"0.1"`: [share, low, high]}}, the most frequent first, and
        `scores_differ`, the p-value of Kruskal and Wallis's test that the groups score alike; None of one group. Groups
        below `MIN_GROUP_SIZE` pictures are put together as `fewer than 5 each`.
    """
    found: dict[str, Any] = {}
    for name, labels in columns.items():
        counts = {label: list(labels).count(label) for label in set(labels)}
        kept = np.array(
            [label if counts[label] >= MIN_GROUP_SIZE else f"fewer than {MIN_GROUP_SIZE} each" for label in labels]
        )
        order = sorted(set(kept.tolist()), key=lambda label: (-int((kept == label).sum()), label))
        rows = {label: _shares(p[kept == label]) for label in order}
        parts = [scores[kept == label] for label in order]
        differ = float(stats.kruskal(*parts).pvalue) if len(parts) > 1 and np.ptp(scores) > 0 else None
        found[name] = {"groups": rows, "scores_differ": None if differ is None else float(f"{differ:.3g}")}
    return found


def _shares(p: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"n": len(p)}
    for rate in RATES:
        count = int((p <= rate).sum())
        low, high = stats.binomtest(count, len(p)).proportion_ci(method="wilson")
        row[f"{rate:g}"] = [round(float(v), 4) for v in (count / len(p), low, high)]
    return row


def lines_of(groups: Mapping[str, Any]) -> list[str]:
    """The tables of `by_group` as Markdown."""
    lines: list[str] = []
    for name, column in groups.items():
        if len(column["groups"]) < 2:
            continue
        heads = " | ".join(f"at {float(rate):.0%} promised" for rate in (f"{r:g}" for r in RATES))
        lines += ["", f"| {name.replace('_', ' ')} | pictures | {heads} |", "| --- |" + " --- |" * (1 + len(RATES))]
        for label, row in column["groups"].items():
            cells = " | ".join(f"{v:.1%} [{100 * low:.1f}, {100 * high:.1f}]" for v, low, high in _triples(row))
            lines.append(f"| {label} | {row['n']:,} | {cells} |")
    return lines


def _triples(row: Mapping[str, Any]) -> list[list[float]]:
    return [row[f"{rate:g}"] for rate in RATES]
