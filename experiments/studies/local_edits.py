"""Local edits with known masks on real test faces: is the edited picture more unusual, and where?

    python experiments/studies/local_edits.py --count 300 --out runs/local_edits
    python experiments/studies/local_edits.py --count 100 --kinds copy_move patch_shifted patch_sharpen patch_warp
    python experiments/studies/local_edits.py --real SOURCE SOURCE... --count 30 --kinds ...

Pictures of `faces_dfdc/test/real`, unless told otherwise, edited as `pixelsleuth.evaluation.edited` does it; every row
is measured by `pixelsleuth evaluate`, by pairs. The second line has the kinds that the bundled detective was never
taught, the third takes as many pictures of each of several sources. `pixelsleuth evaluate --protocol local-edits` is
the first on fewer pictures.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from pixelsleuth.detector import Detector
from pixelsleuth.evaluation.edited import LOCAL_EDITS, face_photos, write_local_edits
from pixelsleuth.evaluation.protocol import evaluate
from pixelsleuth.files import write_text

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, nargs="+", default=[SHARED / "data/faces_dfdc/test/real"])
    parser.add_argument("--model", default="faces")
    parser.add_argument("--kinds", nargs="+", choices=LOCAL_EDITS, default=LOCAL_EDITS[:3])
    parser.add_argument("--count", type=int, default=300, help="pictures of each folder")
    parser.add_argument("--text-pairs", type=int, default=50, help="pairs that Marimont & Tarroni's map is compared on")
    parser.add_argument("--out", type=Path, default=Path("runs/local_edits"))
    options = parser.parse_args()
    sources = [
        # Pictures of two sources may have one name.
        one._replace(path=Path(f"{number}_{one.path.name}")) if len(options.real) > 1 else one
        for number, folder in enumerate(options.real) for one in face_photos(folder, options.count)
    ]  # fmt: skip
    detector = Detector.load(options.model)
    results = {}
    for kind in options.kinds:
        folder = options.out / kind
        write_local_edits(sources, kind, folder)
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
    write_text(options.out / "metrics.json", json.dumps(results, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
