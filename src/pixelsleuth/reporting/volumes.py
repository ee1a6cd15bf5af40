"""The output of `evaluate` for volumes: tables on the terminal, images of slices in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from pixelsleuth.evaluation.samples import Evaluation, ScoredSample
from pixelsleuth.evaluation.scored import FILE, scored_of, write_scored
from pixelsleuth.reporting.curves import shown
from pixelsleuth.reporting.figures import save_figure
from pixelsleuth.reporting.tables import print_table
from pixelsleuth.scoring.settings import MAP_SCORE


def show_volumes(metrics: dict[str, Any], console: Console) -> None:
    """Print the metrics as tables."""
    console.print(
        f"{metrics['n_volumes']} volumes; {metrics['n_normal']:,} normal, {metrics['n_anomalous']:,} anomalous "
        f"{metrics['unit']}s", highlight=False,
    )  # fmt: skip
    columns = ("auroc", "ap", "tpr_at_fpr_0.05")
    first = metrics["default_score"]
    order = lambda item: (item[0] != first, item[0].startswith("baseline_"), item[0])  # noqa: E731
    print_table(
        console, f"{metrics['unit']} scores (first: default)", columns, sorted(metrics["scores"].items(), key=order)
    )
    if "slices" in metrics:
        matched = {
            name: {**values, "level_matched": metrics["slices"]["level_matched"][name]}
            for name, values in metrics["slices"]["scores"].items()
        }
        print_table(console, "slices", ("auroc", "ap", "level_matched"), sorted(matched.items(), key=order))
    if "pixel" not in metrics:
        return
    first = metrics["default_map"]
    title = f"maps, {metrics['n_masked']} volumes with a mask, prevalence {metrics['pixel_prevalence']:.2%}"
    print_table(console, title, ("auroc", "ap", "dsc", "dsc_best"), sorted(metrics["pixel"].items(), key=order))
    for name, values in metrics["differences"].items():
        text = ", ".join(f"{key} {v[0]:+.3f} [{v[1]:+.3f}, {v[2]:+.3f}]" for key, v in values.items())
        console.print(f"{first} minus {name}: {text}", highlight=False)
    lesions = metrics["lesions"]
    froc = ", ".join(f"{k}: {v[0]:.2f}" for k, v in lesions["sensitivity_at_false_findings"].items())
    console.print(
        f"{lesions['n']} lesions: F1 {shown(lesions['f1'])} (best {lesions['f1_best'][0]:.3f}); "
        f"sensitivity at false findings {froc}",
        highlight=False,
    )
    for name, row in metrics["by_kind"].items():
        best = max((k for k in row if k.startswith("baseline_")), key=lambda k: row[k]["ap"][0])
        sample = f", sample AUROC {shown(row['sample']['auroc'])}" if "sample" in row else ""
        console.print(
            f"{name} ({row['n']}, prevalence {row['prevalence']:.2%}): AP {shown(row[first]['ap'])}, DSC (best) "
            f"{row[first]['dsc_best'][0]:.3f}; {best} AP {shown(row[best]['ap'])}{sample}", highlight=False,
        )  # fmt: skip


def save_volume_figures(result: Evaluation, out: Path) -> None:
    """The table of scores; the slice with the largest lesion of a few volumes: slice, mask, restoration, map
    (*Deepfake CSI*, Figure 1)."""
    write_scored(scored_of(result), out / FILE)
    cases = [c for c in result.cases if c.slices.pixels is not None and c.truth.any()]
    if cases:
        save_figure(slices_figure(cases, result.metrics["default_map"]), out / "slices.png")


def slices_figure(cases: list[ScoredSample], name: str) -> Figure:
    """Rows of volumes, columns of slice, mask, restoration and map; of each the slice with the largest lesion, or the
    most unusual one."""
    figure = Figure(figsize=(8, 2.05 * len(cases)), layout="constrained")
    axes = np.atleast_2d(figure.subplots(len(cases), 4))
    top = max(float(np.quantile(c.maps[name].astype(np.float32), 0.999)) for c in cases)
    for row, case in zip(axes, cases, strict=True):
        k = int(np.argmax(case.truth.sum((1, 2)) if case.truth.any() else case.slices.scores[MAP_SCORE]))
        assert case.slices.pixels is not None
        row[0].imshow(case.slices.pixels[k], cmap="gray", vmin=0, vmax=255)
        row[0].set_ylabel(case.path.name.split(".")[0][:18], fontsize=6)
        row[1].imshow(case.slices.pixels[k], cmap="gray", vmin=0, vmax=255)
        if case.truth[k].any():
            row[1].contour(case.truth[k], [0.5], colors="#ff3b30", linewidths=1)
        if case.slices.restoration is not None:
            row[2].imshow(case.slices.restoration[k], cmap="gray", vmin=0, vmax=255)
        row[3].imshow(case.maps[name][k].astype(np.float32), cmap="inferno", vmin=0, vmax=top)
    for one, title in zip(axes[0], ("slice", "mask", "restoration", name.replace("_x_", " x ")), strict=True):
        one.set_title(title, fontsize=9)
    for one in axes.flat:
        one.set_xticks([])
        one.set_yticks([])
    return figure
