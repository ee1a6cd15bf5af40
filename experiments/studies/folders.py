"""What is said of a folder, against what is true of it: in simulation, and on real pictures whose scores were taken by
experiments/tools/score_pictures.py.

    python experiments/studies/folders.py discoveries           # false discoveries and the bound, in simulation
    python experiments/studies/folders.py drift                 # the drift alarm, in simulation
    python experiments/studies/folders.py real SCORES.npz       # both on real pictures

discoveries: scores of normal inputs are standard normal, those of altered ones higher; all of a folder share one
calibration set. `rounded` scores have ties; with `faces` a fifth of the inputs shows three faces, whose smallest p is
taken three times, as `detect` does. real: ranked among the bundled calibration's own scores, or among others of the
same sources; mixed folders draw untouched pictures of DFDC's validation set and of UTKFace and altered ones of CIPLAB;
folders that change begin with pictures of one source, or of calibration's own mixture, and go on with another's. Where
the null must hold, calibration and folder are drawn from the same pictures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tools.score_pictures import load
from pixelsleuth.files import write_text
from pixelsleuth.models.configuration import digest_of, find_model, load_config
from pixelsleuth.scoring.calibration import load_calibration
from pixelsleuth.scoring.discoveries import q_values, right_at_least, storey_share
from pixelsleuth.scoring.drift import RATE, Drift, drift_of, smoothed_p

#: By how many standard deviations of normal inputs altered ones score higher.
ALTERED = 3.0
FDR = 0.1
ALARM = 0.05
Tree = dict[str, Any]


def conformal(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    ascending = np.sort(calibration)
    return (1 + len(ascending) - np.searchsorted(ascending, scores, "left")) / (len(ascending) + 1)


def with_error(values: list[float]) -> list[float]:
    """Mean and its standard error."""
    return [round(float(np.mean(values)), 4), round(float(np.std(values) / len(values) ** 0.5), 4)]


def _tried(draw: Callable[[], tuple[np.ndarray, np.ndarray]], repetitions: int) -> Tree:
    """Of folders that `draw` gives as p-values and which inputs are altered, what each method does."""
    rows: dict[str, list[float]] = {}
    for _ in range(repetitions):
        p, altered = draw()
        q, share = q_values(p), storey_share(p)
        alarms = p <= ALARM
        for name, named in (("bh", q <= FDR), ("storey", q * share <= FDR)):
            rows.setdefault(f"{name}_false", []).append((named & ~altered).sum() / max(1, named.sum()))
            if altered.any():
                rows.setdefault(f"{name}_found", []).append(float((named & altered).sum() / altered.sum()))
        true = int((alarms & altered).sum())
        bound = right_at_least(p, alarms)
        rows.setdefault("bound_broken", []).append(float(bound > true))
        rows.setdefault("bound", []).append(bound)
        rows.setdefault("alarms_right", []).append(true)
        rows.setdefault("alarms", []).append(float(alarms.sum()))
    return {name: with_error(values) for name, values in rows.items()}


def discoveries(repetitions: int) -> Tree:
    found: Tree = {}
    for n, m in ((1573, 200), (200, 100), (200, 20)):
        for share in (0.0, 0.05, 0.2):
            for kind in ("plain", "rounded", "faces"):
                generator = np.random.default_rng(0)

                def draw(
                    n: int = n, m: int = m, share: float = share, kind: str = kind,
                    generator: np.random.Generator = generator,
                ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
                    altered = np.arange(m) < round(share * m)
                    calibration = generator.normal(size=n)
                    scores = generator.normal(size=m) + ALTERED * altered
                    if kind == "rounded":
                        calibration, scores = calibration.round(1), scores.round(1)
                    p = conformal(calibration, scores)
                    if kind == "faces":
                        several = generator.random(m) < 0.2
                        others = conformal(calibration, generator.normal(size=(m, 2)))
                        p = np.where(several, np.minimum(1, 3 * np.minimum(p, others.min(1))), p)
                    return p, altered

                key = f"{n} calibrate, {m} of which {share:.0%} altered, {kind}"
                found[key] = _tried(draw, repetitions)
                print(key, found[key], flush=True)
    return found


def _ties(generator: np.random.Generator, count: int) -> np.ndarray:
    return 1 - generator.random(count)


def _watched(draw: Callable[[], tuple[np.ndarray, np.ndarray]], at: int | None, seed: int, repetitions: int) -> Tree:
    """Of folders that `draw` gives as calibration scores and scores, which change at number `at`: the share that
    alarms, of those before the change, after how many pictures, and how far off the change is told."""
    generator = np.random.default_rng(seed)
    drifts: list[Drift | None] = []
    for _ in range(repetitions):
        calibration, scores = draw()
        drifts.append(drift_of(smoothed_p(np.sort(calibration), scores, _ties(generator, len(scores)))))
    fired = [one for one in drifts if one is not None]
    tree: Tree = {"alarms": round(len(fired) / repetitions, 4)}
    if at is not None:
        late = [one for one in fired if one.seen >= at]
        tree["too_early"] = round((len(fired) - len(late)) / repetitions, 4)
        if late:
            tree["delay"] = np.quantile([one.seen - at + 1 for one in late], (0.1, 0.5, 0.9)).round(1).tolist()
            tree["off"] = np.quantile([one.first - at for one in late], (0.1, 0.5, 0.9)).round(1).tolist()
            names = [one.bet for one in late]
            tree["bets"] = {bet: round(names.count(bet) / len(names), 3) for bet in sorted(set(names))}
    return tree


def drift(repetitions: int) -> Tree:
    found: Tree = {"rate": RATE}

    def folder(
        seed: int, n: int, m: int, shift: float = 0.0, at: int = 0, altered: float = 0.0, digits: int = 9
    ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        generator = np.random.default_rng(seed)

        def draw() -> tuple[np.ndarray, np.ndarray]:
            scores = generator.normal(size=m) + ALTERED * (generator.random(m) < altered)
            scores[at:] += shift
            return generator.normal(size=n).round(digits), scores.round(digits)

        return draw

    nothing = {
        "none, 1573 calibrate, 200 pictures": folder(0, 1573, 200),
        "none, 200 calibrate, 200 pictures": folder(1, 200, 200),
        "none, 200 calibrate, 200 pictures, rounded": folder(2, 200, 200, digits=1),
    }
    for name, draw in nothing.items():
        found[name] = _watched(draw, None, 0, repetitions)
        print(name, found[name], flush=True)
    for altered in (0.05, 0.2, 0.4, 0.6):
        name = f"{altered:.0%} altered throughout"
        found[name] = _watched(folder(3, 1573, 200, altered=altered), None, 1, repetitions // 20)
        print(name, found[name], flush=True)
    for n in (1573, 200):
        for shift in (0.5, 1.0, 2.0, 4.0, -0.5, -1.0):
            name = f"{shift:+g} from 101 of 200 on, {n} calibrate"
            found[name] = _watched(folder(4, n, 200, shift, 100, 0.05), 100, 2, repetitions // 20)
            print(name, found[name], flush=True)
    return found


def real(scores: Path, repetitions: int) -> Tree:
    table, folder = load(scores), find_model("faces")[0]
    model_sha256 = digest_of(folder, load_config(folder))
    path, score = table["path"], table["score"]
    fake, used = (np.array([word in one for one in path]) for word in ("/fake/", "/calib/"))
    ranked = load_calibration(folder / "calibration.json", model_sha256).scores["original"]

    def of(*sources: str, altered: bool = False) -> np.ndarray:
        return score[np.isin(table["source"], sources) & (fake == altered) & ~used]

    found: Tree = {"model_sha256": model_sha256}
    found |= {"pictures": len(score), "calibrate": len(ranked)}
    home, altered = of("faces_dfdc", "faces_utk"), of("faces_ciplab", altered=True)
    generator = np.random.default_rng(0)

    def mixed(own: bool, share: float) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        def draw() -> tuple[np.ndarray, np.ndarray]:
            order = generator.permutation(home)
            bad = generator.permutation(altered)[: round(150 * share)]
            good = order[: 150 - len(bad)]
            p = conformal(order[150:450] if own else ranked, np.concatenate([good, bad]))
            return p, np.arange(150) >= len(good)

        return draw

    for own in (True, False):
        for share in (0.0, 0.1, 0.3):
            which = "calibrated on 300 of the same" if own else "calibration of five sources"
            key = f"mixed, {which}, {share:.0%} altered"
            found[key] = _tried(mixed(own, share), repetitions)
            print(key, found[key], flush=True)
    found |= _changes(of, ranked, repetitions)
    return found


def _changes(of: Callable[..., np.ndarray], ranked: np.ndarray, repetitions: int) -> Tree:
    """Folders of 60 pictures of the first source, then 60 of the second (of all there are, drawn anew each time)."""
    generator = np.random.default_rng(1)
    found: Tree = {}

    def half() -> tuple[np.ndarray, np.ndarray]:
        order = generator.permutation(ranked)
        return order[200:], order[:200]

    found["no change: half of the calibration judges the other half"] = _watched(half, None, 0, repetitions)
    print("half", found, flush=True)
    homes = {"calibration's mixture": ranked, "faces_dfdc": of("faces_dfdc"), "faces_utk": of("faces_utk")}
    others = ("caltech1999", "openforensics256", "small_mix", "faces_ciplab")
    for first, pool in homes.items():
        for second in (*others, "altered"):
            goes_on = of("faces_ciplab", altered=True) if second == "altered" else of(second)

            def draw(pool: np.ndarray = pool, goes_on: np.ndarray = goes_on) -> tuple[np.ndarray, np.ndarray]:
                order = generator.permutation(pool)
                # The rest of the first source calibrates, as `calibrate --normal` would.
                return order[60:460], np.concatenate([order[:60], generator.permutation(goes_on)[:60]])

            share = float((conformal(pool, goes_on) <= ALARM).mean())
            name = f"{first}, then {second}"
            found[name] = _watched(draw, 60, 2, repetitions // 10) | {"p<=.05 after": round(share, 3)}
            print(name, found[name], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("discoveries", "drift", "real"))
    parser.add_argument("scores", type=Path, nargs="?")
    parser.add_argument("--repetitions", type=int, default=0, help="10,000, of real pictures 1,000, unless given")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    count = options.repetitions or (1000 if options.what == "real" else 10_000)
    if options.what == "real":
        if options.scores is None:
            parser.error("real needs SCORES.npz")
        tree = real(options.scores, count)
    else:
        tree = {"discoveries": discoveries, "drift": drift}[options.what](count)
    if options.out:
        write_text(options.out / f"folders_{options.what}.json", json.dumps(tree, indent=1) + "\n")


if __name__ == "__main__":
    main()
