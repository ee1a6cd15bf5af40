"""The output of `evaluate`: tables on the terminal, figures in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pixelsleuth.evaluation.groups import lines_of
from pixelsleuth.evaluation.samples import Evaluation
from pixelsleuth.evaluation.scored import FILE, scored_of, write_scored
from pixelsleuth.reporting.curves import histogram_figure, roc_figure, shown
from pixelsleuth.reporting.figures import save_figure


def show(metrics: dict[str, Any], console: Console) -> None:
    """Print the metrics as tables."""
    console.print(
        f"{metrics['n_normal']:,} normal, {metrics['n_anomalous']:,} anomalous "
        f"(without a face: {metrics['n_no_face']['normal']}, {metrics['n_no_face']['anomalous']})",
        highlight=False,
    )
    default = metrics["default_score"]
    rows = sorted(
        metrics["scores"].items(), key=lambda item: (item[0] != default, item[0].startswith("baseline_"), item[0])
    )
    columns = ("auroc", "ap", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05")
    print_table(console, "picture scores (first: default)", columns, rows)
    if "pixel" in metrics:
        of_pixels = ("auroc", "ap", "dsc", "dsc_best", "change_auroc", "partner_auroc")
        print_table(console, f"maps, {metrics['n_masked']} masks", of_pixels, list(metrics["pixel"].items()))
    if "pixel_left_out" in metrics:
        console.print(f"no figures of maps: {metrics['pixel_left_out']}", highlight=False)
    if metrics.get("n_pairs_left_out"):
        console.print(
            f"{metrics['n_pairs']:,} pairs; {metrics['n_pairs_left_out']:,} left out, a file of which is missing, "
            "cannot be read or was not to be judged",
            highlight=False,
        )
    if "paired_accuracy" in metrics:
        console.print(f"paired accuracy {shown(metrics['paired_accuracy'])}", highlight=False)
    if metrics["blur_rank_correlation"] is not None:
        console.print(f"rank correlation with blur {metrics['blur_rank_correlation']}", highlight=False)
    for rate, seen in metrics["false_alarm"].items():
        band = metrics["promised_band"][rate]
        console.print(f"false alarms at {rate}: {seen[0]:.4f}, promised band [{band[0]}, {band[1]}]", highlight=False)
    for line in lines_of(metrics.get("groups", {})):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for name, value in metrics["null_controls"].items():
        console.print(f"null control {name}: {shown(value)}", highlight=False)
    console.print("shortcuts: " + ", ".join(f"{k} {v:.3f}" for k, v in metrics["shortcuts"].items()), highlight=False)
    for name, of_videos in metrics.get("videos", {}).items():
        rows = [(level, of_videos[level]) for level in ("frames", "videos", "videos_median", "videos_top_quarter")]
        title = f"videos, {name}: {of_videos['n_normal']} normal, {of_videos['n_anomalous']} anomalous"
        print_table(console, title, columns, rows)
    for level, value in metrics.get("levels", {}).items():
        console.print(f"level {level} ({value['n']}): AUROC {shown(value['auroc'])}", highlight=False)
    if "hottest_part_is_altered" in metrics:
        share, chance = shown(metrics["hottest_part_is_altered"]), metrics["hottest_part_chance"]
        console.print(f"hottest part is an altered one: {share}, by chance {chance}", highlight=False)


def print_table(console: Console, title: str, columns: tuple[str, ...], rows: list[tuple[str, dict[str, Any]]]) -> None:
    table = Table(title=title)
    table.add_column("name", no_wrap=True)
    for column in columns:
        table.add_column(column.replace("tpr_at_fpr_", "TPR@"), no_wrap=True)
    for name, values in rows:
        table.add_row(name, *(shown(values[c]) if c in values else "" for c in columns))
    # A narrow terminal, or none, would cut names and intervals off.
    Console(file=console.file, width=max(console.width, 170)).print(table)


def save_figures(result: Evaluation, out: Path) -> None:
    """The table of scores; ROC curves of the default score and its rivals, and the default score's distributions."""
    table = scored_of(result)
    write_scored(table, out / FILE)
    save_figure(roc_figure(table), out / "roc.png")
    save_figure(histogram_figure(table), out / "scores.png")


def show_robustness(found: dict[str, Any], console: Console) -> None:
    """Print the default score's metrics and the false alarms at 5% by corruption and severity."""
    default = found["default_score"]
    columns = ("auroc", "ap", "tpr_at_fpr_0.05", "false_alarm_at_0.05")

    def row(name: str, scores: dict[str, Any], alarms: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return name, scores[default] | {"false_alarm_at_0.05": alarms["0.05"]}

    plain = found["unchanged"]
    rows = [row("unchanged", plain["scores"], plain["false_alarm"])]
    for kind, one in found["corruptions"].items():
        rows += [
            row(f"{kind} {severity:g}", scores, alarms)
            for severity, scores, alarms in zip(one["severities"], one["scores"], one["false_alarm"], strict=True)
        ]
    title = f"{default}, {found['n_normal']:,} normal, {found['n_anomalous']:,} anomalous"
    print_table(console, title, columns, rows)
    if found.get("n_too_large"):
        console.print(f"left out: {found['n_too_large']:,}, larger than a format here can hold", highlight=False)
    if found.get("n_unreadable"):
        console.print(f"left out: {found['n_unreadable']:,}, videos or files that cannot be read", highlight=False)
