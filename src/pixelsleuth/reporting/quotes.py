"""Sentences to copy: a finding for an editor, and its method for a methods section."""

from __future__ import annotations

from dataclasses import dataclass

from pixelsleuth import __version__
from pixelsleuth.language import Language
from pixelsleuth.records import Finding
from pixelsleuth.reporting.answer import Answer, compared_with
from pixelsleuth.reporting.together import together
from pixelsleuth.scoring.calibration import Calibration

#: Characters of a SHA-256 that tell files apart in a sentence.
SHORT = 12


@dataclass(frozen=True)
class Quotes:
    editor: str
    methods: str


def quotes_of(finding: Finding, answer: Answer, name: str, calibration: Calibration, say: Language) -> Quotes:
    """
    Args:
        name: of the file, without its folder.
        calibration: of the model.
    """
    key = "quote.not_judged" if finding.p_value is None else "quote.judged"
    # An answer that is passed on without them would say less than the report does.
    shown = [text for says, text in together(finding, say).telling if says in ("ai", "edited")]
    evidence = say("quote.evidence", statements=" ".join(shown)) if shown else ""
    editor = say(
        key, version=__version__, model=finding.model["name"], headline=answer.headline, name=name,
        sha256=(finding.sha256 or "")[:SHORT], found=answer.found, often=answer.often, not_meant=answer.not_meant,
        evidence=evidence,
    )  # fmt: skip
    methods = say(
        "quote.cite.not_judged" if finding.p_value is None else "quote.cite", version=__version__,
        model=finding.model["name"], sha256=finding.model["sha256"][:SHORT],
        n=say.number(calibration.count), things=compared_with(calibration, say),
        rate=say.decimal(finding.max_false_alarm, "g"),
    )  # fmt: skip
    return Quotes(editor, methods)
