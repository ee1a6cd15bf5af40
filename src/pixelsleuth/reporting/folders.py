"""Sentences about many inputs together, the same on the terminal and in the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixelsleuth.folders import Drifting, FolderFinding
from pixelsleuth.language import Language

#: Names of inputs listed; the summary has all.
MAX_NAMES = 12


def sentences(found: FolderFinding, calibration: int, say: Language) -> list[str]:
    """One line each, none of a single input.

    Args:
        calibration: how many inputs the model was calibrated on.
    """
    if found.inputs < 2 or not found.counted:
        return []
    told = [_alarms(found, say)]
    if found.rate is not None:
        told += _list(found, calibration, say)
    for side, paths in (found.disagree or {}).items():
        told.append(say(f"folder.disagree.{side}", k=say.number(len(paths)), names=_names(paths)))
    if found.drift is not None:
        told += [_drift(found.drift, say), say("folder.void")]
    return told


def _alarms(found: FolderFinding, say: Language) -> str:
    k, n = say.number(found.alarms), say.number(found.counted)
    chance = say.decimal(found.by_chance, ".2g" if found.by_chance < 10 else ".0f")
    parts = [say("folder.alarms", k=k, n=n, rate=say.decimal(found.max_false_alarm, "g"), chance=chance)]
    if found.alarms:
        parts.append(_right(found.right, found.alarms, found.confidence, say))
    if found.inputs > found.counted:
        parts.append(say("folder.not_counted", m=say.number(found.inputs - found.counted)))
    return " ".join(parts)


def _right(right: int, named: int, confidence: float, say: Language) -> str:
    key = "folder.right" if right else "folder.right.none"
    values = {"right": say.number(right), "k": say.number(named)}
    return say(key, confidence=say.decimal(100 * confidence, "g") + "%", **values)


def _list(found: FolderFinding, calibration: int, say: Language) -> list[str]:
    assert found.rate is not None
    rate = say.decimal(100 * found.rate, "g") + "%"
    if not found.named:
        told = [say("folder.list.none", rate=rate, n=say.number(found.counted))]
        if found.fewest > 1:
            values = {"m": say.number(calibration), "fewest": say.number(found.fewest)}
            told[0] += " " + say("folder.list.fewest", **values)
    else:
        paths = [one.path for one in found.named]
        values = {"k": say.number(len(paths)), "n": say.number(found.counted), "names": _names(paths)}
        told = [say("folder.list", rate=rate, **values)]
        told[0] += " " + _right(found.named_right, len(paths), found.confidence, say)
    if found.named_storey > len(found.named):
        share = say.decimal(100 * found.normal_share, ".0f") + "%"
        told.append(say("folder.storey", share=share, k=say.number(found.named_storey)))
    return told


def _drift(drift: Drifting, say: Language) -> str:
    number, path = drift.first
    values = {"name": shown(path), "number": say.number(number), "of": say.number(drift.of)}
    values["by"] = say(f"folder.by.{drift.by}")
    if drift.last is None:
        where = say("folder.from", **values)
    else:
        where = say("folder.between", last=shown(drift.last[1]), until=say.number(drift.last[0]), **values)
    return f"{where} {say(f'folder.drift.{drift.bet}')}"


def _names(paths: Sequence[str]) -> str:
    more = f" + {len(paths) - MAX_NAMES:,}" if len(paths) > MAX_NAMES else ""
    return ", ".join(map(shown, paths[:MAX_NAMES])) + more


def shown(path: str) -> str:
    """A file's name as a terminal may show it."""
    return "".join(c if c.isprintable() else "?" for c in Path(path).name)
