"""Drawings as SVG, for the report and the page: the score among normal ones, p over time, the colour legend."""

from __future__ import annotations

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


def histogram(normal: np.ndarray, scores: Sequence[float], rate: float, say: Language) -> Markup:
    """Draw scores among those of the calibration, and the line right of which p is `rate` or less, where there is one.

    Args:
        normal: (n,) ascending; scores: of this input, one a face or frame.
    """
    height, base = 150, 118
    border = border_of(normal, rate)
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
    if border is not None:
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
    end = max(frame.time for frame in frames) or 1.0
    lowest = min(finding.max_false_alarm, *(frame.p_value for frame in frames)) / 2
    depth = -math.log10(lowest)

    def at(time: float, p: float) -> tuple[float, float]:
        return round(left + (right - left) * time / end, 1), round(top + (base - top) * -math.log10(p) / depth, 1)

    parts = []
    for power in range(math.floor(depth) + 1):
        y = at(0, 10.0**-power)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(_text(left - 6, y + 4, f"{10.0**-power:g}", "end", "soft-text"))
    y = at(0, finding.max_false_alarm)[1]
    parts.append(f'<line class="rate" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
    parts.append(_text(right, y + 14, say("drawing.border", rate=say.decimal(finding.max_false_alarm, "g")), "end"))
    for track in sorted({frame.track for frame in frames}):
        points = [at(frame.time, frame.p_value) for frame in frames if frame.track == track]
        dash = _DASHES[track % len(_DASHES)]
        line = " ".join(f"{a},{b}" for a, b in points)
        parts.append(f'<polyline class="track track{track % 4}" stroke-dasharray="{dash}" points="{line}"/>')
        parts += [f'<circle class="dot track{track % 4}" cx="{a}" cy="{b}" r="3"/>' for a, b in points]
    for number, still in enumerate(finding.stills, 1):
        frame = frames[still.frame]
        a, b = at(frame.time, frame.p_value)
        parts.append(_text(a, b + 16, str(number), "middle", "this-text"))
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            _text(
                left + (right - left) * share,
                base + 18,
                f"{end * share:.1f} s",
                "end" if share == 1 else "middle",
                "soft-text",
            )
        )
    parts.append(_text(left, base + 34, say("drawing.frames"), "start"))
    label = say("drawing.timeline", n=str(len(frames)), seconds=say.decimal(end, ".1f"))
    return _svg(parts, height, label)


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
