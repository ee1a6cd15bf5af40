"""The traces of saving and editing as layers over the image."""

from __future__ import annotations

import numpy as np

from pixelsleuth.evidence.traces import blocks_around, error_level, ghost, noise
from pixelsleuth.language import Language
from pixelsleuth.records import Box
from pixelsleuth.reporting.layers import SIDE, FindingView, Layer, jpeg_uri
from pixelsleuth.reporting.overlays import shrunk
from pixelsleuth.sources.tracks import rim

#: Of a ghost, how strong it is where its colour is full: twice what single edges of an untouched picture reach.
FULL = 0.4
_EVEN, _FULL = 200.0, (178, 24, 43)


def trace_layers(view: FindingView, say: Language) -> list[Layer]:
    """Error level, ghost and noise of a picture's close-up, or of all of it where no face was judged."""
    pixels, finding = view.pixels, view.finding
    if pixels is None or finding.kind != "image":
        return []
    height, width = pixels.shape[:2]
    shown = Box(0, 0, width, height) if finding.square is None else rim(finding.square, pixels.shape)
    around = blocks_around(shown, pixels.shape)
    part = np.ascontiguousarray(pixels[around.y0 : around.y1, around.x0 : around.x1])

    def cut(values: np.ndarray) -> np.ndarray:
        """Cut the close-up's part of a trace, at the size it is shown."""
        inside = values[shown.y0 - around.y0 :, shown.x0 - around.x0 :][: shown.height, : shown.width]
        return shrunk(np.ascontiguousarray(inside), SIDE)

    strength, quality = ghost(part)
    return [
        Layer("ela", say("trace.ela"), jpeg_uri(cut(error_level(part)))),
        Layer("ghost", say("trace.ghost", quality=str(quality)), jpeg_uri(_coloured(cut(strength)))),
        Layer("noise", say("trace.noise"), jpeg_uri(np.repeat(cut(noise(part))[..., None], 3, 2))),
    ]


def _coloured(strength: np.ndarray) -> np.ndarray:
    """(H, W) of `ghost` -> (H, W, 3) uint8, from grey to full colour."""
    share = np.clip(strength / FULL, 0, 1)[..., None]
    return (_EVEN * (1 - share) + np.array(_FULL) * share).astype(np.uint8)
