"""Statistics of the power and the phase spectrum of normal crops: up-sampling and blending leave marks in both.

Power: the azimuthally averaged log power spectrum (Durall et al. 2020). Phase: the picture that phases alone give, with
all amplitudes set to one (Liu et al. 2021, who show a classifier both; here only normal crops are known, and what is
scored is how far a crop's statistics lie from theirs).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pixelsleuth.baselines.baseline import Compared, ComparedCrop, Normality
from pixelsleuth.scoring.spectrum import phase_spectrum

#: Rings of the power spectrum, from 0 to half a cycle a pixel; cells, in each direction, of the phases' picture.
RINGS = 32
CELLS = 6


class Spectrum:
    """`spectrum_power` and `spectrum_phase`, each the distance from what normal crops have."""

    def __init__(self) -> None:
        self.power: Normality | None = None
        self.phase: Normality | None = None

    def fit(self, crops: Sequence[ComparedCrop]) -> None:
        self.power = Normality(np.stack([power_features(crop.native) for crop in crops]))
        self.phase = Normality(np.stack([phase_features(crop.native) for crop in crops]))

    def compare(self, crops: Sequence[ComparedCrop]) -> Compared:
        assert self.power is not None, "fit comes first"
        assert self.phase is not None, "fit comes first"
        power = self.power.distance(np.stack([power_features(crop.native) for crop in crops]))
        phase = self.phase.distance(np.stack([phase_features(crop.native) for crop in crops]))
        return Compared({"spectrum_power": power, "spectrum_phase": phase})


def power_features(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (RINGS,) float64: mean log power by ring of frequency, less the mean over all rings."""
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float64)
    height, width = luma.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    power = np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2 / (height * width)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    ring = np.minimum((radius * 2 * RINGS).astype(int), RINGS).ravel()
    # Beyond half a cycle a pixel lie the corners; they are left out. Rounding to 8 bits leaves a power of about .1.
    sums = np.bincount(ring, weights=np.log(power.ravel() + 1e-2), minlength=RINGS + 1)[:RINGS]
    mean = sums / np.maximum(np.bincount(ring, minlength=RINGS + 1)[:RINGS], 1)
    return np.asarray(mean - mean.mean())


def phase_features(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (CELLS^2 + 2,) float64: where the energy of the phases' picture lies, by cell, and how heavy
    its tails are over all and at its rim."""
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float64)
    picture = np.real(np.fft.ifft2(phase_spectrum(luma))) * np.sqrt(luma.size)
    energy = cv2.resize(picture.astype(np.float32) ** 2, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    rim = np.concatenate([picture[:4].ravel(), picture[-4:].ravel(), picture[:, :4].ravel(), picture[:, -4:].ravel()])
    tails = [np.log((values**4).mean() / ((values**2).mean() ** 2 + 1e-12) + 1e-12) for values in (picture, rim)]
    return np.concatenate([np.log(energy.ravel().astype(np.float64) + 1e-6), tails])
