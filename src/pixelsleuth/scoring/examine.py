"""The path of a prepared picture through the networks: codes, surprise, scores, restoration, maps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsleuth.errors import ModelError
from pixelsleuth.models.detective import DeepDetective, Detective
from pixelsleuth.models.folder import Model
from pixelsleuth.records import Surprise
from pixelsleuth.scoring.complexity import Adjustment, complexity, local_sharpness
from pixelsleuth.scoring.restoration import Restored, pooled, restore
from pixelsleuth.scoring.surprise import surprise_map, surprise_scores
from pixelsleuth.sources.faces import Sizes, Views

#: Shares of normal codes below the text's thresholds: sample-wise and for restoration.
LAMBDA_S_QUANTILE = 0.98
LAMBDA_P_QUANTILE = 0.90

#: The text's name of its score; its prior is PixelSNAIL where the model has one.
TEXT_SCORE = "text_tail_sum"
#: Mean NLL - entropy when the whole centre is hidden and predicted from the rim, and the reverse: does the face fit
#: what surrounds it? Neighbouring codes, which a blend makes agree, cannot help here.
CENTRE_AND_RIM = "masked_centre_and_rim"
#: PixelSNAIL's surprise averaged over the picture and its mirror image, that is over two raster orders, as Pinaya et
#: al. 2022 average over several: what one order takes for granted, the other has not seen yet.
TWO_WAY = "pixelsnail_two_way"
#: How much smoother the centre of the decoded codes is than their rim.
CENTRE_SMOOTHNESS = "decoded_centre_smoothness"
#: The detective's logit of the image: how likely it was altered.
DETECTIVE = "detective_logit"
DETECTIVE_MAP = "detective"
#: The largest logit of the windows that a deep detective sees from near; not a number where the input has no such
#: detail.
DETECTIVE_NEAR = "detective_near"
#: The detective's adjusted logit, and where there is a view from near the sum of both, brought to the same spread.
DETECTIVE_VIEWS = "detective_views"
#: The combined score of the codes and the detective's, summed likewise.
BOTH_TRACKS = "both_tracks"
#: Stouffer's method (1949): sum of several scores, each in units of its spread, over the root of their number.
COMBINED = "combined"


@dataclass(frozen=True)
class ScoreSettings:
    """What was fitted on normal training pictures after the networks were trained.

    Attributes:
        default: name of the score that verdicts rest on.
        default_map: `surprise` or `restoration`.
        lambda_s, lambda_p: prior kind -> threshold in nats.
        mean_nll: prior kind -> mean NLL of normal pictures in nats.
        adjusted: raw score's name -> its adjustment for complexity; gives the score `<name>_adjusted`.
        combined: names that `COMBINED` is made of, each in units of its spread on training pictures.
        tracks: names that `BOTH_TRACKS` is made of, likewise; none without a detective.
        restorations: S of the default prior in `detect`.
        sign: of volumes: 1 where anomalies are brighter in this sequence, -1 darker, 0 either.
        views_spread: standard deviation of the sum of the detective's two adjusted views; 0: there is one view alone.
    """

    default: str = "masked_nll_minus_entropy_adjusted"
    default_map: str = "restoration"
    lambda_s: dict[str, float] = field(default_factory=dict)
    lambda_p: dict[str, float] = field(default_factory=dict)
    mean_nll: dict[str, float] = field(default_factory=dict)
    adjusted: dict[str, Adjustment] = field(default_factory=dict)
    combined: tuple[str, ...] = ()
    tracks: tuple[str, ...] = ()
    restorations: int = 4
    sign: int = 0
    views_spread: float = 0.0

    def as_tree(self) -> dict[str, Any]:
        return asdict(self)


def settings_from_tree(tree: dict[str, Any]) -> ScoreSettings:
    """The inverse of `ScoreSettings.as_tree`. Raises ModelError naming a key that does not fit."""
    try:
        adjusted = {
            name: Adjustment(tuple(item["mean"]), tuple(item["scale"]), tuple(item["weights"]), float(item["spread"]))
            for name, item in tree["adjusted"].items()
        }
        several = {key: tuple(tree.get(key, ())) for key in ("combined", "tracks")}
        return ScoreSettings(**{**tree, "adjusted": adjusted, **several})
    except (KeyError, TypeError) as error:
        raise ModelError(f"config.json: key 'scoring' does not fit this program ({error})") from error


@dataclass(frozen=True)
class Evidence:
    """What is measured of a batch before anything is fitted.

    Attributes:
        codes: (B, h, w) int64.
        surprise: prior kind -> its surprise, of the priors that were asked.
        rim: surprise of the masked prior with centre and rim hidden in turn; None where it was not asked.
        two_way: `TWO_WAY` surprise; None where PixelSNAIL was not asked.
        smoothness: (B,) float64, `CENTRE_SMOOTHNESS` before adjustment.
        altered: the detective's (B, H / 4, W / 4) logits of places and (B,) logits of images; None without one.
        complexity: (B, F) float64, the features of `complexity`.
        near: of a deep detective, the rows (k,) that were looked at from near, (k, h, w) logits of their places and
            (k, 9) of their windows; None where there are none.
    """

    codes: Tensor
    surprise: dict[str, Surprise]
    rim: Surprise | None
    two_way: Surprise | None
    smoothness: np.ndarray
    complexity: np.ndarray
    altered: tuple[Tensor, Tensor] | None = None
    near: tuple[np.ndarray, Tensor, Tensor] | None = None


class Squares(NamedTuple):
    """A batch of squares as the networks see them.

    Attributes:
        square: (B, size, size, 3) uint8 RGB.
        close: the same at the detective's size; None where that is the same.
        near: (k, 2 S, 2 S, 3) uint8, those that are looked at from near, of the rows `which` (k,); None for none.
    """

    square: np.ndarray
    close: np.ndarray | None = None
    near: np.ndarray | None = None
    which: np.ndarray | None = None


@dataclass(frozen=True)
class Examination:
    """What the networks say of a batch.

    Attributes:
        scores: name -> (B,) float64.
        maps: name -> (B, H, W) float32, raw, not yet calibrated.
        restoration: (B, H, W, C) uint8, the default prior's weighted mean restoration; None unless asked for.
    """

    scores: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    restoration: np.ndarray | None


class Examiner:
    """A model with its fitted score settings. Knows nothing of files or of calibration."""

    def __init__(self, model: Model, settings: ScoreSettings, dtype: str = "float32") -> None:
        self.model, self.settings, self.dtype = model, settings, dtype
        self.device = next(model.vqvae.parameters()).device

    @property
    def size(self) -> int:
        """Side of the squares that are examined, in pixels."""
        return self.model.config.vqvae.size

    @property
    def sizes(self) -> Sizes:
        """Sides in pixels of the views of a square."""
        close = self.model.close_size
        return Sizes(self.size, close, 2 * close if isinstance(self.model.detective, DeepDetective) else 0)

    @torch.no_grad()
    def examine(
        self,
        squares: Squares,
        sha256: Sequence[str],
        maps: bool = True,
        restorations: bool = True,
        every_score: bool = True,
    ) -> Examination:
        """Examines squares as the model saw them in training.

        Args:
            squares: B of them.
            sha256: of each input's bytes; keys the random draws.
            maps: also map.
            restorations: with maps, also restore; else only the maps that need no restoration are made.
            every_score: take every score there is; else those the verdict rests on and what came with them.
        """
        image = self._image(squares.square)
        mapping = next(iter(self.model.priors))
        kinds = set(self.model.priors) if every_score else self._judging() | ({mapping} if maps else set())
        with self._precision():
            evidence = self._evidence(image, squares, kinds, rim=every_score or CENTRE_AND_RIM in self._resting_on())
            restored = self._restored(image, evidence, sha256) if maps and restorations else None
        made: dict[str, np.ndarray] = {}
        if maps:
            made["surprise"] = surprise_map(evidence.surprise[mapping], (self.size, self.size)).cpu().numpy()
        if maps and evidence.altered is not None:
            made[DETECTIVE_MAP] = altered_map(evidence, (self.size, self.size)).cpu().numpy()
        if restored is not None:
            made["restoration"] = pooled(restored.residual).cpu().numpy()
        mean = None if restored is None else restored.mean.permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy()
        return Examination(fitted_scores(evidence, self.settings), made, mean)

    @torch.no_grad()
    def evidence(self, squares: Squares) -> Evidence:
        """What `fit_scores` fits on: squares as `examine` takes them measured, nothing adjusted."""
        with self._precision():
            return self._evidence(self._image(squares.square), squares, set(self.model.priors), rim=True)

    def _resting_on(self) -> set[str]:
        """Raw scores that the verdict is made of."""
        names = {self.settings.default}
        for whole, parts in ((BOTH_TRACKS, self.settings.tracks), (COMBINED, self.settings.combined)):
            if whole in names:
                names = (names - {whole}) | set(parts)
        if DETECTIVE_VIEWS in names:
            names = (names - {DETECTIVE_VIEWS}) | {DETECTIVE, DETECTIVE_NEAR}
        return {name.removesuffix("_adjusted") for name in names}

    def _judging(self) -> set[str]:
        """Kinds of the priors that the verdict needs."""
        text = {judge_of(self.settings.lambda_s)} if TEXT_SCORE in self._resting_on() else set()
        if isinstance(self.model.detective, Detective):
            text.add(judge_of(self.model.priors))
        return text | {kind for kind in self.model.priors if any(n.startswith(f"{kind}_") for n in self._resting_on())}

    def _image(self, pixels: np.ndarray) -> Tensor:
        image = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return image.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)

    def _close(self, squares: Squares) -> Tensor | None:
        """The squares at the detective's size. Raises ValueError where it wants another size than it is given."""
        given = squares.square if squares.close is None else squares.close
        if given.shape[1] != self.model.close_size:
            raise ValueError(f"close: expected {self.model.close_size} px squares, got {given.shape[1]} px")
        return None if squares.close is None else self._image(squares.close)

    def _precision(self) -> Any:
        reduced = torch.bfloat16 if self.dtype == "bfloat16" else torch.float32
        return torch.autocast(self.device.type, reduced, enabled=self.dtype != "float32")

    def _evidence(self, image: Tensor, squares: Squares, kinds: set[str], rim: bool) -> Evidence:
        close = self._close(squares)
        vqvae, priors = self.model.vqvae, self.model.priors
        codes = vqvae.encode(image)
        grid = (int(codes.shape[1]), int(codes.shape[2]))
        surprise = {kind: prior.log_prob(codes) for kind, prior in priors.items() if kind in kinds}
        centre = centre_of(grid)
        around = None
        if "masked" in priors and rim:
            partition = torch.from_numpy(centre.astype(np.int64)).to(codes.device)
            around = priors["masked"].log_prob(codes, partition=partition)
        two_way = None
        if "pixelsnail" in surprise:
            back = priors["pixelsnail"].log_prob(vqvae.encode(image.flip(3)))
            two_way = _both_ways(surprise["pixelsnail"], back)
        made = vqvae.decode(codes)
        decoded = local_sharpness(made.mean(1).cpu().numpy(), grid)
        smoothness = decoded[:, ~centre].mean(1) - decoded[:, centre].mean(1)
        altered = near = None
        if isinstance(self.model.detective, DeepDetective):
            altered = self.model.detective(image, close=close)
            if squares.near is not None and squares.which is not None:
                near = (squares.which, *self.model.detective.windows(self._image(squares.near)))
        elif self.model.detective is not None:
            judged = two_way or surprise[judge_of(priors)]
            altered = self.model.detective(image, made, judged, close)
        features = np.stack([complexity(p) for p in squares.square])
        return Evidence(codes, surprise, around, two_way, smoothness, features, altered, near)

    def _restored(self, image: Tensor, evidence: Evidence, sha256: Sequence[str]) -> Restored:
        kind, prior = next(iter(self.model.priors.items()))
        above = self.settings.lambda_p[kind]
        # The masked prior's flags are known from the pass above; PixelSNAIL's depend on what it has restored.
        flags: dict[str, Any] = {"above": above}
        if kind == "masked":
            flags = {"where": evidence.surprise[kind].nll > above}
        return restore(
            image, evidence.codes, self.model.vqvae, prior, sha256, restorations=self.settings.restorations, **flags
        )


def place_map(places: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) logits -> (B, H, W) float32 probabilities in [0, 1], smoothly enlarged."""
    return F.interpolate(places[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0].sigmoid()


def altered_map(evidence: Evidence, size: tuple[int, int]) -> Tensor:
    """(B, H, W) float32, how likely each place was altered; where there is a view from near the mean of both."""
    assert evidence.altered is not None
    found = place_map(evidence.altered[0], size)
    if evidence.near is not None:
        which, places, _ = evidence.near
        found[which] = (found[which] + place_map(places, size)) / 2
    return found


def stacked(views: Sequence[Views]) -> Squares:
    """Views of several squares as one batch."""
    close = [one.close for one in views if one.close is not None]
    which = [row for row, one in enumerate(views) if one.near is not None]
    near = [one.near for one in views if one.near is not None]
    return Squares(
        np.stack([one.square for one in views]),
        np.stack(close) if close else None,
        np.stack(near) if near else None,
        np.array(which) if near else None,
    )


def joined_examinations(parts: Sequence[Examination]) -> Examination:
    """Examinations of several batches, or of none, as of one."""
    if len(parts) < 2:
        return parts[0] if parts else Examination({}, {}, None)
    restored = [part.restoration for part in parts if part.restoration is not None]
    return Examination(
        {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
        {name: np.concatenate([part.maps[name] for part in parts]) for name in parts[0].maps},
        np.concatenate(restored) if restored else None,
    )


@torch.no_grad()
def judging_surprise(
    model: Model, image: Tensor, codes: Tensor, scalars: Tensor | None = None, there: Surprise | None = None
) -> Surprise:
    """Surprise of the prior that judges, as a detective sees it: PixelSNAIL's over picture and mirror image where the
    model has one, else the default prior's.

    Args:
        image: (B, C, H, W) float32 in [0, 1]; codes: (B, h, w), its codes; scalars: of its context, or None.
        there: what that prior says of the codes as they are, where it is known.
    """
    kind = judge_of(model.priors)
    there = there or model.surprise(kind, codes, scalars)
    if kind != "pixelsnail":
        return there
    return _both_ways(there, model.surprise(kind, model.encode(image.flip(3), scalars), scalars))


def _both_ways(there: Surprise, back: Surprise) -> Surprise:
    """The mean of a picture's surprise and its mirror image's, turned back."""
    return Surprise((there.nll + back.nll.flip(2)) / 2, (there.entropy + back.entropy.flip(2)) / 2)


def centre_of(grid: tuple[int, int]) -> np.ndarray:
    """(h, w) bool, the middle five eighths in each direction: of a face crop the face, without hair and background."""
    row = np.abs(np.arange(grid[0]) - (grid[0] - 1) / 2) < grid[0] * 5 / 16
    column = np.abs(np.arange(grid[1]) - (grid[1] - 1) / 2) < grid[1] * 5 / 16
    return row[:, None] & column[None, :]


def judge_of(kinds: Collection[str]) -> str:
    """Kind of the prior that judges and that the text's score is taken from: PixelSNAIL where the model has one, for a
    masked prior sees an edit's own codes around the one it scores, and they explain each other; else the first."""
    return "pixelsnail" if "pixelsnail" in kinds else next(iter(kinds))


def raw_scores(evidence: Evidence, settings: ScoreSettings) -> dict[str, np.ndarray]:
    """Every score by name before any adjustment for complexity, (B,) float64 each; all from the one pass."""
    scores: dict[str, np.ndarray] = {}
    for kind, seen in evidence.surprise.items():
        found = surprise_scores(seen, settings.lambda_s[kind], settings.mean_nll[kind])
        for name, values in found.items():
            full = TEXT_SCORE if name == "tail_sum" and kind == judge_of(settings.lambda_s) else f"{kind}_{name}"
            scores[full] = values.double().cpu().numpy()
    if evidence.two_way is not None:
        found = surprise_scores(evidence.two_way, 0.0, 0.0)
        for name in ("mean_nll", "nll_minus_entropy", "top_sixteenth", "local_max"):
            scores[f"{TWO_WAY}_{name}"] = found[name].double().cpu().numpy()
    if evidence.rim is not None:
        scores[CENTRE_AND_RIM] = (evidence.rim.nll - evidence.rim.entropy).mean((1, 2)).double().cpu().numpy()
    scores[CENTRE_SMOOTHNESS] = evidence.smoothness
    if evidence.altered is not None:
        scores[DETECTIVE] = evidence.altered[1].double().cpu().numpy()
    if settings.views_spread and evidence.altered is not None:
        scores[DETECTIVE_NEAR] = near_scores(evidence)
    return scores


def near_scores(evidence: Evidence) -> np.ndarray:
    """(B,) float64, the largest logit of the windows seen from near; not a number without such a view."""
    assert evidence.altered is not None
    found = np.full(len(evidence.altered[1]), np.nan)
    if evidence.near is not None:
        which, _, windows = evidence.near
        found[which] = windows.amax(1).double().cpu().numpy()
    return found


def fitted_scores(evidence: Evidence, settings: ScoreSettings) -> dict[str, np.ndarray]:
    """`raw_scores`, those adjusted for complexity, and their combination, of what was measured."""
    scores = raw_scores(evidence, settings)
    for name, adjustment in settings.adjusted.items():
        if name in scores:
            scores[f"{name}_adjusted"] = adjustment(scores[name], evidence.complexity)
    both = (f"{DETECTIVE}_adjusted", f"{DETECTIVE_NEAR}_adjusted")
    if all(name in scores for name in both):
        far, near = (scores[name] for name in both)
        scores[DETECTIVE_VIEWS] = np.where(np.isnan(near), far, (far + near) / settings.views_spread)
        # A record holds numbers: without a view from near the detective's only one stands in its place.
        for name in (DETECTIVE_NEAR, both[1]):
            stand_in = scores[name.replace(DETECTIVE_NEAR, DETECTIVE)]
            scores[name] = np.where(np.isnan(scores[name]), stand_in, scores[name])
    for whole, parts in ((COMBINED, settings.combined), (BOTH_TRACKS, settings.tracks)):
        if parts and all(name in scores for name in parts):
            scores[whole] = np.sum([scores[name] for name in parts], axis=0) / len(parts) ** 0.5
    return scores
