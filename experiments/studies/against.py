"""Beside an earlier copy: how often is something harmless called a change, and which edits are found through it?

    python experiments/studies/against.py --count 24 --out against.json

Photographs of `faces_world/val/real` are saved, scaled, cropped, turned or changed in light and compared with
themselves: every place that is marked is false. Then a patch is edited and the picture is passed on as a messenger does
(.6 of its size, JPEG 75): a patch is found where a marked place lies on its middle. No network is asked. Intervals
resample photographs.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pixelsleuth.evidence.comparison import compare
from pixelsleuth.files import write_text
from pixelsleuth.sources.images import decode, find_images, jpeg_round_trip, read_picture

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))
#: Sides of an edited patch, in shares of the picture's shorter side.
SIDES = (0.04, 0.08, 0.16)
RESAMPLES = 2000


def scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=way)


def cropped(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(pixels[height // 10 : height * 9 // 10, width // 8 : width * 19 // 20])


def turned(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 3, 1.06)
    return cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC)


def webp(pixels: np.ndarray) -> np.ndarray:
    _, data = cv2.imencode(".webp", pixels[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 70])
    return decode(data.tobytes()).pixels


def lighter(pixels: np.ndarray) -> np.ndarray:
    return (255 * (pixels / 255.0) ** 0.75).astype(np.uint8)


def saturated(pixels: np.ndarray) -> np.ndarray:
    grey = pixels.mean(2, keepdims=True)
    return np.clip(grey + 1.4 * (pixels - grey), 0, 255).astype(np.uint8)


def passed_on(pixels: np.ndarray) -> np.ndarray:
    return jpeg_round_trip(scaled(pixels, 0.6), 75)


HARMLESS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG 90": lambda pixels: jpeg_round_trip(pixels, 90),
    "JPEG 50": lambda pixels: jpeg_round_trip(pixels, 50),
    "WebP 70": webp,
    ".6 of its size, JPEG 75": passed_on,
    "1.5 times its size, JPEG 90": lambda pixels: jpeg_round_trip(scaled(pixels, 1.5), 90),
    "cropped, JPEG 85": lambda pixels: jpeg_round_trip(cropped(pixels), 85),
    "turned by 3 degrees, JPEG 85": lambda pixels: jpeg_round_trip(turned(pixels), 85),
    "mirrored, JPEG 85": lambda pixels: jpeg_round_trip(np.ascontiguousarray(pixels[:, ::-1]), 85),
    "lighter (gamma .75), JPEG 85": lambda pixels: jpeg_round_trip(lighter(pixels), 85),
    "saturated by 1.4, JPEG 85": lambda pixels: jpeg_round_trip(saturated(pixels), 85),
}


def edits(patch: np.ndarray, own: np.ndarray, foreign: np.ndarray) -> dict[str, np.ndarray]:
    """A patch as each kind of edit leaves it, (s, s, 3) uint8 all."""
    return {
        "pasted from another picture": foreign,
        "copied within the picture": own,
        "blurred": cv2.GaussianBlur(patch, (0, 0), max(2.0, patch.shape[0] / 12)),
        "recoloured": np.roll(patch, 1, 2),
    }


def placed(
    pixels: np.ndarray, other: np.ndarray, share: float, generator: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Pictures with one edited patch in the middle ninth, soft at its rim, and its middle in shares of the sides."""
    side = max(8, round(share * min(pixels.shape[:2])))
    height, width = pixels.shape[:2]
    x, y = (int(generator.integers(n // 3, 2 * n // 3 - side // 2)) for n in (width, height))
    x, y = min(x, width - side), min(y, height - side)
    patch = pixels[y : y + side, x : x + side]
    own = pixels[height - y - side : height - y, width - x - side : width - x]
    foreign = cv2.resize(other, (width, height))[y : y + side, x : x + side]
    alpha = np.zeros((side, side), np.float32)
    rim = max(1, side // 10)
    alpha[rim:-rim, rim:-rim] = 1
    alpha = cv2.GaussianBlur(alpha, (0, 0), rim / 2)[..., None]
    made = {}
    for kind, over in edits(patch, own, foreign).items():
        whole = pixels.copy()
        whole[y : y + side, x : x + side] = np.rint(alpha * over + (1 - alpha) * patch).astype(np.uint8)
        made[kind] = whole
    middle = np.array([(x + side / 2) / width, (y + side / 2) / height])
    return made, middle


def measured(paths: list[Path]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Of each harmless change whether anything was marked, and of each edit and size whether it was found, a value a
    photograph."""
    pictures = [read_picture(path).pixels for path in paths]
    false: dict[str, list[float]] = {name: [] for name in HARMLESS}
    found: dict[str, list[float]] = {}
    for number, pixels in enumerate(pictures):
        for name, change in HARMLESS.items():
            false[name].append(float(compare(change(pixels), pixels).state != "same"))
        for share in SIDES:
            generator = np.random.default_rng(number)
            made, middle = placed(pixels, pictures[number - 1], share, generator)
            for kind, whole in made.items():
                later = passed_on(whole)
                at = middle * np.array(later.shape[1::-1])
                changes = compare(later, pixels).changes
                hit = any(c.box.x0 <= at[0] < c.box.x1 and c.box.y0 <= at[1] < c.box.y1 for c in changes)
                found.setdefault(f"{kind}, {share:.0%} of the shorter side", []).append(float(hit))
        print(f"{number + 1} of {len(pictures)}", flush=True)
    return false, found


def interval(values: list[float]) -> list[float]:
    """Mean and 95% bootstrap interval."""
    array = np.array(values)
    draws = np.random.default_rng(0).integers(0, len(array), (RESAMPLES, len(array)))
    return [float(array.mean()), *(float(v) for v in np.quantile(array[draws].mean(1), (0.025, 0.975)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=SHARED / "data/faces_world/val/real")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    every = list(find_images(options.pictures))
    paths = every[:: max(1, len(every) // options.count)][: options.count]
    false, found = measured(paths)
    result = {
        "n": len(paths),
        "false": {name: interval(values) for name, values in false.items()},
        "found": {name: interval(values) for name, values in found.items()},
    }
    write_text(options.out, json.dumps(result, indent=1) + "\n")
    for title in ("false", "found"):
        for name, (value, low, high) in result[title].items():  # type: ignore[attr-defined]
            print(f"{title:6s} {name:50s} {value:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
