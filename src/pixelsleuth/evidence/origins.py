"""Statements that pictures and videos share: what their XMP says of where they come from and what was done to them."""

from __future__ import annotations

from pixelsleuth.evidence.programs import source_type_of
from pixelsleuth.records import Statement

#: Seconds by which a file may be changed after it was taken without a word: cameras write both times at once.
DATES_APART = 120


def origin(xmp: dict[str, list[str]]) -> list[Statement]:
    """What the IPTC's digital source type says."""
    found = []
    for value in dict.fromkeys(xmp.get("DigitalSourceType", [])):
        code, says = source_type_of(value)
        if says in ("ai", "ai_part"):
            found.append(Statement(f"source_type_{says}", "ai", {"type": code}))
        elif says in ("edited", "camera"):
            found.append(Statement(f"source_type_{says}", says, {"type": code}))
    return found


def steps_of(history: list[dict[str, str]]) -> list[Statement]:
    """The steps of work that are listed."""
    steps = [step for step in history if step.get("action")]
    if not steps:
        return []
    actions = ", ".join(dict.fromkeys(step["action"] for step in steps))
    values = {"n": str(len(steps)), "actions": actions[:120], "last": steps[-1].get("when", "")[:10] or "?"}
    return [Statement("history", "edited", values)]
