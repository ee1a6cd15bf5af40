"""Groups of people of UTKFace's pictures, from their names (`AGE_SEX_ORIGIN_DATE.jpg`), as `evaluate --groups` reads
them.

    python experiments/tools/utk_groups.py DATA/faces_utk/test groups.csv

The ages are as estimated by UTKFace's makers; sex and origin are their labels, one of two and one of five.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

from pixelsleuth.files import write_text
from pixelsleuth.sources.images import find_images

#: Years below which a band ends.
AGES = {3: "0 to 2", 13: "3 to 12", 18: "13 to 17", 30: "18 to 29", 45: "30 to 44", 65: "45 to 64", 200: "65 and more"}
SEXES = ("male", "female")
ORIGINS = ("White", "Black", "Asian", "Indian", "others")


def groups_of(name: str) -> tuple[str, str, str] | None:
    """Age band, sex and origin; None where the name does not tell all three, as of some pictures."""
    told = name.split("_")
    if len(told) < 4 or not all(part.isdigit() for part in told[:3]):
        return None
    age, sex, origin = map(int, told[:3])
    if sex >= len(SEXES) or origin >= len(ORIGINS):
        return None
    return next(band for end, band in AGES.items() if age < end), SEXES[sex], ORIGINS[origin]


def main() -> None:
    folder, out = map(Path, sys.argv[1:])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "age", "sex", "origin"])
    for path in sorted(find_images(folder)):
        groups = groups_of(path.name)
        if groups is not None:
            table.writerow([path.relative_to(folder).as_posix(), *groups])
    write_text(out, text.getvalue())


if __name__ == "__main__":
    main()
