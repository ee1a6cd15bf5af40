"""The report: one HTML file that needs no network, the verdict in plain words first.

The section of one finding is the same in the report and on the web page.
"""

from __future__ import annotations

import heapq
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pixelsleuth import __version__
from pixelsleuth.detector import Detector
from pixelsleuth.files import write_text
from pixelsleuth.folders import Entry, FolderFinding, folder_of
from pixelsleuth.language import LANGUAGES, Language, language
from pixelsleuth.models.configuration import find_model
from pixelsleuth.records import MAX_FALSE_ALARM, Finding, p_by
from pixelsleuth.reporting.against import beside
from pixelsleuth.reporting.answer import answer_of, compared_with, places, reason_in
from pixelsleuth.reporting.cautions import cautions, reason_caution
from pixelsleuth.reporting.drawings import histogram, legend, timeline
from pixelsleuth.reporting.folders import sentences
from pixelsleuth.reporting.layers import FindingView, Layer, layers, stills, thumbnails, view_of
from pixelsleuth.reporting.places import places_of
from pixelsleuth.reporting.quotes import quotes_of
from pixelsleuth.reporting.together import together
from pixelsleuth.reporting.traces import trace_layers
from pixelsleuth.scoring.calibration import Calibration
from pixelsleuth.scoring.graphs import GraphNetworks
from pixelsleuth.scoring.origins import least_rate
from pixelsleuth.scoring.settings import BOTH_TRACKS, COMBINED, DETECTIVE, ScoreSettings
from pixelsleuth.sources.faces import cut

#: Findings shown in full, the most unusual ones.
MAX_FINDINGS = 50


@dataclass(frozen=True)
class Judge:
    """The model that the report speaks of; `argument` is the value of --model, `card` its Markdown."""

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
        model, scorer = detector.model, detector.scorer
        height, width = model.config.priors[0].grid
        return cls(
            detector.name, model.sha256, argument, detector.calibration, scorer.settings, scorer.size,
            (height, width), model.config.preprocessing["crop"], _card(detector, argument),
        )  # fmt: skip


def _card(detector: Detector, argument: str) -> str:
    networks = detector.scorer.networks
    if isinstance(networks, GraphNetworks):
        return networks.about["card"]
    # Computing it takes the networks.
    from pixelsleuth.reporting.card import card_of
    from pixelsleuth.scoring.networks import torch_of

    return card_of(find_model(argument)[0], torch_of(detector.scorer).model)


@dataclass
class Report:
    """Findings of one model as they come; what is shown is bounded however many there are. `fdr`: the rate of false
    discoveries of a list, or None."""

    judge: Judge
    command: str
    language: str = LANGUAGES[0]
    most: int = MAX_FINDINGS
    fdr: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    _total: int = 0
    _entries: list[Entry] = field(default_factory=list)
    _rate: float = MAX_FALSE_ALARM
    _shown: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)

    def add(self, finding: Finding, title: str | None = None) -> None:
        """Take a finding whose file is still there."""
        self._total += 1
        self._rate = finding.max_false_alarm
        self._entries.append(Entry.of(finding.record()))
        self.counts[finding.verdict] = self.counts.get(finding.verdict, 0) + 1
        # The least unusual one leaves first: a heap of negative p, what was not judged below all.
        rank = -2.0 if finding.p_promised is None else -finding.p_promised
        entry = (rank, -self._total)
        if len(self._shown) >= self.most and entry <= self._shown[0][:2]:
            return
        view = view_of(finding, finding.path, title or Path(finding.path).name, language(self.language))
        item = {
            "title": view.title,
            "verdict": finding.verdict,
            "p_value": finding.p_promised,
            "places": len(places(finding)),
            "section": section(view, self.judge, spoken=self.language),
        }
        push = heapq.heappush if len(self._shown) < self.most else heapq.heapreplace
        push(self._shown, (*entry, item))

    def html(self) -> str:
        return page(
            [item for _, _, item in sorted(self._shown, key=lambda entry: -entry[1])],
            self.judge, self.command, self._total, self.counts, self.language,
            folder_of(self._entries, self.judge.calibration, self._rate, self.fdr),
        )  # fmt: skip

    def write(self, path: Path) -> None:
        write_text(path, self.html())


def page(
    items: list[dict[str, Any]],
    judge: Judge,
    command: str,
    total: int,
    counts: dict[str, int],
    spoken: str = LANGUAGES[0],
    folder: FolderFinding | None = None,
) -> str:
    """The whole report around its sections."""
    say = language(spoken)
    return _environment().get_template("report.html").render(
        items=items, judge=judge, command=command, total=total, counts=counts, version=__version__,
        say=say, things=compared_with(judge.calibration, say),
        together=sentences(folder, judge.calibration.count, say) if folder else [],
        style=Markup(resources.files("pixelsleuth.reporting").joinpath("templates/finding.css").read_text("utf-8")),
    )  # fmt: skip


def section(view: FindingView, judge: Judge, made: Sequence[Layer] | None = None, spoken: str = LANGUAGES[0]) -> Markup:
    """One finding as HTML: no script, no inline style, no address outside it; every text is escaped. `made` are its
    layers where they are at hand, `spoken` the code of a language."""
    finding, calibration, say = view.finding, judge.calibration, language(spoken)
    answer, name = answer_of(finding, calibration, say), Path(finding.path).name
    made = all_layers(view, judge, spoken) if made is None else made
    drawn: dict[str, Markup] = {"histogram": Markup(), "timeline": Markup()}
    if finding.score is not None and finding.p_value is not None:
        normal = calibration.scores["original"]
        scores = [frame.score for frame in finding.frames] or [face.score for face in finding.faces] or [finding.score]
        # By another promise p does not hang on where the score lies among all of them.
        rate = finding.max_false_alarm if finding.promise == "calibration" else None
        drawn["histogram"] = histogram(normal, scores, rate, say)
    if finding.frames:
        drawn["timeline"] = timeline(finding, say)
    square = None
    if view.pixels is not None and finding.square is not None:
        square = cut(view.pixels, finding.square, judge.size)
    text = _environment().get_template("finding.html").render(
        finding=finding,
        title=view.title,
        name=name,
        say=say,
        answer=answer,
        reason_in=reason_in,
        p_by=p_by,
        things=compared_with(calibration, say),
        quotes=quotes_of(finding, answer, name, calibration, say),
        tracks=tracks_of(finding, say),
        first=first_of(made, finding),
        layers=made,
        places=places_of(view, say),
        against=beside(finding, view.pixels, say),
        evidence=together(finding, say),
        promises=promises(finding, calibration, say),
        stills=stills(view, say),
        thumbnails=thumbnails(view),
        why=reason_caution(finding, say),
        cautions=cautions(finding, square, view.facts, judge.settings, judge.size, say),
        facts=view.facts,
        legend=legend(say, compared_with(calibration, say)),
        command=reproducing(finding, judge),
        judge=judge,
        version=__version__,
        **drawn,
    )  # fmt: skip
    return Markup(text)


def all_layers(view: FindingView, judge: Judge, spoken: str = LANGUAGES[0]) -> list[Layer]:
    """The layers of the model, and those of traces of saving and editing."""
    say = language(spoken)
    return [*layers(view, judge.grid, say), *trace_layers(view, say)]


def first_of(made: Sequence[Layer], finding: Finding) -> list[Layer]:
    """The pictures of the first page: the input, and of an alarm where it is, of no clear answer the map, else the
    whole picture, which is alone where nothing was judged; of a scan three planes."""
    by_name = {layer.name: layer for layer in made}
    if finding.kind == "volume":
        return [by_name[name] for name in ("map", "coronal", "sagittal") if name in by_name]
    alarm = "map" if places(finding) else "look"
    second = {"normal": "whole", "unsure": "map", "anomalous": alarm, "not_applicable": "whole"}[finding.verdict]
    names = ("input", second if second in by_name else "map")
    return [by_name[name] for name in names if name in by_name]


def reproducing(finding: Finding, judge: Judge) -> str:
    """The command that gives this finding again, run where the file is."""
    name = Path(finding.path).name
    # A name that begins with a dash would be read as an option.
    name = f"./{name}" if name.startswith("-") else name
    words = ["pixelsleuth", "detect", name, "--model", without_folders(judge.argument)]
    return shlex.join([*words, "--max-false-alarm", f"{finding.max_false_alarm:g}", "--out", "out", "--report"])


def without_folders(argument: str) -> str:
    """An argument of the command line with a path cut down to its last part: a report is handed on, and the folders of
    a source are not its subject."""
    name, sign, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    local = value.startswith(("/", "./", "../", "~")) or "\\" in value or os.path.exists(value)
    return name + sign + (Path(value.replace("\\", "/")).name or value if local else value)


def promises(finding: Finding, calibration: Calibration, say: Language) -> str:
    """Say what p is worth for images of a source that the calibration contains, and of a new one; empty where that is
    not known."""
    if finding.p_value is None or finding.p_value_any_source is None or finding.p_value_new_source is None:
        return ""
    count = len(calibration.sources)
    values = {
        "p": finding.p_value, "any": finding.p_value_any_source, "new": finding.p_value_new_source,
    }  # fmt: skip
    return say(
        "promises.several" if count > 1 else "promises.one", n=say.number(count),
        least=say.decimal(least_rate([1] * count, "new-source"), ".2g"),
        **{name: say.decimal(value, ".4f") for name, value in values.items()},
    )  # fmt: skip


def tracks_of(finding: Finding, say: Language) -> str:
    """Say what each track of evidence says where the score sums two; else empty."""
    codes, detective = finding.scores.get(COMBINED), finding.scores.get(f"{DETECTIVE}_adjusted")
    if BOTH_TRACKS not in finding.scores or codes is None or detective is None:
        return ""
    return say("scores.tracks", codes=say.decimal(codes, "+.2f"), detective=say.decimal(detective, "+.2f"))


def _environment() -> Environment:
    return Environment(loader=PackageLoader("pixelsleuth.reporting"), autoescape=True, undefined=StrictUndefined)
