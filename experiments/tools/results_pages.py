"""The figures of README.md, docs/results/ and docs/limits.md, from the measurements in results/.

    python experiments/tools/results_pages.py collect RUNS    # what the pages need of what was measured, into results/
    python experiments/tools/results_pages.py                 # fill the marked blocks of the pages
    python experiments/tools/results_pages.py --check         # change nothing, exit 1 if a page does not match

A block stands between `<!-- results:NAME -->` and `<!-- /results -->`. RUNS holds what the commands in `COMMANDS`
wrote; what is not there is left as it was. Of a measurement without a file the pages say that it is missing.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from pixelsleuth.files import write_text
from pixelsleuth.models.configuration import find_model
from pixelsleuth.scoring.origins import fewest

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md", "docs/results/faces.md", "docs/results/field.md", "docs/results/volumes.md", "docs/limits.md",
    "docs/protocols.md",
    "docs/results/evasion.md", "docs/results/reliability.md",
    "docs/own-pictures.md", "docs/folders.md",
)  # fmt: skip
BLOCK = re.compile(r"(<!-- results:([\w-]+) -->\n).*?(<!-- /results -->)", re.S)

Tree = dict[str, Any]
#: A measurement's name -> the file below RUNS, and the command that writes it. DATA: the folder of the data sets.
COMMANDS = {
    "away_alarms": ("away_alarms.json", "python experiments/studies/away.py alarms --maps --out RUNS"),
    "away_folds": ("away_folds.json", "python experiments/studies/away.py folds --store STORE.h5 --out RUNS"),
    "away_edits": ("away_edits.json", "python experiments/studies/away.py edits --count 40 --out RUNS"),
    "away_benign": (
        "away_benign.json",
        "python experiments/studies/away.py benign --count 60 --before EARLIER_MODEL --out RUNS",
    ),
    "local_edits": (
        "local/metrics.json", "python experiments/studies/local_edits.py --count 60 --text-pairs 0 --out RUNS/local"
    ),
    "dfdc": (
        "dfdc/metrics.json",
        "pixelsleuth evaluate --normal DATA/faces_dfdc/test/real --anomalous DATA/faces_dfdc/test/fake "
        "--pairs DATA/faces_dfdc/test/pairs.csv --text-pairs 0 --no-heatmap --out RUNS/dfdc",
    ),
    "dfdc_sharp": (
        "dfdc_sharp/metrics.json",
        "pixelsleuth evaluate --normal DATA/faces_dfdc/test/real --anomalous DATA/faces_dfdc/test/fake "
        "--pairs DATA/faces_dfdc/test/pairs.csv --text-pairs 0 --no-heatmap --match-sharpness --out RUNS/dfdc_sharp",
    ),
    "kinds": (
        "kinds/metrics.json",
        "python experiments/studies/local_edits.py --real DATA/faces_dfdc/val/real --count 80 "
        "--kinds copy_move patch_shifted patch_sharpen patch_warp --text-pairs 0 --out RUNS/kinds",
    ),
    "kinds_left": (
        "kinds_left/metrics.json",
        "python experiments/studies/local_edits.py --real DATA/faces_world/val/real/caltech1999 "
        "DATA/faces_world/val/real/openforensics256 DATA/faces_world/val/real/small_mix DATA/faces_ciplab/val/real "
        "--count 30 --kinds copy_move patch_shifted patch_sharpen patch_warp --text-pairs 0 --out RUNS/kinds_left",
    ),
    "ciplab": (
        "ciplab/metrics.json",
        "pixelsleuth evaluate --normal DATA/faces_ciplab/val/real --anomalous DATA/faces_ciplab/val/fake "
        "--text-pairs 0 --out RUNS/ciplab",
    ),
    "left_out": ("", "pixelsleuth info faces"),
    "levelling": ("levelling/levelling.json", "python experiments/studies/levelling.py --out RUNS/levelling"),
    "protocols": ("", "pixelsleuth evaluate --protocol NAME --data DATA --out RUNS/protocols/NAME"),
    "evasion": (
        "evasion/evasion.json",
        "python experiments/studies/evasion.py run --count 24 --attacked 6 --steps 3 --out RUNS/evasion",
    ),
    "kills": ("kills/kills.json", "python experiments/benchmarks/kills.py --kills 50 --out RUNS/kills"),
    "detectives": (
        "detectives.json",
        "python experiments/studies/compare_detectives.py TAUGHT TRAINING_STORE HELD_OUT_STORE "
        "--out RUNS/detectives.json",
    ),
    "own_calibration": (
        "own_calibration.json", "python experiments/studies/own_calibration.py SCORES.npz --out RUNS"
    ),
    "folders": ("folders_real.json", "python experiments/studies/folders.py real SCORES.npz --out RUNS"),
    "flair": (
        "protocols/flair/metrics.json",
        "pixelsleuth evaluate --protocol flair --model flair --data DATA --out RUNS/protocols/flair",
    ),
    "t1": ("protocols/t1/metrics.json", "pixelsleuth evaluate --protocol t1 --data DATA --out RUNS/protocols/t1"),
    "foreign_scans": (
        "foreign_scans.json", "python experiments/studies/foreign_scans.py brain_t1 DATA RUNS"
    ),
    "flair_thresholds": (
        "flair_test.json", "python experiments/studies/flair_thresholds.py DATA/brain_lgg_flair RUNS --split test"
    ),
}  # fmt: skip
BUNDLED = ("faces", "brain_t1")
#: Measurements of another model than `faces`; "": of none that is bundled.
MODELS = {"foreign_scans": "brain_t1", "t1": "brain_t1", "flair_thresholds": "", "flair": ""}

#: AUROC from which edits are said to stand out mostly, and in part; below they hardly do, or not at all.
MOSTLY_FROM, PARTLY_FROM = 0.85, 0.65
STANDING = ("mostly stands out", "stands out in part", "hardly, or not at all")
#: The score that verdicts of `faces` rest on.
DEFAULT = "levelled"
SCORES = {
    DEFAULT: "**both tracks, levelled (default)**",
    "both_tracks": "both tracks as they are",
    "combined": "codes",
    "detective_views": "detective",
    "text_tail_sum": "Marimont & Tarroni's score",
    "baseline_blur": "blur alone",
    "baseline_jpeg_size": "size as a JPEG alone",
}
SOURCES = {
    "caltech1999": "Caltech 1999 faces",
    "openforensics256": "press and stock photographs (OpenForensics originals)",
    "small_mix": "a mix from the samples of image libraries",
    "ciplab": "portraits of FFHQ people (CIPLAB's untouched ones)",
    "faces_dfdc": "DFDC",
    "faces_utk": "UTKFace",
    "fairface": "FairFace",
    "hard_stylegan2_unsplash": "Unsplash portraits",
    "lfw_gray": "LFW in grey",
}
#: Measurement of scans -> what it is, the strongest rival's map, the rival's name, and what follows.
SCANS = {
    "flair": ("brain tumours on FLAIR (low-grade glioma, 23 patients), trained on tumour-free slices",
              "baseline_equalised", "brightness, equalised", "outlined in good part"),
    "t1": ("anomalies pasted into T1 scans (15 subjects, 90 volumes), `brain_t1`", "baseline_atlas",
           "atlas of healthy slices", "most kinds outlined; foreign tissue hardly"),
}  # fmt: skip
#: Maps of scans, as the tables call them.
MAPS = {
    "detective_x_brightness": "detective x brightness",
    "detective": "detective",
    "restoration": "restoration of the codes that the detective names",
    "baseline_atlas": "atlas of healthy slices",
    "baseline_equalised": "brightness, histogram equalised",
    "baseline_brightness": "brightness",
    "baseline_asymmetry": "left-right asymmetry",
    "baseline_vae": "plain VAE residual",
    "baseline_centre": "centre, no model",
    "baseline_position": "position alone",
    "surprise_x_brightness": "masked surprise x brightness",
    "text_restoration": "Marimont & Tarroni's restoration",
}
#: What the drift alarm bets on.
BETS = {"less": "less unusual", "more": "more unusual"}
EDITS = {
    "eyes_enlarged": "eyes enlarged",
    "face_slimmed": "face slimmed",
    "eye_copied": "an eye copied over",
    "spots_healed": "spots healed",
    "lipstick": "lipstick",
    "nose_feathered": "nose pasted with a soft rim",
    "skin_airbrushed": "skin airbrushed",
    "eye_seamless": "an eye cloned in",
    "both_eyes_seamless": "both eyes cloned in",
    "mouth_seamless": "mouth cloned in",
    "mouth_feathered": "mouth pasted with a soft rim",
    "brows_inpainted": "brows painted over",
    "mouth_inpainted": "mouth painted over",
    "face_feathered": "whole face pasted with a soft rim",
    "face_seamless": "whole face cloned in",
    "smoothed_as_generated": "face smoothed as by a generator",
    "pixelated": "face pixelated",
    "text_on_chin": "text on the chin",
    "bar_over_eyes": "bar over the eyes",
}
LOCAL = {
    "swap_unmatched": "a feature of another face pasted in",
    "swap_matched": "the same, colours matched",
    "copy_move": "copy-move within the face",
}
#: Kinds of edit that no detective is taught.
UNTAUGHT = {
    "copy_move": "a part of the face copied elsewhere in it",
    "patch_shifted": "a patch shifted",
    "patch_sharpen": "a patch sharpened",
    "patch_warp": "a patch warped",
}
DETECTIVES = {
    "longer_256": "**the bundled one**: 256 px, 515,676 pairs, gone on from the next",
    "main_256": "256 px, 205,884 pairs",
    "main_192": "192 px, the same 205,884 pairs",
    "reference": "reference of the rest: 192 px, about 18,600 pairs",
    "no_pretrained": "reference, from random weights",
    "two_sources": "reference, on DFDC and UTKFace alone",
    "no_landmarks": "reference, with patches in place of shapes along landmarks",
    "no_camera": "reference, without the camera's chain",
}
WITHOUT = {
    "dfdc": "DFDC",
    "utk": "UTKFace, children and old people too",
    "all_age": "All-Age-Faces",
    "mebeauty": "MEBeauty",
    "web_gender": "web portraits",
    "expressions": "expressions in grey",
}
SETS = {"local": "local edits", "ciplab": "CIPLAB", "dfdc": "DFDC's swaps"}
RATES = ("0.01", "0.05", "0.1")
LEVELS = ("easy", "mid", "hard")


# --- results/: what the pages need of each measurement ---


def collect(runs: Path, results: Path) -> None:
    """Writes results/NAME.json of each measurement that RUNS holds.

    Raises:
        SystemExit: figures of more than one model, or of another than the bundled one.
    """
    trees: dict[str, Tree] = {"left_out": calibration_of("faces")}
    for name, (file, _) in COMMANDS.items():
        if file and (runs / file).is_file():
            trees[name] = json.loads((runs / file).read_text(encoding="utf-8"))
    for name, tree in trees.items():
        known, sha256 = set(_found(tree, "model_sha256")), sha256_of(name)
        if sha256 and known - {sha256}:
            sys.exit(f"{runs / COMMANDS[name][0]}: expected figures of the bundled model {sha256[:12]}, got {known}")
        kept = ({"model_sha256": sha256} if sha256 else {}) | REDUCERS.get(name, lambda whole: whole)(tree)
        results.mkdir(exist_ok=True)
        write_text(results / f"{name}.json", _compact(json.dumps(kept, indent=1)) + "\n")
        print(f"{name}: written" + ("" if known or name == "detectives" else ", of which model the run does not say"))


def calibration_of(model: str) -> Tree:
    found: Tree = json.loads((find_model(model)[0] / "calibration.json").read_text(encoding="utf-8"))
    return found


def sha256_of(name: str) -> str:
    """Of the bundled model that a measurement is of; "" where it is of none."""
    model = MODELS.get(name, "faces")
    return str(calibration_of(model)["model_sha256"]) if model else ""


def collect_protocols(runs: Path, results: Path) -> None:
    """Writes results/protocols.json: what RUNS/protocols/NAME/metrics.json says of each protocol; what was known of
    those that were not run stays.

    Raises:
        SystemExit: a protocol that was run on other data than the published.
    """
    path = results / "protocols.json"
    known: Tree = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for file in sorted(runs.glob("protocols/*/metrics.json")):
        about = json.loads(file.read_text(encoding="utf-8"))["protocol"]
        if about["published_data"] is False:
            sys.exit(f"{file}: measured on other data than the protocol's; see docs/protocols.md")
        if about["model"] in BUNDLED and about["model_sha256"] != calibration_of(about["model"])["model_sha256"]:
            sys.exit(f"{file}: measured with another model than the bundled {about['model']}")
        # The second run stands beside the first, in NAME.again.
        again = file.parent.with_name(f"{file.parent.name}.again") / file.name
        about["runs_equal"] = again.read_bytes() == file.read_bytes() if again.is_file() else None
        if not file.parent.name.endswith(".again"):
            known[about["name"]] = about
            print(f"protocol {about['name']}: written")
    if known:
        write_text(path, _compact(json.dumps(known, indent=1)) + "\n")


def _compact(text: str) -> str:
    """Lists of numbers on one line each, so that a change of one figure is one line of a diff."""
    return re.sub(r"\[\n\s+([^\[\]{}]+?)\n\s+\]", lambda m: "[" + re.sub(r",\n\s+", ", ", m[1]) + "]", text)


def _found(tree: Any, key: str) -> list[str]:
    if not isinstance(tree, dict):
        return []
    return [v for k, v in tree.items() if k == key] + [s for v in tree.values() for s in _found(v, key)]


def _evaluation(metrics: Tree) -> Tree:
    """What the pages say of one run of `evaluate`."""
    scores = {
        name: {k: row[k] for k in ("auroc", "ap", "tpr_at_fpr_0.05")}
        for name, row in metrics["scores"].items() if name in SCORES
    }  # fmt: skip
    kept = {"scores": scores, "differences": {k: v for k, v in metrics["differences"].items() if k in SCORES}}
    names = ("n_normal", "n_anomalous", "n_no_face", "false_alarm", "promised_band", "blur_rank_correlation",
             "paired_accuracy", "levels", "pixel_prevalence", "hottest_part_is_altered", "hottest_part_chance",
             "hottest_part_n")  # fmt: skip
    kept |= {name: metrics[name] for name in names if name in metrics}
    if "pixel" in metrics:
        kept["map"] = metrics["pixel"][metrics["default_map"]]
        kept["centre"] = metrics["pixel"]["baseline_centre"]
    return kept


def _scans(metrics: Tree) -> Tree:
    """What the pages say of one run of `evaluate` on volumes."""
    default = metrics["default_map"]
    maps = {name: {k: row[k] for k in ("ap", "auroc", "dsc", "dsc_best") if k in row}
            for name, row in metrics["pixel"].items()}  # fmt: skip
    found = {"default_map": default, "prevalence": metrics["pixel_prevalence"], "pixel": maps}
    found |= {name: metrics[name] for name in ("differences", "lesions", "slices", "n_masked", "by_kind")}
    return found | {"scores": metrics["scores"]}


def _alarms(rows: Tree) -> Tree:
    return {
        name: {k: v for k, v in row.items() if k != "mean_scores"}
        for name, row in rows.items() if name != "model_sha256"
    }  # fmt: skip


REDUCERS: dict[str, Callable[[Tree], Tree]] = {
    "away_alarms": _alarms,
    "dfdc": _evaluation,
    "dfdc_sharp": _evaluation,
    "ciplab": _evaluation,
    "local_edits": lambda kinds: {kind: _evaluation(metrics) for kind, metrics in kinds.items()},
    "kinds": lambda kinds: {kind: _evaluation(metrics) for kind, metrics in kinds.items()},
    "kinds_left": lambda kinds: {kind: _evaluation(metrics) for kind, metrics in kinds.items()},
    "flair": _scans,
    "t1": _scans,
    "left_out": lambda calibration: {k: calibration["about"][k] for k in ("images", "sources", "left_out")},
}


# --- words and numbers ---


def number(value: float, digits: int = 3) -> str:
    """.736 and -.02, for what lies within [-1, 1]."""
    # Adding nothing to what was rounded takes the sign off a zero.
    text = f"{round(value, digits) + 0.0:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def interval(triple: list[float]) -> str:
    return f"{number(triple[0])} [{number(triple[1])}, {number(triple[2])}]"


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def percents(triple: list[float]) -> str:
    return f"{percent(triple[0])} [{100 * triple[1]:.1f}, {100 * triple[2]:.1f}]"


def widened(triple: list[float], count: int) -> list[float]:
    """A bootstrap interval of none or all of `count` images has no width; Wilson's has."""
    return share_interval(triple[0], count) if triple[1] == triple[2] else triple


def share_interval(share: float, count: int) -> list[float]:
    """[share, low, high]: Wilson's 95% interval of a share of `count` images."""
    z = 1.96
    middle, half = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    return [share, *(max(0.0, min(1.0, (middle + sign * half) / (1 + z * z / count))) for sign in (-1, 1))]


def standing(auroc: float) -> str:
    return STANDING[0] if auroc >= MOSTLY_FROM else STANDING[1] if auroc >= PARTLY_FROM else STANDING[2]


def unreliable(auroc: float) -> str:
    return "**not reliably**" if auroc < MOSTLY_FROM else STANDING[0]


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def made_by(name: str) -> str:
    return f"`{COMMANDS[name][1]}`"


def kinds_of(edits: Tree) -> dict[str, Tree]:
    return {name: edits[name] for name in EDITS if name in edits}


# --- the blocks ---


def sees(results: dict[str, Tree]) -> str:
    """README's table: each row [what, result, to compare with, so]."""
    lines: list[list[str]] = []
    makers: dict[str, Callable[[Tree], list[list[str]]]] = {
        "away_alarms": _sees_alarms, "local_edits": _sees_local, "away_edits": _sees_edits, "ciplab": _sees_ciplab,
        "dfdc": _sees_dfdc, **{name: partial(_sees_scans, *row) for name, row in SCANS.items()},
    }  # fmt: skip
    for need, make in makers.items():
        lines += make(results[need]) if need in results else [[need, "not measured with this model yet", "", ""]]
    return table(["what", "result [95% interval]", "to compare with", "found at 5% false alarms"], lines)


def _sees_alarms(alarms: Tree) -> list[list[str]]:
    rows = [row for name, row in alarms.items() if name in SOURCES]
    pooled = ", ".join(percents(alarms["pooled"][rate]) for rate in RATES)
    name = f"{sum(row['judged'] for row in rows)} untouched photographs of sources never seen"
    worst = f"falsely: worst source {percent(max(row['0.05'][0] for row in rows))}"
    return [[name, f"called anomalous: {pooled}", "1%, 5%, 10% promised", worst]]


def _sees_local(kinds: Tree) -> list[list[str]]:
    scores = [kinds[kind]["scores"] for kind in LOCAL]
    result = ", ".join(interval(score[DEFAULT]["auroc"]) for score in scores)
    rival = ", ".join(number(score["text_tail_sum"]["auroc"][0]) for score in scores)
    found = ", ".join(f"{100 * score[DEFAULT]['tpr_at_fpr_0.05'][0]:.0f}%" for score in scores)
    name = f"local edits: a feature pasted in, colours matched, copy-move ({kinds['copy_move']['n_anomalous']} each)"
    return [[name, f"AUROC {result}", f"Marimont & Tarroni's score: {rival}", found]]


def _sees_edits(edits: Tree) -> list[list[str]]:
    rows = kinds_of(edits)
    low, high = (pick(rows, key=lambda kind: rows[kind]["untouched"][0]) for pick in (min, max))
    result = (
        f"AUROC {number(mean(row['untouched'][0] for row in rows.values()))} on average, from "
        f"{interval(rows[low]['untouched'])} ({EDITS[low]}) to {interval(rows[high]['untouched'])} ({EDITS[high]})"
    )
    found = f"{100 * mean(row['found'] for row in rows.values()):.0f}% on average"
    name = f"{len(rows)} kinds of common edits (an eye copied, spots healed, a face slimmed), made by a program"
    return [[f"{name}, sources never seen", result, "chance: .5", found]]


def _sees_ciplab(metrics: Tree) -> list[list[str]]:
    levels = [metrics["levels"][level] for level in LEVELS]
    result = ", ".join(interval(level["auroc"]) for level in levels)
    found = ", ".join(f"{100 * level['tpr_at_fpr_0.05'][0]:.0f}%" for level in levels)
    name = f"portraits altered by experts (CIPLAB): {', '.join(LEVELS)} ({levels[0]['n']} each)"
    return [[name, f"AUROC {result}", "chance: .5", found]]


def _sees_dfdc(metrics: Tree) -> list[list[str]]:
    default, blur = (metrics["scores"][name] for name in (DEFAULT, "baseline_blur"))
    name = f"whole faces swapped by a generator (DFDC, {metrics['n_anomalous']:,})"
    found = f"{100 * default['tpr_at_fpr_0.05'][0]:.0f}%: {unreliable(default['auroc'][0])}"
    return [[name, f"AUROC {interval(default['auroc'])}", f"blur alone: {interval(blur['auroc'])}", found]]


def _sees_scans(what: str, rival: str, words: str, so: str, found: Tree) -> list[list[str]]:
    ours, theirs = (found["pixel"][name] for name in (found["default_map"], rival))
    return [[
        what, f"pixel AP {interval(ours['ap'])}, overlap (DSC) {interval(ours['dsc'])}",
        f"{words}: {number(theirs['ap'][0])}, {number(theirs['dsc'][0])}", so,
    ]]  # fmt: skip


def scans_table(name: str) -> Callable[[dict[str, Tree]], str]:
    """Maps by AP, the default in bold, and what the default has more than the other methods."""

    def made(results: dict[str, Tree]) -> str:
        found = results[name]
        maps, less = found["pixel"], found["differences"]
        rows = []
        for one in sorted(set(maps) & set(MAPS), key=lambda key: -maps[key]["ap"][0]):
            row, mark = maps[one], "**" if one == found["default_map"] else ""
            best = f"{interval(row['dsc'])} (best {number(row['dsc_best'][0])})" if "dsc" in row else ""
            gain = [interval(less[one][key]) if key in less.get(one, {}) else "" for key in ("ap", "dsc")]
            cells = [interval(row["ap"]), number(row["auroc"][0]), best or number(row["dsc_best"][0]) + " (best)"]
            rows.append([f"{mark}{MAPS[one]}{mark}", *cells, *gain])
        head = ["", "pixel AP", "pixel AUROC", "DSC", "default minus it, AP", "DSC"]
        return table(head, rows)

    return made


def foreign_table(results: dict[str, Tree]) -> str:
    rows = []
    for row in results["foreign_scans"]["rows"]:
        told = percents([row["told"][0], *row["told"][1:]])
        counts = [str(row[key]) for key in ("n", "judged", "unsure", "refused")]
        rows.append([row["name"], row["expected"], *counts, told, "; ".join(row["because"])])
    head = ["scans", "should be", "n", "judged", "`unsure`", "refused", "not judged, [95%]", "what differs, most often"]
    return table(head, rows)


def flair_table(results: dict[str, Tree]) -> str:
    found = results["flair_thresholds"]
    names = {"baseline_brightness": "brightness", "baseline_equalised": "brightness, histogram equalised"}
    rows = [
        [names[name], *(interval(row[key]) for key in ("ap", "auroc", "dsc")), number(row["dsc_best"][0])]
        for name, row in found["pixel"].items()
    ]
    less = found["equalised_minus_brightness"]
    rows.append(["the latter minus the former", *(interval(less[key]) for key in ("ap", "auroc", "dsc")), ""])
    return table([f"{found['n_patients']} patients", "pixel AP", "pixel AUROC", "DSC", "best DSC"], rows)


def alarms_table(results: dict[str, Tree]) -> str:
    alarms = results["away_alarms"]
    rows = []
    for name, row in alarms.items():
        if name in SOURCES:
            cells = [percents(widened(row[key], row["judged"])) for key in (*RATES, "coloured")]
            unsure = percent(row["verdicts"]["unsure"]["0.05"][0])
            rows.append([f"{SOURCES[name]}, {row['judged']} of {row['of']}", *cells, unsure])
    rows.append(["**all four**", *(f"**{percents(alarms['pooled'][rate])}**" for rate in RATES), "", ""])
    head = ["source, photographs with a face", "at 1% promised", "at 5%", "at 10%", "colour shows", "`unsure`"]
    return table(head, rows)


def verdicts_table(results: dict[str, Tree]) -> str:
    """Sources that no network learned from and that the calibration did not know, by p and by verdict."""
    every = {**results["away_alarms"], **results["away_folds"]}
    rows = {name: row for name, row in every.items() if name in SOURCES}
    counts = [row["judged"] for row in rows.values()]

    def pooled(triples: list[list[float]]) -> str:
        called = sum(triple[0] * count for triple, count in zip(triples, counts, strict=True))
        return percents(share_interval(called / sum(counts), sum(counts)))

    def shares(row: Tree) -> list[list[float]]:
        called = [row["verdicts"]["anomalous"][rate] for rate in RATES]
        return [*(row[rate] for rate in RATES), *called, row["verdicts"]["unsure"]["0.05"]]

    def line(label: str, row: Tree) -> list[str]:
        p, verdicts = shares(row)[:3], shares(row)[3:]
        return [
            f"{label}, {row['judged']}", ", ".join(percent(triple[0]) for triple in p),
            *(percents(widened(triple, row["judged"])) for triple in verdicts),
        ]  # fmt: skip

    whole = [pooled([shares(row)[place] for row in rows.values()]) for place in range(7)]
    lines = [line(SOURCES[name], row) for name, row in rows.items()]
    lines.append([f"**all {len(rows)}, {sum(counts)}**", ", ".join(whole[:3]), *(f"**{told}**" for told in whole[3:])])
    lines.append(line("*altered* portraits (CIPLAB), where high is good", results["away_alarms"]["altered"]))
    head = [
        "source, photographs with a face",
        "p at or below 1%, 5%, 10%",
        "verdict `anomalous` at 1%",
        "at 5%",
        "at 10%",
    ]
    return table([*head, "`unsure` at 5%"], lines)


def left_out_table(results: dict[str, Tree]) -> str:
    about = results["left_out"]
    rows = [
        [f"{SOURCES.get(name, name)}, {about['sources'][name]}", *(percent(row[rate]) for rate in RATES)]
        for name, row in about["left_out"].items()
    ]
    return table(["source left out, images", "at 1% promised", "at 5%", "at 10%"], rows)


def local_table(results: dict[str, Tree]) -> str:
    kinds = results["local_edits"]
    rows = [
        [label, *(interval(kinds[kind]["scores"][name]["auroc"]) for kind in LOCAL)]
        for name, label in SCORES.items() if name in kinds["copy_move"]["scores"]
    ]  # fmt: skip
    pairs = [widened(kinds[kind]["paired_accuracy"], kinds[kind]["n_anomalous"]) for kind in LOCAL]
    rows.append(["share of pairs ranked rightly", *(interval(triple) for triple in pairs)])
    found = [percents(kinds[kind]["scores"][DEFAULT]["tpr_at_fpr_0.05"]) for kind in LOCAL]
    rows.append(["found where 5% of the untouched are called", *found])
    return table(["AUROC", *LOCAL.values()], rows)


def local_maps_table(results: dict[str, Tree]) -> str:
    kinds = results["local_edits"]
    rows = [
        [label, *(interval(kinds[kind][which][key]) for kind in LOCAL)]
        for label, which, key in (
            ("pixel AUROC", "map", "auroc"), ("pixel AUROC of the centre, no image seen", "centre", "auroc"),
            ("pixel AP", "map", "ap"), ("pixel AP of the centre", "centre", "ap"),
            ("change from partner to edit, AUROC", "map", "change_auroc"), ("DSC", "map", "dsc"),
        )
    ]  # fmt: skip
    rows.append(["edited share of pixels", *(number(kinds[kind]["pixel_prevalence"]) for kind in LOCAL)])
    return table(["map", *LOCAL.values()], rows)


def edits_table(results: dict[str, Tree]) -> str:
    rows = [
        [EDITS[name], str(row["n"]), interval(row["controls"]), interval(row["untouched"]),
         percents(share_interval(row["found"], row["n"])), standing(row["untouched"][0])]
        for name, row in sorted(kinds_of(results["away_edits"]).items(), key=lambda item: -item[1]["untouched"][0])
    ]  # fmt: skip
    values = list(kinds_of(results["away_edits"]).values())
    means = [number(mean(row[key][0] for row in values)) for key in ("controls", "untouched")]
    rows.append(["**mean of kinds**", "", *means, percent(mean(row["found"] for row in values)), ""])
    head = ["edit", "images", "AUROC against own control", "against other people's untouched photographs",
            "called anomalous at 5%", "so"]  # fmt: skip
    return table(head, rows)


def ciplab_table(results: dict[str, Tree]) -> str:
    metrics = results["ciplab"]
    rows = [
        [level, str(row["n"]), interval(row["auroc"]), interval(row["ap"]), percents(row["tpr_at_fpr_0.05"])]
        for level, row in metrics["levels"].items()
    ]
    whole = metrics["scores"][DEFAULT]
    rows.append(["all", str(metrics["n_anomalous"]), interval(whole["auroc"]), interval(whole["ap"]),
                 percents(whole["tpr_at_fpr_0.05"])])  # fmt: skip
    text = table(["level", "altered", "AUROC", "AP", "found where 5% of the untouched are called"], rows)
    text += f"\n\n{metrics['n_normal']} untouched; called anomalous: "
    text += ", ".join(f"{percents(metrics['false_alarm'][rate])} at {float(rate):.0%}" for rate in RATES) + "."
    if "hottest_part_n" in metrics:
        text += (
            f" The hottest part of the face is one that was altered in {interval(metrics['hottest_part_is_altered'])} "
            f"of {metrics['hottest_part_n']}; by chance in {number(metrics['hottest_part_chance'])}."
        )
    return text


def dfdc_table(results: dict[str, Tree]) -> str:
    metrics = results["dfdc"]
    rows = [
        [label, interval(row["auroc"]), interval(row["ap"]), percents(row["tpr_at_fpr_0.05"])]
        for name, label in SCORES.items() if (row := metrics["scores"].get(name))
    ]  # fmt: skip
    text = table(["score", "AUROC", "AP", "found where 5% of the real are called"], rows)
    text += f"\n\n{metrics['n_normal']:,} real and {metrics['n_anomalous']:,} fake, in "
    text += f"{metrics['n_no_face']['normal']} and {metrics['n_no_face']['anomalous']} of which no face was found. "
    text += f"Of the pairs, {interval(metrics['paired_accuracy'])} are ranked rightly; rank correlation with blur "
    text += f"{number(metrics['blur_rank_correlation'], 2)}; default minus blur "
    text += f"{interval(metrics['differences']['baseline_blur']['auroc'])}, minus Marimont & Tarroni's score "
    text += f"{interval(metrics['differences']['text_tail_sum']['auroc'])}."
    return text


def sharp_table(results: dict[str, Tree]) -> str:
    scores = results["dfdc_sharp"]["scores"]
    rows = [[label, interval(scores[name]["auroc"])] for name, label in SCORES.items() if name in scores]
    return table(["score", "AUROC at equal sharpness"], rows)


def kinds_table(results: dict[str, Tree]) -> str:
    """Kinds of edit that the detective was never taught, on a source that it knows and on sources that it never saw,
    and their means."""
    shown = {DEFAULT: "levelled (default)", "both_tracks": "both tracks as they are", "detective_views": "detective"}
    heads, columns = [], []
    for place, kinds in (("DFDC", results["kinds"]), ("sources never seen", results["kinds_left"])):
        for name, label in shown.items():
            heads.append(f"{place}, AUROC: {label}")
            columns.append([kinds[kind]["scores"][name]["auroc"] for kind in UNTAUGHT])
        heads.append(f"{place}: pairs ranked rightly")
        columns.append([kinds[kind]["paired_accuracy"] for kind in UNTAUGHT])
    cells = zip(UNTAUGHT.values(), *columns, strict=True)
    rows = [[label, *(interval(value) for value in values)] for label, *values in cells]
    means = [number(mean(cell[0] for cell in column)) for column in columns]
    return table(["edit", *heads], [*rows, ["**mean of kinds**", *means]])


def field_table(results: dict[str, Tree]) -> str:
    """Our figures that docs/results/field.md sets beside others', and Marimont & Tarroni's score on the same images."""
    dfdc, ciplab = results["dfdc"], results["ciplab"]
    text = [interval(tree["scores"]["text_tail_sum"]["auroc"]) for tree in (ciplab, dfdc)]
    levels = ", ".join(interval(ciplab["levels"][level]["auroc"]) for level in LEVELS)
    rows = [
        ["CIPLAB's portraits, validation half, 30 a level, equal JPEG tables: easy, mid, hard", f"AUROC {levels}",
         f"{text[0]} over all levels"],
        ["DFDC, one frame a video, 1,000 pairs", f"AUROC {interval(dfdc['scores'][DEFAULT]['auroc'])}", text[1]],
    ]  # fmt: skip
    for name, (what, *_) in SCANS.items():
        ours = results[name]["pixel"][results[name]["default_map"]]
        rows.append(
            [what, f"pixel AP {interval(ours['ap'])}, DSC {interval(ours['dsc'])}", "[brain scans](volumes.md)"]
        )
    return table(["images", "this program, default", "Marimont & Tarroni's score, our networks: AUROC"], rows)


def home_table(results: dict[str, Tree]) -> str:
    """False alarms on DFDC's real faces, a source that calibration knows."""
    metrics = results["dfdc"]
    rows = [
        [f"{float(rate):.0%}", percents(metrics["false_alarm"][rate]),
         " to ".join(percent(v) for v in metrics["promised_band"][rate])] for rate in RATES
    ]  # fmt: skip
    return table(["promised", "called anomalous", "where 95% of such measurements would lie"], rows)


def levelling_table(results: dict[str, Tree]) -> str:
    """Scores ranked as they are beside levelled ones."""
    rows = []
    for name, row in sorted(results["levelling"]["sets"].items(), key=lambda item: LEVELLED_SETS.index(_kind(item[0]))):
        kind = _kind(name)
        told = SOURCES.get(name.removeprefix(kind), name.removeprefix(kind))
        label = {"left/": "{}, left out", "home/": "{}, calibrated on", "fake/": "{}: **altered, found**"}
        words = label.get(kind, "**{}**").format(told)
        cells = [", ".join(percents(triple) for triple in row[which]) for which in ("pooled", "levelled")]
        rows.append([words, str(row["images"]), *cells])
    return table(["images", "number", "ranked as they are: at 1%, 5%, 10%", "levelled"], rows)


#: Kinds of sets in the table of levelling, in its order.
LEVELLED_SETS = ("left/", "", "home/", "fake/")


def _kind(name: str) -> str:
    return next((kind for kind in LEVELLED_SETS if kind and name.startswith(kind)), "")


def benign_table(results: dict[str, Tree]) -> str:
    benign = {name: row for name, row in results["away_benign"].items() if isinstance(row, dict)}
    columns = {"before": "earlier model"} if all("before" in row for row in benign.values()) else {}
    columns["0.05"] = "called anomalous at 5%"
    rows = [
        [name, str(row["n"]), *(percents(widened(row[key], row["n"])) for key in columns)]
        for name, row in benign.items()
    ]
    return table(["treatment of the whole photograph", "photographs", *columns.values()], rows)


def protocols_table(results: dict[str, Tree]) -> str:
    """Each protocol that was run: its figures, and what they were taken with."""
    rows = []
    for name, about in results["protocols"].items():
        figures = "<br>".join(
            f"{key} {interval(value) if isinstance(value, list) else value}" for key, value in about["figures"].items()
        )
        digests = "<br>".join(
            f"{what} `{about[key][:12]}`"
            for what, key in (
                ("model", "model_sha256"), ("calibration", "calibration_sha256"), ("data", "data_sha256"),
                ("protocol", "sha256"),
            )
        )  # fmt: skip
        equal = {True: "identical", False: "**not identical**", None: "not run"}[about["runs_equal"]]
        rows.append([f"`{name}`, version {about['version']}", figures, digests, equal])
    return table(["protocol", "figures [95% interval]", "SHA-256 begins with", "second run"], rows)


def evasion_table(results: dict[str, Tree]) -> str:
    found = results["evasion"]
    parts = []
    for key, label in SETS.items():
        one = found["sets"][key]
        rows = [
            [name, percents(widened(row["found"]["0.05"], one["n_anomalous"])),
             percents(widened(row["false_alarm"]["0.05"], one["n_normal"])), interval(row["auroc"]),
             interval(row["auroc_against_untouched"])]
            for name, row in one["rows"].items()
        ]  # fmt: skip
        head = [f"{label}: {one['n_anomalous']} altered, {one['n_normal']} untouched", "altered found at 5%",
                "untouched called at 5%", "AUROC, both treated", "AUROC, only the altered treated"]  # fmt: skip
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def attack_table(results: dict[str, Tree]) -> str:
    found = results["evasion"]
    rows = []
    for key, label in SETS.items():
        attack = found["sets"][key]["attack"]
        for share, what in (("found", "altered, still found"), ("false_alarm", "untouched, called")):
            count = attack[f"n_{share}"]
            cells = [percents(widened(triple, count)) for triple in attack[share]["0.05"]]
            rows.append([f"{label}: {what}", str(count), *cells])
    return table(["at 5%", "pictures", "no attack", *(f"eps {eps}" for eps in found["eps"])], rows)


def kills_table(results: dict[str, Tree]) -> str:
    found = results["kills"]
    rows = [
        [f"`{name}`", str(row["kills"]), f"{row['equal']} of {row['rounds']}", str(row["broken"]),
         str(row["lost"]), str(row["rest"]),
         f"{found['full'][name]['told']} of {found['full'][name]['tried']}", str(found["full"][name]["broken"]),
         f"{found['full'][name]['equal']} of {found['full'][name]['tried']}",
         f"{found['together'][name]['ended']} ended, {found['together'][name]['refused']} refused"]
        for name, row in found["kills"].items()
    ]  # fmt: skip
    head = [
        "command", "kills", "equal to the undisturbed", "files broken", "finished work lost",
        "rests left", "full disk told in a line", "files broken there", "equal once there is room", "two at once",
    ]  # fmt: skip
    return table(head, rows)


def detectives_table(results: dict[str, Tree]) -> str:
    found = results["detectives"]
    first = [
        [DETECTIVES[row["name"]], ", ".join(percents(row["alarms"][rate]) for rate in RATES),
         ", ".join(interval(row["ciplab"][level]) for level in LEVELS), interval(row["ciplab"]["all"]),
         interval(row["dfdc"])]
        for row in found["taught"]
    ]  # fmt: skip
    second = [
        [WITHOUT[row["name"]], ", ".join(percents(row["alarms"][rate]) for rate in RATES), str(row["n"])]
        for row in found["without"]
    ]
    return (
        table(["detective", "sources left out: at 1%, 5%, 10%", "CIPLAB easy, mid, hard", "CIPLAB", "DFDC"], first)
        + "\n\n"
        + table(["taught without", "of it called anomalous at 1%, 5%, 10%", "images"], second)
    )


def limits_table(results: dict[str, Tree]) -> str:
    rows = []
    local = results["local_edits"]
    for kind, label in LOCAL.items():
        auroc = local[kind]["scores"][DEFAULT]["auroc"]
        rows.append([label, interval(auroc), standing(auroc[0])])
    edits = sorted(kinds_of(results["away_edits"]).items(), key=lambda item: -item[1]["untouched"][0])
    for word in STANDING:
        group = [(EDITS[name], row["untouched"][0]) for name, row in edits if standing(row["untouched"][0]) == word]
        if group:
            bounds = " to ".join(dict.fromkeys(number(v, 2) for v in (group[-1][1], group[0][1])))
            rows.append([", ".join(name for name, _ in group), bounds, word])
    for level in LEVELS:
        auroc = results["ciplab"]["levels"][level]["auroc"]
        rows.append([f"portraits altered by experts (CIPLAB), {level}", interval(auroc), standing(auroc[0])])
    scores = results["dfdc"]["scores"]
    default, blur = (scores[name]["auroc"] for name in (DEFAULT, "baseline_blur"))
    rows.append(["**a whole face swapped by a generator** (DFDC)", f"{interval(default)}; blur alone {interval(blur)}",
                 unreliable(default[0])])  # fmt: skip
    return table(["what", "AUROC", "so"], rows)


def limits_rates(results: dict[str, Tree]) -> str:
    """The sentences of docs/limits.md on false alarms by source."""
    alarms, left_out = results["away_alarms"], results["left_out"]["left_out"]
    pooled = [percents(alarms["pooled"][rate]) for rate in RATES]
    sources = {name: row for name, row in alarms.items() if name in SOURCES}
    worst = [percent(max(row[rate][0] for row in sources.values())) for rate in RATES]
    hardest = max(left_out, key=lambda name: left_out[name]["0.01"])
    home = results["dfdc"]["false_alarm"]
    judged = sum(row["judged"] for row in sources.values())
    return (
        f"Of {judged} photographs of sources that it never saw, {pooled[0]}, {pooled[1]} and {pooled[2]} were "
        f"called anomalous where 1%, 5% and 10% are promised; the worst source stood at {worst[0]}, {worst[1]} and "
        f"{worst[2]}. On DFDC's real faces alone it is {percents(home['0.05'])} at 5%. A source as unlike the rest as "
        f"{SOURCES.get(hardest, hardest)} (turned images with black corners) would be called anomalous in "
        f"{percent(left_out[hardest]['0.01'])} of images at 1%, had it not been calibrated on."
    )


#: A block's name -> the measurements it needs, and what writes it.
def own_table(results: dict[str, Tree]) -> str:
    rows = []
    for name, row in results["own_calibration"].items():
        if isinstance(row, dict):
            cells = [
                f"{percent(row[rate]['mean'])}, {percent(row[rate]['inside'])}"
                if row["calibrate"] >= fewest(float(rate)) else f"needs {fewest(float(rate))}"
                for rate in RATES
            ]  # fmt: skip
            by_name = percent(row["0.05"]["by_name"])
            rows.append(
                [SOURCES.get(name, name.replace("_", " ")), f"{row['calibrate']}, {row['judged']}", *cells, by_name]
            )
    return table(["source", "calibrate, judged", "at 1%", "at 5%", "at 10%", "at 5%, by name"], rows)


def folders_table(results: dict[str, Tree]) -> str:
    rows = []
    for name, row in results["folders"].items():
        if name.startswith("mixed, "):
            _, which, altered = name.split(", ")
            found = percent(row["bh_found"][0]) if "bh_found" in row else ""
            right = f"{row['bound'][0]:.1f}, {row['alarms_right'][0]:.1f} of {row['alarms'][0]:.1f}"
            listed, broken = number(row["bh_false"][0]), percent(row["bound_broken"][0])
            rows.append([which, altered.removesuffix(" altered"), listed, found, broken, right])
    head = ["", "altered", "false on the list, of 1", "found", "bound too high (5% allowed)"]
    return table([*head, "of the alarms right at least, in truth"], rows)


def drift_table(results: dict[str, Tree]) -> str:
    names = SOURCES | {"faces_ciplab": SOURCES["ciplab"], "altered": "portraits altered by experts (CIPLAB)"}
    rows = []
    for name, row in results["folders"].items():
        if ", then " in name:
            both = [names.get(one, one) for one in name.split(", then ")]
            bets = ", ".join(BETS[bet] for bet in row.get("bets", {}))
            rows.append([*both, percent(row["p<=.05 after"]), percent(row["alarms"]), bets])
    return table(["first", "then", "of these p at most .05", "folders that alarm", "because these are"], rows)


BLOCKS: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Tree]], str]]] = {
    "sees": ((), sees),
    "alarms": (("away_alarms",), alarms_table),
    "verdicts": (("away_alarms", "away_folds"), verdicts_table),
    "left-out": (("left_out",), left_out_table),
    "local-edits": (("local_edits",), local_table),
    "local-maps": (("local_edits",), local_maps_table),
    "edits": (("away_edits",), edits_table),
    "ciplab": (("ciplab",), ciplab_table),
    "dfdc": (("dfdc",), dfdc_table),
    "sharp": (("dfdc_sharp",), sharp_table),
    "kinds": (("kinds", "kinds_left"), kinds_table),
    "home": (("dfdc",), home_table),
    "field-ours": (("ciplab", "dfdc", "flair", "t1"), field_table),
    "benign": (("away_benign",), benign_table),
    "levelling": (("levelling",), levelling_table),
    "protocols": (("protocols",), protocols_table),
    "evasion": (("evasion",), evasion_table),
    "attack": (("evasion",), attack_table),
    "kills": (("kills",), kills_table),
    "detectives": (("detectives",), detectives_table),
    "own-calibration": (("own_calibration",), own_table),
    "folders": (("folders",), folders_table),
    "drift": (("folders",), drift_table),
    "foreign": (("foreign_scans",), foreign_table),
    "flair": (("flair",), scans_table("flair")),
    "t1": (("t1",), scans_table("t1")),
    "flair-thresholds": (("flair_thresholds",), flair_table),
    "limits": (("local_edits", "away_edits", "ciplab", "dfdc"), limits_table),
    "limits-rates": (("away_alarms", "left_out", "dfdc"), limits_rates),
}


def load(results: Path) -> dict[str, Tree]:
    """Measurement -> its figures, of those that stand in results/."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}


def filled(text: str, results: dict[str, Tree]) -> str:
    """A page with its blocks written anew; the command that made each stands below it."""

    def block(match: re.Match[str]) -> str:
        needs, make = BLOCKS[match[2]]
        missing = [name for name in needs if name not in results]
        if missing:
            body = "Not measured with this model yet: " + ", ".join(made_by(name) for name in missing) + "."
        else:
            body = make(results)
            if len(needs) == 1:
                body += f"\n\nCommand: {made_by(needs[0])}"
        return f"{match[1]}\n{body}\n\n{match[3]}"

    return BLOCK.sub(block, text)


def refilled(pages: Iterable[str], fill: Callable[[str], str], check: bool) -> list[str]:
    """Writes what `fill` makes of each page, unless this is a check; names those that were not so."""
    stale = []
    for name in pages:
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        if (new := fill(text)) != text:
            stale.append(name)
            if not check:
                write_text(page, new)
    return stale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("fill", "collect"), default="fill")
    parser.add_argument("runs", nargs="?", type=Path, help="collect: the folder that holds the runs")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page does not match")
    options = parser.parse_args()
    if options.what == "collect":
        if options.runs is None or not options.runs.is_dir():
            parser.error(f"collect expects a folder of runs, got {options.runs}")
        collect(options.runs, ROOT / "results")
        collect_protocols(options.runs, ROOT / "results")
        return
    results = load(ROOT / "results")
    stale = refilled(PAGES, lambda text: filled(text, results), options.check)
    if options.check and stale:
        sys.exit(f"{', '.join(stale)}: not as results/ says; run python experiments/tools/results_pages.py")
    print("written: " + ", ".join(stale) if stale else "all pages match")


if __name__ == "__main__":
    main()
