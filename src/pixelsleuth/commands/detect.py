"""`pixelsleuth detect`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixelsleuth.commands.terminal import MOST_NAMED, ModelOption, OutOption, Pick, bar, console, printable, say
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.records import Finding

if TYPE_CHECKING:
    from pixelsleuth.sources.inputs import Refused

#: Findings that are told on the terminal, a line each; of more the records tell.
MOST_TOLD = 20


class Format(str, Enum):
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Promised(str, Enum):
    calibration = "calibration"
    any_source = "any-source"
    new_source = "new-source"


def detect(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Images, videos, volumes, folders, or - for a list on standard input."),
    ],
    model: ModelOption = "faces",
    out: OutOption = None,
    max_false_alarm: Annotated[float, typer.Option(help="Share of normal images that may be called anomalous.")] = 0.01,
    format: Annotated[Format, typer.Option(help="Of the records.")] = Format.jsonl,
    heatmap: Annotated[
        bool, typer.Option("--heatmap/--no-heatmap", help="Also restore and map, and take every score.")
    ] = True,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with 1 if any input is anomalous.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="With --out: also write report.html, the 50 most unusual in full.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images computed together, automatic unless given; findings do not depend on it.", min=1),
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of a video looked at, evenly spaced.", min=1)] = 32,
    every: Annotated[int, typer.Option(help="Look at every n-th frame of a video instead.", min=0)] = 0,
    keep: Annotated[int, typer.Option(help="Most frames judged of one person in one video.", min=1)] = 16,
    promise: Annotated[
        Promised,
        typer.Option(
            help="Which images the rate is promised for: like those of calibration taken together, of any one of its "
            "sources, or of a source it never had."
        ),
    ] = Promised.calibration,
    typicality: Annotated[
        bool, typer.Option("--typicality/--no-typicality", help="Call images unlike those of calibration unsure.")
    ] = True,
    pick: Annotated[
        Pick | None, typer.Option(help="How those are chosen; must be as the model was calibrated, and is by default.")
    ] = None,
) -> None:
    """Judge images, videos and volumes: one record an input, in input order."""
    from pixelsleuth.detector import Detector
    from pixelsleuth.reporting.report import Judge, Report
    from pixelsleuth.reporting.writing import RecordWriter, written_behind
    from pixelsleuth.sources.tracks import Policy

    if format is Format.parquet and out is None:
        raise PixelsleuthError("--format parquet needs --out: it cannot be written to standard output")
    if report and out is None:
        raise PixelsleuthError("--report needs --out: the folder that report.html is written to")
    detector = Detector.load(model)
    detector.calibration.check_rate(max_false_alarm, promise.value)
    calibrated = detector.crop_settings().policy
    policy = Policy(frames, every, keep, pick.value if pick else calibrated.pick)
    # Told before anything is read; where nothing was asked for, a model for volumes has nothing to refuse.
    asked = policy if policy != calibrated else None
    detector.crop_settings(asked)
    path = out / f"findings.{format.value}" if out else None
    writer = RecordWriter(path, format.value, sys.stdout)
    counts: dict[str, int] = {}
    leftovers: list[str] = []
    made = Report(Judge.of(detector, model), "pixelsleuth " + shlex.join(sys.argv[1:])) if report else None
    told = 0

    def also(finding: Finding) -> None:
        nonlocal told
        told += 1
        if told <= MOST_TOLD:
            say(_told(finding))
        if made is not None:
            made.add(finding)

    found = detector.detect_many(
        _listed(inputs, leftovers),
        max_false_alarm=max_false_alarm,
        heatmap=heatmap,
        batch_size=batch_size,
        policy=asked,
        promise=promise.value,
        typicality=typicality,
    )
    try:
        with bar() as shown:
            task = shown.add_task("judging", total=None)
            for number, verdict in enumerate(written_behind(found, writer, out, also), 1):
                counts[verdict] = counts.get(verdict, 0) + 1
                shown.update(task, completed=number)
    finally:
        writer.close()
    if made is not None and out is not None:
        made.write(out / "report.html")
    total = sum(counts.values())
    console.print(
        ", ".join(f"{v.replace('_', ' ')} {n:,}" for v, n in sorted(counts.items())) or "no input", highlight=False
    )
    if leftovers:
        say(_left_out(leftovers))
    if path is not None and out is not None:
        written = f"records: {path}" + (f", report: {out / 'report.html'}" if made else "")
        say(written)
    if total == counts.get("not_applicable", 0):
        raise PixelsleuthError(f"none of the {total} inputs could be judged; the records say why")
    if fail_on_anomaly and counts.get("anomalous"):
        raise typer.Exit(1)


def _left_out(names: list[str]) -> str:
    """One line about what in the folders is no input."""
    shown = ", ".join(printable(name) for name in names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    one = "file that is" if len(names) == 1 else "files that are"
    return f"left out {len(names):,} {one} no picture, video or scan, or hidden: {shown}{more}"


def _told(finding: Finding) -> str:
    """One line for the terminal: what was judged, the verdict and what it rests on."""
    name = printable(Path(finding.path).name)
    verdict = finding.verdict.replace("_", " ")
    if finding.p_value is None:
        return f"{name}: {verdict}, {finding.reason['sentence'] if finding.reason else 'no reason given'}"
    regions = len(finding.regions)
    where = f", {regions} region{'' if regions == 1 else 's'}" if regions else ""
    return f"{name}: {verdict}, p = {finding.p_value:.4f} where {finding.max_false_alarm:g} is anomalous{where}"


def _listed(inputs: list[str], leftovers: list[str]) -> Iterator[str | Refused]:
    """Inputs in order: a folder gives all that is in it, `-` the lines of standard input."""
    from pixelsleuth.sources.inputs import Refused, find_inputs

    for item in inputs:
        if item == "-":
            # Bytes: a name need not be text.
            lines = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
            yield from (os.fsdecode(line) for line in lines if line.strip())
        elif _is_folder(item):
            # A list: what this run writes into a folder is none of its inputs.
            found = list(find_inputs(Path(item), leftovers))
            # A folder without any is an input like any other that cannot be judged: it gets a record.
            yield from (one if isinstance(one, Refused) else str(one) for one in found or [Path(item)])
        else:
            yield item


def _is_folder(item: str) -> bool:
    try:
        return Path(item).is_dir()
    except (OSError, ValueError):
        return False
