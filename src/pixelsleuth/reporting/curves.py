"""Curves of an evaluation: ROC, precision and recall, histograms of scores, metrics against severity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.curves import Curve, precision_recall_curve, roc_curve
from pixelsleuth.evaluation.metrics import Interval
from pixelsleuth.evaluation.scored import Scored
from pixelsleuth.reporting.figures import COLOURS

#: Curves that are drawn unless others are asked for, where the table has them.
RIVALS = ("text_tail_sum", "baseline_blur")
_LINES = ("-", "--", "-.", ":")


def drawn_scores(table: Scored, names: Sequence[str]) -> list[str]:
    """The scores to draw: those asked for, or the default and its rivals."""
    return list(names) or [next(iter(table.scores)), *(n for n in RIVALS if n in list(table.scores)[1:])]


def roc_figure(table: Scored, names: Sequence[str] = ()) -> Figure:
    """ROC curves with 95% bands; AUROC and interval in the legend."""
    figure = Figure(figsize=(4.6, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=0.8)
    for number, name in enumerate(drawn_scores(table, names)):
        _draw(axes, roc_curve(table.counts(name)), name, number, "default")
    axes.set(xlabel="false-alarm rate", ylabel="true-positive rate", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    _named(axes, "AUROC", "lower right")
    axes.set_title(_numbers(table), fontsize=9)
    return figure


def precision_recall_figure(table: Scored, names: Sequence[str] = ()) -> Figure:
    """Precision over recall with 95% bands; AP and interval in the legend, the share of anomalous inputs as a line."""
    figure = Figure(figsize=(4.6, 4.5), layout="constrained")
    axes = figure.subplots()
    share = float(table.anomalous.mean())
    axes.axhline(share, color="0.75", linewidth=0.8)
    for number, name in enumerate(drawn_scores(table, names)):
        _draw(axes, precision_recall_curve(table.counts(name)), name, number, "steps-pre")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    _named(axes, "AP", "lower left" if share >= 0.4 else "upper right")
    axes.set_title(f"{_numbers(table)}; grey line: by chance", fontsize=9)
    return figure


def histogram_figure(table: Scored, names: Sequence[str] = ()) -> Figure:
    """Distributions of scores over normal and anomalous inputs, one panel a score."""
    chosen = list(names) or list(table.scores)[:1]
    figure = Figure(figsize=(4.6, 2.5 * len(chosen)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(chosen), 1))
    for axes, name in zip(panels, chosen, strict=True):
        area = roc_curve(table.counts(name)).area
        values = table.scores[name]
        # A few far away would squeeze all others into one bar; they count in the outermost.
        low, high = (float(v) for v in np.quantile(values, (0.002, 0.998)))
        bins = int(np.clip(2 * min((~table.anomalous).sum(), table.anomalous.sum()) ** (1 / 3), 12, 40))
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        for bad, label, colour in ((False, "normal", COLOURS[0]), (True, "anomalous", COLOURS[1])):
            chosen_values = np.clip(values[table.anomalous == bad], edges[0], edges[-1])
            weights = np.full(len(chosen_values), 1 / len(chosen_values))
            axes.hist(
                chosen_values, edges, weights=weights, alpha=0.5, color=colour, label=f"{label}, {len(weights):,}"
            )
            axes.hist(chosen_values, edges, weights=weights, histtype="step", color=colour, linewidth=1)
        axes.set(xlabel=f"{name}, AUROC {shown(area)}", ylabel="share of inputs")
        axes.legend(frameon=False, fontsize=8)
    return figure


def severity_figure(robustness: Mapping[str, Any], metric: str = "auroc", names: Sequence[str] = ()) -> Figure:
    """A metric against severity, one panel a kind of corruption, one line a score, 95% bands; the leftmost point is the
    inputs as they are.

    Args:
        robustness: what robustness.json holds.
        names: of scores; the default one and its rivals unless given.

    Raises:
        PixelsleuthError: a score or a metric that it does not hold.
    """
    kinds: Mapping[str, Any] = robustness["corruptions"]
    plain: Mapping[str, Any] = robustness["unchanged"]["scores"]
    chosen = list(names) or [robustness["default_score"], *(n for n in RIVALS if n in plain)]
    for name in chosen:
        if name not in plain:
            raise PixelsleuthError(f"expected one of {', '.join(plain)}; got {name!r}", "score")
        if metric not in plain[name]:
            raise PixelsleuthError(f"expected one of {', '.join(plain[name])}; got {metric!r}", "metric")
    columns = min(3, len(kinds))
    lines = -(-len(kinds) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.5 * lines + 0.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(lines, columns, sharey=True)).ravel()
    for axes, (kind, found) in zip(panels, kinds.items(), strict=False):
        places = np.arange(len(found["severities"]) + 1)
        for number, name in enumerate(chosen):
            values = [plain[name][metric], *(s[name][metric] for s in found["scores"])]
            middle, low, high = np.array(values, float).T
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(places, middle, marker="o", markersize=3, linewidth=1.2, color=colour, label=name,
                      linestyle=_LINES[number % len(_LINES)])  # fmt: skip
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xticks(places, ["as is", *(f"{s:g}" for s in found["severities"])], fontsize=7)
        axes.set_title(f"{kind}, {found['unit']}", fontsize=9)
        axes.tick_params(axis="y", labelsize=7)
        axes.axhline(0.5 if metric == "auroc" else 0, color="0.75", linewidth=0.8, zorder=0)
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    panels[0].set_ylabel(
        {"auroc": "AUROC", "ap": "AP"}.get(metric, metric.replace("tpr_at_fpr_", "TPR at false-alarm rate "))
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    return figure


def shown(value: Interval) -> str:
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def _draw(axes: Any, curve: Curve, name: str, number: int, steps: str) -> None:
    colour = COLOURS[number % len(COLOURS)]
    style = _LINES[number % len(_LINES)]
    axes.fill_between(curve.grid, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        curve.x, curve.y, style, color=colour, linewidth=1.4, drawstyle=steps, label=f"{name}  {shown(curve.area)}"
    )


def _named(axes: Any, title: str, place: str) -> None:
    legend = axes.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=7, loc=place, title=f"{title} [95%]")
    legend.get_title().set_fontsize(7)


def _numbers(table: Scored) -> str:
    by = ", bands by pair" if table.paired else ""
    return f"{int((~table.anomalous).sum()):,} normal, {int(table.anomalous.sum()):,} anomalous{by}"
