"""Make a test of local edits: images of faces, each edited in one place, paired with the untouched images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.files import whole_file, write_text
from pixelsleuth.records import Box, Face
from pixelsleuth.sources.faces import main_face
from pixelsleuth.sources.images import encode_jpeg, find_images, read_picture
from pixelsleuth.synthesis.anomalies import FEATURES, Edited, copy_move, feature_swap, own_kind, soft_blob

#: Irregular patches of one treatment, and its name among `OWN_KINDS`.
PATCHES = {"patch_shifted": "copy_move", "patch_sharpen": "sharpen", "patch_warp": "warp"}
#: A feature of another face, colours matched or not; copy-move within the face; patches. Of these the bundled detective
#: was never taught copy-move and the patches.
LOCAL_EDITS = ("swap_unmatched", "swap_matched", "copy_move", *PATCHES)
#: Quality at which an edited picture and its untouched partner are encoded, alike, so that the file tells nothing.
QUALITY = 90


class FacePhoto(NamedTuple):
    """A picture (H, W, 3) uint8 with a face."""

    path: Path
    pixels: np.ndarray
    face: Face


def face_photos(folder: Path, count: int) -> list[FacePhoto]:
    """The first `count` pictures of a folder in which a face is found. Raises PixelsleuthError for fewer than two."""
    found: list[FacePhoto] = []
    for path in find_images(folder):
        if len(found) == count:
            break
        try:
            pixels = read_picture(path).pixels
            found.append(FacePhoto(path, pixels, main_face(pixels)))
        except InputError:
            continue
    if len(found) < 2:
        raise PixelsleuthError(f"{folder}: expected at least 2 pictures with a face, got {len(found)}")
    return found


def local_edits(sources: Sequence[FacePhoto], kind: str) -> Iterator[Edited]:
    """Edit each photo in one of `LOCAL_EDITS`; draws are keyed by its place in the list and the kind."""
    for i, (_, pixels, face) in enumerate(sources):
        generator = np.random.default_rng((i, LOCAL_EDITS.index(kind)))
        donor = sources[(i + 1 + int(generator.integers(len(sources) - 1))) % len(sources)]
        if kind == "copy_move":
            yield copy_move(pixels, face, generator)
        elif kind in PATCHES:
            yield patched(pixels, face.box, PATCHES[kind], generator)
        else:
            feature, matched = str(generator.choice(FEATURES)), kind == "swap_matched"
            yield feature_swap(pixels, face, donor.pixels, donor.face, feature, match_colours=matched)


def patched(pixels: np.ndarray, box: Box, kind: str, generator: np.random.Generator) -> Edited:
    """An irregular patch of 2% to 12% of the face's square, treated in one way."""
    x0, y0, x1, y1 = max(0, box.x0), max(0, box.y0), min(pixels.shape[1], box.x1), min(pixels.shape[0], box.y1)
    crop = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    share = float(np.exp(generator.uniform(np.log(0.02), np.log(0.12))))
    made = own_kind(crop, kind, soft_blob(crop.shape, generator, share), generator)
    whole, mask = pixels.copy(), np.zeros(pixels.shape[:2], made.mask.dtype)
    whole[y0:y1, x0:x1], mask[y0:y1, x0:x1] = made.pixels, made.mask
    return Edited(whole, mask)


def write_local_edits(sources: Sequence[FacePhoto], kind: str, out: Path) -> None:
    """Write `normal/`, `anomalous/` and `masks/` below `out`, and `pairs.csv`, as `evaluate` takes them."""
    rows = ["fake,real"]
    for source, edited in zip(sources, local_edits(sources, kind), strict=True):
        name = f"{source.path.stem}.jpg"
        for folder, pixels in (("normal", source.pixels), ("anomalous", edited.pixels)):
            with whole_file(out / folder / name) as partial:
                partial.write_bytes(encode_jpeg(pixels, QUALITY))
        with whole_file(out / "masks" / f"{source.path.stem}.png") as partial:
            Image.fromarray(edited.mask).save(partial)
        rows.append(f"{name},{name}")
    write_text(out / "pairs.csv", "\n".join(rows) + "\n")
