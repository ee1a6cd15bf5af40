"""The tables and figures of docs/results/field.md and docs/results/studies.md, from results/studies/*.json.

    python experiments/tools/studies_pages.py            # fill the marked blocks, draw the figures
    python experiments/tools/studies_pages.py --check    # change nothing, exit 1 if a page does not match

A block stands between `<!-- studies:NAME -->` and `<!-- /studies -->`; of a study without a file the page says so.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.tools.results_pages import Tree, interval, load, number, refilled
from pixelsleuth.reporting.figures import save_figure

ROOT = Path(__file__).parents[2]
PAGES = ("docs/results/field.md", "docs/results/studies.md")
BLOCK = re.compile(r"(<!-- studies:([\w-]+) -->\n).*?(<!-- /studies -->)", re.S)
DRAWN = "docs/images/studies"
KINDS = {
    "swapped": "whole face swapped (DFDC)",
    "feature_swapped": "feature pasted, colours matched",
    "copy_move": "copy-move",
    "drawn": "drawn from the own prior",
}
#: A sweep's name -> the question that it answers, as its heading says it.
SWEEPS = {
    "base": "What small networks tell, by kind of forgery",
    "codebook": "Codebook: size K and dimension D (question 1)",
    "resolution": "Resolution and grid (question 5)",
    "normals": "Number of normal images",
    "sources": "Number of sources",
    "orderings": "Order in which codes are read",
    "balance": "Balance of sources (question 2)",
}
#: Kinds of the compared sets, in the order of their columns.
ORDER = ("all", "easy", "mid", "hard", "swap_unmatched", "swap_matched", "copy_move")
LEVELS = ("all", "easy", "mid", "hard")
#: The score that a sweep's table shows: NLL - entropy of PixelSNAIL, which complexity confounds least.
TABLE_SCORE = "pixelsnail_nll_minus_entropy"
METHODS = {
    "ours": "**this program (default)**",
    "both_tracks": "this program, both tracks, not levelled",
    "combined": "this program, codes alone",
    "detective_views": "this program, detective alone",
    "text_tail_sum": "Marimont & Tarroni's score, our PixelSNAIL",
    "pixelsnail_mean_nll": "mean NLL, our PixelSNAIL",
    "masked_mean_nll": "mean NLL, our masked prior",
    "padim": "PaDiM, ImageNet's features",
    "padim_detective": "PaDiM, our detective's features",
    "patchcore": "PatchCore, ImageNet's features",
    "vae_residual": "plain VAE, residual",
    "vae_elbo": "plain VAE, bound on the likelihood",
    "monai_tail_sum": "MONAI's VQ-VAE and transformer, tail sum",
    "monai_mean_nll": "MONAI's VQ-VAE and transformer, mean NLL",
    "spectrum_power": "power spectrum",
    "spectrum_phase": "phase spectrum",
    "noise_residual": "noise residual",
    "error_level": "error level analysis",
    "jpeg_ghost": "JPEG ghosts",
    "supervised_patches": "*supervised*: patch classifier",
    "supervised_attention": "*supervised*: attention map",
    "blur": "blur alone",
    "jpeg_size": "size as a JPEG alone",
    "brightness": "brightness alone",
}


def comparison(tree: Tree, name: str) -> str:
    """One set's table: methods by AUROC over all, and each kind."""
    found = tree["sets"][name]
    kinds = [kind for kind in ORDER if kind in found["kinds"]]
    every = found["kinds"]["all"]
    ours = "ours" in every
    lines = [
        f"{found['n_normal']} untouched, {found['n_anomalous']} altered.",
        "",
        "| method | " + " | ".join("AUROC" if k == "all" else k.replace("_", " ") for k in kinds)
        + (" | ours minus it |" if ours else " |"),
        "| --- " * (len(kinds) + 1 + ours) + "|",
    ]  # fmt: skip
    for method in sorted(every, key=lambda m: -every[m]["auroc"][0]):
        cells = [interval(found["kinds"][kind][method]["auroc"]) for kind in kinds]
        if ours:
            cells.append("" if method == "ours" else interval(every[method]["ours_minus"]))
        lines.append(f"| {METHODS.get(method, method)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sweep(tree: Tree) -> str:
    """One study's table and its sentence."""
    lines = [
        "| run | " + " | ".join(KINDS.values()) + " | PSNR, dB | codes in use | CPU s |",
        "| --- " * (len(KINDS) + 4) + "|",
    ]
    told: dict[str, list[str]] = {"better": [], "worse": []}
    for run, about in tree["runs"].items():
        cells = []
        for kind, words in KINDS.items():
            found = about["auroc"][kind].get(TABLE_SCORE)
            cells.append(interval(found["auroc"]) if found else "")
            low, high = (found or {}).get("difference", [0, -1, 1])[1:]
            if low > 0 or high < 0:
                told["better" if low > 0 else "worse"].append(f"{run} on *{words}* ({interval(found['difference'])})")
        lines.append(
            f"| {run} | " + " | ".join(cells)
            + f" | {about['psnr']:.1f} | {about['codes_used']:.0%} | {about['cpu_seconds']:.0f} |"
        )  # fmt: skip
    lines += ["", sentence(told, len(tree["runs"]))]
    if tree["not_run"]:
        lines.append(f"Not run: {', '.join(tree['not_run'])}.")
    return "\n".join([*lines, "", f"Command: `{tree['command']}`"])


def sweeps(results: dict[str, Tree]) -> str:
    """A section for each sweep of which a run is finished; the others by name and command."""
    parts, waiting = [], []
    for name, heading in SWEEPS.items():
        runs = len(results[name]["runs"]) if name in results else 0
        if not runs:
            waiting.append(f"| {heading} | `python experiments/studies/sweep.py experiments/studies/{name}.yaml` |")
            continue
        parts.append(f"### {heading}\n\n{sweep(results[name])}")
        if runs > 1:
            parts.append(f"![AUROC by run: {heading}](../images/studies/{name}.svg)")
    if waiting:
        parts.append("\n".join(["**Not run yet:**", "", "| question | command |", "| --- | --- |", *waiting]))
    return "\n\n".join(parts)


def sentence(told: dict[str, list[str]], runs: int) -> str:
    """What differs from the first run by more than its interval."""
    if runs < 2:
        return ""
    parts = [f"{word.capitalize()} than the first run: {'; '.join(those)}." for word, those in told.items() if those]
    rest = "Every other interval of a difference holds 0." if parts else "Every interval of a difference holds 0."
    return " ".join([*parts, rest])


def supervised(tree: Tree) -> str:
    """Taught kinds in rows, tried kinds in columns."""
    blocks = []
    for network, rows in tree["networks"].items():
        if not rows:
            continue
        tried = list(next(iter(rows.values()))["auroc"])
        lines = [
            f"**{METHODS[network].replace('*supervised*: ', '').capitalize()}**, taught on one kind a row:",
            "",
            "| taught | " + " | ".join(t.replace("_", " ") for t in tried) + " | CPU s |",
            "| --- " * (len(tried) + 2) + "|",
        ]
        for kind, about in rows.items():
            cells = [("**{}**" if name == kind else "{}").format(interval(about["auroc"][name])) for name in tried]
            lines.append(f"| {kind.replace('_', ' ')} | " + " | ".join(cells) + f" | {about['cpu_seconds']:.0f} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(
        [*blocks, f"Command: `python experiments/studies/supervised.py NORMALS.h5 --steps {tree['steps']}`"]
    )


def nll(tree: Tree) -> str:
    lines = ["| | precision | GFLOP an image | CPU ms an image | GFLOP/s |", "| --- | --- | --- | --- | --- |"]
    tails = []
    for precision, about in tree.items():
        for name, words in (("encode", "ours, codes"), ("prior", "ours, PixelSNAIL"), ("monai", "MONAI, both")):
            part = about["parts"][name]
            lines.append(f"| {words} | {precision} | {part['gflop_per_image']:.2f} | "
                         f"{1000 * part['cpu_seconds_per_image']:.1f} | {part['gflops']:.0f} |")  # fmt: skip
        rounds = ", ".join(f"{r:.2f}" for r in about["ratio_by_round"])
        tails.append(
            f"- {precision}: {about['ratio']:.2f} times as fast as MONAI's (by round {rounds}); at the same operations "
            f"a second it would be {about['ratio_at_equal_rate']:.2f} times."
        )
    return "\n".join([*lines, "", *tails, "", "Command: `python experiments/benchmarks/nll_floor.py`"])


def tables(tree: Tree) -> str:
    rows = tree["auroc"]
    lines = ["| of the file alone | " + " | ".join(LEVELS) + " |", "| --- " * 5 + "|"]
    for name, row in rows.items():
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(interval(row[level]) for level in LEVELS) + " |")
    return "\n".join([*lines, "", "Command: `python experiments/studies/jpeg_tables.py`"])


def restorations(tree: Tree) -> str:
    """A row a way to restore; the first is the model's."""
    lines = ["| | pixel AP | pixel AUROC | AP minus the first row's |", "| --- " * 4 + "|"]
    told: dict[str, list[str]] = {"better": [], "worse": []}
    for name, row in tree["runs"].items():
        low, high = row["difference"][1:]
        if low > 0 or high < 0:
            told["better" if low > 0 else "worse"].append(f"{name} ({interval(row['difference'])})")
        less = interval(row["difference"]) if len(lines) > 2 else ""
        cells = [interval(row["ap"]), interval(row["auroc"]), less]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    found = sentence(told, len(tree["runs"])).replace("the first run", "the first row")
    return "\n".join([*lines, "", found, "", "Command: `python experiments/studies/restorations.py`"])


#: Sets of the study of views.
VIEWS = {
    "ciplab": "CIPLAB", "hard": "of it hard", "dfdc": "DFDC's swaps", "swap_matched": "feature pasted, matched",
    "edits_large": "edits, large faces", "edits_small": "small faces",
}  # fmt: skip


def views(tree: Tree) -> str:
    """A row a way to score, AUROC by set and alarms on sources left out; what differs from today's is marked."""
    head = ["", *VIEWS.values(), "mean of kinds never taught", "left out: at 1%, 5%, 10%"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for way, row in tree["ways"].items():
        cells = []
        for name in VIEWS:
            low, high = row[name].get("difference", [0, -1, 1])[1:]
            mark = "**" if low > 0 or high < 0 else ""
            cells.append(f"{mark}{interval(row[name]['auroc'])}{mark}")
        alarms = ", ".join(f"{100 * share[0]:.1f}%" for share in row["alarms"].values())
        lines.append(f"| {way} | " + " | ".join([*cells, number(row["never_taught"]), alarms]) + " |")
    lines += ["", "In bold what differs from today's by a paired interval."]
    return "\n".join([*lines, "", "Command: `python experiments/studies/views.py --calibrate 150`"])


#: A block's name -> the study it needs, and what writes it.
BLOCKS: dict[str, tuple[str, Callable[[Tree], str]]] = {
    "compare-dfdc": ("compare", lambda tree: comparison(tree, "dfdc_test")),
    "compare-ciplab": ("compare", lambda tree: comparison(tree, "ciplab_val")),
    "compare-edits": ("compare", lambda tree: comparison(tree, "local_edits")),
    "jpeg-tables": ("jpeg_tables", tables),
    "nll": ("nll_floor", nll),
    "supervised": ("supervised", supervised),
    "restorations": ("restorations", restorations),
    "views": ("views", views),
}


def filled(text: str, results: dict[str, Tree]) -> str:
    def block(match: re.Match[str]) -> str:
        if match[2] == "sweeps":
            return f"{match[1]}\n{sweeps(results)}\n\n{match[3]}"
        needs, make = BLOCKS[match[2]]
        return f"{match[1]}\n{make(results[needs]) if needs in results else 'Not run yet.'}\n\n{match[3]}"

    return BLOCK.sub(block, text)


#: A panel's title -> the figure [value, low, high] of each run.
Panels = dict[str, dict[str, list[float]]]


def sweep_panels(tree: Tree) -> Panels:
    """AUROC by run, one panel a kind of forgery."""
    found = {words: {run: row["auroc"][kind].get(TABLE_SCORE) for run, row in tree["runs"].items()}
             for kind, words in KINDS.items()}  # fmt: skip
    return {words: {run: score["auroc"] for run, score in rows.items() if score} for words, rows in found.items()}


def supervised_panels(tree: Tree) -> Panels:
    """AUROC by the kind taught, one panel a kind tried."""
    panels: Panels = {}
    for network, rows in tree["networks"].items():
        for kind, about in rows.items():
            run = f"{network.removeprefix('supervised_')}: {kind.replace('_', ' ')}"
            for tried, triple in about["auroc"].items():
                panels.setdefault(tried.replace("_", " "), {})[run] = triple
    return panels


#: A study -> what its drawing shows.
DRAWINGS: dict[str, Callable[[Tree], Panels]] = {
    **dict.fromkeys(SWEEPS, sweep_panels),
    "supervised": supervised_panels,
    "restorations": lambda tree: {
        f"pixel {key.upper()}": {run: row[key] for run, row in tree["runs"].items()} for key in ("ap", "auroc")
    },
    "views": lambda tree: {
        words: {way: row[name]["auroc"] for way, row in tree["ways"].items()} for name, words in VIEWS.items()
    },
}


def drawn(panels: Panels) -> Figure:
    """Each run's figure with its interval; a dotted line at .5."""
    runs = list(dict.fromkeys(run for rows in panels.values() for run in rows))
    figure = Figure(figsize=(9, 0.5 + 0.32 * len(runs)), layout="constrained")
    several = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (words, rows) in zip(several, panels.items(), strict=True):
        for run, (value, low, high) in rows.items():
            axes.plot([low, high], [runs.index(run)] * 2, color="0.6", linewidth=2)
            axes.plot([value], [runs.index(run)], "o", color="tab:blue", markersize=4)
        if "AP" not in words:
            axes.axvline(0.5, color="0.3", linewidth=0.7, linestyle=":")
        axes.set_title(words, fontsize=7)
        axes.set_yticks(range(len(runs)), runs, fontsize=7)
        axes.tick_params(axis="x", labelsize=7)
    several[0].invert_yaxis()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page does not match")
    options = parser.parse_args()
    results = load(ROOT / "results/studies")
    stale = refilled(PAGES, lambda text: filled(text, results), options.check)
    if options.check:
        sys.exit(f"{', '.join(stale)}: not as results/studies says; run this without --check" if stale else 0)
    for name, panels in DRAWINGS.items():
        if name in results and len(results[name].get("runs", "of another form")) > 1:
            save_figure(drawn(panels(results[name])), ROOT / DRAWN / f"{name}.svg")
    print("written: " + ", ".join(stale) if stale else "all pages match")


if __name__ == "__main__":
    main()
