"""Local edits with known masks on real test faces: is the edited picture more unusual, and where?

    python experiments/studies/local_edits.py --count 300 --out runs/local_edits
    python experiments/studies/local_edits.py --count 100 --kinds copy_move patch_shifted patch_sharpen patch_warp

For each kind (feature swapped in from another face, colours matched or not; copy-move) pictures of
`faces_dfdc/test/real` are edited; the edited and the untouched picture are then encoded alike (JPEG 90), so that the
file says nothing. The second line has the kinds that the bundled detective was never taught: a feature copied within
the face, and patches shifted, sharpened or warped. Every row is measured by `pixelsleuth evaluate`, by pairs.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError
from pixelsleuth.evaluation.protocol import evaluate
from pixelsleuth.records import Box
from pixelsleuth.sources.anomalies import FEATURES, Edited, copy_move, feature_swap, own_kind, soft_blob
from pixelsleuth.sources.faces import main_face
from pixelsleuth.sources.images import encode_jpeg, find_images, read_picture

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))
KINDS = ("swap_unmatched", "swap_matched", "copy_move")
#: Irregular patches of one treatment, and its name among `OWN_KINDS`.
PATCHES = {"patch_shifted": "copy_move", "patch_sharpen": "sharpen", "patch_warp": "warp"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=SHARED / "data/faces_dfdc/test/real")
    parser.add_argument("--model", default="faces")
    parser.add_argument("--kinds", nargs="+", choices=(*KINDS, *PATCHES), default=KINDS)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--text-pairs", type=int, default=50, help="pairs that Marimont & Tarroni's map is compared on")
    parser.add_argument("--out", type=Path, default=Path("runs/local_edits"))
    options = parser.parse_args()
    sources = []
    for path in find_images(options.real):
        if len(sources) == options.count:
            break
        pixels = read_picture(path).pixels
        try:
            sources.append((path, pixels, main_face(pixels)))
        except InputError:
            continue
    detector = Detector.load(options.model)
    results = {}
    for kind in options.kinds:
        folder = options.out / kind
        for name in ("normal", "anomalous", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        rows = ["fake,real"]
        for i, (path, pixels, face) in enumerate(sources):
            generator = np.random.default_rng((i, (*KINDS, *PATCHES).index(kind)))
            _, donor, donor_face = sources[(i + 1 + int(generator.integers(len(sources) - 1))) % len(sources)]
            edited: Edited
            if kind == "copy_move":
                edited = copy_move(pixels, face, generator)
            elif kind in PATCHES:
                edited = patched(pixels, face.box, PATCHES[kind], generator)
            else:
                feature = str(generator.choice(FEATURES))
                edited = feature_swap(pixels, face, donor, donor_face, feature, match_colours=kind == "swap_matched")
            (folder / "normal" / f"{path.stem}.jpg").write_bytes(encode_jpeg(pixels, 90))
            (folder / "anomalous" / f"{path.stem}.jpg").write_bytes(encode_jpeg(edited.pixels, 90))
            Image.fromarray(edited.mask).save(folder / "masks" / f"{path.stem}.png")
            rows.append(f"{path.stem}.jpg,{path.stem}.jpg")
        (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
        metrics = evaluate(
            detector, folder / "normal", folder / "anomalous", masks=folder / "masks", pairs=folder / "pairs.csv",
            text_pairs=options.text_pairs,
        ).metrics  # fmt: skip
        results[kind] = metrics
        print(f"\n{kind}: {metrics['n_anomalous']} pairs, paired accuracy {metrics['paired_accuracy']}")
        for name, values in metrics["scores"].items():
            print(f"  {name:45s} AUROC {values['auroc']}")
        for name, values in metrics["pixel"].items():
            print(f"  map {name:41s} AUROC {values['auroc']} AP {values['ap']}", end=" ")
            print(f"change {values.get('change_auroc', '')} partner {values.get('partner_auroc', '')}")
        for name, values in metrics["differences"].items():
            print(f"  difference {name} ({metrics['default_score']} or {metrics['default_map']} minus it): {values}")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "metrics.json").write_text(json.dumps(results, indent=1, default=str))


def patched(pixels: np.ndarray, box: Box, kind: str, generator: np.random.Generator) -> Edited:
    """An irregular patch of 2% to 12% of the face's square, treated in one way."""
    x0, y0, x1, y1 = max(0, box.x0), max(0, box.y0), min(pixels.shape[1], box.x1), min(pixels.shape[0], box.y1)
    crop = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    share = float(np.exp(generator.uniform(np.log(0.02), np.log(0.12))))
    made = own_kind(crop, kind, soft_blob(crop.shape, generator, share), generator)
    whole, mask = pixels.copy(), np.zeros(pixels.shape[:2], made.mask.dtype)
    whole[y0:y1, x0:x1], mask[y0:y1, x0:x1] = made.pixels, made.mask
    return Edited(whole, mask)


if __name__ == "__main__":
    main()
