"""A model exported to ONNX judges as torch does, without torch; one that would not is not written."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.detector import Detector
from pixelsleuth.errors import ModelError, PixelsleuthError
from pixelsleuth.evaluation import parity
from pixelsleuth.export import export_model
from pixelsleuth.models.checkpoint import build_prior, save_network
from pixelsleuth.models.configuration import (
    DetectiveConfig,
    ModelConfig,
    PriorConfig,
    VQVAEConfig,
    digest_of,
    save_config,
    weight_files,
)
from pixelsleuth.models.detective import build_detective
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.scoring.calibration import LEVELS, Calibration, save_calibration
from pixelsleuth.scoring.exporting import share_weights
from pixelsleuth.scoring.graphs import FILE, restoration_path
from pixelsleuth.scoring.scorer import Crops, Wanted
from pixelsleuth.scoring.sessions import SESSIONS
from pixelsleuth.scoring.settings import ScoreSettings
from pixelsleuth.sources.reencoding import REENCODINGS
from pixelsleuth.sources.tracks import Policy
from tests.conftest import write_shapes
from tests.test_dependencies import BLOCKED, INSTALLED, ROOT, declared, normal

onnx = pytest.importorskip("onnx")

RATE = 0.05
#: The maps of other methods, which need the networks themselves.
WANTED = Wanted(frozenset({"masked"}), rim=False, maps=True, restored=False, baselines=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose networks learnt nothing, which a graph need not care about."""
    folder = tmp_path_factory.mktemp("model") / "shapes"
    torch.manual_seed(0)
    priors = (
        PriorConfig("masked", 16, (8, 8), width=16, blocks=1, heads=2, attention_every=1),
        PriorConfig("pixelsnail", 16, (8, 8), width=8, blocks=1, pairs=1, embedding=4),
    )
    vqvae = VQVAEConfig(size=64, codes=16, dimensions=8, widths=(16, 16))
    detective = DetectiveConfig(width=16, detail=True)
    settings = ScoreSettings(
        "pixelsnail_local_max", "detective", *({"masked": v, "pixelsnail": v} for v in (2.8, 2.7, 2.5)), restorations=2
    )
    preprocessing = {"size": 64, "crop": "none", "margin": 0.0, "min_confidence": 0.95}
    training = {"settings": {"preset": "none", "seed": 0, "pairs": 0, "forgeries": []}, "torch": "", "figures": {},
                "data": {"splits": {}, "sources": [], "store_sha256": ""}}  # fmt: skip
    config = ModelConfig(preprocessing, vqvae, priors, settings.as_tree(), training, detective)
    folder.mkdir()
    save_config(folder, config)
    for name, network in zip(
        weight_files(config), (VQVAE(vqvae), *map(build_prior, priors), build_detective(detective)), strict=True
    ):
        # Layers that begin at zero would hide what comes before them.
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        save_network(network, folder / name)
    scores = {name: np.sort(np.random.default_rng(0).normal(1, 1, 40)) for name in ("original", *REENCODINGS)}
    quantiles = np.linspace(0.1, 0.9, len(LEVELS))[:, None, None] * np.ones((1, 16, 16))
    about = {"images": 40, "sources": {"none": 40}}
    sha256 = digest_of(folder, config)
    made = Calibration(settings.default, scores, quantiles, np.linspace(0.5, 2, 40), "float32", sha256, about)
    save_calibration(folder / "calibration.json", made)
    return folder


class RecordsKept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("pictures"), 6, 0, anomalous=True)


@pytest.fixture(scope="module")
def graph(model: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as graphs, checked on the pictures."""
    path = tmp_path_factory.mktemp("graphs") / "shapes.onnx"
    remarks = RecordsKept()
    for name in ("torch.onnx", "onnx_ir"):
        logging.getLogger(name).addHandler(remarks)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = export_model(model, path, pictures, count=4, rate=RATE)
    assert remarks.said == [], "the exporter talks to itself, not to users"
    assert made.files == (path, restoration_path(path))
    assert (made.parity.inputs, made.parity.codes) == (4, 2 * 4 * 64)
    assert 0 < max(made.parity.scores.values()) <= parity.SCORES, "float32 sums in another order, and no other model"
    return path


@pytest.mark.parametrize("runtime", SESSIONS)
def test_it_says_what_torch_says(graph: Path, model: Path, pictures: Path, runtime: str) -> None:
    pytest.importorskip(runtime.replace("onnx", "onnxruntime"))
    detector, other = Detector.load(model), Detector.load(graph, runtime=runtime)
    assert other.model.sha256 == detector.model.sha256
    paths = sorted(pictures.iterdir())
    # Of another number of crops than the graph was traced with, in batches of their own.
    both = [list(one.detect_many(paths, max_false_alarm=RATE)) for one in (detector, other)]
    for ours, theirs in zip(*both, strict=True):
        assert (ours.verdict, ours.p_value) == (theirs.verdict, theirs.p_value)
        assert list(ours.scores) == list(theirs.scores)
        np.testing.assert_allclose(list(theirs.scores.values()), list(ours.scores.values()), atol=2e-3)
        assert ours.raw_maps.keys() == theirs.raw_maps.keys() >= {"restoration", "surprise", "detective"}
        assert ours.restoration is not None
        assert theirs.restoration is not None
        difference = ours.restoration.astype(int) - theirs.restoration
        assert np.abs(difference).max() <= 1, "the same random numbers draw the same codes"


def test_detect_runs_it(graph: Path, pictures: Path, tmp_path: Path) -> None:
    source = next(pictures.iterdir())
    call = ["detect", str(source), "--model", str(graph), "--runtime", "onnx", "--out", str(tmp_path / "out"),
            "--max-false-alarm", str(RATE), "--report"]  # fmt: skip
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, (done.output, done.exception)
    record = json.loads((tmp_path / "out/findings.jsonl").read_text(encoding="utf-8"))
    assert record["model"]["name"] == "shapes"
    assert (tmp_path / "out" / record["heatmap"]).is_file()
    assert "SHA-256" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_options_that_a_graph_cannot_honour_are_errors(graph: Path, model: Path) -> None:
    for name, value in (("dtype", "bfloat16"), ("device", "cuda"), ("runtime", "torch")):
        with pytest.raises(PixelsleuthError, match="onnx") as told:
            Detector.load(graph, **{name: value})  # type: ignore[arg-type]
        assert told.value.setting == name
    with pytest.raises(PixelsleuthError, match="on the cpu, cuda was asked for"):
        Detector.load(model, device="cuda", runtime="onnx")
    detector = Detector.load(graph, "float32", "cpu", "onnx")
    with pytest.raises(PixelsleuthError, match="need the networks themselves"):
        detector.scorer.networks.slices(Crops(np.zeros((1, 64, 64, 3), np.uint8)), WANTED)
    for asked in ({"face": "none"}, {"policy": Policy(pick="quality")}, {"promise": "any-source"}):
        with pytest.raises(PixelsleuthError, match=r"expected all|was asked for|which source"):
            next(detector.detect_many(["none.jpg"], max_false_alarm=RATE, **asked))  # type: ignore[arg-type]


@pytest.mark.skipif(not (ROOT / "light").is_dir(), reason="not run from the repository")
def test_pixelsleuth_light_needs_no_more_than_it_declares(graph: Path, pictures: Path, tmp_path: Path) -> None:
    """What pixelsleuth itself, its extras and its developers install, and pixelsleuth-light does not, is kept away."""
    light, more = declared(ROOT / "light/pyproject.toml")
    light = light.union(*more.values())
    base, extras = declared()
    modules = {module for module, names in INSTALLED.items() for name in names
               if normal(name) in (base | set().union(*extras.values())) - light}  # fmt: skip
    assert {"torch", "skimage", "h5py"} <= modules
    picture = next(pictures.iterdir())
    call = ["detect", str(picture), "--model", str(graph), "--out", str(tmp_path / "out"), "--report",
            "--max-false-alarm", str(RATE)]  # fmt: skip
    program = BLOCKED.format(blocked=sorted(modules), arguments=call)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/report.html").is_file()


def test_in_the_models_own_folder_it_shares_the_weights(graph: Path, model: Path, pictures: Path) -> None:
    path = model / FILE
    path.write_bytes(graph.read_bytes())
    share_weights(path, model)
    assert path.stat().st_size < 0.8 * graph.stat().st_size
    shared = Detector.load(model, runtime="onnx").detect(next(pictures.iterdir()), max_false_alarm=RATE, heatmap=False)
    alone = Detector.load(graph).detect(next(pictures.iterdir()), max_false_alarm=RATE, heatmap=False)
    assert shared.scores == alone.scores
    if find_spec("openvino"):
        other = Detector.load(model, runtime="openvino").detect(
            next(pictures.iterdir()), max_false_alarm=RATE, heatmap=False
        )
        np.testing.assert_allclose(list(other.scores.values()), list(alone.scores.values()), atol=2e-3)
    path.unlink()


def test_one_that_differs_is_not_written(
    graph: Path, model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is exported here is a graph of which one weight is another."""

    def wrong(module: object, path: Path, about: dict[str, str]) -> None:
        made = onnx.load(graph)
        for tensor in made.graph.initializer:
            if tensor.name.endswith("codebook"):
                values = onnx.numpy_helper.to_array(tensor) * 1.5
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(made, path)

    monkeypatch.setattr("pixelsleuth.export.write_graph", wrong)
    monkeypatch.setattr("pixelsleuth.export.can_restore", lambda networks: False)
    with pytest.raises(PixelsleuthError, match="nothing is written: the graph does not judge as torch does"):
        export_model(model, tmp_path / "wrong.onnx", pictures, count=2, rate=RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runtime", SESSIONS)
def test_a_file_that_is_no_export(tmp_path: Path, runtime: str) -> None:
    pytest.importorskip(runtime.replace("onnx", "onnxruntime"))
    path = tmp_path / "other.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ModelError, match="cannot be read as an ONNX graph"):
        Detector.load(path, runtime=runtime)
    with pytest.raises(ModelError, match="no such file"):
        Detector.load(tmp_path / "missing.onnx", runtime=runtime)


def test_what_parity_calls_a_failure() -> None:
    fine = parity.Parity(inputs=3, codes=192, scores={"a": parity.SCORES}, maps={"m": parity.MAPS})
    assert not fine.failures()
    for wrong in (
        replace(fine, other_codes=1), replace(fine, scores={"a": 2 * parity.SCORES}), replace(fine, verdicts=1),
        replace(fine, maps={"m": 2 * parity.MAPS}), replace(fine, p_value=2 * parity.P_VALUES),
        replace(fine, crops=3, tied=3, scores={}),
    ):  # fmt: skip
        assert len(wrong.failures()) == 1


@pytest.mark.parametrize(("tied", "difference"), [(False, 0.01), (True, 0.0)])
def test_p_is_compared_where_no_code_is_tied(
    graph: Path, model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, tied: bool, difference: float
) -> None:
    torch, other = Detector.load(model), Detector.load(graph)
    judge = other.judge
    monkeypatch.setattr(
        other, "judge", lambda *given: [replace(one, p_value=one.p_value + 0.01) for one in judge(*given)]
    )
    monkeypatch.setattr(parity, "_tied", lambda found, ours, theirs, sample: np.full(len(sample.crops), tied))
    (found,) = parity.parity_of(torch, other, sorted(pictures.iterdir())[:2], RATE, restorations=False)
    assert (found.inputs, found.tied) == (2, 2 * tied)
    assert found.p_value == pytest.approx(difference)
