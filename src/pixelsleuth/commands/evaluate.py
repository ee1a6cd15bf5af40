"""`pixelsleuth evaluate`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pixelsleuth.commands.terminal import OutOption, bar, check_there, hold, say_shared
from pixelsleuth.errors import PixelsleuthError

#: Options that count with a protocol, and those that count for nothing with a model, by what it takes.
_WITH_PROTOCOL = frozenset({"protocol", "data", "model", "out"})
_NOT_FOR = {
    "images": frozenset({"thresholds"}),
    "volumes": frozenset(
        {
            "pairs", "groups", "card", "split", "not_near", "match_sharpness", "heatmap", "compare",
            "compare_normals", "compare_images",
        }
    ),
}  # fmt: skip


def evaluate(
    context: typer.Context,
    anomalous: Annotated[
        Path | None,
        typer.Option(help="Folder of anomalous images, videos or volumes, or a CSV."),
    ] = None,
    normal: Annotated[
        Path | None,
        typer.Option(
            help="The same, normal; a CSV has columns file,label. With masks of volumes it may be left out.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A folder, a bundled name or a Hub id; faces, or the protocol's own, unless given.",
        ),
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of masks of the anomalous images.")] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="METRICS.json", help="For volumes: an evaluation whose best thresholds give DSC and F1 here."
        ),
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="CSV with columns fake,real.")] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Columns path and one a grouping (age, sex): false alarms group by group, by source, face size and "
            "sharpness too.",
        ),
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="With --groups: put the tables into the model's card, too.")
    ] = False,
    out: OutOption = None,
    split: Annotated[str, typer.Option(help="Only videos of this split, as their folder tree says.")] = "",
    not_near: Annotated[
        Path | None,
        typer.Option(metavar="STORE.h5", help="Leave out normal near-duplicates of this store's training pictures."),
    ] = None,
    match_sharpness: Annotated[
        bool, typer.Option("--match-sharpness", help="Blur each pair to its softer image.")
    ] = False,
    heatmap: Annotated[bool, typer.Option("--heatmap/--no-heatmap", help="Also measure maps.")] = True,
    text_pairs: Annotated[
        int, typer.Option(help="Pairs on which Marimont & Tarroni's map is measured; about 1 s each.", min=0)
    ] = 50,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In place of folders: what a named protocol says; `list` names them all."),
    ] = None,
    data: Annotated[
        Path, typer.Option(metavar="ROOT", help="With --protocol: the folder that holds the data sets.")
    ] = Path("data"),
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME...",
            help="Baselines on the same images: vae, spectrum, padim, patchcore, padim_detective, error_level, "
            "jpeg_ghost, noise_residual, monai_transformer, a model folder; supervised_patches and "
            "supervised_attention see forgeries.",
        ),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Further names of --compare.")] = None,
    compare_normals: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE.h5",
            help="Store or folder of normal images that baselines are fitted on; by default cross-fitted on the "
            "normal images that are judged.",
        ),
    ] = None,
    compare_images: Annotated[int, typer.Option(help="Normal images that baselines are fitted on.", min=2)] = 2000,
) -> None:
    """Measure a model: AUROC, AP, TPR at low false alarms, pixel metrics, the shortcut audit, with intervals."""
    if more and not compare:
        raise PixelsleuthError(f"got unexpected argument {more[0]!r}; names of baselines follow --compare")
    given = _given(context)
    _check_given(given, protocol is not None)
    if protocol is not None:
        hold(context, out)
        _by_protocol(protocol, data, model, out)
        return
    if anomalous is None:
        raise PixelsleuthError("--anomalous: expected a folder of anomalous images, or --protocol NAME")
    if card and (groups is None or not (Path(model or "faces") / "config.json").is_file()):
        raise PixelsleuthError("--card needs --groups, and --model a folder of your own: its card is written anew")
    if masks is not None:
        _refuse(given & {"match_sharpness", "heatmap"}, "--masks is what maps are measured by")
    check_there(normal=normal, anomalous=anomalous, masks=masks, pairs=pairs, not_near=not_near)
    say_shared(normal, anomalous)
    hold(context, out)
    from pixelsleuth.detector import Detector

    detector = Detector.load(model or "faces")
    _refuse(given & _NOT_FOR[detector.takes], f"{detector.name} is a model for {detector.takes}")
    if detector.takes == "volumes":
        _evaluate_volumes(detector, normal, anomalous, masks, thresholds, text_pairs > 0, out)
        return
    if normal is None:
        raise PixelsleuthError("--normal: expected a folder of normal images; only with volumes it may be left out")
    from pixelsleuth.evaluation.comparison import Baselines
    from pixelsleuth.evaluation.protocol import evaluate as run
    from pixelsleuth.files import write_text
    from pixelsleuth.reporting.tables import save_figures, show

    with bar() as shown:
        task = shown.add_task("scoring", total=None)
        result = run(
            detector, normal, anomalous, masks=masks, pairs=pairs, split=split, not_near=not_near,
            match_sharpness=match_sharpness, maps=heatmap, text_pairs=text_pairs, groups=groups,
            baselines=Baselines((*compare, *(more or ())), compare_normals, compare_images) if compare else None,
            progress=lambda done, total: shown.update(task, completed=done, total=total),
        )  # fmt: skip
    if out is not None:
        result.metrics["command"] = "pixelsleuth " + shlex.join(sys.argv[1:])
        write_text(out / "metrics.json", json.dumps(result.metrics, indent=1, allow_nan=False, default=str) + "\n")
        save_figures(result, out)
    if card:
        _into_card(Path(model or "faces"), result.metrics)
    show(result.metrics, Console())


def _given(context: typer.Context) -> set[str]:
    """The options that were given on the command line, not by their defaults; --heatmap is one."""
    sources = {name: context.get_parameter_source(name) for name in context.params if name != "more"}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    return given - {"heatmap"} if context.params["heatmap"] else given


def _check_given(given: set[str], by_protocol: bool) -> None:
    """Raise PixelsleuthError where an option would count for nothing, whatever the model."""
    if by_protocol:
        _refuse(given - _WITH_PROTOCOL, "--protocol says which data are judged, and how")
    elif "data" in given:
        raise PixelsleuthError("--data goes with --protocol: the folder that holds its data sets")
    if "compare" not in given:
        _refuse(given & {"compare_normals", "compare_images"}, "there is no --compare NAME")


def _refuse(given: set[str], why: str) -> None:
    """Raise PixelsleuthError where any of these options was given: what counts for nothing must not look as if it
    did."""
    if given:
        shown = sorted("--no-heatmap" if name == "heatmap" else f"--{name.replace('_', '-')}" for name in given)
        raise PixelsleuthError(f"{why}; leave {', '.join(shown)} out")


def _into_card(folder: Path, metrics: dict[str, Any]) -> None:
    """Keep the groups in the model's folder, and write its card anew."""
    from pixelsleuth.reporting.card import save_groups, write_card

    save_groups(folder, metrics["groups"], metrics["data_sha256"])
    write_card(folder)


def _evaluate_volumes(
    detector: Any, normal: Path | None, anomalous: Path, masks: Path | None, thresholds: Path | None, text: bool,
    out: Path | None,
) -> None:  # fmt: skip
    from pixelsleuth.evaluation.volumes import evaluate_volumes as run
    from pixelsleuth.files import write_text
    from pixelsleuth.reporting.volumes import save_volume_figures, show_volumes

    levels: dict[str, float] = {}
    peak = None
    if thresholds is not None:
        try:
            chosen = json.loads(thresholds.read_text(encoding="utf-8"))
            levels, peak = chosen["thresholds"], chosen["peak"]
        except (OSError, ValueError, KeyError) as error:
            raise PixelsleuthError(f"--thresholds {thresholds}: not the metrics.json of volumes ({error})") from error
    with bar() as shown:
        task = shown.add_task("scoring", total=None)
        result = run(
            detector, normal, anomalous, masks=masks, thresholds=levels, peak=peak, text=text,
            progress=lambda done, total: shown.update(task, completed=done, total=total),
        )  # fmt: skip
    if out is not None:
        result.metrics["command"] = "pixelsleuth " + shlex.join(sys.argv[1:])
        write_text(out / "metrics.json", json.dumps(result.metrics, indent=1, default=str) + "\n")
        save_volume_figures(result, out)
    show_volumes(result.metrics, Console())


def _by_protocol(name: str, root: Path, model: str | None, out: Path | None) -> None:
    from pixelsleuth.evaluation.protocols import load_protocol, names, run_protocol
    from pixelsleuth.files import write_text
    from pixelsleuth.reporting.protocols import show_protocol, show_protocols

    if name == "list":
        show_protocols([load_protocol(one) for one in names()], Console())
        return
    chosen = load_protocol(name)
    with bar() as shown:
        task = shown.add_task("scoring", total=None)
        found = run_protocol(
            chosen, root, model, progress=lambda done, total: shown.update(task, completed=done, total=total)
        )
    if out is not None:
        write_text(out / "metrics.json", json.dumps(found, indent=1, allow_nan=False, default=str) + "\n")
    show_protocol(chosen, found["protocol"], Console())
