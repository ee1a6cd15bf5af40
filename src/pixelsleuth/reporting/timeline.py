"""Figures of videos: a finding over time with its most unusual frames, frames per video, sample faces."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
from matplotlib.figure import Figure

from pixelsleuth.datasets.store import Store
from pixelsleuth.records import Finding, p_by
from pixelsleuth.reporting.overlays import overlay, with_boxes

#: Side of one picture of a sheet, in pixels.
SIDE = 160


def timeline(finding: Finding) -> Figure:
    """p of each judged frame over time, one line a person, and the most unusual frames with their maps.

    A single frame below the rate is no alarm: the verdict rests on twice the mean over a person's frames.
    """
    frames = finding.frames
    stills = finding.stills
    figure = Figure(figsize=(9, 3 + 2.2 * bool(stills)), layout="constrained")
    grid = figure.add_gridspec(2 if stills else 1, max(1, len(stills)), height_ratios=(3, 2.2) if stills else (1,))
    axes = figure.add_subplot(grid[0, :])
    for track in sorted({frame.track for frame in frames}):
        of_track = [frame for frame in frames if frame.track == track]
        p = p_by(finding.promise, finding.faces[track]) if track < len(finding.faces) else None
        label = "frames" if p is None else f"person {track + 1}, p = {p:.3g}"
        axes.plot([f.time for f in of_track], [f.p_value for f in of_track], "o-", ms=4, lw=1, label=label)
    axes.axhline(finding.max_false_alarm, color="0.4", ls="--", lw=1)
    axes.text(1.0, finding.max_false_alarm, f" rate {finding.max_false_alarm:g}", transform=axes.get_yaxis_transform(),
              va="center", fontsize=8, color="0.3")  # fmt: skip
    for number, still in enumerate(stills):
        frame = frames[still.frame]
        axes.annotate(str(number + 1), (frame.time, frame.p_value), xytext=(0, -11), textcoords="offset points",
                      ha="center", fontsize=8, weight="bold")  # fmt: skip
    axes.set_yscale("log")
    # Room below for the numbers of the stills, above for the names.
    axes.set_ylim(bottom=min([finding.max_false_alarm, *(f.p_value for f in frames)]) / 3, top=8)
    axes.set_xlabel("seconds")
    axes.set_ylabel("p of the frame")
    axes.legend(fontsize=8, loc="upper left", ncols=3)
    p_value = "" if finding.p_promised is None else f", p = {finding.p_promised:.3g}"
    axes.set_title(f"{finding.path.rsplit('/', 1)[-1]}: {finding.verdict}{p_value}", fontsize=10)
    for number, still in enumerate(stills):
        below = figure.add_subplot(grid[1, number])
        below.imshow(overlay(still.pixels, still.excess))
        frame = frames[still.frame]
        below.set_title(f"{number + 1}: {frame.time:.2f} s, p = {frame.p_value:.3g}", fontsize=8)
        below.axis("off")
    return figure


def frames_per_video(store: Store) -> Figure:
    """Plot how many videos have how many stored faces, zero included (*Deepfake CSI*, Figure 13)."""
    counts = Counter(store.table["path"].tolist())
    without = sum(1 for _, code, _ in store.summary().skipped if code in ("no_face", "face_too_small"))
    numbers = np.array([*counts.values(), *([0] * without)])
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    places, heights = np.unique(numbers, return_counts=True)
    axes.bar(places, heights, width=0.9, color=["#ee8833" if n <= 1 else "#4477aa" for n in places])
    axes.set_xlabel("stored faces of a video")
    axes.set_ylabel("videos")
    axes.set_title(
        f"{len(numbers):,} videos, {without:,} without a face, {(numbers == 1).sum():,} with one", fontsize=10
    )
    return figure


def sheet(store: Store, columns: int = 16, most: int = 128) -> np.ndarray:
    """(H, W, 3) uint8: sample faces as they are stored, spread evenly over the store, those that were filled up at the
    frame's edge framed in red."""
    rows = np.linspace(0, len(store) - 1, min(most, len(store))).astype(int)
    cells = []
    for row, pixels in zip(rows, store.pixels(rows), strict=True):
        cell = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        if "padded" in store.table and store.table["padded"][row] > 0:
            cell = with_boxes(cell, [[0, 0, SIDE, SIDE]], (255, 60, 60))
        cells.append(cell)
    while len(cells) % columns:
        cells.append(np.full((SIDE, SIDE, 3), 255, np.uint8))
    lines = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    return np.concatenate(lines)
