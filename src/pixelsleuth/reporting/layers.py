"""Everything shown of one finding: image layers, thumbnails, the facts of its file."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from pixelsleuth.errors import InputError
from pixelsleuth.language import Language, language
from pixelsleuth.records import Box, Finding
from pixelsleuth.reporting.answer import places
from pixelsleuth.reporting.drawings import surprise_colours
from pixelsleuth.reporting.filefacts import FileFacts, picture_facts, video_facts, volume_facts
from pixelsleuth.reporting.overlays import overlay, shrunk, warmth, with_boxes
from pixelsleuth.reporting.planes import ScanView, planes, scan_view, sheet, ticked
from pixelsleuth.sources.faces import drawn_back
from pixelsleuth.sources.images import decode, read_bytes
from pixelsleuth.sources.scans.slices import picture_of
from pixelsleuth.sources.scans.volumes import in_ras, open_volume, volume_of
from pixelsleuth.sources.tracks import rim, surrounded

#: Longer side of a picture in the report, so that a finding stays under a megabyte.
SIDE = 480
#: Side of a face's thumbnail.
THUMBNAIL = 72
#: Faces that get one.
MAX_FACES = 24
_FRAME, _REGION = (255, 255, 255), (0, 229, 255)


@dataclass(frozen=True)
class FindingView:
    """A finding with the picture it is about.

    Attributes:
        finding: of a volume with the maps of the one slice that is shown.
        pixels: (H, W, 3) uint8 RGB; of a volume that slice; None of a video or what could not be read.
        slice_of: of a volume, which slice is shown and of how many, counted from 1 at the bottom.
        scan: of a volume, all of it.
    """

    finding: Finding
    pixels: np.ndarray | None
    facts: FileFacts
    title: str
    slice_of: tuple[int, int] | None = None
    scan: ScanView | None = None


@dataclass(frozen=True)
class Layer:
    """One picture as a data URI. Layers with `aligned` show the same place, pixel on pixel."""

    name: str
    caption: str
    uri: str
    aligned: bool = True


def view_of(finding: Finding, path: str | os.PathLike[str], title: str, say: Language | None = None) -> FindingView:
    """Read the file a finding is about once more, for its pixels and its facts."""
    if finding.kind == "video":
        return FindingView(finding, None, video_facts(path, say), title)
    if finding.kind == "volume":
        return _view_of_volume(finding, path, title, say)
    try:
        data = read_bytes(path)
    except InputError:
        return FindingView(finding, None, FileFacts(), title)
    try:
        pixels = decode(data).pixels
    except InputError:
        pixels = None
    return FindingView(finding, pixels, picture_facts(data, say), title)


def _view_of_volume(finding: Finding, path: str | os.PathLike[str], title: str, say: Language | None) -> FindingView:
    """The slice with most of the largest place that few normal volumes match; without any the most unusual one."""
    flat = replace(finding, heatmap=None, excess=None, raw_maps={}, restoration=None)
    try:
        opened = open_volume(path)
    except InputError as error:
        return FindingView(flat, None, volume_facts(path, error, say), title)
    facts = volume_facts(path, opened, say)
    if finding.heatmap is None or finding.excess is None:
        opened.close()
        return FindingView(flat, None, facts, title)
    try:
        volume = volume_of(path, opened)
    except InputError:
        return FindingView(flat, None, facts, title)
    scan = scan_view(finding, volume)
    shown = scan.at[2]
    share = picture_of(in_ras(finding.heatmap, volume), shown)
    flat = replace(flat, heatmap=share, excess=picture_of(scan.excess, shown))
    pixels = np.repeat(picture_of(scan.grey, shown)[..., None], 3, 2)
    return FindingView(flat, pixels, facts, title, (shown + 1, volume.values.shape[2]), scan)


def layers(view: FindingView, grid: tuple[int, int], say: Language | None = None) -> list[Layer]:
    """Close-up of what was judged: input, restoration, map, where to look; then the whole picture and the codes."""
    finding, made, say = view.finding, [], say or language()
    finding = replace(finding, regions=tuple(finding.regions[number] for number in places(finding)))
    if finding.kind == "volume":
        return _slice_layers(view, say)
    close = _close_up(view)
    if close is not None:
        pixels, excess, inside, whole = close
        made.append(Layer("input", say("layer.input" if finding.faces else "layer.input.whole"), jpeg_uri(pixels)))
        if finding.restoration is not None and inside is not None:
            pasted = _pasted(pixels, finding.restoration, inside)
            made.append(Layer("restoration", say("layer.restoration"), jpeg_uri(pasted)))
        if excess is not None:
            scale = pixels.shape[1] / max(1, whole.width)
            boxes = [_scaled(region.box, whole, scale) for region in finding.regions]
            coloured = with_boxes(overlay(pixels, excess), boxes, _REGION)
            caption = say.first_of(f"layer.map.{finding.verdict}", "layer.map")
            made.append(Layer("map", caption, jpeg_uri(coloured)))
            # Every picture has a least usual tenth; of one without an alarm it would be read as a finding.
            if finding.verdict == "anomalous":
                made.append(Layer("look", say("layer.look"), jpeg_uri(warmth(pixels, excess))))
    if view.pixels is not None:
        made.append(_whole(replace(view, finding=finding), say))
    if "surprise" in finding.raw_maps:
        cells = cv2.resize(finding.raw_maps["surprise"], grid[::-1], interpolation=cv2.INTER_AREA)
        caption = say("layer.codes", columns=str(grid[1]), rows=str(grid[0]))
        made.append(Layer("codes", caption, png_uri(surprise_colours(cells)), False))
    return made


def _slice_layers(view: FindingView, say: Language) -> list[Layer]:
    """Three planes of a volume with what is unusual, the axial one also as it is and with where to look; all slices."""
    if view.scan is None or view.slice_of is None:
        return []
    at, count = view.slice_of
    shown = planes(view.scan)
    pixels, excess = shown["axial"]
    made = [
        Layer("input", say("layer.slice", at=str(at), count=str(count)), jpeg_uri(pixels)),
        Layer(
            "map",
            say.first_of(f"layer.map.slice.{view.finding.verdict}", "layer.map.slice"),
            jpeg_uri(ticked(overlay(pixels, excess), view.scan, "axial")),
        ),
    ]
    if view.finding.verdict == "anomalous":
        made.append(Layer("look", say("layer.look.slice"), jpeg_uri(warmth(pixels, excess))))
    for name in ("coronal", "sagittal"):
        drawn = ticked(overlay(*shown[name]), view.scan, name)
        made.append(Layer(name, say(f"layer.{name}"), jpeg_uri(drawn), False))
    made.append(Layer("slices", say("layer.slices"), jpeg_uri(sheet(view.scan)), False))
    return made


def stills(view: FindingView, say: Language | None = None) -> list[Layer]:
    """The mapped frames of a video, the most unusual first."""
    made, say = [], say or language()
    for number, still in enumerate(view.finding.stills, 1):
        frame = view.finding.frames[still.frame]
        seconds, p = say.decimal(frame.time, ".2f"), say.decimal(frame.p_value, ".4f")
        caption = say("layer.still", number=str(number), seconds=seconds, p=p)
        small = shrunk(still.pixels, 240)
        coloured = overlay(small, _fitted(still.excess, small.shape))
        made.append(Layer(f"still{number}", caption, jpeg_uri(coloured), False))
    return made


def thumbnails(view: FindingView) -> list[str]:
    """One data URI a face, in order; empty where the picture is not at hand."""
    if view.pixels is None:
        return []
    found = []
    for face in view.finding.faces[:MAX_FACES]:
        part, _ = surrounded(view.pixels, face.face.box)
        found.append(jpeg_uri(shrunk(part, THUMBNAIL)))
    return found


def _close_up(view: FindingView) -> tuple[np.ndarray, np.ndarray | None, Box | None, Box] | None:
    """Pixels of what lies around the square, excess on them, the square's place, and where it all is."""
    finding = view.finding
    if finding.square is None:
        return None
    square = finding.square
    excess: np.ndarray | None = None
    if finding.stills:
        still = finding.stills[0]
        pixels, excess = still.pixels, still.excess
        _, inside = surrounded(still.heatmap, square)
        shape: tuple[int, ...] = still.heatmap.shape
    elif view.pixels is not None:
        pixels, inside = surrounded(view.pixels, square)
        if finding.excess is not None:
            excess, _ = surrounded(finding.excess, square)
        shape = view.pixels.shape
    else:
        return None
    whole = rim(square, shape)
    small = shrunk(pixels, SIDE)
    scale = small.shape[1] / pixels.shape[1]
    inside = replace(
        inside, x0=round(inside.x0 * scale), y0=round(inside.y0 * scale),
        x1=round(inside.x1 * scale), y1=round(inside.y1 * scale),
    )  # fmt: skip
    return small, None if excess is None else _fitted(excess, small.shape), inside, whole


def _whole(view: FindingView, say: Language) -> Layer:
    """The whole picture with what is unusual, faces and regions framed."""
    assert view.pixels is not None
    finding = view.finding
    small = shrunk(view.pixels, SIDE)
    scale = small.shape[1] / view.pixels.shape[1]
    everything = Box(0, 0, view.pixels.shape[1], view.pixels.shape[0])
    shown = small if finding.excess is None else overlay(small, _fitted(finding.excess, small.shape))
    shown = with_boxes(shown, [_scaled(face.face.box, everything, scale) for face in finding.faces], _FRAME)
    shown = with_boxes(shown, [_scaled(region.box, everything, scale) for region in finding.regions], _REGION)
    return Layer("whole", say("layer.whole.faces" if finding.faces else "layer.whole"), jpeg_uri(shown), False)


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
