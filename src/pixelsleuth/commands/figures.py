"""`pixelsleuth figures`: one sub-command a kind of figure, because each kind is drawn from different inputs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pixelsleuth.commands.terminal import ModelOption, example_of
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.records import MAX_FALSE_ALARM

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Draw the figures of a paper, each into one PNG, PDF or SVG file.",
)

FileOption = Annotated[Path, typer.Option("--out", help="File that is written: .png, .pdf or .svg.")]
DpiOption = Annotated[int, typer.Option(help="Dots per inch of PNG, and of pictures in PDF.", min=40, max=1200)]
ScoredArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="SRC...",
        help="What `evaluate --out` wrote, or two findings.jsonl: of normal inputs, then of anomalous ones.",
    ),
]
ScoreOption = Annotated[
    list[str] | None, typer.Option("--score", help="Draw these scores; the default one and its rivals unless given.")
]
PairsOption = Annotated[
    Path | None, typer.Option(help="With two findings.jsonl: CSV with columns fake,real; bands are then by pair.")
]
PicturesArgument = Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Pictures, or folders of them.")]


@app.command(epilog=example_of("figures roc measured/ --out roc.png"))
def roc(
    sources: ScoredArgument,
    out: FileOption,
    score: ScoreOption = None,
    pairs: PairsOption = None,
    dpi: DpiOption = 200,
) -> None:
    """ROC curves with 95% bootstrap bands."""
    from pixelsleuth.reporting.curves import roc_figure

    _save(lambda: roc_figure(_scored(sources, pairs), score or ()), out, dpi)


@app.command(epilog=example_of("figures precision-recall measured/ --out pr.png"))
def precision_recall(
    sources: ScoredArgument,
    out: FileOption,
    score: ScoreOption = None,
    pairs: PairsOption = None,
    dpi: DpiOption = 200,
) -> None:
    """Precision-recall curves with 95% bootstrap bands."""
    from pixelsleuth.reporting.curves import precision_recall_figure

    _save(lambda: precision_recall_figure(_scored(sources, pairs), score or ()), out, dpi)


@app.command(epilog=example_of("figures histogram measured/ --out scores.png"))
def histogram(
    sources: ScoredArgument,
    out: FileOption,
    score: ScoreOption = None,
    pairs: PairsOption = None,
    dpi: DpiOption = 200,
) -> None:
    """Histograms of the scores of normal and of anomalous inputs."""
    from pixelsleuth.reporting.curves import histogram_figure

    _save(lambda: histogram_figure(_scored(sources, pairs), score or ()), out, dpi)


@app.command(epilog=example_of("figures robustness robust/robustness.json --out severity.png"))
def robustness(
    file: Annotated[Path, typer.Argument(metavar="ROBUSTNESS.json", help="What `pixelsleuth robustness` wrote.")],
    out: FileOption,
    metric: Annotated[str, typer.Option(help="auroc, ap, tpr_at_fpr_0.01 or tpr_at_fpr_0.05.")] = "auroc",
    score: ScoreOption = None,
    dpi: DpiOption = 200,
) -> None:
    """A metric against severity of each corruption, with 95% bands."""
    from pixelsleuth.reporting.curves import severity_figure

    path = file / "robustness.json" if file.is_dir() else file
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not {"unchanged", "corruptions", "default_score"} <= set(found):
            raise ValueError("a key is missing")
    except (OSError, ValueError, TypeError) as error:
        raise PixelsleuthError(f"{path}: not what `pixelsleuth robustness` wrote ({error})") from error
    _save(lambda: severity_figure(found, metric, score or ()), out, dpi)


@app.command(epilog=example_of("figures reconstructions photos/ --out seen.png"))
def reconstructions(
    inputs: PicturesArgument,
    out: FileOption,
    model: ModelOption = "faces",
    count: Annotated[int, typer.Option(help="Pictures, spread evenly over the inputs.", min=1)] = 8,
    dpi: DpiOption = 200,
) -> None:
    """Pictures above, their reconstructions below, with PSNR and SSIM."""
    from pixelsleuth.reporting.grids import reconstruction_figure, spread
    from pixelsleuth.walkthrough import reconstructed, squares_of

    def draw() -> Any:
        detector = _detector(model)
        squares = squares_of(detector, spread(_pictures(inputs), count))
        return reconstruction_figure(reconstructed(detector.model, squares))

    _save(draw, out, dpi)


@app.command(epilog=example_of("figures samples --out drawn.png"))
def samples(
    out: FileOption,
    model: ModelOption = "faces",
    prior: Annotated[
        list[str] | None, typer.Option(help="masked or pixelsnail; all the model has unless given.")
    ] = None,
    count: Annotated[int, typer.Option(help="Images of each prior.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the random draws.", min=0)] = 0,
    dpi: DpiOption = 200,
) -> None:
    """Images drawn from the priors from nothing."""
    from pixelsleuth.reporting.grids import samples_figure
    from pixelsleuth.walkthrough import sampled

    def draw() -> Any:
        networks = _detector(model).model
        return samples_figure({kind: sampled(networks, kind, count, seed) for kind in prior or networks.priors})

    _save(draw, out, dpi)


@app.command(epilog=example_of("figures examples photos/ --out examples.png"))
def examples(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SRC...", help="Folders of pictures, or stores: a row each.")
    ],
    out: FileOption,
    count: Annotated[int, typer.Option(help="Pictures a row, spread evenly.", min=1)] = 6,
    dpi: DpiOption = 200,
) -> None:
    """Pictures of data sets; a folder whose file names tell levels (Real-and-Fake-Face) gives a row a level."""
    from pixelsleuth.reporting.grids import examples as rows_of
    from pixelsleuth.reporting.grids import grid_figure

    _save(lambda: grid_figure(rows_of(sources, count)), out, dpi)


@app.command(epilog=example_of("figures frames clips.h5 --out frames.png"))
def frames(
    store: Annotated[Path, typer.Argument(metavar="STORE.h5", help="What `prepare videos` wrote.")],
    out: FileOption,
    dpi: DpiOption = 200,
) -> None:
    """How many videos have how many frames with a face."""
    from pixelsleuth.datasets.store import Store
    from pixelsleuth.reporting.timeline import frames_per_video

    def draw() -> Any:
        with Store(store) as opened:
            if "policy" not in opened.settings:
                raise PixelsleuthError(f"{store}: expected what `prepare videos` wrote, got a store of something else")
            return frames_per_video(opened)

    _save(draw, out, dpi)


@app.command(epilog=example_of("figures phase clip.mp4 --out phase.png"))
def phase(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="A row each.")],
    out: FileOption,
    size: Annotated[
        int, typer.Option(help="Side of the square cut from a frame, in pixels of the frame.", min=32)
    ] = 128,
    count: Annotated[int, typer.Option("--frames", help="Most frames of a video, evenly spaced.", min=2)] = 64,
    face: Annotated[bool, typer.Option("--face/--no-face", help="Around the face, or in the middle.")] = True,
    dpi: DpiOption = 200,
) -> None:
    """Mean frame and mean phase spectrum of the faces of videos."""
    from pixelsleuth.evaluation.phases import read_phases
    from pixelsleuth.reporting.phases import phase_figure

    _save(lambda: phase_figure(read_phases(videos, size, count, face)), out, dpi)


@app.command(epilog=example_of("figures mean-heatmap out/ --out ends.png"))
def mean_heatmap(
    findings: Annotated[
        Path, typer.Argument(metavar="FINDINGS", help="The folder that `detect --out` wrote, heatmaps included.")
    ],
    out: FileOption,
    count: Annotated[int, typer.Option(help="Images at each end.", min=1)] = 100,
    dpi: DpiOption = 200,
) -> None:
    """Mean heatmap of the most normal and of the most anomalous images."""
    from pixelsleuth.reporting.heatmaps import ends, ends_figure

    _save(lambda: ends_figure(*ends(findings, count)), out, dpi)


@app.command(epilog=example_of("figures restoration photo.jpg --out steps.png"))
def restoration(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Pictures, or volumes.")],
    out: Annotated[
        Path, typer.Option("--out", help="File that is written: .png, .pdf or .svg; a folder for several inputs.")
    ],
    model: ModelOption = "faces",
    prior: Annotated[
        str, typer.Option(help="For pictures: masked or pixelsnail; the default of the model unless given.")
    ] = "",
    slice_: Annotated[
        int | None,
        typer.Option("--slice", help="Slice of a volume, counted from the lowest; the most unusual one unless given."),
    ] = None,
    max_false_alarm: Annotated[
        float, typer.Option(help="Share of normal images that may be called anomalous.")
    ] = MAX_FALSE_ALARM,
    dpi: DpiOption = 200,
) -> None:
    """Input, codes and their surprise, restoration with and without resampling, residuals, map."""
    from pixelsleuth.reporting.restorations import steps_figure
    from pixelsleuth.walkthrough import story_of

    names = [f"{number:03d}_{source.name.split('.')[0]}.png" for number, source in enumerate(inputs)]
    files = [out] if len(inputs) == 1 else [out / name for name in names]
    _check(files[0])
    detector = _detector(model)
    for source, file in zip(inputs, files, strict=True):
        story = story_of(detector, source, max_false_alarm, prior, slice_)
        _save(partial(steps_figure, story), file, dpi)


@app.command(epilog=example_of("figures slices scans/ --model my_scans --out slices.png"))
def slices(
    volumes: Annotated[list[Path], typer.Argument(metavar="VOLUME...", help="Volumes, or folders of them.")],
    out: FileOption,
    model: Annotated[str, typer.Option("--model", help="A folder or a Hugging Face Hub id.")],
    masks: Annotated[
        Path | None, typer.Option(help="Folder of masks; a folder named mask beside the volumes' unless given.")
    ] = None,
    count: Annotated[int, typer.Option(help="Most volumes, spread evenly.", min=1)] = 4,
    dpi: DpiOption = 200,
) -> None:
    """Slice, mask, restoration and map of volumes."""
    from pixelsleuth.datasets.volume_preparation import find_volumes, mask_of
    from pixelsleuth.evaluation.volumes import pictured_case
    from pixelsleuth.reporting.grids import spread
    from pixelsleuth.reporting.volumes import slices_figure

    def draw() -> Any:
        detector = _detector(model)
        detector.check_takes("volumes")
        found = [
            (path, root if root.is_dir() else root.parent)
            for root in volumes
            for path in (find_volumes(root) if root.is_dir() else [root])
        ]
        if not found:
            raise PixelsleuthError(f"{volumes[0]}: expected volumes, found none")
        cases = [pictured_case(detector, path, mask_of(path, root, masks)) for path, root in spread(found, count)]
        return slices_figure(cases, detector.scorer.settings.default_map)

    _save(draw, out, dpi)


def _save(draw: Any, out: Path, dpi: int) -> None:
    """Draw and write; a name that cannot be written is reported before the drawing, which may take minutes."""
    from pixelsleuth.reporting.figures import save_figure

    _check(out)
    save_figure(draw(), out, dpi)
    print(out)


def _check(out: Path) -> None:
    from pixelsleuth.reporting.figures import check_format

    check_format(out)


def _scored(sources: list[Path], pairs: Path | None) -> Any:
    from pixelsleuth.evaluation.scored import read_scored, scored_from_findings

    if len(sources) == 1:
        if pairs is not None:
            raise PixelsleuthError("--pairs: expected with two findings.jsonl; what `evaluate` wrote knows its pairs")
        return read_scored(sources[0])
    if len(sources) != 2:
        raise PixelsleuthError(f"expected what `evaluate` wrote, or two findings.jsonl; got {len(sources)} paths")
    return scored_from_findings(sources[0], sources[1], pairs)


def _detector(model: str) -> Any:
    from pixelsleuth.detector import Detector

    return Detector.load(model)


def _pictures(inputs: Iterable[Path]) -> list[Path]:
    from pixelsleuth.sources.images import find_images

    return [path for item in inputs for path in (find_images(item) if item.is_dir() else [item])]
