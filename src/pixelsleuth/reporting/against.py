"""Show an image beside an earlier copy: what differs, where, and what the model says about it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pixelsleuth.evidence.comparison import TONED
from pixelsleuth.language import Language
from pixelsleuth.records import Comparison, Finding
from pixelsleuth.reporting.layers import Layer, jpeg_uri
from pixelsleuth.reporting.overlays import with_boxes
from pixelsleuth.reporting.places import where_of

#: Longest side of the pictures, in pixels.
SIDE = 800
#: Shares of the copy below which the picture is called a part of it, and degrees from which it is called turned.
WHOLE, STRAIGHT = 0.97, 0.5
_FRAME, _TINT = (0, 229, 255), (229, 57, 53)


@dataclass(frozen=True)
class Beside:
    """`sentences`: what was found, one each; `places`: of each change where it is and what the model says; `pictures`:
    this file and the earlier copy, lying on each other, then the differences."""

    sentences: tuple[str, ...]
    places: tuple[str, ...]
    pictures: tuple[Layer, ...]


def beside(finding: Finding, pixels: np.ndarray | None, say: Language) -> Beside | None:
    """None where there was nothing to compare with; `pixels` (H, W, 3) uint8 of the picture, None for words alone."""
    found = finding.against
    if found is None:
        return None
    places = []
    for one in found.changes:
        where = where_of(one.box, found.shape, finding, say)
        box = "{}, {} – {}, {}".format(*one.box.as_list())
        told = say("against.place", where=where[:1].upper() + where[1:], box=box, levels=say.decimal(one.levels, ".0f"))
        places.append(f"{told} {say(f'against.model.{one.model}')}" if one.model else told)
    return Beside(tuple(_sentences(found, say)), tuple(places), tuple(_pictures(pixels, found, say)))


def _sentences(found: Comparison, say: Language) -> list[str]:
    told = []
    if found.state == "not_alignable":
        return [say("against.not_alignable")]
    share = sum(one.share for one in found.changes)
    told.append(say(f"against.{found.state}", n=say.number(len(found.changes)), share=_percent(share, say)))
    if found.kept < WHOLE:
        told.append(say("against.part", share=_percent(found.kept, say)))
    if found.covered < WHOLE - 0.1:
        told.append(say("against.more", share=_percent(1 - found.covered, say)))
    if found.mirrored:
        told.append(say("against.mirrored"))
    if abs(found.turned) > STRAIGHT:
        told.append(say("against.turned", degrees=say.decimal(abs(found.turned), ".1f")))
    if found.toned >= TONED:
        told.append(say("against.toned"))
    verdict = say(f"verdict.{found.verdict}")
    p = "" if found.p_value is None else f" (p = {say.decimal(found.p_value, '.4f')})"
    return [*told, say("against.earlier", verdict=verdict + p), say("against.limit")]


def _percent(share: float, say: Language) -> str:
    return say.decimal(100 * share, ".2g" if share < 0.1 else ".0f") + "%"


def _pictures(pixels: np.ndarray | None, found: Comparison, say: Language) -> list[Layer]:
    if found.earlier is None or found.excess is None or pixels is None:
        return []
    height, width = found.earlier.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    mine, earlier, excess = (
        cv2.resize(np.ascontiguousarray(one), size, interpolation=cv2.INTER_AREA)
        for one in (pixels, found.earlier, found.excess)
    )
    # Grey and pale, so that red is seen on any picture.
    grey = np.repeat(cv2.cvtColor(mine, cv2.COLOR_RGB2GRAY)[..., None], 3, 2) // 2 + 100
    tint = np.clip(excess - 0.5, 0, 1)[..., None]
    shown = (grey * (1 - tint) + np.array(_TINT) * tint).astype(np.uint8)
    across = size[0] / pixels.shape[1]
    boxes = [[round(side * across) for side in one.box.as_list()] for one in found.changes]
    return [
        Layer("against_this", say("page.compare.left"), jpeg_uri(mine)),
        Layer("against_earlier", say("page.compare.right"), jpeg_uri(earlier)),
        Layer("against_difference", say("against.difference"), jpeg_uri(with_boxes(shown, boxes, _FRAME))),
    ]
