"""What `detect --resume` goes on with: the records of an earlier run, where they were judged as it would judge now."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelsleuth.commands.account import Account
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.folders import Entry

if TYPE_CHECKING:
    from pixelsleuth.detector import Detector
    from pixelsleuth.sources.inputs import Refused
    from pixelsleuth.sources.tracks import Policy

#: Beside the records: what they were judged by, as far as they do not say so themselves.
FILE = "judged_by.json"


def judged_by(
    detector: Detector, rate: float, policy: Policy, face: str, promise: str, typicality: bool
) -> dict[str, Any]:
    """All that verdicts rest on beside the inputs."""
    return {
        "model": detector.model.sha256, "calibration": detector.calibration.digest, "max_false_alarm": rate,
        "promise": promise, "face": face, "typicality": typicality, "frames": asdict(policy),
    }  # fmt: skip


def done_before(path: Path, now: dict[str, Any], account: Account) -> Counter[str]:
    """Paths of the inputs that have a record already, which are counted.

    Args:
        now: as `judged_by` gives it.

    Raises:
        PixelsleuthError: the file holds other things than records, or they were judged otherwise.
    """
    from pixelsleuth.reporting.writing import kept_records

    done = Counter[str]()
    for number, record in enumerate(kept_records(path), 1):
        try:
            # Records of earlier versions do not say which promise they rest on.
            told = {"model": record["model"]["sha256"], "max_false_alarm": record["max_false_alarm"]}
            told["promise"] = record.get("promise", now["promise"])
            entry, verdict = Entry.of(record), record["verdict"]
            done[entry.path] += 1
            account.counts[verdict] = account.counts.get(verdict, 0) + 1
        except (KeyError, TypeError, AttributeError, IndexError):
            raise PixelsleuthError(
                f"--resume: line {number} of {path} is no record of a finding; name another --out"
            ) from None
        _check_same(told, now, path)
        account.entries.append(entry)
    if done:
        _check_same(_noted(path), now, path)
    return done


def note_judged_by(path: Path, now: dict[str, Any]) -> None:
    """Write beside a file of records what they are judged by."""
    from pixelsleuth.files import write_text

    write_text(path.with_name(FILE), json.dumps(now, indent=1, ensure_ascii=False) + "\n")


def _noted(path: Path) -> dict[str, Any]:
    """What the records were judged by; empty where an earlier version made them, which wrote nothing down."""
    note = path.with_name(FILE)
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PixelsleuthError(f"--resume: {note} cannot be read ({error}); name another --out") from None
    return told if isinstance(told, dict) else {}


def _check_same(told: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    other = [name.replace("_", " ") for name, value in now.items() if told.get(name, value) != value]
    if other:
        raise PixelsleuthError(
            f"--resume: {path} was made with another {', '.join(other)}; give what it was made with, or another --out"
        )


def without(listed: Iterable[str | Refused], done: Counter[str]) -> Iterator[str | Refused]:
    """The inputs that have no record yet."""
    from pixelsleuth.sources.inputs import path_of

    left = done.copy()
    for item in listed:
        if left[path_of(item)] > 0:
            left[path_of(item)] -= 1
        else:
            yield item
