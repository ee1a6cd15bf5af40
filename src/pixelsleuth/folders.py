"""Summarise the records of a run: a list of likely anomalies with few false ones, a lower bound on the correct alarms,
and from which image on they stop looking like the calibration images. No network runs here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pixelsleuth.errors import CalibrationError, PixelsleuthError
from pixelsleuth.scoring.calibration import SLICE, Calibration
from pixelsleuth.scoring.discoveries import CONFIDENCE, fewest_named, q_values, right_at_least, storey_share
from pixelsleuth.scoring.drift import RATE, Bet, drift_of, smoothed_p
from pixelsleuth.scoring.origins import Promise

#: Smallest number of inputs of one kind whose order in time is tested.
MIN_IN_ORDER = 20


@dataclass(frozen=True)
class Entry:
    """The parts of one record that count for the folder.

    Attributes:
        score: of an image's largest face, which calibration ranks too; None where the kind has no such score.
        p_promised: p by the promise that the verdict rests on; None where that is `p_value`.
        limit: code of why p says little of this input, or "".
        captured: when it was taken, by its own word, or "".
    """

    path: str
    sha256: str
    kind: str
    verdict: str
    p_value: float | None
    score: float | None
    limit: str = ""
    captured: str = ""
    disagree: str = ""
    p_promised: float | None = None

    @property
    def alarms_by(self) -> float | None:
        """The p-value that the verdict rests on."""
        return self.p_value if self.p_promised is None else self.p_promised

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Entry:
        """From a line of findings.jsonl."""
        reason = (record["reason"] or {}).get("code", "")
        # What a re-encoding turns over has a p-value like any other.
        limit = "" if reason == "unstable" or record["p_value"] is None else reason
        score = record["faces"][0]["score"] if record["faces"] else record["score"]
        return cls(
            record["path"], record["sha256"] or "", record["kind"], record["verdict"], record["p_value"],
            None if record["kind"] == "video" else score, limit, record.get("captured") or "",
            (record.get("tracks") or {}).get("disagree") or "", _p_promised(record),
        )  # fmt: skip


def _p_promised(record: Mapping[str, Any]) -> float | None:
    """Of a record; those of earlier versions do not say which promise their verdict rests on."""
    name = {"any-source": "p_value_any_source", "new-source": "p_value_new_source"}.get(record.get("promise", ""))
    return None if name is None or record["p_value"] is None else record[name]


@dataclass(frozen=True)
class Named:
    """An input of the list, with the smallest false discovery rate of a list that it is on."""

    path: str
    sha256: str
    p_value: float
    q_value: float


@dataclass(frozen=True)
class Drifting:
    """Inputs that are unlike the calibration, in order.

    Attributes:
        first, last: number, from 1, and path of the first and of the last of them; `last` None: up to the end.
        seen: number of the input with which it was sure; of: how many are in order.
        bet: what they do (see scoring.drift).
        by: the order, `capture` or `name`.
    """

    first: tuple[int, str]
    last: tuple[int, str] | None
    seen: int
    of: int
    bet: Bet
    by: str
    capital: float


@dataclass(frozen=True)
class FolderFinding:
    """What is said of many inputs together.

    Attributes:
        inputs: how many; counted: those of which p says enough to count here.
        alarms: how many of those counted have p, by the promise of the verdicts, at or below `max_false_alarm`.
        by_chance: how many would on average if all were normal.
        right: how many of the alarms are right at least, with `confidence`.
        rate: of false discoveries that was asked for, or None.
        named: the list, the most unusual first; named_right: how many of them are right at least.
        fewest: how many had to be as unusual as any can be for anything to be named.
        normal_share: at most this share is normal, by Storey's estimate; named_storey: how many it would name.
        drift: None where nothing drifts, or nothing could be told.
        disagree: which track alarms alone -> paths.
    """

    inputs: int
    counted: int
    max_false_alarm: float
    alarms: int
    by_chance: float
    right: int
    confidence: float
    rate: float | None = None
    named: tuple[Named, ...] = ()
    named_right: int = 0
    fewest: int = 0
    normal_share: float = 1.0
    named_storey: int = 0
    drift: Drifting | None = None
    disagree: Mapping[str, tuple[str, ...]] | None = None
    limits: Mapping[str, int] | None = None

    @property
    def holds(self) -> bool:
        """Whether the rates hold: not where inputs are unlike those of calibration."""
        return self.drift is None

    def record(self) -> dict[str, Any]:
        """The summary as it stands in `summary.json`."""
        tree: dict[str, Any] = {
            "inputs": self.inputs,
            "counted": self.counted,
            "not_counted": dict(self.limits or {}),
            "max_false_alarm": self.max_false_alarm,
            "rates_hold": self.holds,
            "alarms": {
                "count": self.alarms, "by_chance": round(self.by_chance, 4), "right_at_least": self.right,
                "confidence": self.confidence,
            },
            "false_discoveries": None,
            "drift": None,
            "disagreements": {name: list(paths) for name, paths in (self.disagree or {}).items()},
        }  # fmt: skip
        if self.rate is not None:
            tree["false_discoveries"] = {
                "rate": self.rate,
                "named": [vars(one) for one in self.named],
                "right_at_least": self.named_right,
                "fewest_needed": self.fewest,
                "storey": {"normal_share_at_most": round(self.normal_share, 4), "named": self.named_storey},
            }
        if self.drift is not None:
            one = self.drift
            tree["drift"] = {
                "first": {"number": one.first[0], "path": one.first[1]},
                "last": None if one.last is None else {"number": one.last[0], "path": one.last[1]},
                "seen_at": one.seen, "of": one.of, "order": one.by, "kind": one.bet,
                "evidence": float(f"{min(one.capital, 1e300):.3g}"),
            }  # fmt: skip
        return tree


def check_discoveries(rate: float | None, promise: Promise) -> None:
    """Raise PixelsleuthError where no list can be made with this rate of false discoveries."""
    if rate is None:
        return
    if not 0 < rate < 1:
        raise PixelsleuthError(f"expected a rate between 0 and 1, got {rate}", "fdr")
    if promise != "calibration":
        raise CalibrationError(
            f"a rate of false discoveries is known to hold for p-values among all calibration images alone, got the "
            f"promise {promise}; ask for one of the two",
            "fdr",
        )


def folder_of(
    entries: Sequence[Entry], calibration: Calibration, max_false_alarm: float, rate: float | None = None
) -> FolderFinding:
    """Summarise the inputs of one run.

    Args:
        entries: of each input, in the order in which they were given.
        rate: of false discoveries among those named; None: no list.
    """
    counted = [one for one in entries if one.p_value is not None and not one.limit]
    p = np.array([one.p_value for one in counted], float)
    # Which are right is told by p among all calibration inputs, of which alone it is known how several go together.
    alarming = np.array([one.alarms_by for one in counted], float) <= max_false_alarm
    every = {side: tuple(one.path for one in entries if one.disagree == side) for side in ("codes", "detective")}
    found = FolderFinding(
        len(entries), len(counted), max_false_alarm, int(alarming.sum()), len(counted) * max_false_alarm,
        right_at_least(p, alarming), CONFIDENCE,
        drift=_drift(entries, calibration),
        disagree={side: paths for side, paths in every.items() if paths},
        limits=dict(Counter(one.limit or one.verdict for one in entries if one.limit or one.p_value is None)),
    )  # fmt: skip
    return found if rate is None else _with_list(found, counted, p, calibration, rate)


def _with_list(
    found: FolderFinding, counted: Sequence[Entry], p: np.ndarray, calibration: Calibration, rate: float
) -> FolderFinding:
    q, share = q_values(p), storey_share(p)
    order = [int(i) for i in np.argsort(p, kind="stable") if q[i] <= rate]
    named = tuple(Named(counted[i].path, counted[i].sha256, float(p[i]), round(float(q[i]), 6)) for i in order)
    return replace(
        found, rate=rate, named=named, named_right=right_at_least(p, q <= rate),
        fewest=fewest_named(len(p), calibration.count, rate), normal_share=share,
        named_storey=int((q_values(p, share) <= rate).sum()),
    )  # fmt: skip


def _drift(entries: Sequence[Entry], calibration: Calibration) -> Drifting | None:
    """In order of capture where all inputs tell when they were taken, else in the order in which they were given."""
    # One slice of a volume is ranked where calibration has no healthy volumes.
    if calibration.about.get("unit") == SLICE:
        return None
    there = [one for one in entries if one.score is not None]
    if len(there) < MIN_IN_ORDER:
        return None
    by = "capture" if all(one.captured for one in there) else "name"
    if by == "capture":
        there.sort(key=lambda one: one.captured)
    scores = np.array([one.score for one in there], float)
    ties = np.array([(int(one.sha256[:13] or "0", 16) + 1) / 16**13 for one in there])
    drift = drift_of(smoothed_p(calibration.scores["original"], scores, ties), RATE)
    if drift is None:
        return None

    def place(number: int) -> tuple[int, str]:
        return number + 1, there[number].path

    # What is left after it is too little to tell that it ended.
    last = None if drift.last >= len(there) - MIN_IN_ORDER else place(drift.last)
    return Drifting(place(drift.first), last, drift.seen + 1, len(there), drift.bet, by, drift.capital)
