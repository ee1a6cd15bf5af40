"""Export a model as ONNX graphs, and check that they judge as torch does; otherwise write nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelsleuth import __version__, demo
from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.parity import MAPS, P_VALUES, SCORES, Parity, parity_of
from pixelsleuth.models.configuration import find_model
from pixelsleuth.reporting.card import card_of
from pixelsleuth.scoring import graphs
from pixelsleuth.scoring.exporting import Restorations, can_restore, graph_of, share_weights, write_graph
from pixelsleuth.scoring.networks import torch_of
from pixelsleuth.sources.inputs import Input, Refused, find_inputs, kind_of


@dataclass(frozen=True)
class Exported:
    """What was written and how it was checked.

    Attributes:
        files: the scoring graph, and the one that restores where there can be one.
        checked_on: what the inputs were, in words.
    """

    files: tuple[Path, ...]
    parity: Parity
    checked_on: str

    def lines(self) -> list[str]:
        """Describe the export for people."""
        seen = self.parity
        worst, most = max(seen.scores.items(), key=lambda item: item[1])
        ties = f" but {seen.tied_codes} where two entries are equally near" if seen.tied_codes else ""
        told = [
            f"checked on {self.checked_on}: {seen.codes:,} codes equal{ties}, {seen.inputs} verdicts equal "
            f"({seen.anomalous} anomalous, {seen.unsure} unsure)",
        ]
        if seen.tied:
            told.append(
                f"scores, p and maps of {seen.tied} of {seen.crops} crops are not compared: in one place of each two "
                "entries of the codebook are equally near, and rounding decides between them"
            )
        told += [
            f"largest difference of a score {most:.1e} ({worst}; {SCORES:g} allowed), of p {seen.p_value:.1e} "
            f"({P_VALUES:g}), of a map {max(seen.maps.values(), default=0.0):.1e} ({MAPS:g})",
        ]
        told += [f"left out: {seen.left_out} that could not be judged"] if seen.left_out else []
        told += [f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)" for path in self.files]
        if len(self.files) < 2:
            told.append("no graph restores: the prior walks from place to place, which a graph cannot")
        return told


def export_model(
    model: str | os.PathLike[str],
    out: Path,
    check: Path | None = None,
    count: int = 500,
    rate: float = 0.01,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write the scoring graph of a model to `out`, and beside it the one that restores. In the model's own folder
    they share the weights that lie there.

    Args:
        check: folder of inputs that both must judge alike; the demo's unless given.
        count: most of them, evenly spread.
        rate: of false alarms, at which verdicts are compared.

    Raises:
        PixelsleuthError: the graph differs from torch; the model is not of float32; ONNX is not installed.
        ModelError, CalibrationError: as `Detector.load` and `Detector.detect` do.
    """
    folder, _ = find_model(model)
    torch = Detector.load(model, device="cpu")
    rate = max(rate, 1 / (torch.calibration.count + 1))
    torch.calibration.check_rate(rate)
    networks = torch_of(torch.scorer)
    about = {
        "name": torch.name, "sha256": torch.model.sha256, "version": __version__,
        "config": (folder / "config.json").read_text(encoding="utf-8"),
        "calibration": (folder / "calibration.json").read_text(encoding="utf-8"),
        "card": card_of(folder, networks.model, torch.name),
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export") as place:
        made = [Path(place) / out.name]
        write_graph(graph_of(networks), made[0], about)
        if can_restore(networks):
            made.append(graphs.restoration_path(made[0]))
            write_graph(Restorations(networks), made[1], {key: about[key] for key in ("name", "sha256", "version")})
        inputs, checked_on = _inputs(torch, check, count, Path(place))
        graph = Detector.load(made[0])
        for parity in parity_of(torch, graph, inputs, rate, len(made) > 1):
            progress(parity.inputs + parity.left_out, len(inputs))
        if parity.failures():
            raise PixelsleuthError(
                f"nothing is written: the graph does not judge as torch does on {checked_on}: "
                f"{'; '.join(parity.failures()[:5])}"
            )
        if out.parent.resolve() == folder.resolve():
            for path in made:
                share_weights(path, folder)
        files = tuple(out.parent / path.name for path in made)
        for path, target in zip(made, files, strict=True):
            path.chmod(0o644)
            os.replace(path, target)
    return Exported(files, parity, checked_on)


def _inputs(detector: Detector, check: Path | None, count: int, place: Path) -> tuple[list[Input], str]:
    """What to judge, and what it is in words."""
    if check is None:
        return _demo(detector, place)
    if not check.is_dir():
        raise PixelsleuthError(f"expected a folder of inputs, got {check}", "check")
    kind = detector.cropping.kinds[0]
    found: list[Input] = [one for one in find_inputs(check) if not isinstance(one, Refused) and kind_of(one) == kind]
    if not found:
        raise PixelsleuthError(f"expected {kind}s below {check}, found none", "check")
    spread = np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int))
    return [found[i] for i in spread], f"{len(spread)} {kind}s of {check}"


def _demo(detector: Detector, place: Path) -> tuple[list[Input], str]:
    if detector.takes == "volumes":
        return [Path(demo.__file__).parent / "assets/demo/icbm152_t1.nii.gz"], "the bundled template alone"
    return list(demo.write_pictures(place / "demo")), "the demo's pictures alone"
