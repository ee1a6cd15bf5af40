"""Peak memory while a 1,000-frame 1080p video is judged, beside one of 100 frames: both made here of a moving face.

python experiments/benchmarks/long_video.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
from skimage import data

CHILD = """
import resource, sys, time
from pixelsleuth.detector import Detector
from pixelsleuth.sources.tracks import Policy
detector = Detector.load("faces")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
began = time.perf_counter()
finding = detector.detect_many([sys.argv[1]], policy=Policy(every=int(sys.argv[2]), frames=int(sys.argv[3])))
finding = next(finding)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{finding.notes[-1]}, {len(finding.frames)} judged, {time.perf_counter() - began:.1f} s, "
      f"peak {peak:.0f} MB ({before:.0f} MB with the model loaded)")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for count in (100, 1000):
            path = write(Path(folder) / f"{count}.mp4", count)
            for every, frames in ((0, 32), (1, 32)):
                what = "every frame" if every else "32 frames"
                done = subprocess.run(
                    [sys.executable, "-c", CHILD, str(path), str(every), str(frames)], capture_output=True, text=True,
                    check=True,
                )  # fmt: skip
                print(f"{count} frames, {what}: {done.stdout.strip()}", flush=True)


def write(path: Path, count: int) -> Path:
    face = cv2.resize(np.ascontiguousarray(data.astronaut()[:240, 104:344]), (500, 500))
    scene = cv2.resize(np.ascontiguousarray(data.coffee()), (1920, 1080))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "23"}
        for number in range(count):
            frame = scene.copy()
            x, y = 700 + round(200 * np.sin(number / 40)), 250 + round(50 * np.cos(number / 25))
            frame[y : y + 500, x : x + 500] = face
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    main()
