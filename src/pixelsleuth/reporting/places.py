"""Show the places of a finding that few normal inputs match: a close-up of each, where it is, how rare it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pixelsleuth.language import Language
from pixelsleuth.records import Box, Finding, Region
from pixelsleuth.reporting.answer import places
from pixelsleuth.reporting.layers import FindingView, jpeg_uri
from pixelsleuth.reporting.overlays import shrunk
from pixelsleuth.sources.faces import patch
from pixelsleuth.sources.scans.volumes import in_ras_shares

#: Parts of a face by its landmarks, left and right as the viewer sees them.
_PARTS = ("eye_left", "eye_right", "nose", "mouth")
#: Largest distance of a place from the part it is named by, in distances between the eyes.
MAX_DISTANCE = 0.5
#: Side of a place's picture.
SIDE = 96
#: Places shown, the rarest first; the record has them all.
MAX_PLACES = 8


@dataclass(frozen=True)
class Place:
    """One place: `picture` as a data URI, empty where the pixels are not at hand; `box` in pixels of the input; of a
    scan `size` in millilitres and `box` in voxels along the file's three axes."""

    picture: str
    where: str
    box: str
    rarity: str
    size: str = ""


def places_of(view: FindingView, say: Language) -> list[Place]:
    finding = view.finding
    found = []
    for number in places(finding)[:MAX_PLACES]:
        region = finding.regions[number]
        box = "{}, {} – {}, {}".format(*region.box.as_list())
        if region.depth is not None:
            found.append(_of_a_scan(region, view, say))
            continue
        picture, where = "", ""
        if view.pixels is not None and finding.kind == "image":
            picture = jpeg_uri(shrunk(patch(view.pixels, _square(region.box)), SIDE))
            where = where_of(region.box, view.pixels.shape, finding, say)
        rarity = say("place.rarity", share=say.decimal(100 * region.p_value, ".2g") + "%")
        found.append(Place(picture, where, box, rarity))
    return found


def _of_a_scan(region: Region, view: FindingView, say: Language) -> Place:
    """A place of a scan: how large, in which ninth of the head seen from above, in which voxels."""
    box, (first, last) = region.box, region.depth or (0, 0)
    where = ""
    if view.scan is not None and view.finding.affine is not None:
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, (first + last) / 2)
        across, forward, _ = in_ras_shares(middle, view.finding.affine, view.scan.grey.shape)
        where = say(f"place.scan.{min(2, int(3 * (1 - forward)))}{min(2, int(3 * across))}")
    size = say("place.size", ml=say.decimal(region.millilitres or 0.0, ".3g"))
    voxels = f"{box.x0}–{box.x1 - 1}, {box.y0}–{box.y1 - 1}, {first}–{last - 1}"
    return Place("", where, voxels, say.decimal(region.p_value, ".4f"), size)


def _square(box: Box) -> Box:
    """The square around a region, with a quarter more on each side."""
    side = round(1.5 * max(box.width, box.height, 16))
    x0, y0 = (box.x0 + box.x1 - side) // 2, (box.y0 + box.y1 - side) // 2
    return Box(x0, y0, x0 + side, y0 + side)


def where_of(box: Box, shape: tuple[int, ...], finding: Finding, say: Language) -> str:
    """Describe where the middle of a place lies: at a part of the face, else in which ninth of the image."""
    middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
    for face in (one.face for one in finding.faces if one.face.landmarks):
        eyes_and_nose, corners = np.array(face.landmarks[:3]), np.array(face.landmarks[3:5])
        points = np.concatenate([eyes_and_nose, corners.mean(0, keepdims=True)])
        apart = np.hypot(*(points - middle).T)
        if apart.min() < MAX_DISTANCE * np.hypot(*(points[1] - points[0])):
            return say(f"place.{_PARTS[int(apart.argmin())]}")
        if face.box.x0 <= middle[0] < face.box.x1 and face.box.y0 <= middle[1] < face.box.y1:
            return say("place.face")
    column = min(2, 3 * (box.x0 + box.x1) // (2 * shape[1]))
    row = min(2, 3 * (box.y0 + box.y1) // (2 * shape[0]))
    return say(f"place.{row}{column}")
