"""The model card: README.md of a model folder, and what `info` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pixelsleuth.evaluation.groups import lines_of
from pixelsleuth.files import sha256_of, write_text
from pixelsleuth.models.checkpoint import Model, load_model, parameter_count
from pixelsleuth.scoring.calibration import Calibration, load_calibration
from pixelsleuth.scoring.origins import least_rate

#: False alarms by group, as `evaluate --groups` measured them with the model's present calibration.
GROUPS_FILE = "groups.json"


def card_of(folder: Path, model: Model | None = None, name: str | None = None) -> str:
    """The card as Markdown, computed from the folder's own files.

    Args:
        model: what they hold, where it is loaded.
        name: of the model; the folder's unless given.
    """
    model = model or load_model(folder)
    config = model.config
    calibration: Calibration | None = None
    if (folder / "calibration.json").exists():
        calibration = load_calibration(folder / "calibration.json", model.sha256)
    training = config.training
    lines = [f"# Model card: {name or folder.resolve().name}", "", f"- SHA-256: `{model.sha256}`"]
    data = training["data"]
    splits = ", ".join(f"{split} {count:,}" for split, count in sorted(data["splits"].items()))
    lines += [
        f"- Data: {', '.join(data['sources'])} ({splits}), normal images only; store SHA-256 `{data['store_sha256']}`",
        f"- Preset: {training['settings']['preset']}, seed {training['settings']['seed']}, torch {training['torch']}",
        "- Preprocessing: " + ", ".join(f"{k} {v}" for k, v in config.preprocessing.items()),
        f"- VQ-VAE: {config.vqvae.kind}, {config.vqvae.codes} codes, grid {'x'.join(map(str, model.vqvae.grid()))}, "
        f"{parameter_count(model.vqvae):,} parameters",
    ]
    for kind in model.priors:
        lines.append(f"- Prior: {kind}, {model.count(kind):,} parameters")
    if model.detective is not None:
        taught = training["settings"]
        lines.append(
            f"- Detective: {parameter_count(model.detective):,} parameters, trained on "
            f"{taught['pairs']:,} pairs of a normal image and a forgery made of it: {', '.join(taught['forgeries'])}"
        )
    if data.get("detective"):
        lines.append("- The detective's faces: " + ", ".join(f"{k} {v:,}" for k, v in data["detective"].items()))
    for stage, figures in training["figures"].items():
        if isinstance(figures, dict):
            lines.append(f"- Figures of {stage}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        else:
            lines.append(f"- {stage.replace('_', ' ').capitalize()}: {figures:,}")
    levelled = ", levelled by the look of the image" if calibration is not None and calibration.levelling else ""
    lines.append(f"- Score: {config.scoring['default']}{levelled}, map: {config.scoring['default_map']}")
    if calibration is None:
        lines.append("- Not calibrated: run `pixelsleuth calibrate`")
    else:
        sources = ", ".join(f"{name} {count:,}" for name, count in calibration.about["sources"].items())
        lines.append(
            f"- Calibration: {calibration.count:,} normal images ({sources}), {calibration.dtype}; "
            f"lowest rate that can be promised {1 / (calibration.count + 1):.2g}"
        )
        lines += _promised(calibration) + _left_out(calibration) + _by_group(folder, calibration)
    licence = folder / "LICENSE-WEIGHTS"
    if licence.is_file():
        lines += ["", "## Licence of the weights", "", licence.read_text(encoding="utf-8").strip()]
    return "\n".join(lines) + "\n"


def _promised(calibration: Calibration) -> list[str]:
    """What rates sources can promise, as Markdown."""
    counts = calibration.of_each_source
    if len(counts) < 2:
        return []
    each, new = (least_rate(counts, promise) for promise in ("any-source", "new-source"))
    return [
        f"- Lowest rate for images of any one of the {len(counts)} sources {each:.2g}, for images of a source never "
        f"seen {new:.2g} (`detect --promise`)"
    ]


def _left_out(calibration: Calibration) -> list[str]:
    """A table of false alarms on each source where it is ranked against the others, as Markdown."""
    rates = calibration.about.get("left_out")
    if not rates:
        return []
    names = list(next(iter(rates.values())))
    lines = [
        "", "## False alarms on a source that was left out", "",
        "Share of a source's untouched images that would be called anomalous if the model had been calibrated on the "
        "other sources alone.", "",
        "| source | " + " | ".join(f"promised {float(name):.0%}" for name in names) + " |",
        "| --- |" + " --- |" * len(names),
    ]  # fmt: skip
    return lines + [
        f"| {source} | " + " | ".join(f"{v:.1%}" for v in row.values()) + " |" for source, row in rates.items()
    ]


def save_groups(folder: Path, groups: dict[str, Any], data_sha256: str) -> None:
    """Keep false alarms by group (see evaluation.groups) beside the calibration that they were measured with."""
    tree = {"calibration_sha256": sha256_of(folder / "calibration.json"), "data_sha256": data_sha256, "groups": groups}
    write_text(folder / GROUPS_FILE, json.dumps(tree, indent=1) + "\n")


def _by_group(folder: Path, calibration: Calibration) -> list[str]:
    """Tables of false alarms by group, as Markdown; none where they were measured with another calibration."""
    path = folder / GROUPS_FILE
    if not path.is_file():
        return []
    tree = json.loads(path.read_text(encoding="utf-8"))
    if tree["calibration_sha256"] != sha256_of(folder / "calibration.json"):
        return []
    sources = sorted(tree["groups"].get("source", {}).get("groups", {}))
    of = f" of {', '.join(sources)}" if sources else ""
    known = bool(sources) and set(sources) <= set(calibration.about.get("left_out") or {})
    limit = " The model was calibrated on images from there; for others nothing follows." if known else ""
    return [
        "", "## False alarms by group", "",
        f"Share of untouched images{of} with p at or below the rate, as `evaluate --groups` measured it, with 95% "
        f"intervals (Wilson).{limit}", *lines_of(tree["groups"]),
    ]  # fmt: skip


def write_card(folder: Path, name: str | None = None) -> None:
    """Write README.md into the model folder."""
    write_text(folder / "README.md", card_of(folder, name=name))
