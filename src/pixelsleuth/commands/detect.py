"""`pixelsleuth detect`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixelsleuth.commands.account import Account
from pixelsleuth.commands.resuming import done_before, judged_by, note_judged_by, without
from pixelsleuth.commands.terminal import (
    MAX_NAMES,
    InputBar,
    ModelOption,
    OutOption,
    Pick,
    RateOption,
    bar,
    check_file,
    console,
    hold,
    printable,
    say,
)
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.folders import check_discoveries
from pixelsleuth.language import LANGUAGES, language
from pixelsleuth.records import MAX_FALSE_ALARM, Finding

if TYPE_CHECKING:
    from pixelsleuth.cluster import Task
    from pixelsleuth.detector import Detector
    from pixelsleuth.reporting.report import Report
    from pixelsleuth.reporting.writing import RecordWriter
    from pixelsleuth.sources.inputs import Refused


class Format(str, Enum):
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Runtime(str, Enum):
    torch = "torch"
    onnx = "onnx"
    openvino = "openvino"


class Promised(str, Enum):
    calibration = "calibration"
    any_source = "any-source"
    new_source = "new-source"


def detect(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Images, videos, volumes, folders, or - for a list on standard input."),
    ],
    model: ModelOption = "faces",
    out: OutOption = None,
    max_false_alarm: RateOption = None,
    format: Annotated[Format, typer.Option(help="Format of the records.")] = Format.jsonl,
    heatmap: Annotated[bool, typer.Option("--heatmap/--no-heatmap", help="Also map what is unusual where.")] = True,
    restore: Annotated[
        bool | None,
        typer.Option(
            "--restore/--no-restore",
            help="With a heatmap, also restore and compute every score, which takes several times as long; on by "
            "default with --report.",
        ),
    ] = None,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with 1 if any input is anomalous.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="With --out: also write report.html, the 50 most unusual in full.")
    ] = False,
    runtime: Annotated[
        Runtime | None,
        typer.Option(
            help="What runs the networks: torch, or without it an exported graph by onnx (ONNX Runtime) or openvino; "
            "torch where it is installed."
        ),
    ] = None,
    face: Annotated[
        str,
        typer.Option(
            metavar="N|largest|all",
            help="Faces of a picture that are judged: all, the largest, or one by number, 1 being the largest.",
        ),
    ] = "all",
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="ORIGINAL",
            help="An earlier copy of the picture: also report what differs from it, and where, even after saving, "
            "scaling or cropping.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="With --out: continue the findings.jsonl there, with the model and choices it was begun with; a "
            "report shows only what is judged now.",
        ),
    ] = False,
    spoken: Annotated[
        str,
        typer.Option("--language", help=f"Of the report and of the answer on the terminal: {', '.join(LANGUAGES)}."),
    ] = LANGUAGES[0],
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Images computed together, chosen automatically by default; findings do not depend on it.", min=1
        ),
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
    fdr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Also name inputs so that on average at most this share of those named is normal; verdicts stay as "
            "they are.",
        ),
    ] = None,
    typicality: Annotated[
        bool, typer.Option("--typicality/--no-typicality", help="Call images unlike those of calibration unsure.")
    ] = True,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|ADDRESS",
            help="Judge on the workers of a Ray cluster at this address; auto: on this machine. INPUT may also be "
            "an address such as "
            "s3://bucket/folder or a *.tar shard; the records are Parquet files in DIR/findings. Resumes.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="With --cluster: processes that judge, by default one per GPU or core.", min=1)
    ] = None,
    pick: Annotated[
        Pick | None,
        typer.Option(help="How those frames are chosen; must match the calibration of the model, and does by default."),
    ] = None,
) -> None:
    """Judge images, videos and volumes: one record an input, in input order."""
    # What can be told without torch is told before it is loaded.
    from pixelsleuth.sources.faces import check_choice

    check_choice(face)
    if spoken not in LANGUAGES:
        raise PixelsleuthError(f"--language {spoken}: expected one of {', '.join(LANGUAGES)}")
    if max_false_alarm is not None and not 0 < max_false_alarm < 1:
        raise PixelsleuthError(f"--max-false-alarm: expected a rate between 0 and 1, got {max_false_alarm}")
    if format is Format.parquet and out is None:
        raise PixelsleuthError("--format parquet needs --out: it cannot be written to standard output")
    if resume and (out is None or format is not Format.jsonl):
        raise PixelsleuthError("--resume needs --out and --format jsonl: it goes on with the findings.jsonl there")
    _check_one(inputs, against)
    _check_cluster(cluster, out, report or resume or fdr is not None or format is Format.csv or against is not None)
    if report and out is None:
        raise PixelsleuthError("--report needs --out: the folder that report.html is written to")
    _check_model(model)
    from pixelsleuth.detector import Detector
    from pixelsleuth.sources.tracks import Policy

    check_discoveries(fdr, promise.value)
    detector = Detector.load(model, runtime=runtime.value if runtime else None)
    rate = detector.calibration.rate_for(max_false_alarm, MAX_FALSE_ALARM)
    detector.calibration.check_rate(rate, promise.value)
    if max_false_alarm is None and rate > MAX_FALSE_ALARM:
        say(detector.calibration.raised(MAX_FALSE_ALARM).sentence)
    calibrated = detector.cropping.policy
    policy = Policy(frames, every, keep, pick.value if pick else calibrated.pick)
    # Told before anything is read; where nothing was asked for, a model for volumes has nothing to refuse.
    asked = policy if policy != calibrated else None
    detector.cropping.with_options(detector.name, asked)
    more = report if restore is None else restore
    # Of slices every score is taken anyway.
    scores = None if more or detector.takes == "volumes" else False
    if cluster is not None:
        from pixelsleuth.cluster import Task

        options = {
            "max_false_alarm": max_false_alarm, "heatmap": heatmap, "restore": more, "every_score": scores,
            "batch_size": batch_size, "policy": asked, "face": face, "promise": promise.value, "typicality": typicality,
        }  # fmt: skip
        task = Task(model, detector.model.sha256, str((out or Path()).resolve()), options)
        _on_cluster(inputs, task, cluster, workers, fail_on_anomaly)
        return
    path = out / f"findings.{format.value}" if out else None
    hold(context, out)
    account = Account(detector.calibration, language(spoken))
    done = Counter[str]()
    now = judged_by(detector, rate, policy, face, promise.value, typicality)
    if resume and path is not None:
        done = done_before(path, now, account)
    leftovers: list[str] = []
    listed: Iterable[str | Refused] = _listed(inputs, leftovers, out)
    if "-" not in inputs:
        # All of them, so that the bar knows how many there are.
        listed = list(listed)
    shown = InputBar(bar(), len(listed) if isinstance(listed, list) else None, account.total)
    found = detector.detect_many(
        without(listed, done), max_false_alarm=max_false_alarm, heatmap=heatmap, restore=more, every_score=scores,
        batch_size=batch_size, policy=asked, face=face, promise=promise.value, typicality=typicality,
        progress=shown.step,
    )  # fmt: skip
    found = _compared(found, against, detector, now)
    made = _report(detector, model, spoken, fdr, out) if report and out else None
    _run(found, _writer(path, format, bool(done), now), out, account, made, shown)
    console.print(account.summary(), highlight=False)
    for line in account.meaning():
        say(line)
    _together(account, rate, fdr, out)
    if leftovers:
        say(_left_out(leftovers))
    _say_where(path, made is not None, heatmap, account)
    if account.total == account.counts.get("not_applicable", 0) and not account.unlike:
        raise PixelsleuthError(f"none of the {account.total} inputs could be judged; the records say why")
    if fail_on_anomaly and account.counts.get("anomalous"):
        raise typer.Exit(1)


def _say_where(path: Path | None, reported: bool, heatmap: bool, account: Account) -> None:
    """Tell where the records and the report are, or how to get one that shows what alarms."""
    if path is not None:
        say(f"records: {path}" + (f", report: {path.parent / 'report.html'}" if reported else ""))
    if not reported and account.counts.get("anomalous"):
        instead = "" if heatmap else ", without --no-heatmap"
        say(f"to see what is unusual where: the same command with --out DIR --report{instead}")


def _report(detector: Detector, model: str, spoken: str, fdr: float | None, out: Path) -> Report:
    """An empty report, which takes half a second to import; raises PixelsleuthError where it cannot be written."""
    from pixelsleuth.reporting.report import Judge, Report, without_folders

    check_file(out / "report.html", "out")
    command = "pixelsleuth " + shlex.join(map(without_folders, sys.argv[1:]))
    return Report(Judge.of(detector, model), command, spoken, fdr=fdr)


def _check_model(model: str) -> None:
    """Raise ModelError where a model cannot be found, before anything heavy is loaded."""
    from pixelsleuth.models.configuration import find_model

    # A graph is no folder; whether it can be read is told when it is.
    if Path(model).suffix != ".onnx":
        find_model(model)


def _check_one(inputs: list[str], against: Path | None) -> None:
    """Raise PixelsleuthError where there is more than one picture to compare with an earlier copy."""
    if against is not None and (len(inputs) > 1 or inputs == ["-"] or os.path.isdir(inputs[0])):
        raise PixelsleuthError("compares one picture with an earlier copy of it; give one INPUT", "against")


def _compared(
    found: Iterator[Finding], against: Path | None, detector: Detector, now: dict[str, Any]
) -> Iterator[Finding]:
    """The findings with what differs from an earlier copy, which is judged too and by the same rules, where there is
    one. Raises PixelsleuthError where the copy is no picture that can be read."""
    if against is None:
        return found
    from pixelsleuth.evidence.comparison import compared
    from pixelsleuth.sources.images import decode, read_bytes

    try:
        pixels = decode(read_bytes(against), name=against.name).pixels
    except InputError as error:
        raise PixelsleuthError(f"{against}: {error.sentence}", "against") from None
    rules = {name: now[name] for name in ("max_false_alarm", "face", "promise", "typicality")}
    return compared(found, next(detector.detect_many([against], heatmap=False, **rules)), pixels)


def _check_cluster(cluster: str | None, out: Path | None, more: bool) -> None:
    if cluster is not None and (out is None or more):
        raise PixelsleuthError(
            "--cluster needs --out, and writes Parquet, resumes by itself and makes no report: leave out --format, "
            "--resume, --report, --against and --fdr"
        )


def _on_cluster(inputs: list[str], task: Task, address: str, workers: int | None, fail_on_anomaly: bool) -> None:
    """Judge on a Ray cluster and tell how many records have which verdict."""
    from pixelsleuth.cluster import judge

    with bar() as shown:
        shared = shown.add_task("batches", total=None)
        counts = judge(
            inputs, task, address=address, workers=workers,
            progress=lambda done, total: shown.update(shared, completed=done, total=total),
        )  # fmt: skip
    say(", ".join(f"{verdict.replace('_', ' ')} {count:,}" for verdict, count in sorted(counts.items())))
    say(f"records: {task.parts}")
    if set(counts) == {"not_applicable"}:
        raise PixelsleuthError(f"none of the {counts.total():,} inputs could be judged; the records say why")
    if fail_on_anomaly and counts["anomalous"]:
        raise typer.Exit(1)


def _together(account: Account, rate: float, fdr: float | None, out: Path | None) -> None:
    """Tell what is said of the inputs together, and write it into the folder."""
    from pixelsleuth.files import write_text
    from pixelsleuth.reporting.folders import sentences

    found = account.folder(rate, fdr)
    for line in sentences(found, account.calibration.count, account.words):
        say(line)
    if out is not None:
        write_text(out / "summary.json", json.dumps(found.record(), indent=1, ensure_ascii=False) + "\n")


def _writer(path: Path | None, format: Format, goes_on: bool, now: dict[str, Any]) -> RecordWriter:
    from pixelsleuth.reporting.writing import RecordWriter

    writer = RecordWriter(path, format.value, sys.stdout, goes_on)
    if path is not None and format is Format.jsonl and not goes_on:
        # Once the file is emptied: what it held before was judged otherwise. Of what an earlier version began nobody
        # knows what it was judged by, and nothing is noted.
        note_judged_by(path, now)
    return writer


def _run(
    found: Iterator[Finding], writer: RecordWriter, out: Path | None, account: Account, made: Report | None,
    shown: InputBar,
) -> None:  # fmt: skip
    """Write the findings as they come, and at the end, or when it is stopped, the report of what there is."""
    from pixelsleuth.reporting.writing import written_behind

    def also(finding: Finding) -> None:
        account.tell(finding)
        if made is not None:
            made.add(finding)
        shown.ended(finding.path)

    try:
        with shown.bar:
            for verdict in written_behind(found, writer, out, also, account.total):
                account.counts[verdict] = account.counts.get(verdict, 0) + 1
    except KeyboardInterrupt:
        if out is not None and writer.kind == "jsonl":
            say("stopped; the same command with --resume goes on where it was stopped")
            raise typer.Exit(130) from None
        raise
    finally:
        writer.close()
        if made is not None and out is not None:
            made.write(out / "report.html")


def _left_out(names: list[str]) -> str:
    """One line about what in the folders is no input."""
    shown = ", ".join(printable(name) for name in names[:MAX_NAMES])
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return f"left out {len(names):,}: no picture, video or scan, hidden, or of an earlier run: {shown}{more}"


def _listed(inputs: list[str], leftovers: list[str], out: Path | None) -> Iterator[str | Refused]:
    """Inputs in order: a folder gives all that is in it but for what a run into `out` writes, `-` the lines of standard
    input."""
    from pixelsleuth.sources.inputs import Refused, find_inputs, nothing_in

    for item in inputs:
        if item == "-":
            # Bytes: a name need not be text.
            lines = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
            yield from (os.fsdecode(line) for line in lines if line.strip())
        elif os.path.isdir(item):
            # A list: what this run writes into a folder is none of its inputs.
            found = list(find_inputs(Path(item), leftovers, out))
            yield from (one if isinstance(one, Refused) else str(one) for one in found or [nothing_in(item)])
        else:
            yield item
