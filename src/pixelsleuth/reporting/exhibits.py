"""A finding with all that is shown of it: pictures that lie on each other, thumbnails, the facts of its file."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from pixelsleuth.errors import InputError
from pixelsleuth.records import Box, Finding
from pixelsleuth.reporting.drawings import surprise_colours
from pixelsleuth.reporting.figures import overlay, shrunk, warmth, with_boxes
from pixelsleuth.reporting.filefacts import FileFacts, picture_facts, video_facts
from pixelsleuth.sources.faces import drawn_back
from pixelsleuth.sources.images import decode, read_bytes
from pixelsleuth.sources.tracks import surrounded

#: Longer side of a picture in the report, so that a finding stays under a megabyte.
SIDE = 480
#: Side of a face's thumbnail.
THUMBNAIL = 72
#: Faces that get one.
MOST_FACES = 24
_FRAME, _REGION = (255, 255, 255), (0, 229, 255)


@dataclass(frozen=True)
class Exhibit:
    """A finding with the picture it is about, (H, W, 3) uint8 RGB; None of a video or what could not be read."""

    finding: Finding
    pixels: np.ndarray | None
    facts: FileFacts
    title: str


@dataclass(frozen=True)
class Layer:
    """One picture as a data URI. Layers with `aligned` show the same place, pixel on pixel."""

    name: str
    caption: str
    uri: str
    aligned: bool = True


def exhibit_of(finding: Finding, path: str | os.PathLike[str], title: str) -> Exhibit:
    """Reads the file a finding is about once more, for its pixels and its facts."""
    if finding.kind == "video":
        return Exhibit(finding, None, video_facts(path), title)
    try:
        data = read_bytes(path)
    except InputError:
        return Exhibit(finding, None, FileFacts(), title)
    try:
        pixels = decode(data).pixels
    except InputError:
        pixels = None
    return Exhibit(finding, pixels, picture_facts(data), title)


def layers(exhibit: Exhibit, grid: tuple[int, int]) -> list[Layer]:
    """Close-up of what was judged: input, restoration, map, where to look; then the whole picture and the codes."""
    finding, made = exhibit.finding, []
    close = _close_up(exhibit)
    if close is not None:
        pixels, excess, share, inside, whole = close
        made.append(Layer("input", "Input: what was judged, with a rim around it", jpeg_uri(pixels)))
        if finding.restoration is not None and inside is not None:
            pasted = _pasted(pixels, finding.restoration, inside)
            made.append(Layer("restoration", "Restoration: as the model would have it", jpeg_uri(pasted)))
        if excess is not None:
            scale = pixels.shape[1] / max(1, whole.width)
            boxes = [_scaled(region.box, whole, scale) for region in finding.regions]
            coloured = with_boxes(overlay(pixels, excess), boxes, _REGION)
            made.append(Layer("map", "Unusual: what few normal images match, regions framed", jpeg_uri(coloured)))
        if share is not None:
            caption = "Where to look: the least usual tenth, tinted in normal images too"
            made.append(Layer("look", caption, jpeg_uri(warmth(pixels, share))))
    if exhibit.pixels is not None:
        made.append(_whole(exhibit))
    if "surprise" in finding.raw_maps:
        cells = cv2.resize(finding.raw_maps["surprise"], grid[::-1], interpolation=cv2.INTER_AREA)
        caption = f"Surprise of the {grid[1]} x {grid[0]} codes over expectation: dark -2 nats, yellow 4 or more"
        made.append(Layer("codes", caption, png_uri(surprise_colours(cells)), False))
    return made


def stills(exhibit: Exhibit) -> list[Layer]:
    """The mapped frames of a video, the most unusual first."""
    made = []
    for number, still in enumerate(exhibit.finding.stills, 1):
        frame = exhibit.finding.frames[still.frame]
        caption = f"{number}: at {frame.time:.2f} s, p of the frame {frame.p_value:.4f}"
        small = shrunk(still.pixels, 240)
        coloured = overlay(small, _fitted(still.excess, small.shape))
        made.append(Layer(f"still{number}", caption, jpeg_uri(coloured), False))
    return made


def thumbnails(exhibit: Exhibit) -> list[str]:
    """One data URI a face, in order; empty where the picture is not at hand."""
    if exhibit.pixels is None:
        return []
    found = []
    for face in exhibit.finding.faces[:MOST_FACES]:
        part, _ = surrounded(exhibit.pixels, face.face.box)
        found.append(jpeg_uri(shrunk(part, THUMBNAIL)))
    return found


def _close_up(
    exhibit: Exhibit,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, Box | None, Box] | None:
    """Pixels of what lies around the square, excess and share on them, the square's place, and where it all is."""
    finding = exhibit.finding
    if finding.square is None:
        return None
    square = finding.square
    share: np.ndarray | None = None
    excess: np.ndarray | None = None
    if finding.stills:
        still = finding.stills[0]
        pixels, excess = still.pixels, still.excess
        share, inside = surrounded(still.heatmap, square)
        shape: tuple[int, ...] = still.heatmap.shape
    elif exhibit.pixels is not None:
        pixels, inside = surrounded(exhibit.pixels, square)
        if finding.excess is not None and finding.heatmap is not None:
            excess, share = surrounded(finding.excess, square)[0], surrounded(finding.heatmap, square)[0]
        shape = exhibit.pixels.shape
    else:
        return None
    more = square.width // 2 if square.angle else square.width // 4
    whole = Box(
        max(0, square.x0 - more), max(0, square.y0 - more),
        min(shape[1], square.x1 + more), min(shape[0], square.y1 + more),
    )  # fmt: skip
    small = shrunk(pixels, SIDE)
    scale = small.shape[1] / pixels.shape[1]
    inside = replace(
        inside, x0=round(inside.x0 * scale), y0=round(inside.y0 * scale),
        x1=round(inside.x1 * scale), y1=round(inside.y1 * scale),
    )  # fmt: skip
    fitted = [None if m is None else _fitted(m, small.shape) for m in (excess, share)]
    return small, fitted[0], fitted[1], inside, whole


def _whole(exhibit: Exhibit) -> Layer:
    """The whole picture with what is unusual, faces and regions framed."""
    assert exhibit.pixels is not None
    finding = exhibit.finding
    small = shrunk(exhibit.pixels, SIDE)
    scale = small.shape[1] / exhibit.pixels.shape[1]
    everything = Box(0, 0, exhibit.pixels.shape[1], exhibit.pixels.shape[0])
    shown = small if finding.excess is None else overlay(small, _fitted(finding.excess, small.shape))
    shown = with_boxes(shown, [_scaled(face.face.box, everything, scale) for face in finding.faces], _FRAME)
    shown = with_boxes(shown, [_scaled(region.box, everything, scale) for region in finding.regions], _REGION)
    return Layer("whole", "The whole picture" + (", faces framed" if finding.faces else ""), jpeg_uri(shown), False)


def _pasted(pixels: np.ndarray, restoration: np.ndarray, box: Box) -> np.ndarray:
    """A copy of (H, W, 3) uint8 with the square at `box` replaced by its restoration."""
    inside = drawn_back(np.ones(restoration.shape[:2], np.float32), box, pixels.shape)[..., None] > 0.99
    drawn = np.stack([drawn_back(restoration[..., c], box, pixels.shape) for c in range(3)], -1)
    return np.where(inside, np.clip(np.rint(drawn), 0, 255), pixels).astype(np.uint8)


def _fitted(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if values.shape[:2] == tuple(shape[:2]):
        return values
    return cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def _scaled(box: Box, origin: Box, scale: float) -> list[int]:
    return [
        round((box.x0 - origin.x0) * scale), round((box.y0 - origin.y0) * scale),
        round((box.x1 - origin.x0) * scale), round((box.y1 - origin.y0) * scale),
    ]  # fmt: skip


def jpeg_uri(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def png_uri(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
