"""Find images that are the same or nearly so, by hashes, also among those a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from pixelsleuth.errors import ModelError
from pixelsleuth.files import whole_file

#: Bits (of 64) by which two perceptual hashes may differ and still count as near-duplicates.
MAX_DISTANCE = 4
#: Of a model folder: the images that its networks were trained on.
TRAINED_ON = "trained_on.npy"


def perceptual_hash(pixels: np.ndarray) -> np.uint64:
    """64 bits of (H, W, 3) uint8 that a mild change hardly moves (pHash: low frequencies against their median)."""
    bits = imagehash.phash(Image.fromarray(pixels)).hash.flatten()
    return np.uint64(np.packbits(bits).view(">u8")[0])


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n, m) float32, in how many bits 64-bit hashes (n,) and (m,) uint64 differ."""
    ours, theirs = (
        np.unpackbits(h.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32) * 2 - 1
        for h in (one, other)
    )
    # 64 - 2 x distance is a dot product of signs: one matrix product instead of n m popcounts.
    return (64 - ours @ theirs.T) / 2


def near(hashed: np.uint64, others: np.ndarray) -> list[int]:
    """Find the near-duplicates of one among (n,) uint64 perceptual hashes, the nearest first."""
    if not len(others):
        return []
    apart = distances(np.array([hashed], np.uint64), others)[0]
    return [int(others[i]) for i in np.argsort(apart, kind="stable") if apart[i] <= MAX_DISTANCE]


@dataclass(frozen=True)
class Hashes:
    """Hashes of n images, (n,) uint64 each: `files`, the first 64 bits of their SHA-256, and `looks`, perceptual hashes
    of the whole images. No image can be recovered from them."""

    files: np.ndarray
    looks: np.ndarray

    def has_file(self, sha256: str) -> bool:
        """Whether one is this very file."""
        return bool((self.files == of_file(sha256)).any())


NO_HASHES = Hashes(np.zeros(0, np.uint64), np.zeros(0, np.uint64))


def of_file(sha256: str) -> np.uint64:
    """The first 64 bits of a SHA-256 in hexadecimal digits."""
    return np.uint64(int(sha256[:16], 16))


def save_hashes(path: Path, hashes: Hashes) -> None:
    """Write (2, n) uint64 as NumPy has it, files above looks, in an order that says nothing of the images."""
    rows = np.stack([hashes.files, hashes.looks])
    with whole_file(path) as partial:
        np.save(partial, rows[:, np.argsort(rows[0], kind="stable")], allow_pickle=False)


def load_hashes(folder: Path) -> Hashes:
    """Load the hashes of a model folder, none if it keeps none. Raises ModelError where the file is damaged."""
    path = folder / TRAINED_ON
    if not path.is_file():
        return NO_HASHES
    try:
        rows = np.load(path, allow_pickle=False)
        if rows.dtype != np.uint64 or rows.ndim != 2 or len(rows) != 2:
            raise ValueError(f"expected (2, n) uint64, got {rows.shape} {rows.dtype}")
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"{path} cannot be read ({error}); copy the model again, or delete this file") from error
    return Hashes(rows[0], rows[1])
