"""Score the normal images and volumes that calibrate a model, whatever they were read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import CalibrationError, PixelsleuthError
from pixelsleuth.scoring.calibration import MIN_CALIBRATION, SLICE, Calibration, map_quantiles, slice_name
from pixelsleuth.scoring.combination import volume_scores
from pixelsleuth.scoring.levelling import LEVELLED, can_level, cross_levelled
from pixelsleuth.scoring.maps import parts_of, within
from pixelsleuth.scoring.origins import conformal_p
from pixelsleuth.scoring.scanlooks import MODEL_TRAITS, SCAN_TRAITS, model_traits
from pixelsleuth.scoring.scorer import PLAIN, Crops, Scorer, Scores, stacked
from pixelsleuth.scoring.typicality import Typicality, fit_scan_typicality, fit_typicality
from pixelsleuth.sources.duplicates import perceptual_hash
from pixelsleuth.sources.images import decode
from pixelsleuth.sources.reencoding import REENCODINGS, cut_reencoded
from pixelsleuth.sources.scans.slices import SCAN_REENCODINGS, SLICE_BATCH, reencoded_slices
from pixelsleuth.sources.traits import traits_of
from pixelsleuth.training.fitting import crops_of

#: Largest number of calibration images that are mapped: calibration spends most of its time on restorations.
MAX_MAPS = 1000
#: Images scored together.
BATCH = 32
#: Largest number of calibration images of one source where there are several.
MAX_PER_SOURCE = 500
#: Share of healthy pixels above the threshold by which a map becomes a segmentation.
MARKED = 0.005
#: Findings a volume that healthy calibration volumes may have, of the peak that makes a finding.
FALSE_FINDINGS = 0.5
#: Rates that are looked at for sources left out.
RATES = (0.01, 0.05, 0.1)


@dataclass(frozen=True)
class CalibrationBatch:
    """A batch of calibration images, as a scorer takes them.

    Attributes:
        crops: B of them; reencoded: the same after each of `REENCODINGS`.
        sources: the name of each picture's source.
        traits: (B, T) float64, see sources.traits.
        pictures: perceptual hashes of the whole pictures, 16 hexadecimal digits each.
    """

    crops: Crops
    reencoded: dict[str, Crops]
    sources: Sequence[str]
    traits: np.ndarray
    pictures: Sequence[str]


def ranked(scorer: Scorer, batches: Iterable[CalibrationBatch]) -> Calibration:
    """The calibration of a model on images in an order that says nothing of them: the first `MAX_MAPS` get maps."""
    settings, model = scorer.settings, scorer.model
    scores: dict[str, list[np.ndarray]] = {name: [] for name in ("original", *REENCODINGS)}
    maps: list[np.ndarray] = []
    traits: list[np.ndarray] = []
    sources: list[str] = []
    pictures: list[str] = []
    looks: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    default = settings.default if scorer.levelling is None else LEVELLED
    for batch in batches:
        mapped = len(sources) < MAX_MAPS
        found = scorer.score([batch.crops], replace(PLAIN, maps=mapped))
        if found.maps:
            maps.append(found.maps[settings.default_map])
        several = {"original": found}
        several |= {name: scorer.score([batch.reencoded[name]], PLAIN) for name in REENCODINGS}
        for name, one in several.items():
            scores[name].append(one.scores[default])
            if one.appearance is not None and scorer.levelling is None:
                looks[name].append(one.appearance)
        traits.append(batch.traits)
        sources += batch.sources
        pictures += batch.pictures
    names = tuple(sorted(set(sources)))
    numbers = np.array([names.index(name) for name in sources])
    values_of = {name: np.concatenate(parts) for name, parts in scores.items()}
    appearance = {name: np.concatenate(parts) for name, parts in looks.items() if parts}
    about = {"images": len(sources), "sources": dict(Counter(sources)), "maps": sum(map(len, maps))}
    if len(names) > 1:
        about["left_out"] = left_out_rates(values_of["original"], np.array(sources), appearance.get("original"))
    levelling = scorer.levelling
    if appearance and can_level(numbers):
        levelling, values_of = cross_levelled(values_of, appearance)
    ascending, source_of = {}, {}
    for name, values in values_of.items():
        order = np.argsort(values, kind="stable")
        ascending[name], source_of[name] = values[order], numbers[order]
    # Only of faces it is known what is content and what is not.
    faces = model.config.preprocessing["crop"] == "face"
    typicality = fit_typicality(np.concatenate(traits), np.array(sources)) if faces else None
    calibration = Calibration(
        settings.default if levelling is None else LEVELLED, ascending, map_quantiles(np.concatenate(maps)),
        np.zeros(0), scorer.dtype, model.sha256, about, names, source_of, typicality, tuple(sorted(pictures)),
        levelling,
    )  # fmt: skip
    return _with_largest(calibration, [one[None] for block in maps for one in block])


def ranked_images(
    scorer: Scorer,
    store: Store,
    units: Sequence[np.ndarray],
    without: Collection[str],
    progress: Callable[[int, int], None],
) -> Calibration:
    """The calibration of a model on stored images, of several sources at most `MAX_PER_SOURCE` each.

    Args:
        units: (1,) row of each image.
        without: sources whose images are left out.

    Raises:
        PixelsleuthError: a source of `without` has no image there.
        CalibrationError: too few images of other sources.
    """
    rows = _without(store, evened_out(store, np.concatenate(units)), without)
    rows = np.random.default_rng(0).permutation(rows)
    return ranked(scorer, _batches(store, rows, scorer, progress))


def evened_out(store: Store, rows: np.ndarray) -> np.ndarray:
    """The rows, of several sources at most `MAX_PER_SOURCE` each, those with the lowest SHA-256: one large source would
    otherwise speak for all."""
    sources = np.array(store.sources(rows))
    if len(set(sources.tolist())) == 1:
        return rows
    kept = []
    for name in sorted(set(sources.tolist())):
        here = rows[sources == name]
        kept.append(here[np.argsort(store.table.at("sha256", here))][:MAX_PER_SOURCE])
    return np.sort(np.concatenate(kept))


def _without(store: Store, rows: np.ndarray, names: Collection[str]) -> np.ndarray:
    """The rows of other sources. A name that is not there would leave its source in, unseen."""
    sources = np.array(store.sources(rows))
    if unknown := set(names) - set(sources.tolist()):
        raise PixelsleuthError(f"expected sources of {store.path}, got {', '.join(sorted(unknown))}", "without")
    kept = rows[~np.isin(sources, list(names))]
    if len(kept) < MIN_CALIBRATION:
        raise CalibrationError(
            f"{store.path} has {len(kept)} images without these sources, {MIN_CALIBRATION} are needed"
        )
    return kept


def _batches(
    store: Store, rows: np.ndarray, scorer: Scorer, progress: Callable[[int, int], None]
) -> Iterator[CalibrationBatch]:
    for start in range(0, len(rows), BATCH):
        yield _ranked_rows(store, rows[start : start + BATCH], scorer)
        progress(min(start + BATCH, len(rows)), len(rows))


def _ranked_rows(store: Store, rows: np.ndarray, scorer: Scorer) -> CalibrationBatch:
    """Stored images as they are ranked."""
    crops = crops_of(store, rows, scorer)
    encoded = [store.encoded(int(row)) for row in rows]
    boxes = [store.box(int(row)) for row in rows]
    pixels = [decode(data).pixels for data in encoded]
    reencoded = {}
    for name in REENCODINGS:
        views = [cut_reencoded(p, box, scorer.sizes, name) for p, box in zip(pixels, boxes, strict=True)]
        reencoded[name] = stacked(views, crops.keys)
    traits = [
        traits_of(square, box.width, data, store.points(int(row)))
        for square, box, data, row in zip(crops.square, boxes, encoded, rows, strict=True)
    ]
    pictures = [f"{int(perceptual_hash(p)):016x}" for p in pixels]
    return CalibrationBatch(crops, reencoded, store.sources(rows), np.stack(traits), pictures)


def ranked_volumes(
    scorer: Scorer, store: Store, units: Sequence[np.ndarray], progress: Callable[[int, int], None]
) -> Calibration:
    """The calibration of a model on volumes: on whole ones where all their slices are healthy, else on one healthy
    slice of each, drawn by hash, for slices of one head are not exchangeable with those of others.

    Args:
        units: rows of the slices of each volume.
    """
    settings, label = scorer.settings, store.table["label"]
    healthy = all((label[rows] != "anomalous").all() for rows in units)
    scores: dict[str, list[float]] = {name: [] for e in ("original", *SCAN_REENCODINGS) for name in (e, slice_name(e))}
    maps, inside, traits, peaks = [], [], [], []
    for number, rows in enumerate(units, 1):
        # The whole volume is scored, for its maps are pooled; what is anomalous in it is then left out.
        found = scorer.score(_slices(store, rows), PLAIN)
        normal = np.flatnonzero(label[rows] != "anomalous")
        one = normal[int(np.argmin(store.table.at("sha256", rows)[normal]))]
        for encoding in ("original", *SCAN_REENCODINGS):
            again = found if encoding == "original" else scorer.score(_slices(store, rows, encoding), PLAIN)
            of_slice = float(again.scores[settings.default][one])
            scores[slice_name(encoding)].append(of_slice)
            scores[encoding].append(volume_scores(again.scores)[settings.default] if healthy else of_slice)
        maps.append(found.maps[settings.default_map][normal])
        heads = within(store.inside(rows[normal]))
        inside.append(maps[-1][heads])
        peaks.append((maps[-1], heads))
        traits.append(_traits(scorer, store, rows, found))
        progress(number, len(units))
    sources = [Path(source) for source in store.table["source"][np.concatenate(units)]]
    marked_from = float(np.quantile(np.concatenate(inside), 1 - MARKED))
    about = {
        "images": len(units), "unit": "volume" if healthy else SLICE,
        "sources": dict(Counter(f"{source.parent.name}/{source.name}" for source in sources)),
        "maps": sum(map(len, maps)), "marked_from": marked_from, "peak_from": peak_from(peaks, marked_from),
    }  # fmt: skip
    ascending = {name: np.sort(values) for name, values in scores.items()}
    quantiles = map_quantiles(np.concatenate(maps))
    made = Calibration(
        settings.default, ascending, quantiles, np.zeros(0), scorer.dtype, scorer.model.sha256, about,
        typicality=_typicality(store, traits),
    )  # fmt: skip
    return _with_largest(made, maps)


def peak_from(maps: Sequence[tuple[np.ndarray, np.ndarray]], level: float) -> float:
    """The peak that `FALSE_FINDINGS` findings a volume reach in the healthy slices (n, H, W) of calibration volumes,
    each with where its head is: findings are connected parts above `level`."""
    peaks: list[float] = []
    for values, head in maps:
        peaks += [float(values[part].max()) for part in parts_of((values >= level) & head)]
    allowed = round(FALSE_FINDINGS * len(maps))
    reached = sorted(peaks)[: max(0, len(peaks) - allowed)]
    return float(np.nextafter(np.float32(reached[-1]), np.float32(np.inf))) if reached else level


def _traits(scorer: Scorer, store: Store, rows: np.ndarray, found: Scores) -> np.ndarray | None:
    """What one stored volume shows beside its content; None of a store that does not say."""
    if "traits" not in store.table:
        return None
    of_model = model_traits(
        store.pixels(rows), store.inside(rows), store.table["position"][rows], scorer.networks.atlas,
        found.scores["mean_nll"], found.maps["reconstruction"],
    )  # fmt: skip
    return np.concatenate([store.table["traits"][rows[0]], of_model])


def _typicality(store: Store, traits: Sequence[np.ndarray | None]) -> Typicality | None:
    """Ranges of the traits of calibration volumes; those of the file alone also of training volumes, which no network
    was taught to reproduce in these."""
    known = [one for one in traits if one is not None]
    if not known or known[0].shape != (len(SCAN_TRAITS),):
        return None
    rows, group = store.rows("train", normal_only=False), store.table["group"]
    first = [rows[group[rows] == name][0] for name in dict.fromkeys(group[rows].tolist())]
    unknown = np.full(len(MODEL_TRAITS), np.nan)
    return fit_scan_typicality(
        np.stack([*known, *(np.concatenate([store.table["traits"][row], unknown]) for row in first)])
    )


def _slices(store: Store, rows: np.ndarray, encoding: str = "original") -> Iterator[Crops]:
    """The slices of one stored volume, batch by batch."""
    keys, position = store.table.at("sha256", rows).tolist(), store.table["position"][rows]
    for start in range(0, len(rows), SLICE_BATCH):
        some = slice(start, start + SLICE_BATCH)
        pixels = reencoded_slices(store.pixels(rows[some]), encoding)
        yield Crops(pixels, keys[some], inside=store.inside(rows[some]), position=position[some])


def _with_largest(calibration: Calibration, maps: Iterable[np.ndarray]) -> Calibration:
    """With the largest excess of each image or volume, whose (k, H, W) maps are given: regions are compared with it."""
    return replace(
        calibration, largest=np.sort([max(float(calibration.excess(one).max()) for one in block) for block in maps])
    )


def left_out_rates(
    scores: np.ndarray, sources: np.ndarray, appearance: np.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """For each source of (n,) calibration scores, take the share of its images at or below each rate when they are
    ranked against the other sources alone, levelled by these alone where `appearance` (n, F) is given: what to expect
    of a new source."""
    found = {}
    for name in sorted(set(sources.tolist())):
        here, of_others, own = sources == name, scores[sources != name], scores[sources == name]
        if appearance is not None and can_level(sources[~here]):
            levelling, levelled = cross_levelled({"original": of_others}, {"original": appearance[~here]})
            of_others, own = levelled["original"], levelling(own, appearance[here])
        others = np.sort(of_others)
        p = np.array([conformal_p(others, float(score)) for score in own])
        found[name] = {f"{rate:g}": round(float((p <= rate).mean()), 4) for rate in RATES}
    return found
