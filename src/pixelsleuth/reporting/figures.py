"""Write figures, and the colours of their lines."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import whole_file

#: What a figure may be written as.
FORMATS = ("png", "pdf", "svg")
#: Of lines, in order; told apart by the colour-blind and in grey (Okabe & Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def png_of(figure: Figure, dpi: int = 110) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write PNG, PDF or SVG as the suffix says, whole or not at all; the same figure gives the same bytes.

    Raises:
        PixelsleuthError: another suffix.
    """
    kind = check_format(path)
    # Text stays text, which journals ask for; dates and random names would make each run's file another.
    settings = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "pixelsleuth"}
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with whole_file(path) as partial, matplotlib.rc_context(settings):
        figure.savefig(partial, format=kind, dpi=dpi, metadata=metadata)


def check_format(path: Path) -> str:
    """The format that a file name asks for. Raises PixelsleuthError where it is none of `FORMATS`."""
    kind = path.suffix.lower()[1:]
    if kind not in FORMATS:
        raise PixelsleuthError(f"expected a file that ends in .{', .'.join(FORMATS)}; got {path}", "out")
    return kind


def save_picture(pixels: np.ndarray, path: Path) -> None:
    """Write (H, W, 3) uint8 as PNG, whole or not at all."""
    with whole_file(path) as partial:
        Image.fromarray(pixels).save(partial)
