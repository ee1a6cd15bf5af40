"""Check that an exported graph agrees with torch: the same codes, scores, p-values, maps and verdicts on real
inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from scipy import ndimage

from pixelsleuth.detector import Detector, Rule
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.records import Finding
from pixelsleuth.scoring.graphs import GraphNetworks
from pixelsleuth.scoring.maps import MEAN
from pixelsleuth.scoring.networks import torch_of
from pixelsleuth.scoring.scorer import EVERYTHING, Crops, ScoreOptions, Scores, stacked
from pixelsleuth.sources.inputs import Input
from pixelsleuth.sources.samples import Sample

#: Largest difference of a score, in its own units (nats, logits, spreads) or as a share of it where it is beyond 1;
#: float32 sums of hundreds of terms in another order.
SCORES = 2e-3
#: Largest difference of a map, as a share of the largest value that torch gives anywhere.
MAPS = 2e-3
#: Largest difference of a p-value: one calibration image counted otherwise, of a thousand.
P_VALUES = 2e-3
#: Difference of squared distances up to which two entries of the codebook are equally near: what the encoder's float32
#: sums leave.
TIE = 1e-3
#: As a share of the squared length of what is quantised: difference up to which equal codes may be others in another
#: batch. Some units in the last place of float32; ties have been seen to turn at 3e-7.
NEAR_TIE = 1e-6
#: Inputs compared together.
BATCH = 16
#: What is compared for most inputs: what a verdict rests on, and the default map. All else, restorations too, takes
#: several times as long, and is compared on the first batch.
FAST_OPTIONS = ScoreOptions(restorations=False, every_score=False)


@dataclass
class Parity:
    """What was compared, and the largest differences found.

    Attributes:
        inputs, crops: how many; left_out: inputs that could not be judged.
        codes: how many codes, of crops and their mirror images; other_codes: of these, how many differ; tied_codes:
            those beside that differ where two entries of the codebook are equally near (`TIE`); tied: crops with such a
            place, whether or not it got the same code, whose scores, p-values and maps are not compared, but whose
            verdicts are.
        scores, maps: name -> largest difference (see `SCORES`, `MAPS`).
        p_value: largest difference of the inputs' p-values, of those without a tied crop.
        verdicts: inputs whose verdict differs.
        anomalous, unsure: how many verdicts of torch are so, that it is known what was compared.
    """

    inputs: int = 0
    crops: int = 0
    left_out: int = 0
    codes: int = 0
    other_codes: int = 0
    tied_codes: int = 0
    tied: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    maps: dict[str, float] = field(default_factory=dict)
    p_value: float = 0.0
    verdicts: int = 0
    anomalous: int = 0
    unsure: int = 0

    def failures(self) -> list[str]:
        """Describe each difference beyond its tolerance in a phrase."""
        found = [f"{self.other_codes} of {self.codes:,} codes differ"] if self.other_codes else []
        for kind, differences, most in (("score", self.scores, SCORES), ("map", self.maps, MAPS)):
            found += [f"{kind} {name} differs by {value:.2g}" for name, value in differences.items() if value > most]
        if self.crops and not self.scores:
            found.append(
                f"two entries of the codebook are equally near in each of {self.crops} crops: none is compared"
            )
        if self.p_value > P_VALUES:
            found.append(f"p differs by {self.p_value:.2g}")
        if self.verdicts:
            found.append(f"{self.verdicts} of {self.inputs} verdicts differ")
        return found


def parity_of(
    torch: Detector, graph: Detector, inputs: Iterable[Input], rate: float, restorations: bool
) -> Iterator[Parity]:
    """Judge inputs by both; what was found so far after each batch.

    Args:
        restorations: whether there is a graph that restores, and is compared.

    Raises:
        PixelsleuthError: none of them can be judged.
    """
    found = Parity()
    waiting = iter(inputs)
    size = BATCH if torch.cropping.together else 1
    while batch := list(islice(waiting, size)):
        read = [torch.read(one) for one in batch]
        samples = [one for one in read if not isinstance(one, Finding)]
        found.left_out += len(batch) - len(samples)
        if samples:
            options = FAST_OPTIONS if found.inputs else replace(EVERYTHING, restorations=restorations)
            _compare(found, torch, graph, samples, rate, options)
        yield found
    if not found.inputs:
        raise PixelsleuthError("none of the images to check the export on could be judged; name others", "check")


def _compare(
    found: Parity, torch: Detector, graph: Detector, samples: Sequence[Sample], rate: float, options: ScoreOptions
) -> None:
    both = [one.score(samples, options) for one in (torch, graph)]
    judged = [one.judge(samples, scores, Rule(rate)) for one, scores in zip((torch, graph), both, strict=True)]
    found.inputs += len(samples)
    found.crops += sum(len(sample.crops) for sample in samples)
    found.verdicts += sum(a.verdict != b.verdict for a, b in zip(*judged, strict=True))
    found.anomalous += sum(one.verdict == "anomalous" for one in judged[0])
    found.unsure += sum(one.verdict == "unsure" for one in judged[0])
    for sample, ours, theirs, one, other in zip(samples, *both, *judged, strict=True):
        tied = _tied(found, torch, graph, sample)
        found.tied += int(tied.sum())
        # Another code is another score, by some ranks.
        if not tied.any():
            found.p_value = max(found.p_value, abs(one.p_value - other.p_value))
        _differences(found, ours, theirs, ~tied)


def _tied(found: Parity, torch: Detector, graph: Detector, sample: Sample) -> np.ndarray:
    """(n,) bool, the crops of which a place, or one of their mirror image, has two entries of the codebook equally near
    to float32: which of them it gets may depend on the runtime, and on what else is in the batch. Counts the codes.
    Crops beside such slices count as tied, too: maps are pooled."""
    crops = stacked([crop.views for crop in sample.crops], [crop.key for crop in sample.crops])
    tied = np.zeros(len(crops.square), bool)
    networks, other = torch_of(torch.scorer), graph.scorer.networks
    assert isinstance(other, GraphNetworks)
    quantiser = networks.model.vqvae.quantiser
    for turned in (crops, _mirrored(crops)):
        encoded = networks.encoded(turned)
        ours, theirs = encoded.codes.numpy(), other.codes(turned)
        vectors = networks.model.vqvae.vectors(encoded.image, encoded.scalars)
        distances = quantiser.distances(vectors.flatten(0, 2)).numpy()
        nearest, next_to_it = np.partition(distances, 1, 1)[:, :2].T
        near = next_to_it - nearest <= NEAR_TIE * (vectors**2).sum(-1).flatten().numpy()
        rows = np.arange(len(distances))
        margin = (distances[rows, theirs.ravel()] - distances[rows, ours.ravel()]).reshape(ours.shape)
        differ = ours != theirs
        found.codes += ours.size
        found.tied_codes += int((differ & (margin <= TIE)).sum())
        found.other_codes += int((differ & (margin > TIE)).sum())
        tied |= (differ | near.reshape(ours.shape)).any((1, 2))
    return ndimage.binary_dilation(tied, iterations=MEAN // 2) if sample.kind == "volume" else tied


def _mirrored(crops: Crops) -> Crops:
    """As the networks turn it: what they see at other sizes has no codes."""
    return crops._replace(square=np.ascontiguousarray(crops.square[:, :, ::-1]))


def _differences(found: Parity, ours: Scores, theirs: Scores, rows: np.ndarray) -> None:
    """Of the crops `rows` (n,) bool."""
    if set(ours.scores) != set(theirs.scores) or set(ours.maps) != set(theirs.maps):
        odd = sorted(set(ours.scores) ^ set(theirs.scores) | set(ours.maps) ^ set(theirs.maps))
        raise PixelsleuthError(f"the graph and torch do not give the same scores and maps: {', '.join(odd)}")
    if not rows.any():
        return
    for name, values in ours.scores.items():
        far = np.abs(values - theirs.scores[name])[rows] / np.maximum(1, np.abs(values[rows]))
        found.scores[name] = max(found.scores.get(name, 0.0), float(far.max()))
    for name, values in ours.maps.items():
        far = np.abs(values - theirs.maps[name])[rows].max() / max(float(np.abs(values).max()), 1e-6)
        found.maps[name] = max(found.maps.get(name, 0.0), float(far))
