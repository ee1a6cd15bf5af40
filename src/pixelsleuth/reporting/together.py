"""Compare what a file says of itself with what the model says of its pixels: do they agree?"""

from __future__ import annotations

from dataclasses import dataclass

from pixelsleuth.language import Language
from pixelsleuth.records import Finding

#: What statements speak for, what weighs most first; the rest is folded.
TELLING = ("ai", "edited", "camera", "passed_on")


@dataclass(frozen=True)
class Together:
    """Sentences: how the lines of evidence stand to each other (or empty), what tells something as (what it speaks for,
    sentence), and the rest."""

    agreement: str
    telling: tuple[tuple[str, str], ...]
    rest: tuple[str, ...]


def together(finding: Finding, say: Language) -> Together:
    order = {says: number for number, says in enumerate(TELLING)}
    known = [one for one in finding.evidence if one.says in order]
    told = sorted(known, key=lambda one: order[one.says])
    says = [one.says for one in told]
    main = next((kind for kind in ("ai", "edited") if kind in says), "camera" if "camera" in says else "")
    # A camera's word agrees with nothing unusual, which is nothing to say.
    key = f"together.{main}_{finding.verdict}"
    return Together(
        say(key) if key in say.texts else "",
        tuple((one.says, one.sentence(say)) for one in told),
        tuple(one.sentence(say) for one in finding.evidence if one.says not in order),
    )
