"""The report: one HTML file that needs no network, the verdict in plain words first."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from pixelsleuth import __version__
from pixelsleuth.files import write_text
from pixelsleuth.records import Finding
from pixelsleuth.reporting.figures import overlay, png_of, score_histogram, shrunk, warmth, with_boxes
from pixelsleuth.scoring.calibration import Calibration
from pixelsleuth.scoring.examine import BOTH_TRACKS, COMBINED, DETECTIVE
from pixelsleuth.sources.faces import drawn_back

#: Longer side of a picture in the report, so that a finding stays under a megabyte.
SIDE = 480

VERDICT_WORDS = {
    "normal": "Nothing unusual found",
    "anomalous": "Unusual",
    "unsure": "Unsure: the answer changes under a mild re-encoding",
    "not_applicable": "Not judged",
}

NO_SIGNAL = (
    "What this model cannot see: on faces swapped by a generator (DFDC) its score is barely better than chance, and "
    "a plain measure of blur does as well; where such a face was swapped its map does not know. It sees parts of a "
    "face that were swapped, copied or removed far better. A normal verdict is no proof that a face is genuine."
)


@dataclass(frozen=True)
class Exhibit:
    """A finding with the picture it is about, (H, W, 3) uint8 RGB, None where it could not be read."""

    finding: Finding
    pixels: np.ndarray | None
    title: str


def write_report(path: Path, exhibits: list[Exhibit], calibration: Calibration, command: str, crop: str) -> None:
    """Writes the report of several findings of one model."""
    write_text(path, report_of(exhibits, calibration, command, crop))


def report_of(exhibits: list[Exhibit], calibration: Calibration, command: str, crop: str) -> str:
    """The report as the text of one HTML file."""
    environment = Environment(loader=PackageLoader("pixelsleuth.reporting"), autoescape=True, undefined=StrictUndefined)
    page: str = environment.get_template("report.html").render(
        items=[_item(exhibit, calibration) for exhibit in exhibits],
        calibration=calibration,
        model=exhibits[0].finding.model,
        rate=exhibits[0].finding.max_false_alarm,
        command=command,
        version=__version__,
        no_signal=NO_SIGNAL if crop == "face" else "",
    )
    return page


def pictures_of(exhibit: Exhibit, calibration: Calibration) -> dict[str, str]:
    """What the web page lays over each other, as data URIs of one size: `input`, `restoration` (of the face, in its
    place), `heatmap`; and `histogram`. Those that a finding has."""
    finding, pixels = exhibit.finding, exhibit.pixels
    found: dict[str, str] = {}
    if pixels is not None:
        found["input"] = _data_uri(shrunk(pixels, SIDE))
        if finding.restoration is not None and finding.square is not None and finding.kind == "image":
            drawn = [drawn_back(finding.restoration[..., c].astype(np.float32), finding.square, pixels.shape[:2])
                     for c in range(3)]  # fmt: skip
            within = drawn_back(np.ones(finding.restoration.shape[:2], np.float32), finding.square, pixels.shape[:2])
            mixed = np.where(within[..., None] > 0.5, np.stack(drawn, 2), pixels)
            found["restoration"] = _data_uri(shrunk(np.clip(mixed, 0, 255).astype(np.uint8), SIDE))
        if finding.heatmap is not None and finding.heatmap.shape == pixels.shape[:2]:
            coloured = warmth(pixels, finding.heatmap)
            coloured = with_boxes(coloured, [r.box.as_list() for r in finding.regions], (0, 229, 255))
            found["heatmap"] = _data_uri(shrunk(coloured, SIDE))
    if finding.score is not None:
        found["histogram"] = _histogram(finding, calibration)
    return found


def _histogram(finding: Finding, calibration: Calibration) -> str:
    assert finding.score is not None
    known = calibration.scores["original"]
    threshold = float(np.quantile(known, 1 - finding.max_false_alarm))
    return _png_uri(png_of(score_histogram(known, finding.score, threshold, finding.max_false_alarm)))


def _item(exhibit: Exhibit, calibration: Calibration) -> dict[str, Any]:
    finding = exhibit.finding
    item: dict[str, Any] = {
        "finding": finding,
        "title": exhibit.title,
        "words": VERDICT_WORDS[finding.verdict],
        "explained": explained(finding),
        "tracks": tracks_of(finding),
        "images": [],
        "histogram": "",
    }
    pixels = exhibit.pixels
    if pixels is not None:
        faces = [face.face.box.as_list() for face in finding.faces]
        shown = with_boxes(pixels, faces, (255, 255, 255))
        item["images"].append(("input, face framed" if faces else "input", _data_uri(shrunk(shown, SIDE))))
        near = surroundings(finding, pixels)
        if finding.excess is not None:
            coloured = overlay(pixels, finding.excess)
            coloured = with_boxes(coloured, [r.box.as_list() for r in finding.regions], (0, 229, 255))
            item["images"].append(("what few normal pictures match", _data_uri(shrunk(coloured[near], SIDE))))
        if finding.heatmap is not None:
            tinted = warmth(pixels, finding.heatmap)
            item["images"].append(("where to look: the least usual tenth", _data_uri(shrunk(tinted[near], SIDE))))
        if finding.restoration is not None:
            item["images"].append(("face as the model would have it", _data_uri(finding.restoration)))
    if finding.score is not None:
        item["histogram"] = _histogram(finding, calibration)
    return item


def surroundings(finding: Finding, pixels: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the square that was judged with a quarter of its side around it, within the picture."""
    if finding.square is None:
        return slice(None), slice(None)
    box, more = finding.square, finding.square.width // 4
    rows = slice(max(0, box.y0 - more), min(pixels.shape[0], box.y1 + more))
    return rows, slice(max(0, box.x0 - more), min(pixels.shape[1], box.x1 + more))


def explained(finding: Finding) -> str:
    """The verdict as a sentence with the error rate it rests on."""
    if finding.verdict == "not_applicable" and finding.reason:
        return finding.reason["sentence"]
    share = f"{finding.p_value:.2%} of normal calibration images are at least this unusual (p = {finding.p_value:.4f})"
    rate = f"{finding.max_false_alarm:.1%}"
    if finding.verdict == "anomalous":
        return f"{share}; at this threshold at most {rate} of normal images are called unusual by mistake."
    if finding.verdict == "unsure" and finding.reason:
        return f"{share}. {finding.reason['sentence']}."
    return f"{share}; to be called unusual it would have to be at most {rate}."


def tracks_of(finding: Finding) -> str:
    """What each track says, where the score sums two; else empty."""
    codes, detective = finding.scores.get(COMBINED), finding.scores.get(f"{DETECTIVE}_adjusted")
    if BOTH_TRACKS not in finding.scores or codes is None or detective is None:
        return ""
    return (
        "The score sums two tracks, each about 0 for a normal picture and in units of its spread there: how unlikely "
        f"the codes are {codes:+.2f}, what the detective of self-made forgeries sees {detective:+.2f}."
    )


def _data_uri(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _png_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
