"""Scores of pictures, taken once: what studies of folders and of one's own calibration are drawn from.

    python experiments/tools/score_pictures.py SCORES.npz FOLDER... [--model faces]

Each FOLDER is searched with its subfolders. What is in SCORES.npz already is not scored again. One row a picture with
a face, of several faces the largest, as in `calibrate --normal`: `path`, `source` (see `layouts.source_of`), `sha256`,
`score` (that verdicts rest on), `codes` and `detective` (the two tracks of it), `traits` (see `sources.traits`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pixelsleuth.datasets.layouts import source_of
from pixelsleuth.detector import Detector
from pixelsleuth.files import whole_file
from pixelsleuth.scoring.scorer import PLAIN
from pixelsleuth.sources.images import find_images
from pixelsleuth.sources.samples import Sample
from pixelsleuth.sources.traits import traits_of

BATCH = 32
COLUMNS = ("path", "source", "sha256", "score", "codes", "detective", "traits")
Row = tuple[str, str, str, float, float, float, np.ndarray]


def rows_of(detector: Detector, paths: Sequence[Path], source: str) -> Iterator[Row]:
    settings = detector.scorer.settings
    score, (codes, detective) = detector.calibration.score, settings.tracks
    for first in range(0, len(paths), BATCH):
        read = [detector.read(path) for path in paths[first : first + BATCH]]
        samples = [one for one in read if isinstance(one, Sample)]
        for sample, found in zip(samples, detector.score(samples, PLAIN) if samples else [], strict=True):
            face, encoded = sample.main.face, sample.source
            assert isinstance(encoded, bytes)
            traits = traits_of(sample.main.views.square, face.box.width, encoded, face.landmarks)
            # The first crop is the largest face.
            values = [float(found.scores[name][0]) for name in (score, codes, detective)]
            yield sample.path, source, sample.sha256, values[0], values[1], values[2], traits


def load(path: Path) -> dict[str, np.ndarray]:
    """The columns, (n,) each, `traits` (n, T)."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in COLUMNS}


def save(path: Path, rows: Sequence[Row]) -> None:
    with whole_file(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **{name: np.array([row[i] for row in rows]) for i, name in enumerate(COLUMNS)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--model", default="faces")
    parser.add_argument("--most", type=int, default=0, help="pictures of each folder, drawn by chance; 0: all")
    options = parser.parse_args()
    rows: list[Row] = []
    if options.scores.is_file():
        rows = list(zip(*load(options.scores).values(), strict=True))
    done = {str(row[0]) for row in rows}
    detector = Detector.load(options.model)
    for folder in options.folders:
        paths = sorted(find_images(folder))
        if options.most:
            chosen = np.random.default_rng(0).permutation(len(paths))[: options.most]
            paths = [paths[i] for i in sorted(chosen)]
        paths = [path for path in paths if os.fspath(path) not in done]
        rows += rows_of(detector, paths, source_of(folder))
        save(options.scores, rows)
        print(f"{folder}: {len(paths)} looked at, {len(rows)} rows in all", flush=True)


if __name__ == "__main__":
    main()
