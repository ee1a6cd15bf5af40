"""The picture at the top of the README, from what `pixelsleuth demo` judges.

python experiments/tools/demo_picture.py docs/demo.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pixelsleuth.demo import write_pictures
from pixelsleuth.detector import Detector
from pixelsleuth.language import language
from pixelsleuth.reporting.figures import save_figure
from pixelsleuth.reporting.overlays import overlay
from pixelsleuth.sources.images import read_picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    detector, say = Detector.load("faces"), language()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder))
        findings = [detector.detect(path) for path in paths]
        pictures = [read_picture(path).pixels for path in paths]
    figure = Figure(figsize=(2 * len(pictures), 4.4), layout="constrained")
    axes = figure.subplots(2, len(pictures))
    for column, (finding, pixels) in enumerate(zip(findings, pictures, strict=True)):
        square = finding.square
        assert square is not None
        assert finding.excess is not None
        view = np.s_[max(0, square.y0 - 12) : square.y1 + 12, max(0, square.x0 - 12) : square.x1 + 12]
        axes[0, column].imshow(pixels[view])
        axes[0, column].set_title(say(f"page.example.{Path(finding.path).stem}"), fontsize=9)
        axes[1, column].imshow(overlay(pixels, finding.excess)[view])
        axes[1, column].set_title(f"{finding.verdict}, p = {finding.p_value:.4f}", fontsize=9)
    for one in axes.flat:
        one.set_axis_off()
    save_figure(figure, options.out, dpi=100)


if __name__ == "__main__":
    main()
