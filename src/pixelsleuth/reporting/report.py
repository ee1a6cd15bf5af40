"""The report: one HTML file that needs no network, the verdict in plain words first.

The section of one finding is the same in the report and on the web page.
"""

from __future__ import annotations

import heapq
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pixelsleuth import __version__
from pixelsleuth.detector import Detector
from pixelsleuth.files import write_text
from pixelsleuth.models.folder import find_model
from pixelsleuth.records import Finding
from pixelsleuth.reporting.card import card_of
from pixelsleuth.reporting.cautions import cautions
from pixelsleuth.reporting.drawings import histogram, legend, timeline
from pixelsleuth.reporting.exhibits import Exhibit, Layer, exhibit_of, layers, stills, thumbnails
from pixelsleuth.scoring.calibration import Calibration
from pixelsleuth.scoring.origins import least_rate
from pixelsleuth.scoring.settings import BOTH_TRACKS, COMBINED, DETECTIVE, ScoreSettings
from pixelsleuth.sources.faces import cut

#: Findings shown in full; of more inputs the most unusual ones.
MOST_SHOWN = 50

VERDICT_WORDS = {
    "normal": "Nothing unusual found",
    "anomalous": "Unusual",
    "unsure": "Unsure",
    "not_applicable": "Not judged",
}
#: Of `unsure`, by the code of its reason.
UNSURE_WORDS = {
    "unstable": "Unsure: the answer changes under a mild re-encoding",
    "turned_away": "Unsure: the face is seen from the side",
    "blurred": "Unsure: the face is too blurred",
    "unlike_calibration": "Unsure: unlike the images the model was calibrated on",
}

NO_SIGNAL = (
    "What this model cannot see: on faces swapped by a generator (DFDC) its score is barely better than chance, and "
    "a plain measure of blur does as well; where such a face was swapped its map does not know. It sees parts of a "
    "face that were swapped, copied or removed far better. A normal verdict is no proof that a face is genuine."
)


@dataclass(frozen=True)
class Judge:
    """What of a model the report speaks of; `argument` is what stood after --model, `card` its Markdown."""

    name: str
    sha256: str
    argument: str
    calibration: Calibration
    settings: ScoreSettings
    size: int
    grid: tuple[int, int]
    crop: str
    card: str

    @classmethod
    def of(cls, detector: Detector, argument: str) -> Judge:
        folder, _ = find_model(argument)
        model, scorer = detector.model, detector.scorer
        grid = model.vqvae.grid()
        return cls(
            detector.name, model.sha256, argument, detector.calibration, scorer.settings, scorer.size,
            (int(grid[0]), int(grid[1])), model.config.preprocessing["crop"], card_of(folder, model),
        )  # fmt: skip

    @property
    def no_signal(self) -> str:
        return NO_SIGNAL if self.crop == "face" else ""


@dataclass
class Report:
    """Findings of one model as they come; what is shown is bounded however many there are."""

    judge: Judge
    command: str
    most: int = MOST_SHOWN
    counts: dict[str, int] = field(default_factory=dict)
    _total: int = 0
    _shown: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)

    def add(self, finding: Finding, title: str | None = None) -> None:
        """Takes a finding whose file is still there."""
        self._total += 1
        self.counts[finding.verdict] = self.counts.get(finding.verdict, 0) + 1
        # The least unusual one leaves first: a heap of negative p, what was not judged below all.
        rank = -2.0 if finding.p_value is None else -finding.p_value
        entry = (rank, -self._total)
        if len(self._shown) >= self.most and entry <= self._shown[0][:2]:
            return
        exhibit = exhibit_of(finding, finding.path, title or Path(finding.path).name)
        item = {
            "title": exhibit.title,
            "verdict": finding.verdict,
            "p_value": finding.p_value,
            "regions": len(finding.regions),
            "section": section(exhibit, self.judge),
        }
        push = heapq.heappush if len(self._shown) < self.most else heapq.heapreplace
        push(self._shown, (*entry, item))

    def html(self) -> str:
        return page(
            [item for _, _, item in sorted(self._shown, key=lambda entry: -entry[1])],
            self.judge, self.command, self._total, self.counts,
        )  # fmt: skip

    def write(self, path: Path) -> None:
        write_text(path, self.html())


def page(items: list[dict[str, Any]], judge: Judge, command: str, total: int, counts: dict[str, int]) -> str:
    """The whole report around its sections."""
    return _environment().get_template("report.html").render(
        items=items, judge=judge, command=command, total=total, counts=counts, version=__version__,
        style=Markup(resources.files("pixelsleuth.reporting").joinpath("templates/finding.css").read_text("utf-8")),
    )  # fmt: skip


def section(exhibit: Exhibit, judge: Judge, made: Sequence[Layer] | None = None) -> Markup:
    """One finding as HTML: no script, no inline style, no address outside it; every text is escaped. `made` are its
    layers where they are at hand."""
    finding, calibration = exhibit.finding, judge.calibration
    drawn: dict[str, Markup] = {"histogram": Markup(), "timeline": Markup()}
    if finding.score is not None:
        normal = calibration.scores["original"]
        scores = [frame.score for frame in finding.frames] or [face.score for face in finding.faces] or [finding.score]
        threshold = float(np.quantile(normal, 1 - finding.max_false_alarm))
        drawn["histogram"] = histogram(normal, scores, threshold, finding.max_false_alarm)
    if finding.frames:
        drawn["timeline"] = timeline(finding)
    square = None
    if exhibit.pixels is not None and finding.square is not None:
        square = cut(exhibit.pixels, finding.square, judge.size)
    text = _environment().get_template("finding.html").render(
        finding=finding,
        title=exhibit.title,
        words=words_of(finding),
        explained=explained(finding),
        promises=promises(finding, calibration),
        tracks=tracks_of(finding),
        layers=layers(exhibit, judge.grid) if made is None else made,
        stills=stills(exhibit),
        thumbnails=thumbnails(exhibit),
        cautions=cautions(finding, square, exhibit.facts, judge.settings, judge.size),
        facts=exhibit.facts,
        legend=legend(),
        command=reproducing(finding, judge),
        judge=judge,
        version=__version__,
        **drawn,
    )  # fmt: skip
    return Markup(text)


def reproducing(finding: Finding, judge: Judge) -> str:
    """The command that gives this finding again."""
    words = ["pixelsleuth", "detect", finding.path, "--model", judge.argument]
    return shlex.join([*words, "--max-false-alarm", f"{finding.max_false_alarm:g}", "--out", "out", "--report"])


def words_of(finding: Finding) -> str:
    """The verdict in a few words."""
    if finding.verdict == "unsure" and finding.reason:
        return UNSURE_WORDS.get(finding.reason["code"], VERDICT_WORDS["unsure"])
    return VERDICT_WORDS[finding.verdict]


def promises(finding: Finding, calibration: Calibration) -> str:
    """What p is worth for pictures of a source that calibration had, and of one that it had not; empty where that is
    not known."""
    if finding.p_value_any_source is None or finding.p_value_new_source is None:
        return ""
    count = len(calibration.sources)
    several = (
        f"for pictures of any one of its {count} sources, the least favourable: {finding.p_value_any_source:.4f}; "
        if count > 1
        else ""
    )
    return (
        f"p for pictures like those of calibration: {finding.p_value:.4f}; {several}for pictures of a source it never "
        f"had (another camera, site or data set): {finding.p_value_new_source:.4f}, where {count} "
        f"source{'s' if count > 1 else ''} can promise no rate below {least_rate([1] * count, 'new-source'):.2g}."
    )


def explained(finding: Finding) -> str:
    """The verdict as a sentence with the error rate it rests on."""
    if finding.verdict == "not_applicable" and finding.reason:
        return finding.reason["sentence"]
    p = f"p = {finding.p_value:.4f}"
    share = f"{finding.p_value:.2%} of normal calibration images are at least this unusual ({p})"
    # A p made of several is no share of anything.
    if finding.frames:
        share = f"{p}, from {len(finding.frames)} frames: twice the mean over a person's, times the number of people"
    elif len(finding.faces) > 1:
        share = f"{p}: the most unusual face's share of normal images, times the {len(finding.faces)} faces"
    rate = f"{finding.max_false_alarm:.1%}"
    if finding.verdict == "anomalous":
        return f"{share}; at this threshold at most {rate} of normal images are called unusual by mistake."
    if finding.verdict == "unsure" and finding.reason:
        return f"{share}. {finding.reason['sentence']}."
    return f"{share}; to be called unusual it would have to be at most {rate}."


def tracks_of(finding: Finding) -> str:
    """What each track says, where the score sums two; else empty."""
    codes, detective = finding.scores.get(COMBINED), finding.scores.get(f"{DETECTIVE}_adjusted")
    if BOTH_TRACKS not in finding.scores or codes is None or detective is None:
        return ""
    return (
        "The score sums two tracks, each about 0 for a normal picture and in units of its spread there: how unlikely "
        f"the codes are {codes:+.2f}, what the detective of self-made forgeries sees {detective:+.2f}."
    )


def _environment() -> Environment:
    return Environment(loader=PackageLoader("pixelsleuth.reporting"), autoescape=True, undefined=StrictUndefined)
