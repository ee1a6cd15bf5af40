"""Fit the face shape that forgeries are cut by: from five points to the outlines of face, eyes, brows, nose and mouth.

    python experiments/tools/fit_landmarks.py crops faces.h5 crops.npz        # in the project's environment
    python experiments/tools/fit_landmarks.py look crops.npz landmarks.npz    # where mediapipe 0.10.21 is (Apache-2.0)
    python experiments/tools/fit_landmarks.py fit landmarks.npz src/pixelsleuth/assets/landmarks/shape.safetensors

MediaPipe's face mesh (Kartynnik et al. 2019) looks at training faces; a ridge regression in the frame of the five
points predicts its outlines from MTCNN's five, so that neither training nor judging needs it again. A tenth of the
faces is kept back for the error that is printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

SIDE, MARGIN, COUNT = 256, 64, 3000
#: Points of MediaPipe's mesh, by region; left and right as seen in the image.
POINTS = {
    "face": (10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378,
             379, 365, 397, 288, 361, 323, 454, 356, 389, 251, 284, 332, 297, 338),
    "left_eye": (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    "right_eye": (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    "left_brow": (46, 53, 52, 65, 55, 107, 66, 105, 63, 70),
    "right_brow": (276, 283, 282, 295, 285, 336, 296, 334, 293, 300),
    "nose": (168, 122, 174, 198, 129, 98, 2, 327, 358, 420, 399, 351),
    "mouth": (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
}  # fmt: skip


def crops(store_path: Path, out: Path) -> None:
    from pixelsleuth.datasets.store import Store
    from pixelsleuth.sources.faces import find_faces

    with Store(store_path) as store:
        rows = np.sort(np.random.default_rng(0).choice(store.rows("train"), COUNT, replace=False))
        pixels = store.pixels(rows, SIDE)
    five = np.full((len(pixels), 5, 2), np.nan, np.float32)
    for i, crop in enumerate(pixels):
        found = find_faces(crop)
        if found:
            five[i] = found[0].landmarks
    np.savez(out, x=pixels, five=five)


def look(crops_path: Path, out: Path) -> None:
    import cv2
    import mediapipe

    with np.load(crops_path) as file:
        pixels, five = file["x"], file["five"]
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1)
    marks = np.full((len(pixels), 468, 2), np.nan, np.float32)
    for i, crop in enumerate(pixels):
        # Crops are tight; the finder wants room around a face.
        wide = cv2.copyMakeBorder(crop, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REFLECT_101)
        seen = mesh.process(wide).multi_face_landmarks
        if seen:
            side = SIDE + 2 * MARGIN
            marks[i] = [(p.x * side - MARGIN, p.y * side - MARGIN) for p in seen[0].landmark]
    np.savez(out, lm=marks, five=five)


def fit(marks_path: Path, out: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from pixelsleuth.synthesis.landmarks import design, framed

    with np.load(marks_path) as file:
        marks, five = file["lm"], file["five"]
    chosen = marks[:, [i for points in POINTS.values() for i in points]]
    good = np.isfinite(chosen).all((1, 2)) & np.isfinite(five).all((1, 2))
    ours, theirs = five[good], chosen[good]
    frames = [framed(points) for points in ours]
    inputs = np.stack([design(points) for points in ours])
    wanted = np.stack([(t - origin) @ turn for t, (origin, turn) in zip(theirs, frames, strict=True)])
    target = wanted.reshape(len(wanted), -1)
    learned = np.arange(len(inputs)) % 10 > 0
    x = inputs[learned]
    weights = np.linalg.solve(x.T @ x + 1e-3 * len(x) * np.eye(x.shape[1]), x.T @ target[learned])
    error = np.linalg.norm((inputs @ weights - target).reshape(wanted.shape), axis=2)
    mean = np.linalg.norm(target[learned].mean(0).reshape(wanted.shape[1:]) - wanted, axis=2)
    print(f"{good.sum()} of {len(good)} faces; error in distances between the eyes, a tenth kept back: "
          f"{error[~learned].mean():.3f} (of the mean shape {mean[~learned].mean():.3f})")  # fmt: skip
    save_file({"weights": torch.from_numpy(weights.astype(np.float32))}, out)


if __name__ == "__main__":
    {"crops": crops, "look": look, "fit": fit}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
