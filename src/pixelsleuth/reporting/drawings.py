"""Drawings as SVG, for the report and the page: the score among normal ones, p over time, the colour legend."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from markupsafe import Markup, escape

from pixelsleuth.language import Language
from pixelsleuth.records import Finding
from pixelsleuth.reporting.overlays import heat
from pixelsleuth.scoring.origins import border_of

WIDTH = 560
#: Half the width of the longest line of text that stands in the middle of something.
HALF_TEXT = 200
#: Markers by person; shape and dash tell them apart without colour.
_DASHES = ("", "6 3", "2 3", "8 3 2 3")


def histogram(normal: np.ndarray, scores: Sequence[float], rate: float | None, say: Language) -> Markup:
    """Draw scores among those of the calibration, and the line right of which p is `rate` or less, where there is one;
    none is asked for without a rate.

    Args:
        normal: (n,) ascending; scores: of this input, one a face or frame.
    """
    height, base = 150, 118
    border = None if rate is None else border_of(normal, rate)
    low, high = np.quantile(normal, (0.001, 0.999))
    # Few scores, or a low rate, put the border at the highest of the calibration, beyond what else would be shown.
    marked = [*scores, border] if border is not None else list(scores)
    low, high = float(min(low, *marked)), float(max(high, *marked))
    margin = 0.03 * (high - low or 1)
    low, high = low - margin, high + margin
    counts, edges = np.histogram(normal, 60, (low, high))

    def x(value: float) -> float:
        return round(10 + (WIDTH - 20) * (value - low) / (high - low), 1)

    parts = [
        f'<rect class="bar" x="{x(edge)}" y="{base - h:.1f}" width="{(WIDTH - 20) / 60 - 0.8:.1f}" height="{h:.1f}"/>'
        for edge, h in zip(edges[:-1], 84 * counts / max(1, counts.max()), strict=True)
        if h > 0
    ]
    parts.append(f'<line class="axis" x1="10" x2="{WIDTH - 10}" y1="{base}" y2="{base}"/>')
    if border is not None and rate is not None:
        line = x(border)
        parts.append(f'<line class="rate" x1="{line}" x2="{line}" y1="24" y2="{base}"/>')
        middle = min(max(line, HALF_TEXT), WIDTH - HALF_TEXT)
        parts.append(_text(middle, 18, say("drawing.rate", rate=say.decimal(rate, "g")), "middle"))
    for score in scores[:200]:
        parts.append(f'<line class="this" x1="{x(score)}" x2="{x(score)}" y1="34" y2="{base + 6}"/>')
    worst = x(max(scores))
    side = "end" if worst > WIDTH - 90 else "start" if worst < 90 else "middle"
    what = say("drawing.this") if len(scores) == 1 else say("drawing.these", n=str(len(scores)))
    parts.append(_text(worst, base + 20, what, side, "this-text"))
    ends = (("← " + say("drawing.usual"), 10, "start"), (say("drawing.unusual") + " →", WIDTH - 10, "end"))
    for text, at, anchor in ends:
        # Not under the input's own name.
        if abs(at - worst) > 160:
            parts.append(_text(at, base + 20, text, anchor, "soft-text"))
    label = say("drawing.histogram", n=say.number(len(normal)))
    return _svg(parts, height, label)


def timeline(finding: Finding, say: Language) -> Markup:
    """p of each judged frame over time, one line a person, the mapped frames numbered."""
    height, left, right, top, base = 210, 46, WIDTH - 12, 14, 172
    frames = finding.frames
    last = max(frame.time for frame in frames)
    end = last or 1.0
    lowest = min(finding.max_false_alarm, *(frame.p_value for frame in frames)) / 2
    depth = -math.log10(lowest)

    def at(time: float, p: float) -> tuple[float, float]:
        return round(left + (right - left) * time / end, 1), round(top + (base - top) * -math.log10(p) / depth, 1)

    parts = []
    for power in range(math.floor(depth) + 1):
        y = at(0, 10.0**-power)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(_text(left - 6, y + 4, say.decimal(10.0**-power, "g"), "end", "soft-text"))
    border = at(0, finding.max_false_alarm)[1]
    parts.append(f'<line class="rate" x1="{left}" x2="{right}" y1="{border}" y2="{border}"/>')
    labels = _Labels(left, right, top, base)
    labels.avoid([(left, border), (right, border)])
    for track in sorted({frame.track for frame in frames}):
        points = [at(frame.time, frame.p_value) for frame in frames if frame.track == track]
        dash = _DASHES[track % len(_DASHES)]
        line = " ".join(f"{a},{b}" for a, b in points)
        parts.append(f'<polyline class="track track{track % 4}" stroke-dasharray="{dash}" points="{line}"/>')
        parts += [f'<circle class="dot track{track % 4}" cx="{a}" cy="{b}" r="3"/>' for a, b in points]
        labels.avoid(points)
    for number, still in enumerate(finding.stills, 1):
        frame = frames[still.frame]
        a, b = at(frame.time, frame.p_value)
        around = [(a, b + 16, "middle"), (a, b - 8, "middle"), (a + 7, b + 4, "start"), (a - 7, b + 4, "end"),
                  (a + 7, b + 16, "start"), (a - 7, b + 16, "end"), (a + 7, b - 8, "start"), (a - 7, b - 8, "end"),
                  (a, b + 30, "middle"), (a, b - 22, "middle")]  # fmt: skip
        parts.append(labels.placed(str(number), around, "this-text"))
    told = say("drawing.border", rate=say.decimal(finding.max_false_alarm, "g"))
    sides = [(right, "end"), (left + 4, "start"), ((left + right) / 2, "middle")]
    parts.append(labels.placed(told, [(x, border + dy, anchor) for dy in (14, -5, -22, 30) for x, anchor in sides]))
    for time, shown in _seconds(last):
        x = left + (right - left) * time / end
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>')
        # The last one would reach beyond the edge.
        anchor = "end" if x > right - 16 else "middle"
        parts.append(_text(x, base + 18, f"{say.decimal(time, shown)} s", anchor, "soft-text"))
    parts.append(_text(left, base + 34, say("drawing.frames"), "start"))
    label = say("drawing.timeline", n=str(len(frames)), seconds=say.decimal(last, ".1f" if last >= 1 else ".2g"))
    return _svg(parts, height, label)


def _seconds(last: float) -> list[tuple[float, str]]:
    """Round times from 0 to at most `last`, six at most, each with the format of its decimals."""
    if last <= 0:
        return [(0.0, ".0f")]
    power = math.floor(math.log10(last / 5))
    step = next(k * 10.0**power for k in (1, 2, 5, 10) if k * 10.0**power >= last / 5 * (1 - 1e-9))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(step * k, f".{decimals}f") for k in range(math.floor(last / step + 1e-9) + 1)]


class _Labels:
    """Places labels where they hide neither each other nor what is drawn, as far as there is room."""

    def __init__(self, left: float, right: float, top: float, base: float) -> None:
        self.inside = (left, top, right, base)
        self.points: list[tuple[float, float]] = []
        self.taken: list[tuple[float, float, float, float]] = []

    def avoid(self, points: Sequence[tuple[float, float]]) -> None:
        """Take (x, y) of one line's dots as drawn, and every few pixels of the line between them."""
        self.points += points
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            steps = int(max(abs(x1 - x0), abs(y1 - y0)) // 4)
            self.points += [(x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps) for k in range(1, steps)]

    def placed(self, text: str, places: Sequence[tuple[float, float, str]], name: str = "") -> str:
        """The text at the first of the best places, each (x, y, anchor)."""
        x, y, anchor = min(places, key=lambda place: self._hidden(_extent(text, *place)))
        self.taken.append(_extent(text, x, y, anchor))
        return _text(x, y, text, anchor, name)

    def _hidden(self, box: tuple[float, float, float, float]) -> tuple[int, int]:
        """How many labels a box would touch, or edges of the drawing leave; and how many dots it would cover."""
        x0, y0, x1, y1 = box
        left, top, right, base = self.inside
        outside = (x0 < left) + (y0 < top) + (x1 > right + 6) + (y1 > base)
        touched = sum(x0 < c and a < x1 and y0 < d and b < y1 for a, b, c, d in self.taken)
        return outside + touched, sum(x0 - 3 < x < x1 + 3 and y0 - 3 < y < y1 + 3 for x, y in self.points)


def _extent(text: str, x: float, y: float, anchor: str) -> tuple[float, float, float, float]:
    """About where a text of 13 pixels lies, as left, top, right and bottom; no font is known here."""
    width = 7.2 * len(text)
    x -= {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return x, y - 10, x + width, y + 2


def legend(say: Language, things: str) -> Markup:
    """The scale of the overlay's colours; the same for every picture. `things`: what the model was calibrated on."""
    steps = 40
    colours = heat(np.linspace(0, 1, steps))
    parts = []
    for k in range(steps):
        r, g, b = (round(255 * float(c)) for c in colours[k])
        parts.append(f'<rect x="{10 + k * 13.5}" y="4" width="14" height="14" fill="rgb({r},{g},{b})"/>')
    parts.append(_text(10, 34, say("drawing.begins", things=things), "start"))
    # A line of its own: on a phone there is no room beside the other.
    parts.append(_text(WIDTH - 10, 50, say("drawing.full"), "end"))
    return _svg(parts, 56, say("drawing.legend", things=things))


def surprise_colours(grid: np.ndarray, low: float = -2.0, high: float = 4.0) -> np.ndarray:
    """(h, w) nats above expectation -> (h, w, 3) uint8 on a scale that is the same for every picture."""
    strength = np.clip((grid - low) / (high - low), 0, 1)
    return np.asarray(matplotlib.colormaps["viridis"](strength)[..., :3] * 255).astype(np.uint8)


def _text(x: float, y: float, text: str, anchor: str, name: str = "") -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], height: int, label: str) -> Markup:
    # All of it is made here of numbers, and texts are escaped.
    return Markup(
        f'<svg class="drawing" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
