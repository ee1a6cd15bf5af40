"""Images of the phase spectrum: up-sampling and coding leave lattices there that the eye cannot see.

After Liu et al. 2021: amplitudes are set to one, phases kept, and the spectrum is brought back to the spatial domain.
Averaged over the frames of a video, what the frames share remains: the lattice of an up-sampling stays, the detail of
single frames cancels.
"""

from __future__ import annotations

import numpy as np

#: Frequencies, in cycles a pixel, this near to one half on either axis count as period two: the checkerboard.
NEAR_HALF = 1 / 16


def phase_spectrum(luma: np.ndarray) -> np.ndarray:
    """(H, W) float -> (H, W) complex128 of modulus 1: the discrete Fourier transform without its amplitudes."""
    return np.asarray(np.exp(1j * np.angle(np.fft.fft2(luma.astype(np.float64) - luma.mean()))))


def mean_phase(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the phase spectra of (n, H, W) float frames: (H, W) complex128, and its image, (H, W) float64."""
    spectrum = np.mean([phase_spectrum(frame) for frame in frames], axis=0)
    return spectrum, np.real(np.fft.ifft2(spectrum))


def checkerboard_energy(spectrum: np.ndarray) -> float:
    """Mean squared modulus, in [0, 1], of a mean phase spectrum near period two along either axis: 1 where all frames
    have the same phases there, about 1 / n where n frames have nothing in common. At exactly one half an up-sampled
    frame has no amplitude, and so no phase; that line is left out."""
    rows, columns = (np.abs(np.fft.fftfreq(n)) for n in spectrum.shape)
    near = [(values >= 0.5 - NEAR_HALF) & (values < 0.5) for values in (rows, columns)]
    chosen = (near[0][:, None] | near[1][None, :]) & (rows < 0.5)[:, None] & (columns < 0.5)[None, :]
    return float((np.abs(spectrum[chosen]) ** 2).mean())
