"""Average the frames of a video and their phase spectra (Liu et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.scoring.spectrum import checkerboard_energy, mean_phase
from pixelsleuth.sources.faces import Framing
from pixelsleuth.sources.tracks import Policy, tracks_of
from pixelsleuth.sources.videos import frames_at, open_video

#: Corners of cuts lie on multiples of this, so that lattices of up-sampling (2, 4) and of coding (4, 8) add up.
LATTICE = 8


@dataclass(frozen=True)
class Phases:
    """The mean frame and mean phase spectrum of one video.

    Attributes:
        frame: (size, size, 3) uint8, the mean frame.
        phase: (size, size) float64, the mean phase spectrum in the spatial domain.
        checkerboard: energy at period two, in [0, 1] (see `checkerboard_energy`).
        count: frames averaged.
    """

    name: str
    frame: np.ndarray
    phase: np.ndarray
    checkerboard: float
    count: int


def phases_of(path: Path, size: int = 128, frames: int = 64, face: bool = True) -> Phases:
    """Means over up to `frames` frames, evenly spaced, of (size, size) pixels around the face of the person who is
    there longest, or around the middle; never scaled, for scaling draws its own lattice.

    Raises:
        InputError: the video cannot be read, holds no face where one is wanted, or its frames are smaller than `size`.
    """
    video = open_video(path)
    centres: dict[int, tuple[float, float]] = {}
    wanted = Policy(frames=frames, keep=frames).indices(len(video))
    if face:
        tracks, _ = tracks_of(video, Policy(frames=frames, keep=frames), Framing())
        for sighting in tracks[0].sightings:
            box = sighting.face.box
            centres[sighting.index] = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        wanted = sorted(centres)
    cut = []
    for frame in frames_at(video, wanted):
        height, width = frame.pixels.shape[:2]
        if min(height, width) < size:
            sentence = f"its frames are {width} x {height}, at least {size} px are needed; ask for a smaller size"
            raise InputError("too_small", sentence)
        x, y = centres.get(frame.index, (width / 2, height / 2))
        x0, y0 = (_corner(c, size, n) for c, n in ((x, width), (y, height)))
        cut.append(frame.pixels[y0 : y0 + size, x0 : x0 + size])
    if not cut:
        raise InputError("no_frames", "no frame could be decoded; copy the video again from its source")
    stacked = np.stack(cut)
    luma = stacked.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    spectrum, picture = mean_phase(luma)
    mean = np.rint(stacked.mean(0)).astype(np.uint8)
    return Phases(path.stem, mean, picture, checkerboard_energy(spectrum), len(cut))


def _corner(centre: float, size: int, whole: int) -> int:
    """First pixel of `size` around a centre, on the lattice and within the frame."""
    last = (whole - size) // LATTICE * LATTICE
    return int(np.clip(round((centre - size / 2) / LATTICE) * LATTICE, 0, last))


def read_phases(paths: Sequence[Path], size: int, frames: int, face: bool) -> list[Phases]:
    """`phases_of` each video. Raises PixelsleuthError naming the first that cannot be used."""
    found = []
    for path in paths:
        try:
            found.append(phases_of(path, size, frames, face))
        except InputError as error:
            raise PixelsleuthError(f"{path}: {error.sentence}") from error
    return found
