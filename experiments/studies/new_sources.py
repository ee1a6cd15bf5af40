"""What p-values promise for pictures of a source that calibration never had, in simulation: sources that differ by
random shifts, pictures of each normally distributed around its shift.

    python experiments/studies/new_sources.py coverage
    python experiments/studies/new_sources.py power

coverage: false alarms on one untouched picture of a new source, over 10,000 repetitions, beside the upper end of the
99.9% binomial interval of what is promised; and the share of new sources of whose own pictures no more than promised
alarm. power: how many anomalous pictures are found where the rate can be promised at all, also by e-values, and by
p-values weighted by the ratio of densities of a covariate (Tibshirani et al. 2019), where the covariate explains how
sources differ and where it does not.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from pixelsleuth.scoring.origins import any_source_p, conformal_p, new_source_p

#: Pictures of a source, at least and at most: sources are not equally large.
PICTURES = (20, 200)
#: By how many standard deviations of normal pictures an anomaly's score lies higher.
ANOMALY = 3.0


def world(k: int, spread: float, generator: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Ascending scores of k calibration sources, and those of a new source."""
    counts = generator.integers(*PICTURES, size=k + 1, endpoint=True)
    drawn = [np.sort(spread * generator.normal() + generator.normal(size=n)) for n in counts]
    return drawn[:k], drawn[k]


def coverage(repetitions: int) -> None:
    print("| k | spread | pooled .05 | pooled .1 | any source .05 | any source .1 | new source 1/(k+1) | 2/(k+1) |"
          " sources kept (k/(k+1)) |")  # fmt: skip
    print("| --- |" + " --- |" * 8)
    for k in (3, 5, 10, 20):
        for spread in (0.0, 1.0, 3.0):
            generator = np.random.default_rng(k)
            p: dict[str, list[float]] = {"pooled": [], "any": [], "new": []}
            kept = 0
            for _ in range(repetitions):
                groups, new = world(k, spread, generator)
                score = float(generator.choice(new))
                p["pooled"].append(conformal_p(np.sort(np.concatenate(groups)), score))
                p["any"].append(any_source_p(groups, score))
                p["new"].append(new_source_p(groups, score))
                own = np.array([any_source_p(groups, float(one)) for one in new[-len(new) // 4 :]])
                kept += int((own <= 0.05).sum() <= 0.05 * (len(new) + 1) - 1 + 1e-9)
            cells = [_cell(p[name], rate) for name in ("pooled", "any") for rate in (0.05, 0.1)]
            cells += [_cell(p["new"], steps / (k + 1)) for steps in (1, 2)]
            print(f"| {k} | {spread:g} | {' | '.join(cells)} | {kept / repetitions:.3f} of {k / (k + 1):.3f} |")


def _cell(p: list[float], rate: float) -> str:
    """The share of p <= rate, bold where it lies above the binomial interval of the rate."""
    count = int((np.array(p) <= rate + 1e-9).sum())
    most = int(stats.binom.ppf(0.9995, len(p), rate))
    share = f"{count / len(p):.4f}"
    return f"**{share}**" if count > most else f"{share} (<= {most / len(p):.4f})"


def hierarchical_e(groups: list[np.ndarray], score: float) -> float:
    """(k + 1) f(s) / (f(s) + sum of each source's mean f), f = exp: at most 1 on average for a picture of a new source,
    whose share of the sum it is."""
    top = max(score, *(float(g[-1]) for g in groups))
    own = np.exp(score - top)
    return float((len(groups) + 1) * own / (own + sum(np.exp(g - top).mean() for g in groups)))


def weighted_p(scores: np.ndarray, weights: np.ndarray, score: float, weight: float) -> float:
    """Tibshirani et al. 2019: the weight of what is at least as unusual, the picture's own counted in."""
    return float((weights[scores >= score].sum() + weight) / (weights.sum() + weight))


def power(repetitions: int) -> None:
    rate = 0.2
    print(f"anomalies {ANOMALY:g} standard deviations higher, rate {rate:g}; false alarms / found")
    print("| k | spread | pooled | any source | new source | e-value >= 1 / rate |")
    print("| --- |" + " --- |" * 5)
    for k in (5, 10, 20):
        for spread in (0.0, 1.0, 3.0):
            generator = np.random.default_rng(k)
            hits = np.zeros((2, 4))
            for _ in range(repetitions):
                groups, new = world(k, spread, generator)
                for row, score in enumerate((float(generator.choice(new)), float(generator.choice(new)) + ANOMALY)):
                    hits[row] += (
                        conformal_p(np.sort(np.concatenate(groups)), score) <= rate,
                        any_source_p(groups, score) <= rate,
                        new_source_p(groups, score) <= rate,
                        hierarchical_e(groups, score) >= 1 / rate,
                    )
            cells = [f"{calm:.3f} / {found:.3f}" for calm, found in (hits / repetitions).T]
            print(f"| {k} | {spread:g} | {' | '.join(cells)} |")
    _weighted(repetitions, rate=0.05)


def _weighted(repetitions: int, rate: float) -> None:
    """The score rises with a covariate x (how sharp, say), whose mean differs by source; of the new source 200
    unlabelled pictures are given, from which the ratio of densities is fitted (both normal)."""
    print(f"\nweighted by a covariate, rate {rate:g}, 5 sources; false alarms / found; sources differ by")
    print("| how far | the covariate: pooled | weighted | something else: pooled | weighted |")
    print("| --- |" + " --- |" * 4)
    for spread in (0.5, 1.0, 2.0):
        generator = np.random.default_rng(0)
        hits = np.zeros((2, 2, 2))
        for _ in range(repetitions // 5):
            for case, hidden in enumerate((False, True)):
                shift = spread * generator.normal(size=6)
                x = [generator.normal(size=200) + (0 if hidden else m) for m in shift]
                s = [one + generator.normal(size=200) + (m if hidden else 0) for one, m in zip(x, shift, strict=True)]
                known_x, known_s = np.concatenate(x[:5]), np.concatenate(s[:5])
                law = [stats.norm(one.mean(), one.std()) for one in (x[5], known_x)]
                weights = np.exp(law[0].logpdf(known_x) - law[1].logpdf(known_x))
                at = int(generator.integers(200))
                own = float(np.exp(law[0].logpdf(x[5][at]) - law[1].logpdf(x[5][at])))
                for row, score in enumerate((s[5][at], s[5][at] + ANOMALY)):
                    hits[row, case, 0] += conformal_p(np.sort(known_s), float(score)) <= rate
                    hits[row, case, 1] += weighted_p(known_s, weights, float(score), own) <= rate
        share = hits.reshape(2, 4) / (repetitions // 5)
        print(f"| {spread:g} | " + " | ".join(f"{calm:.3f} / {found:.3f}" for calm, found in share.T) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("coverage", "power"))
    parser.add_argument("--repetitions", type=int, default=10_000)
    options = parser.parse_args()
    {"coverage": coverage, "power": power}[options.what](options.repetitions)


if __name__ == "__main__":
    main()
