"""What `detect` prints: one line an input, then what the verdicts mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pixelsleuth.commands.terminal import printable, say
from pixelsleuth.folders import Entry, FolderFinding, folder_of
from pixelsleuth.records import MAX_FALSE_ALARM, Finding

if TYPE_CHECKING:
    from pixelsleuth.language import Language
    from pixelsleuth.reporting.against import Beside
    from pixelsleuth.reporting.answer import Answer
    from pixelsleuth.reporting.together import Together
    from pixelsleuth.scoring.calibration import Calibration

#: Findings printed to the terminal, one line each; the records hold all of them.
MAX_LINES = 20


@dataclass
class Account:
    """Of one run. `counts` holds the records of an earlier run that it goes on with, too; `unlike` counts scans that
    were read and scored, and are not prepared like the model's own."""

    calibration: Calibration
    words: Language
    counts: dict[str, int] = field(default_factory=dict)
    unlike: int = 0
    entries: list[Entry] = field(default_factory=list)
    _told: int = 0
    _beside: Beside | None = None
    #: One a verdict and what is to be said of it, which differs with the kind of input and the reason.
    _answers: dict[tuple[str, str], tuple[Answer, Together]] = field(default_factory=dict)

    def tell(self, finding: Finding) -> None:
        """A line on the terminal; of further ones than `MAX_LINES` none."""
        from pixelsleuth.reporting.answer import answer_of
        from pixelsleuth.reporting.together import together

        self.entries.append(Entry.of(finding.record()))
        self._told += 1
        self.unlike += finding.verdict == "not_applicable" and finding.score is not None
        if self._told <= MAX_LINES:
            say(line_of(finding))
        elif self._told == MAX_LINES + 1:
            say("...")
        answer = answer_of(finding, self.calibration, self.words)
        key = finding.verdict, f"{answer.often} {answer.not_meant}"
        if key not in self._answers:
            self._answers[key] = answer, together(finding, self.words)
        if finding.against is not None:
            from pixelsleuth.reporting.against import beside

            self._beside = beside(finding, None, self.words)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def summary(self) -> str:
        return ", ".join(f"{v.replace('_', ' ')} {n:,}" for v, n in sorted(self.counts.items())) or "no input"

    def folder(self, max_false_alarm: float = MAX_FALSE_ALARM, fdr: float | None = None) -> FolderFinding:
        """Print what is said of the inputs together; `fdr` is the false-discovery rate of the list."""
        return folder_of(self.entries, self.calibration, max_false_alarm, fdr)

    def meaning(self) -> Iterator[str]:
        """Print what the findings mean: everything there is to say about a single input, or what each verdict means."""
        words = self.words
        for (verdict, meaning), (answer, evidence) in sorted(self._answers.items(), key=lambda item: item[0][0]):
            if self.total > 1:
                if verdict != "not_applicable":
                    label = verdict if words.code == "en" else f"{words(f'verdict.{verdict}')} ({verdict})"
                    yield f"{label}: {meaning}"
                continue
            yield f"{answer.headline}. {answer.found}"
            yield f"{answer.often_asked}: {answer.often}"
            yield f"{words('part.not')}: {answer.not_meant}"
            if self._beside is not None:
                yield f"{words('page.compare')}:"
                yield from (f"  - {text}" for text in (*self._beside.sentences, *self._beside.places))
            told = [evidence.agreement, *(f"{words(f'says.{says}')} {text}" for says, text in evidence.telling)]
            if any(told):
                yield f"{words('section.evidence')}:"
                yield from (f"  - {text}" for text in told if text)
            yield f"{words('part.next')}:"
            yield from (f"  - {step}" for step in answer.next_steps)


def line_of(finding: Finding) -> str:
    """One line for the terminal: what was judged, the verdict and what it rests on."""
    from pixelsleuth.reporting.answer import parted, places

    name = printable(Path(finding.path).name)
    verdict = finding.verdict.replace("_", " ")
    if finding.p_promised is None:
        return f"{name}: {verdict}, {finding.reason_sentence or 'no reason given'}"
    rest = f"p = {finding.p_promised:.4f} where {finding.max_false_alarm:g} is anomalous"
    if finding.reason_sentence:
        # What to do about it is in the record.
        return f"{name}: {verdict}, {rest}: {parted(finding.reason_sentence)[0]}"
    # Counted as the report does.
    shown = len(places(finding))
    where = f", {shown} place{' stands' if shown == 1 else 's stand'} out" if shown else ""
    return f"{name}: {verdict}, {rest}{where}"
