"""The places of a finding that few normal inputs match: a picture of each, where it is, how rare it is."""

from __future__ import annotations

from dataclasses import dataclass

from pixelsleuth.language import Language
from pixelsleuth.records import Box, Region
from pixelsleuth.reporting.answer import places
from pixelsleuth.reporting.figures import shrunk
from pixelsleuth.reporting.layers import FindingView, jpeg_uri
from pixelsleuth.sources.faces import patch
from pixelsleuth.sources.volumes import in_ras_shares

#: Side of a place's picture.
SIDE = 96
#: Places that are shown, the rarest first; the record has them all.
MOST = 8


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
    for number in places(finding)[:MOST]:
        region = finding.regions[number]
        box = "{}, {} – {}, {}".format(*region.box.as_list())
        if region.depth is not None:
            found.append(_of_a_scan(region, view, say))
            continue
        picture, where = "", ""
        if view.pixels is not None and finding.kind == "image":
            picture = jpeg_uri(shrunk(patch(view.pixels, _square(region.box)), SIDE))
            where = _where(region.box, view.pixels.shape, say)
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


def _where(box: Box, shape: tuple[int, ...], say: Language) -> str:
    """In which ninth of the picture its middle lies, in words."""
    column = min(2, 3 * (box.x0 + box.x1) // (2 * shape[1]))
    row = min(2, 3 * (box.y0 + box.y1) // (2 * shape[0]))
    return say(f"place.{row}{column}")
