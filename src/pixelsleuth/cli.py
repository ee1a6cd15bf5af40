"""The command line. It parses, calls, and prints; no science lives here."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pixelsleuth import __version__
from pixelsleuth.commands import figures, robustness
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.records import Finding

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learns what normal images look like and shows where, and how surely, a new image is not normal.",
)
prepare_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Read a folder into one HDF5 store for training."
)
app.add_typer(prepare_app, name="prepare")
app.add_typer(figures.app, name="figures")
app.command("robustness")(robustness.robustness)

# Records go to standard output; everything meant for people's eyes goes to standard error.
console = Console(stderr=True)
#: Findings that are told on the terminal, a line each; of more the records tell.
MOST_TOLD = 20


class Format(str, Enum):
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Crop(str, Enum):
    face = "face"
    none = "none"


class Edge(str, Enum):
    inside = "inside"
    reflect = "reflect"


class Standard(str, Enum):
    robust = "robust"
    zscore = "zscore"
    none = "none"


class Frame(str, Enum):
    head = "head"
    whole = "whole"
    stretch = "stretch"


class Mode(str, Enum):
    sample = "sample"
    pixel = "pixel"


class Pick(str, Enum):
    even = "even"
    quality = "quality"


ModelOption = Annotated[
    str, typer.Option("--model", help="A folder, a bundled name (faces), or a Hugging Face Hub id.")
]
SizeOption = Annotated[int, typer.Option(help="Side of the stored squares in pixels.", min=32, max=1024)]
EdgeOption = Annotated[
    Edge, typer.Option(help="A square that leaves the picture is moved inside, or filled up by reflection.")
]
AlignOption = Annotated[bool, typer.Option("--align", help="Turn and scale faces by their five landmarks.")]
WorkersOption = Annotated[int, typer.Option(help="Processes that read.", min=1)]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder for what is written.")]


def main() -> None:
    """Runs the command line; an expected error is one line and exit code 2."""
    try:
        app()
    except PixelsleuthError as error:
        console.print(f"[red]error:[/red] {_one_line(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of standard output went away, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        console.print("stopped; what was written is kept", highlight=False)
        sys.exit(130)


def _one_line(error: Exception) -> str:
    from rich.markup import escape

    return escape(" ".join(str(error).split()))


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def demo(out: Annotated[Path, typer.Option("--out", help="Folder for what is written.")] = Path("demo-out")) -> None:
    """Judge a bundled photograph and tampered copies of it, and write a report."""
    from pixelsleuth.demo import write_pictures
    from pixelsleuth.detector import Detector

    detector = Detector.load("faces")
    paths = write_pictures(out / "pictures")
    findings = _detect_to(detector, paths, out, 0.05, "pixelsleuth demo")
    table = Table(title="pixelsleuth demo: one real photograph and tampered copies of it")
    for column in ("picture", "verdict", "p-value", "regions", "seconds"):
        table.add_column(column)
    for finding in findings:
        table.add_row(
            Path(finding.path).stem, finding.verdict, f"{finding.p_value:.4f}", str(len(finding.regions)),
            f"{finding.seconds:.2f}",
        )  # fmt: skip
    Console().print(table)
    print(
        f"p-value: share of {detector.calibration.count:,} normal faces at least this unusual; 5% false alarms allowed"
    )
    print(f"report: {out / 'report.html'}   findings: {out / 'findings.jsonl'}   heatmaps: {out / 'heatmaps'}")


def _detect_to(detector: Any, paths: list[Path], out: Path, rate: float, command: str) -> list[Any]:
    """Detects a few inputs and writes records, heatmaps and the report."""
    from pixelsleuth.reporting.report import Judge, Report
    from pixelsleuth.reporting.writing import RecordWriter, save_heatmap

    writer = RecordWriter(out / "findings.jsonl", "jsonl", sys.stdout)
    report = Report(Judge.of(detector, "faces"), command)
    findings = []
    for number, finding in enumerate(detector.detect_many(paths, max_false_alarm=rate)):
        finding = save_heatmap(finding, out, number)
        writer.write(finding.record())
        findings.append(finding)
        report.add(finding, Path(finding.path).stem.replace("_", " "))
    writer.close()
    report.write(out / "report.html")
    return findings


@prepare_app.command("images")
def prepare_images(
    paths: Annotated[list[Path], typer.Argument(metavar="SRC... STORE.h5", help="Folders of images, then the store.")],
    size: SizeOption = 128,
    crop: Annotated[Crop, typer.Option(help="face: the largest face; none: the largest centred square.")] = Crop.face,
    min_confidence: Annotated[float, typer.Option(help="Of a face, below which it is none.", min=0, max=1)] = 0.95,
    edge: EdgeOption = Edge.inside,
    align: AlignOption = False,
    group_by_folder: Annotated[bool, typer.Option(help="A picture's folder is its group (person, video).")] = False,
    not_near: Annotated[
        Path | None,
        typer.Option(metavar="STORE.h5", help="Leave out near-duplicates of this store's training pictures."),
    ] = None,
    workers: WorkersOption = 2,
) -> None:
    """Read folders of images into one store. Resumes where it was stopped."""
    from pixelsleuth.sources.faces import Framing
    from pixelsleuth.sources.preparation import prepare_images as run

    sources, store = _sources_and_store(paths, "images")
    with _bar() as bar:
        task = bar.add_task("reading", total=None)
        summary = run(
            sources, store, size=size, crop=crop.value, framing=Framing(min_confidence, edge.value, align),
            group_by_folder=group_by_folder, not_near=not_near, workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    _show_summary(store, summary)


@prepare_app.command("videos")
def prepare_videos(
    paths: Annotated[list[Path], typer.Argument(metavar="SRC... STORE.h5", help="Folders of videos, then the store.")],
    size: SizeOption = 128,
    min_confidence: Annotated[float, typer.Option(help="Of a face, below which it is none.", min=0, max=1)] = 0.995,
    edge: EdgeOption = Edge.inside,
    align: AlignOption = False,
    every: Annotated[int, typer.Option(help="Look at every n-th frame; 0: see --frames.", min=0)] = 4,
    every_fake: Annotated[int, typer.Option(help="The same of videos known to be fake.", min=1)] = 10,
    frames: Annotated[int, typer.Option(help="With --every 0: look at this many, evenly spaced.", min=1)] = 32,
    keep: Annotated[int, typer.Option(help="Most frames of one person in one video.", min=1)] = 32,
    pick: Annotated[
        Pick, typer.Option(help="Which are kept: even over time, or the best by sharpness, motion, size, confidence.")
    ] = Pick.even,
    labels: Annotated[
        Path | None, typer.Option(help="CSV with columns file,label[,split,group,method]; SRC/labels.csv if there.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for frames per video and sample faces.")] = None,
    workers: WorkersOption = 2,
) -> None:
    """Read the faces of videos into one store. Knows FaceForensics++, DFDC, Celeb-DF. Resumes where it was stopped."""
    from pixelsleuth.sources.faces import Framing
    from pixelsleuth.sources.preparation import prepare_videos as run
    from pixelsleuth.sources.tracks import Policy

    sources, store = _sources_and_store(paths, "videos")
    with _bar() as bar:
        task = bar.add_task("reading", total=None)
        summary = run(
            sources, store, size=size, framing=Framing(min_confidence, edge.value, align),
            policy=Policy(frames, every, keep, pick.value), every_fake=every_fake, labels=labels, workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    _show_summary(store, summary)
    if figures is not None:
        from pixelsleuth.reporting.figures import save_figure, save_picture
        from pixelsleuth.reporting.timeline import frames_per_video, sheet
        from pixelsleuth.sources.store import Store

        with Store(store) as opened:
            save_figure(frames_per_video(opened), figures / "frames_per_video.png")
            if len(opened):
                save_picture(sheet(opened), figures / "faces.png")


@prepare_app.command("volumes")
def prepare_volumes(
    paths: Annotated[list[Path], typer.Argument(metavar="SRC... STORE.h5", help="Folders, then the store.")],
    size: SizeOption = 160,
    standard: Annotated[Standard, typer.Option(help="How each volume is brought to one intensity scale.")] = (
        Standard.robust
    ),
    frame: Annotated[Frame, typer.Option(help="What of a slice is cut to a square.")] = Frame.head,
    trim: Annotated[int, typer.Option(help="First and last slices left out.", min=0)] = 0,
    keep_empty: Annotated[bool, typer.Option("--keep-empty", help="Keep slices without foreground.")] = False,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of masks; a folder named mask beside the volumes' unless given.")
    ] = None,
    workers: WorkersOption = 2,
) -> None:
    """Read NIfTI volumes (and DICOM series) into one store of slices. Knows MOOD. Resumes where it was stopped."""
    from pixelsleuth.sources.scans import prepare_volumes as run
    from pixelsleuth.sources.slices import SliceFraming

    sources, store = _sources_and_store(paths, "volumes")
    with _bar() as bar:
        task = bar.add_task("reading", total=None)
        summary = run(
            sources, store, framing=SliceFraming(size, standard.value, frame.value, trim, keep_empty), masks=masks,
            workers=workers, progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    _show_summary(store, summary)


def _sources_and_store(paths: list[Path], what: str) -> tuple[list[Path], Path]:
    if len(paths) < 2:
        raise PixelsleuthError(f"prepare {what}: expected at least one folder and the store's name, got one path")
    *sources, store = paths
    if store.is_dir():
        raise PixelsleuthError(f"prepare {what}: the last path names the store to write; {store} is a folder")
    return sources, store


def _show_summary(store: Path, summary: Any) -> None:
    table = Table(title=str(store))
    table.add_column("what")
    table.add_column("count", justify="right")
    for split, count in sorted(summary.by_split.items()):
        table.add_row(f"stored, split {split}", f"{count:,}")
    if summary.videos:
        table.add_row("videos with a face", f"{summary.videos:,}")
    if summary.volumes:
        table.add_row("volumes", f"{summary.volumes:,}")
    table.add_row("byte-identical duplicates dropped", f"{summary.duplicates:,}")
    table.add_row("near-duplicate pairs across splits (kept)", f"{summary.n_near:,}")
    for reason, count in summary.reasons().most_common():
        table.add_row(f"skipped: {reason}", f"{count:,}")
    console.print(table)
    for path, code, sentence in summary.skipped[:10]:
        console.print(f"skipped {path}: {code}, {sentence}", highlight=False, soft_wrap=True, markup=False)
    if len(summary.skipped) > 10:
        console.print(f"... and {len(summary.skipped) - 10:,} more")
    for left, right in summary.near[:5]:
        console.print(f"near-duplicates across splits: {left} and {right}", highlight=False, markup=False)


@app.command()
def train(
    store: Annotated[Path, typer.Argument(metavar="STORE.h5")],
    folder: Annotated[Path, typer.Argument(metavar="MODEL_DIR")],
    preset: Annotated[
        str,
        typer.Option(
            help="fast, scans, scans-bright, paper-ffhq, paper-ffpp, paper-mood-brain, paper-mood-abdomen."
            " Of volumes scans unless given."
        ),
    ] = "fast",
    config: Annotated[Path | None, typer.Option(help="YAML with settings over the preset's.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, dotted.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Train VQ-VAE and priors on normal images, then calibrate."""
    from pixelsleuth.reporting.card import write_card
    from pixelsleuth.sources.store import Store
    from pixelsleuth.training.fitting import check_calibration_rows
    from pixelsleuth.training.presets import resolve
    from pixelsleuth.training.run import train as run
    from pixelsleuth.training.scan_fitting import check_calibration_volumes

    with Store(store) as opened:
        volumes = opened.holds_volumes
        if volumes and preset == "fast":
            preset = "scans"
        settings = resolve(preset, config, overrides)
        # Better told now than after an hour of training.
        (check_calibration_volumes if volumes else check_calibration_rows)(opened)
    say = lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True)  # noqa: E731
    run(store, folder, settings, resume=resume, progress=progress, say=say)
    _calibrated(folder, store, "float32", volumes)
    write_card(folder)
    say(f"the model is in {folder}")


def _calibrated(folder: Path, store: Path, dtype: str, volumes: bool) -> None:
    from pixelsleuth.training.fitting import calibrate as of_pictures
    from pixelsleuth.training.scan_fitting import calibrate_slices as of_volumes

    with _bar() as bar:
        task = bar.add_task("calibrating", total=None)
        progress = lambda done, total: bar.update(task, completed=done, total=total)  # noqa: E731
        if volumes:
            made = of_volumes(folder, store, progress)
        else:
            made = of_pictures(folder, store, dtype=dtype, progress=progress)
    unit = made.about.get("unit", "image")
    console.print(f"calibrated {made.score} on {made.count:,} normal {unit}s", highlight=False)


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(metavar="MODEL_DIR")],
    store: Annotated[Path, typer.Argument(metavar="STORE.h5")],
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16 where the processor has it.")] = "float32",
) -> None:
    """Rank the store's calibration images: thresholds and p-values from normal images alone."""
    from pixelsleuth.reporting.card import write_card
    from pixelsleuth.sources.store import Store

    with Store(store) as opened:
        volumes = opened.holds_volumes
    _calibrated(folder, store, dtype, volumes)
    write_card(folder)


@app.command()
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
    detector.calibration.check_rate(max_false_alarm)
    calibrated = detector.model.config.preprocessing.get("pick", "even")
    policy = Policy(frames, every, keep, pick.value if pick else calibrated)
    if detector.scanner is None:
        detector.preparation(policy)
    path = out / f"findings.{format.value}" if out else None
    writer = RecordWriter(path, format.value, sys.stdout)
    counts: dict[str, int] = {}
    made = Report(Judge.of(detector, model), "pixelsleuth " + shlex.join(sys.argv[1:])) if report else None
    told = 0

    def also(finding: Finding) -> None:
        nonlocal told
        told += 1
        if told <= MOST_TOLD:
            console.print(_told(finding), highlight=False, soft_wrap=True, markup=False)
        if made is not None:
            made.add(finding)

    found = detector.detect_many(
        _listed(inputs), max_false_alarm=max_false_alarm, heatmap=heatmap, batch_size=batch_size, policy=policy
    )
    try:
        with _bar() as bar:
            task = bar.add_task("judging", total=None)
            for number, verdict in enumerate(written_behind(found, writer, out, also), 1):
                counts[verdict] = counts.get(verdict, 0) + 1
                bar.update(task, completed=number)
    finally:
        writer.close()
    if made is not None and out is not None:
        made.write(out / "report.html")
    total = sum(counts.values())
    console.print(
        ", ".join(f"{v.replace('_', ' ')} {n:,}" for v, n in sorted(counts.items())) or "no input", highlight=False
    )
    if path is not None and out is not None:
        written = f"records: {path}" + (f", report: {out / 'report.html'}" if made else "")
        console.print(written, highlight=False, soft_wrap=True, markup=False)
    if total == counts.get("not_applicable", 0):
        raise PixelsleuthError(f"none of the {total} inputs could be judged; the records say why")
    if fail_on_anomaly and counts.get("anomalous"):
        raise typer.Exit(1)


def _told(finding: Finding) -> str:
    """One line for the terminal: what was judged, the verdict and what it rests on."""
    name = "".join(c if c.isprintable() else "?" for c in Path(finding.path).name)
    verdict = finding.verdict.replace("_", " ")
    if finding.p_value is None:
        return f"{name}: {verdict}, {finding.reason['sentence'] if finding.reason else 'no reason given'}"
    regions = len(finding.regions)
    where = f", {regions} region{'' if regions == 1 else 's'}" if regions else ""
    return f"{name}: {verdict}, p = {finding.p_value:.4f} where {finding.max_false_alarm:g} is anomalous{where}"


def _listed(inputs: list[str]) -> Iterator[str]:
    """Inputs in order: a folder gives its images and videos, `-` the lines of standard input."""
    from pixelsleuth.sources.inputs import find_inputs, kind_of

    for item in inputs:
        if item == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        elif Path(item).is_dir() and kind_of(item) != "volume":
            found = list(find_inputs(Path(item)))
            # A folder without any is an input like any other that cannot be judged: it gets a record.
            yield from map(str, found or [Path(item)])
        else:
            yield item


@app.command()
def evaluate(
    anomalous: Annotated[Path, typer.Option(help="Folder of anomalous images, videos or volumes, or a CSV.")],
    normal: Annotated[
        Path | None,
        typer.Option(help="The same, normal; a CSV has columns file,label. Of volumes with masks it may be left out."),
    ] = None,
    model: ModelOption = "faces",
    masks: Annotated[Path | None, typer.Option(help="Folder of masks of the anomalous images.")] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="METRICS.json", help="Of volumes: an evaluation whose best thresholds give the DSC here."),
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="CSV with columns fake,real.")] = None,
    out: OutOption = None,
    split: Annotated[str, typer.Option(help="Only videos of this split, as their tree tells it.")] = "",
    not_near: Annotated[
        Path | None,
        typer.Option(metavar="STORE.h5", help="Leave out normal near-duplicates of this store's training pictures."),
    ] = None,
    match_sharpness: Annotated[
        bool, typer.Option("--match-sharpness", help="Blur each pair to its softer image.")
    ] = False,
    heatmap: Annotated[bool, typer.Option("--heatmap/--no-heatmap", help="Also measure maps.")] = True,
    text_pairs: Annotated[
        int, typer.Option(help="Pairs on which the text's own map is measured; about 1 s each.", min=0)
    ] = 50,
) -> None:
    """Measure a model: AUROC, AP, TPR at low false alarms, pixel metrics, the shortcut audit, with intervals."""
    from pixelsleuth.detector import Detector

    detector = Detector.load(model)
    if detector.scanner is not None:
        _evaluate_volumes(detector, normal, anomalous, masks, thresholds, text_pairs > 0, out)
        return
    if normal is None:
        raise PixelsleuthError("--normal: expected a folder of normal images; only with volumes it may be left out")
    from pixelsleuth.evaluation.protocol import evaluate as run
    from pixelsleuth.files import write_text
    from pixelsleuth.reporting.evaluated import save_figures, show

    with _bar() as bar:
        task = bar.add_task("scoring", total=None)
        result = run(
            detector, normal, anomalous, masks=masks, pairs=pairs, split=split, not_near=not_near,
            match_sharpness=match_sharpness, maps=heatmap, text_pairs=text_pairs,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    if out is not None:
        result.metrics["command"] = "pixelsleuth " + shlex.join(sys.argv[1:])
        write_text(out / "metrics.json", json.dumps(result.metrics, indent=1, allow_nan=False, default=str) + "\n")
        save_figures(result, out)
    show(result.metrics, Console())


def _evaluate_volumes(
    detector: Any, normal: Path | None, anomalous: Path, masks: Path | None, thresholds: Path | None, text: bool,
    out: Path | None,
) -> None:  # fmt: skip
    from pixelsleuth.evaluation.volumes import evaluate_volumes as run
    from pixelsleuth.files import write_text
    from pixelsleuth.reporting.scans import save_volume_figures, show_volumes

    levels: dict[str, float] = {}
    if thresholds is not None:
        try:
            levels = json.loads(thresholds.read_text(encoding="utf-8"))["thresholds"]
        except (OSError, ValueError, KeyError) as error:
            raise PixelsleuthError(f"--thresholds {thresholds}: not the metrics.json of volumes ({error})") from error
    with _bar() as bar:
        task = bar.add_task("scoring", total=None)
        result = run(
            detector, normal, anomalous, masks=masks, thresholds=levels, text=text,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    if out is not None:
        result.metrics["command"] = "pixelsleuth " + shlex.join(sys.argv[1:])
        write_text(out / "metrics.json", json.dumps(result.metrics, indent=1, default=str) + "\n")
        save_volume_figures(result, out)
    show_volumes(result.metrics, Console())


@app.command()
def mood(
    folder: Annotated[Path, typer.Option("-i", "--input", help="Folder of NIfTI volumes.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder for what is written, one file a volume.")],
    model: Annotated[str, typer.Option("--model", help="A folder or a Hugging Face Hub id.")],
    mode: Annotated[Mode, typer.Option(help="One number a volume, or one map.")] = Mode.pixel,
) -> None:
    """Judge volumes as MOOD's containers are called: NAME.txt with a number in [0, 1], or NAME with a map in [0, 1]."""
    from pixelsleuth.detector import Detector
    from pixelsleuth.sources.volumes import is_volume
    from pixelsleuth.submission import write_pixels, write_sample

    detector = Detector.load(model)
    if detector.scanner is None:
        raise PixelsleuthError(f"--model {model}: expected a model for volumes, got one for pictures")
    paths = sorted(path for path in folder.iterdir() if is_volume(path)) if folder.is_dir() else []
    if not paths:
        raise PixelsleuthError(f"-i {folder}: expected a folder of .nii or .nii.gz volumes, found none")
    write = write_sample if mode is Mode.sample else write_pixels
    refused = [reason for path in paths if (reason := write(detector.scanner, path, out))]
    for reason in refused:
        console.print(reason, highlight=False, markup=False, soft_wrap=True)
    if len(refused) == len(paths):
        raise PixelsleuthError(f"none of the {len(paths)} volumes could be judged")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; other than this machine's own needs --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 8000,
    model: ModelOption = "faces",
    max_false_alarm: Annotated[float, typer.Option(help="Share of normal images that may be called anomalous.")] = 0.05,
    token: Annotated[str, typer.Option(help="What callers of the API must send as a bearer token.")] = "",
    max_upload: Annotated[int, typer.Option(help="Most bytes of one upload.", min=1)] = 100_000_000,
) -> None:
    """Serve the web page and the REST API; nothing is stored."""
    import ipaddress

    local = host == "localhost"
    with contextlib.suppress(ValueError):
        local = local or ipaddress.ip_address(host).is_loopback
    if not local and not token:
        raise PixelsleuthError(f"--host {host}: others could reach it; give --token TEXT, or listen at 127.0.0.1")
    try:
        import uvicorn

        from pixelsleuth.web.app import application
    except ImportError as error:
        raise PixelsleuthError(f"serve needs {error.name}; run `pip install 'pixelsleuth[web]'`") from error
    from pixelsleuth.detector import Detector

    app = application(Detector.load(model), model, rate=max_false_alarm, most_bytes=max_upload, token=token)
    console.print(f"http://{host}:{port}  (Ctrl-C stops it)", highlight=False)
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_keep_alive=10)


@app.command()
def benchmark(
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures.")] = None,
    images: Annotated[int, typer.Option(help="Pictures of the long run of detection.", min=64)] = 1000,
    direct: Annotated[
        bool, typer.Option("--direct/--no-direct", help="Run the direct restoration too, which takes minutes.")
    ] = True,
) -> None:
    """Measure speed on this machine: training step, codes, likelihood, restoration, whole detection."""
    import torch

    from pixelsleuth.benchmark.workloads import Benchmark, ratios

    say = lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True)  # noqa: E731
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = Benchmark(device, images, direct, say)
    made.run()
    if json_file is not None:
        made.save(json_file)
    table = Table(title="pixelsleuth benchmark")
    for column in ("what", "images/s", "CPU s an image", "peak MB", "of matmul rate"):
        table.add_column(column, justify="left" if column == "what" else "right", no_wrap=True)
    for name, found in made.found.items():
        share = found.settings.get("share_of_matmul_rate")
        table.add_row(
            name, f"{found.images_per_second:,.4g}", f"{found.cpu_seconds_per_image:.4g}", f"{found.peak_mb:,.0f}",
            "" if share is None else f"{share:.0%}",
        )  # fmt: skip
    for name, times in ratios(made.found):
        table.add_row(name, f"{times:,.4g} times", "", "", "")
    # A narrow terminal, or none, would cut names off.
    Console(width=max(console.width, 140)).print(table)


@app.command()
def info(model: Annotated[str, typer.Argument(metavar="MODEL")] = "faces") -> None:
    """Print a model's card: data, settings, calibration, licence of the weights, SHA-256."""
    from pixelsleuth.detector import find_model
    from pixelsleuth.reporting.card import card_of

    folder, _ = find_model(model)
    print(card_of(folder))
