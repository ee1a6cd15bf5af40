"""What `evaluate` shows: tables on the terminal, figures in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_curve

from pixelsleuth.evaluation.protocol import Evaluation
from pixelsleuth.reporting.figures import roc_figure, save_figure, two_histograms


def show(metrics: dict[str, Any], console: Console) -> None:
    """Prints the metrics as tables."""
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
    table(console, "picture scores (first: default)", columns, rows)
    if "pixel" in metrics:
        of_pixels = ("auroc", "ap", "dsc", "dsc_best", "change_auroc", "partner_auroc")
        table(console, f"maps, {metrics['n_masked']} masks", of_pixels, list(metrics["pixel"].items()))
    if "paired_accuracy" in metrics:
        console.print(f"paired accuracy {shown(metrics['paired_accuracy'])}", highlight=False)
    console.print(f"rank correlation with blur {metrics['blur_rank_correlation']}", highlight=False)
    for rate, seen in metrics["false_alarm"].items():
        band = metrics["promised_band"][rate]
        console.print(f"false alarms at {rate}: {seen[0]:.4f}, promised band [{band[0]}, {band[1]}]", highlight=False)
    for name, value in metrics["null_controls"].items():
        console.print(f"null control {name}: {shown(value)}", highlight=False)
    console.print("shortcuts: " + ", ".join(f"{k} {v:.3f}" for k, v in metrics["shortcuts"].items()), highlight=False)
    for name, of_videos in metrics.get("videos", {}).items():
        rows = [(level, of_videos[level]) for level in ("frames", "videos", "videos_median", "videos_top_quarter")]
        title = f"videos, {name}: {of_videos['n_normal']} normal, {of_videos['n_anomalous']} anomalous"
        table(console, title, columns, rows)
    for level, value in metrics.get("levels", {}).items():
        console.print(f"level {level} ({value['n']}): AUROC {shown(value['auroc'])}", highlight=False)
    if "hottest_part_is_altered" in metrics:
        share, chance = shown(metrics["hottest_part_is_altered"]), metrics["hottest_part_chance"]
        console.print(f"hottest part is an altered one: {share}, by chance {chance}", highlight=False)


def table(console: Console, title: str, columns: tuple[str, ...], rows: list[tuple[str, dict[str, Any]]]) -> None:
    table = Table(title=title)
    table.add_column("name", no_wrap=True)
    for column in columns:
        table.add_column(column.replace("tpr_at_fpr_", "TPR@"), no_wrap=True)
    for name, values in rows:
        table.add_row(name, *(shown(values[c]) if c in values else "" for c in columns))
    # A narrow terminal, or none, would cut names and intervals off.
    Console(file=console.file, width=max(console.width, 170)).print(table)


def shown(value: list[float]) -> str:
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def save_figures(result: Evaluation, out: Path) -> None:
    """ROC curves of the default score and its rivals, and the default score's distributions."""
    labels = np.array([case.anomalous for case in result.cases])
    default = result.metrics["default_score"]
    names = dict.fromkeys([default, "text_tail_sum"])
    curves = {}
    for name in names:
        if name in result.cases[0].finding.scores:
            values = np.array([case.finding.scores[name] for case in result.cases])
            curves[f"{name} ({result.metrics['scores'][name]['auroc'][0]:.3f})"] = roc_curve(labels, values)[:2]
    blur = np.array([case.probe.blur for case in result.cases])
    curves[f"baseline_blur ({result.metrics['scores']['baseline_blur']['auroc'][0]:.3f})"] = roc_curve(labels, blur)[:2]
    save_figure(roc_figure(curves, "ROC"), out / "roc.png")
    values = np.array([case.finding.scores[default] for case in result.cases])
    save_figure(two_histograms(values[~labels], values[labels], default), out / "scores.png")
