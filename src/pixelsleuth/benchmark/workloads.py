"""The workloads of the benchmark: training steps, encoding, likelihood, restoration, whole detection, reading from a
store, growth with size.

Networks whose speed does not depend on what they learned have random weights; detection is the bundled model's.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pixelsleuth import __version__
from pixelsleuth.benchmark.machine import describe
from pixelsleuth.benchmark.measuring import Measured, gflops_of, measure, with_floor
from pixelsleuth.datasets.preparation import prepare_images
from pixelsleuth.datasets.store import Store
from pixelsleuth.demo import tampered_copies
from pixelsleuth.detector import Detector
from pixelsleuth.files import write_text
from pixelsleuth.models.checkpoint import bake, build_prior, parameter_count
from pixelsleuth.models.configuration import PriorConfig, VQVAEConfig
from pixelsleuth.models.masked import MaskedPrior
from pixelsleuth.models.pixelsnail import PixelSNAIL
from pixelsleuth.models.prior import Prior
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.scoring import draws
from pixelsleuth.scoring.networks import TorchNetworks, torch_of
from pixelsleuth.scoring.scorer import Scorer
from pixelsleuth.sources import faces
from pixelsleuth.sources.images import encode_jpeg
from pixelsleuth.training.presets import PRESETS, Settings, Stage
from pixelsleuth.training.stages import PriorStage, VQVAEStage

Network = TypeVar("Network", bound=nn.Module)

#: Marimont & Tarroni's S, and the share of codes that their lambda_p flags in the first pass.
RESTORATIONS = 15
FLAGGED = 0.1
#: Side of the made-up face crops, that of the crops the bundled model was trained on.
CROP_SIDE = 224


@dataclass
class Benchmark:
    """Runs the workloads one by one and keeps what they took, by name.

    Attributes:
        images: pictures of the long run of detection.
        direct: run the direct algorithm, which takes minutes.
    """

    device: torch.device
    images: int = 1000
    direct: bool = True
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self.found: dict[str, Measured] = {}
        self.growth: dict[str, Any] = {}
        self.machine = describe(self.device)
        self.rate = self.machine["matmul_gflops_float32"]

    def run(self) -> None:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory(prefix="pixelsleuth-") as name:
            pictures = face_crops(Path(name) / "pictures", self.images)
            self.detection(pictures)
            self.long_run(pictures)
            self.store(Path(name))
        self.networks()
        self.restoration()
        self.training()

    def keep(self, name: str, found: Measured) -> None:
        self.found[name] = found
        about = found.settings
        floor = f", {about['share_of_matmul_rate']:.0%} of matmul rate" if "share_of_matmul_rate" in about else ""
        self.say(
            f"{name:42s} {found.images_per_second:10.3f} images/s {found.cpu_seconds_per_image:9.4f} CPU s an image"
            f" {found.peak_mb:7.0f} MB{floor}"
        )

    def as_tree(self) -> dict[str, Any]:
        tree: dict[str, Any] = {"version": __version__, "machine": self.machine}
        tree |= {name: found.as_tree() for name, found in self.found.items()}
        return tree | {"growth": self.growth}

    def save(self, path: Path) -> None:
        write_text(path, json.dumps(self.as_tree(), indent=1) + "\n")

    # --- detection ---

    def detection(self, pictures: list[Path]) -> None:
        """The bundled model on face crops in a batch of 64, with and without its map and the search for faces."""
        whole = Detector.load("faces", device=str(self.device))
        crops = without_face_search(whole)
        batch = pictures[:64]
        for name, detector, heatmap in (
            ("detect_no_heatmap", crops, False),
            ("detect", crops, True),
            ("detect_no_heatmap_with_face_search", whole, False),
            ("detect_with_face_search", whole, True),
        ):

            def work(detector: Detector = detector, heatmap: bool = heatmap) -> list[Any]:
                return list(detector.detect_many(batch, heatmap=heatmap, batch_size=64))

            share = sum(f.verdict == "not_applicable" for f in work()) / len(batch)
            about = {"batch": 64, "model": "faces", "crop_side": CROP_SIDE, "not_applicable": share}
            self.keep(name, measure(work, len(batch), about, device=self.device, warm=False, most=3))

    def long_run(self, pictures: list[Path]) -> None:
        """Judge all images in one run without maps: memory must not grow with their number."""
        detector = without_face_search(Detector.load("faces", device=str(self.device)))
        sizes = sorted({min(100, len(pictures)), len(pictures)})
        rows: list[dict[str, Any]] = []
        for number in sizes:
            work = partial(_drained, detector, pictures[:number])
            found = measure(work, number, device=self.device, warm=False, most=1, least_seconds=0)
            seconds = round(number / found.images_per_second, 2)
            rows.append({"images": number, "seconds": seconds, "peak_mb": round(found.peak_mb)})
            self.say(f"  {number:,} pictures: {seconds} s, peak {found.peak_mb:.0f} MB")
        far = round(rows[-1]["seconds"] / sizes[-1] * 100_000)
        self.growth["pictures"] = [*rows, {"images": 100_000, "seconds": far, "extrapolated": True}]

    def store(self, folder: Path) -> None:
        """Random reads of 32 from a store of 256 pictures, as training asks for them; they lie in the page cache."""
        path = folder / "stored.h5"
        (first, *_) = face_crops(folder / "stored", 256)
        prepare_images([first.parent], path, size=128, crop="none", group_by_folder=False, workers=1)
        generator = np.random.default_rng(0)
        with Store(path) as store:
            stored = len(store)

            def work() -> None:
                for _ in range(20):
                    store.pixels(generator.integers(stored, size=32))

            self.keep("store_read", measure(work, 20 * 32, {"stored": stored}, device=self.device))

    # --- encoding and likelihood ---

    def networks(self) -> None:
        """Codes and likelihood at the bundled and at the paper's size, beside MONAI's peer; images in, nats out."""
        for suffix, preset in (("", "fast"), ("_paper", "paper-ffhq")):
            settings = PRESETS[preset]
            vqvae = self.ready(VQVAE(settings.vqvae))
            (config,) = (p for p in settings.priors if p.kind == "pixelsnail")
            prior = self.ready(build_prior(config))
            images = self.images_of(settings.vqvae, 32)
            codes = vqvae.encode(images)
            about = {"batch": 32, "preset": preset, "parameters_vqvae": parameter_count(vqvae)}
            of_prior = about | {"parameters_prior": parameter_count(prior), "prior": "pixelsnail"}
            self.timed(f"encode{suffix}", vqvae.encode, images, about)
            self.timed(f"nll{suffix}", _likelihood(vqvae, prior), images, of_prior | {"with": "encoding"})
            self.timed(f"nll{suffix}_prior_alone", prior.log_prob, codes, of_prior)
            self.peer(suffix, config, settings, images)
        settings = PRESETS["fast"]
        vqvae, masked = self.ready(VQVAE(settings.vqvae)), self.ready(build_prior(settings.priors[0]))
        about = {
            "batch": 32,
            "preset": "fast",
            "parameters_vqvae": parameter_count(vqvae),
            "parameters_prior": parameter_count(masked),
        }
        images = self.images_of(settings.vqvae, 32)
        self.timed("nll_masked", _likelihood(vqvae, masked), images, about | {"prior": "masked", "with": "encoding"})
        for side in (64, 128, 256):
            self.grown(side)
        for batch in (1, 8, 64):
            some = self.images_of(settings.vqvae, batch)
            found = measure(partial(_likelihood(vqvae, masked), some), batch, device=self.device)
            self.growth.setdefault("nll_masked_by_batch", {})[str(batch)] = round(found.images_per_second, 2)

    def peer(self, suffix: str, config: PriorConfig, settings: Settings, images: Tensor) -> None:
        try:
            from pixelsleuth.benchmark.monai_baseline import peer_likelihood

            likelihood, parameters, of_vqvae = peer_likelihood(config, settings.vqvae.size, settings.vqvae.dimensions)
        except ImportError:
            self.say("nll_monai: MONAI is not installed; `pip install monai` to compare")
            return
        about = {"batch": 32, "peer": "MONAI", "parameters_vqvae": of_vqvae, "parameters_prior": parameters}
        self.timed(f"nll_monai{suffix}", likelihood, images, about)

    def grown(self, side: int) -> None:
        """Encoding and likelihood of the fast preset at another image size."""
        settings = PRESETS["fast"]
        vqvae = self.ready(VQVAE(replace(settings.vqvae, size=side)))
        prior = self.ready(build_prior(replace(settings.priors[1], grid=vqvae.grid())))
        images = self.images_of(replace(settings.vqvae, size=side), 8)
        found = measure(partial(_likelihood(vqvae, prior), images), 8, device=self.device)
        self.growth.setdefault("nll_by_image_side", {})[str(side)] = round(found.images_per_second, 2)

    # --- restoration ---

    def restoration(self) -> None:
        """PixelSNAIL at the paper's size direct and walked, masked prior by default and at equal parameters."""
        (config,) = PRESETS["paper-ffhq"].priors
        prior = self.ready(build_prior(config))
        codes, uniforms, above = restoration_input(prior, 8, RESTORATIONS)
        codes, uniforms = codes.to(self.device), uniforms.to(self.device)
        about: dict[str, Any] = {"S": RESTORATIONS, "parameters": parameter_count(prior), "prior": "pixelsnail"}
        about["flagged"] = round(float((prior.log_prob(codes).nll > above).float().mean()), 4)
        fast = prior.resample(codes[:1], uniforms[:1], above=above)
        about["replaced"] = round(float((fast != codes[:1, None]).float().mean()), 4)
        gflops = gflops_of(lambda: prior.resample(codes[:1], uniforms[:1], above=above))
        for number, name in ((1, "restore_pixelsnail_fast"), (8, "restore_pixelsnail_fast_batch8")):
            work = partial(prior.resample, codes[:number], uniforms[:number], above=above)
            found = measure(work, number, about, device=self.device)
            self.keep(name, with_floor(found, gflops, self.rate))
        for copies in (1, 4):
            work = partial(prior.resample, codes[:1], uniforms[:1, :copies], above=above)
            found = measure(work, 1, device=self.device)
            self.growth.setdefault("restore_pixelsnail_by_S", {})[str(copies)] = round(found.images_per_second, 3)
        if self.direct:
            kept: list[Tensor] = []

            def directly() -> None:
                kept.append(prior.resample_directly(codes[:1], uniforms[:1], above))

            found = measure(directly, 1, about, device=self.device, warm=False, most=1)
            equal = float((kept[0] == fast).float().mean())
            found.settings["equal_to_fast"] = round(equal, 6)
            self.found["restore_pixelsnail_fast"].settings["equal_to_direct"] = round(equal, 6)
            self.keep("restore_pixelsnail_direct", found)
        default = PRESETS["fast"].priors[0]
        wide = replace(default, codes=config.codes, width=328)
        for name, masked, copies in (
            ("restore_masked", replace(default, codes=config.codes), 4),
            ("restore_masked_S15", replace(default, codes=config.codes), RESTORATIONS),
            ("restore_masked_equal_parameters", wide, RESTORATIONS),
        ):
            self.masked_restoration(name, masked, codes, uniforms[:, :copies])

    def masked_restoration(self, name: str, config: PriorConfig, codes: Tensor, uniforms: Tensor) -> None:
        prior = self.ready(awake(build_prior(config)))
        nll = prior.log_prob(codes).nll
        where = nll > torch.quantile(nll.flatten(1), 1 - FLAGGED, dim=1)[:, None, None]
        about: dict[str, Any] = {
            "S": uniforms.shape[1],
            "parameters": parameter_count(prior),
            "prior": "masked",
            "flagged": round(float(where.float().mean()), 4),
        }

        def work() -> Tensor:
            # The pass that finds what is flagged belongs to it.
            prior.log_prob(codes)
            done: Tensor = prior.resample(codes, uniforms, where=where)
            return done

        about["replaced"] = round(float((work() != codes[:, None]).float().mean()), 4)
        gflops = gflops_of(work) / len(codes)
        found = measure(work, len(codes), about, device=self.device)
        self.keep(name, with_floor(found, gflops, self.rate))

    # --- training ---

    def training(self) -> None:
        """One optimiser step of each network of the fast and of the paper's preset, forward and backward."""
        for preset, short in (("fast", "fast"), ("paper-ffhq", "paper")):
            settings = PRESETS[preset]
            vqvae = VQVAE(settings.vqvae).to(self.device, memory_format=torch.channels_last)
            stage = settings.vqvae_stage
            pixels = torch.randint(256, (stage.batch, settings.vqvae.size, settings.vqvae.size, 3), dtype=torch.uint8)
            module = VQVAEStage(vqvae, settings.loss, stage, 1000, 0)
            self.step(f"train_vqvae_{short}", module, pixels, stage)
            stage = settings.prior_stage
            for number, config in enumerate(settings.priors):
                prior = build_prior(config).to(self.device, memory_format=torch.channels_last)
                codes = torch.randint(config.codes, (stage.batch, *config.grid))
                name = f"train_prior_{short}" + (f"_{config.kind}" if number else "")
                self.step(name, PriorStage(prior, stage, 1000, 0), codes, stage)

    def step(self, name: str, module: VQVAEStage | PriorStage, images: Tensor, stage: Stage) -> None:
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)
        module.log = module.log_dict = lambda *_, **__: None
        module.train()
        # Pictures have no context.
        batch = (images.to(self.device), torch.zeros(len(images), 0, device=self.device))
        reduced = "bf16" in stage.precision

        def work() -> None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
                loss = module.training_step(batch, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        about = {"batch": len(images), "parameters": parameter_count(module), "precision": stage.precision}
        if isinstance(module, PriorStage):
            about["prior"] = module.model.config.kind
        slow = parameter_count(module) > 5e6
        self.keep(name, measure(work, len(images), about, device=self.device, warm=not slow, most=1 if slow else 5))

    # --- shared ---

    def ready(self, network: Network) -> Network:
        bake(network)
        network.eval().requires_grad_(False)
        return network.to(self.device, memory_format=torch.channels_last)

    def images_of(self, config: VQVAEConfig, number: int) -> Tensor:
        made = torch.rand(number, config.channels, config.size, config.size, device=self.device)
        return made.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def timed(self, name: str, work: Callable[[Tensor], Any], given: Tensor, about: dict[str, Any]) -> None:
        gflops = gflops_of(partial(work, given[:1]))
        found = measure(partial(work, given), len(given), about, device=self.device)
        self.keep(name, with_floor(found, gflops, self.rate))


def _likelihood(vqvae: VQVAE, prior: Prior) -> Callable[[Tensor], Any]:
    return lambda images: prior.log_prob(vqvae.encode(images))


def _drained(detector: Detector, pictures: list[Path]) -> None:
    for _ in detector.detect_many(pictures, heatmap=False):
        pass


def restoration_input(prior: MaskedPrior | PixelSNAIL, images: int, restorations: int) -> tuple[Tensor, Tensor, float]:
    """Codes (B, h, w), uniforms (B, S, h, w), and the lambda_p above which `FLAGGED` of these codes lie."""
    codes = torch.randint(prior.config.codes, (images, *prior.config.grid), generator=torch.Generator().manual_seed(1))
    keys = [f"{number:064x}" for number in range(1, images + 1)]
    uniforms = torch.from_numpy(draws.uniforms(keys, restorations, prior.config.grid))
    nll = prior.log_prob(codes.to(next(prior.parameters()).device)).nll
    return codes, uniforms, float(nll.float().quantile(1 - FLAGGED))


def awake(prior: Network) -> Network:
    """Randomise zero-initialised layers; otherwise all codes would be equally likely."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in prior.parameters():
            if not parameter.any():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return prior


def without_face_search(detector: Detector) -> Detector:
    """The same detector for pictures that are face crops already."""
    config = detector.model.config
    cropped = replace(config, preprocessing={**config.preprocessing, "crop": "none"})
    networks = torch_of(detector.scorer)
    model = dataclasses.replace(networks.model, config=cropped)
    scorer = Scorer(TorchNetworks(model, networks.settings, networks.dtype), detector.scorer.levelling)
    return Detector(detector.name, scorer, detector.calibration)


def face_crops(folder: Path, number: int) -> list[Path]:
    """Make JPEG crops around the demo's face, no two alike: moved, lit differently, with a little noise."""
    folder.mkdir(parents=True)
    _, photo = next(tampered_copies())
    box = faces.main_face(photo).box
    generator = np.random.default_rng(0)
    paths = []
    for i in range(number):
        margin = int(generator.integers(0, 25))
        x0, y0 = max(0, box.x0 - margin), max(0, box.y0 - margin)
        crop = photo[y0 : box.y1 + margin, x0 : box.x1 + margin]
        square = faces.cut(crop, faces.whole_picture(crop), CROP_SIDE)
        lit = square * generator.uniform(0.8, 1.1) + generator.normal(0, 2, square.shape)
        path = folder / f"{i:06d}.jpg"
        path.write_bytes(encode_jpeg(np.clip(lit, 0, 255).astype(np.uint8), 92))
        paths.append(path)
    return paths


def ratios(found: dict[str, Measured]) -> Iterator[tuple[str, float]]:
    """Speed-ups that the benchmark is about: name and how many times as fast."""
    for fast, slow in (
        ("restore_pixelsnail_fast", "restore_pixelsnail_direct"),
        ("restore_pixelsnail_fast_batch8", "restore_pixelsnail_direct"),
        ("restore_masked", "restore_pixelsnail_direct"),
        ("restore_masked_S15", "restore_pixelsnail_direct"),
        ("restore_masked_equal_parameters", "restore_pixelsnail_direct"),
        ("restore_masked", "restore_pixelsnail_fast_batch8"),
        ("nll", "nll_monai"),
        ("nll_paper", "nll_monai_paper"),
        ("train_vqvae_fast", "train_vqvae_paper"),
    ):
        if fast in found and slow in found:
            yield f"{fast} / {slow}", found[fast].images_per_second / found[slow].images_per_second
