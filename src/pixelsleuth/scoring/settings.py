"""Names of the scores and maps, and the settings fitted on normal images after the networks are trained."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from pixelsleuth.errors import ModelError
from pixelsleuth.scoring.complexity import Adjustment

#: Shares of normal codes below Marimont & Tarroni's thresholds: sample-wise and for restoration.
LAMBDA_S_QUANTILE = 0.98
LAMBDA_P_QUANTILE = 0.90

#: Marimont & Tarroni's score, named so by contract; its prior is PixelSNAIL where the model has one.
TAIL_SUM = "text_tail_sum"
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
#: Of volumes, the score of a slice: mean of the default map's most unusual pixels.
MAP_SCORE = "map_top"
#: Stouffer's method (1949): sum of several scores, each in units of its spread, over the root of their number.
COMBINED = "combined"


@dataclass(frozen=True)
class ScoreSettings:
    """Settings fitted on normal training images after the networks were trained.

    Attributes:
        default: name of the score that verdicts rest on.
        default_map: name of the map that is calibrated and coloured (scoring.networks, of volumes also scoring.maps).
        lambda_s, lambda_p: prior kind -> threshold in nats.
        mean_nll: prior kind -> mean NLL of normal pictures in nats.
        adjusted: raw score's name -> its adjustment for complexity; gives the score `<name>_adjusted`.
        combined: names that `COMBINED` is made of, each in units of its spread on training pictures.
        tracks: names that `BOTH_TRACKS` is made of, likewise; none without a detective.
        restorations: S of the default prior in `detect`.
        sign: of volumes: 1 where anomalies are brighter in this sequence, -1 darker, 0 either.
        views_spread: standard deviation of the sum of the detective's two adjusted views; 0: there is one view alone.
        track_weights: of `tracks` in their sum, whose spread is brought to one again; none: all alike.
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
    track_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.track_weights:
            object.__setattr__(self, "track_weights", (1.0,) * len(self.tracks))

    def as_tree(self) -> dict[str, Any]:
        return asdict(self)


def settings_from_tree(tree: dict[str, Any]) -> ScoreSettings:
    """The inverse of `ScoreSettings.as_tree`. Raises ModelError naming a key that does not fit."""
    try:
        adjusted = {
            name: Adjustment(tuple(item["mean"]), tuple(item["scale"]), tuple(item["weights"]), float(item["spread"]))
            for name, item in tree["adjusted"].items()
        }
        several = {key: tuple(tree.get(key, ())) for key in ("combined", "tracks", "track_weights")}
        return ScoreSettings(**{**tree, "adjusted": adjusted, **several})
    except (KeyError, TypeError) as error:
        raise ModelError(f"config.json: key 'scoring' does not fit this program ({error})") from error


def scoring_prior(kinds: Collection[str]) -> str:
    """Kind of the prior that scores: PixelSNAIL where the model has one, else the first. A masked prior is conditioned
    on an edit's own codes too, and so under-scores the edit."""
    return "pixelsnail" if "pixelsnail" in kinds else next(iter(kinds))
