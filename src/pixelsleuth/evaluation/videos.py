"""Metrics of frames and of whole videos side by side, and by method of manipulation."""

from __future__ import annotations

from typing import Any

import numpy as np

from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.samples import ScoredSample


def video_metrics(cases: list[ScoredSample], labels: np.ndarray, weights: np.ndarray, default: str) -> dict[str, Any]:
    """AUROC, AP and TPR of the default score over frames and over videos, and per method of manipulation.

    A video's score is the mean over its most unusual person's frames (the average of *Deepfake CSI*), with the
    median and the mean of the most unusual quarter beside it. Frames are resampled with their video.

    Args:
        weights: (R, n) of the n cases.
    """
    here = np.array([bool(case.finding.frames) for case in cases])
    if not here.any() or not (here & labels).any() or not (here & ~labels).any():
        return {}
    chosen = [case for case, is_video in zip(cases, here, strict=True) if is_video]
    labels, weights = labels[here], weights[:, here]
    owner = np.array([i for i, case in enumerate(chosen) for _ in case.finding.frames])
    frames = np.array([frame.score for case in chosen for frame in case.finding.frames])

    def both(which: np.ndarray) -> dict[str, Any]:
        of_frames = which[owner]
        own = owner[of_frames]
        return {
            "n_normal": int((which & ~labels).sum()),
            "n_anomalous": int((which & labels).sum()),
            "n_frames": int(of_frames.sum()),
            "frames": metrics.sample_metrics(frames[of_frames], labels[own], weights[:, own]),
            **{
                name: metrics.sample_metrics(
                    np.array([c.finding.scores[key] for c in chosen])[which], labels[which], weights[:, which]
                )
                for name, key in (
                    ("videos", default),
                    ("videos_median", f"{default}_frames_median"),
                    ("videos_top_quarter", f"{default}_frames_top_quarter"),
                )
            },
        }

    methods = np.array([case.methods[0] if case.methods else "" for case in chosen])
    result: dict[str, Any] = {"all": both(np.ones(len(chosen), bool))}
    for method in sorted({str(m) for m in methods[labels]} - {""}):
        result[method] = both(~labels | (methods == method))
    return {"videos": result}
