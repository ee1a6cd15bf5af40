"""The training stages as Lightning modules: the VQ-VAE on images, a prior on cached codes, a detective on pairs."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics.functional.image import structural_similarity_index_measure

from pixelsleuth.models.detective import DeepDetective, Detective
from pixelsleuth.models.quantiser import perplexity
from pixelsleuth.models.share import Share, part_of
from pixelsleuth.models.vae import VAE
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.records import Surprise
from pixelsleuth.training.data import augmented, to_float
from pixelsleuth.training.pair_dataset import PairDataset
from pixelsleuth.training.presets import LossWeights, Stage


def log_every(steps: int) -> int:
    """Steps between points of a curve: at most 10, fewer in a run so short that little would be seen."""
    return max(1, min(10, steps // 50))


class _Taught(L.LightningModule):
    """What all stages need of Lightning: random numbers by step, the optimizer, clipping.

    Attributes:
        sampler: gives the rows of a step's whole batch, of which this process computes a part; set by whoever runs the
            stage.
    """

    sampler: Any = None

    def __init__(self, stage: Stage, steps: int, seed: int) -> None:
        super().__init__()
        self.stage, self.steps, self.seed = stage, steps, seed
        self._generator: torch.Generator | None = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Keyed by the step, so that a resumed run draws what an unbroken one would. Dropout is each process's own.
        seed = self.seed * 1_000_003 + self.global_step
        torch.manual_seed(seed + 7_919 * self.global_rank)
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def share(self, count: int) -> Share:
        """The part of the batch that this process's `count` images are."""
        if self.sampler is None:
            return Share(0, count, count, self._generator)
        total = len(self.sampler.rows(self.global_step))
        part = part_of(total, self.global_rank, self.trainer.world_size)
        return Share(part.start, part.stop - part.start, total, self._generator)

    def tell(self, name: str, value: Tensor) -> None:
        """Log a loss, the mean over processes."""
        self.log(name, value, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        stage = self.stage
        if stage.optimizer == "adam":
            return torch.optim.Adam(self.parameters(), lr=stage.learning_rate)
        optimizer = torch.optim.AdamW(self.parameters(), lr=stage.learning_rate, weight_decay=0.01)
        warmup, total = min(stage.warmup_steps, max(1, self.steps // 10)), self.steps

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return max(0.01, 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        if self.stage.clip_value:
            nn.utils.clip_grad_value_(self.parameters(), self.stage.clip_value)
        if self.stage.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters(), self.stage.clip_norm)


class VQVAEStage(_Taught):
    """Batches are pairs of (B, H, W, C) uint8 and their context (B, n) float32, n = 0 for pictures."""

    def __init__(self, model: VQVAE, weights: LossWeights, stage: Stage, steps: int, seed: int) -> None:
        super().__init__(stage, steps, seed)
        self.model, self.weights = model, weights

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        pixels, scalars = batch
        share = self.share(len(pixels))
        image = augmented(to_float(pixels), self.stage.augment, share)
        loss, parts, codes = vqvae_loss(self.model, image, self.weights, scalars)
        loss = loss * share.weight
        self.tell("loss", loss)
        if self.global_step % log_every(self.steps) == 0:
            size = self.model.config.codes
            complexity, usage = perplexity(codes, size)
            self.log_dict({f"train/{k}": v for k, v in parts.items()} | {"train/usage": usage})
            self.log("perplexity", complexity, prog_bar=True)
        return loss


class VAEStage(_Taught):
    """Batches are pairs as `VQVAEStage`'s."""

    def __init__(self, model: VAE, stage: Stage, steps: int, seed: int) -> None:
        super().__init__(stage, steps, seed)
        self.model = model

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        share = self.share(len(batch[0]))
        loss = self.model.loss(augmented(to_float(batch[0]), self.stage.augment, share), share)
        self.tell("loss", loss)
        return loss


class PriorStage(_Taught):
    """Batches are pairs of (B, h, w) int codes and their context (B, n) float32, n = 0 for pictures."""

    def __init__(self, model: nn.Module, stage: Stage, steps: int, seed: int) -> None:
        super().__init__(stage, steps, seed)
        self.model = model

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        codes, scalars = batch
        share = self.share(len(codes))
        loss = self.model.loss(codes.long(), scalars, share)
        self.tell("nll", loss)
        return loss


class DetectiveStage(_Taught):
    """Batches are (B,) numbers of pairs; the dataset holds what they stand for."""

    def __init__(self, model: Detective, dataset: PairDataset, stage: Stage, steps: int, seed: int) -> None:
        super().__init__(stage, steps, seed)
        self.model, self.dataset = model, dataset

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        share = self.share(len(batch))
        flips = (share.rand(device=self.device) < 0.5).cpu().numpy() & (self.stage.augment != "none")
        (image, made, felt, *more), mask = self.dataset.batch(batch.cpu().numpy(), flips)
        surprise = Surprise(felt.nll.to(self.device), felt.entropy.to(self.device))
        close, usual = (None if planes is None else planes.to(self.device) for planes in more)
        places, whole = self.model(image.to(self.device), made.to(self.device), surprise, close, usual)
        loss, parts = detective_loss(places, whole, mask.to(self.device))
        loss = loss * share.weight
        self.tell("loss", loss)
        self.log_dict({f"train/{k}": v for k, v in parts.items()})
        return loss


class DeepDetectiveStage(_Taught):
    """Batches are (2 B, S, S, 3) uint8, B pictures and then their forgeries, and the masks (B, h, w) float32.

    What is kept in the end is the moving average of the weights over the last some hundred steps (Polyak & Juditsky
    1992), `averaged`.
    """

    def __init__(self, model: DeepDetective, stage: Stage, steps: int, seed: int) -> None:
        super().__init__(stage, steps, seed)
        self.model = model
        decay = min(0.998, 1 - 5 / max(10, steps))
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        pixels, mask = batch
        image = to_float(pixels).contiguous(memory_format=torch.channels_last)
        places, whole = self.model(image)
        loss, parts = deep_detective_loss(places, whole, mask)
        loss = loss * self.share(len(mask)).weight
        self.tell("loss", loss)
        self.log_dict({f"train/{k}": v for k, v in parts.items()})
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.averaged.update_parameters(self.model)

    def configure_optimizers(self) -> Any:
        self.averaged.requires_grad_(False)
        return super().configure_optimizers()


def deep_detective_loss(places: Tensor, whole: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """As `detective_loss`, with places and ranking at half weight; takes and gives the same.

    Masks that follow the face cover a good part of a square, so that altered places need no weight of their own.
    """
    count = len(mask)
    of_places = F.binary_cross_entropy_with_logits(places, torch.cat([torch.zeros_like(mask), mask]))
    labels = torch.cat([torch.zeros(count, device=mask.device), torch.ones(count, device=mask.device)])
    of_images = F.binary_cross_entropy_with_logits(whole, labels)
    margin = whole[count:] - whole[:count]
    ranking = F.softplus(-margin).mean()
    parts = {"places": of_places, "images": of_images, "ranking": ranking, "ranked": (margin > 0).float().mean()}
    return of_images + 0.5 * of_places + 0.5 * ranking, parts


def detective_loss(places: Tensor, whole: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Classification of places and of images, and the ranking of each picture below its own forgery.

    Args:
        places: (2 n, h, w) logits, n pictures and then their forgeries; whole: (2 n,) logits of images.
        mask: (n, h, w) in [0, 1], where the forgeries were altered.

    Returns:
        The loss, a scalar, and its parts by name, with `ranked`: the share of pairs in the right order.
    """
    count = len(mask)
    truth = torch.cat([torch.zeros_like(mask), mask])
    # Altered places are few: without a weight the map would learn to say no.
    of_places = F.binary_cross_entropy_with_logits(places, truth, pos_weight=torch.tensor(4.0, device=mask.device))
    labels = torch.cat([torch.zeros(count, device=mask.device), torch.ones(count, device=mask.device)])
    of_images = F.binary_cross_entropy_with_logits(whole, labels)
    margin = whole[count:] - whole[:count]
    ranking = F.softplus(-margin).mean()
    parts = {"places": of_places, "images": of_images, "ranking": ranking, "ranked": (margin > 0).float().mean()}
    return of_places + of_images + ranking, parts


def vqvae_loss(
    model: VQVAE, image: Tensor, weights: LossWeights, scalars: Tensor
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The three-term loss of van den Oord et al. 2017, eq. 3: reconstruction, codebook, commitment.

    Reconstruction is a weighted sum of mean L1, mean L2 and the mean L1 of the difference of neighbouring
    pixels. Image (B, C, H, W) float32 in [0, 1]; the model's own range of [-1, 1] is the loss's scale.

    Returns:
        The loss, its parts by name, and the codes (B, h, w).
    """
    made = model(image, scalars)
    difference = (made.image - image) * 2
    parts = {
        "l1": difference.abs().mean(),
        "codebook": made.quantised.codebook_loss,
        "commitment": made.quantised.commitment_loss,
    }
    loss = weights.l1 * parts["l1"] + weights.codebook * parts["codebook"]
    loss = loss + weights.commitment * parts["commitment"]
    if weights.l2:
        parts["l2"] = (difference**2).mean()
        loss = loss + weights.l2 * parts["l2"]
    if weights.gradient:
        down, across = difference.diff(dim=2).abs().mean(), difference.diff(dim=3).abs().mean()
        parts["gradient"] = down + across
        loss = loss + weights.gradient * parts["gradient"]
    return loss, parts, made.quantised.codes


@torch.no_grad()
def reconstruction_metrics(model: VQVAE, images: Tensor, scalars: Tensor, batch: int = 32) -> dict[str, float]:
    """Measure the reconstruction of (N, H, W, C) uint8 images, of which a network may be told `scalars` (N, n) float32:
    mean L1 (range [0, 1]), mean PSNR over images in dB, mean SSIM, perplexity of the codes
    and share of the codebook in use."""
    model.eval()
    l1, psnr, ssim, codes = [], [], [], []
    for start in range(0, len(images), batch):
        image = to_float(images[start : start + batch])
        about = scalars[start : start + batch]
        grid = model.encode(image, about)
        made = model.decode(grid, about)
        l1.append((made - image).abs().mean((1, 2, 3)))
        psnr.append(-10 * F.mse_loss(made, image, reduction="none").mean((1, 2, 3)).clamp_min(1e-10).log10())
        similarity = structural_similarity_index_measure(made, image, data_range=1.0, reduction="none")
        ssim.append(torch.as_tensor(similarity).reshape(-1))
        codes.append(grid)
    complexity, usage = perplexity(torch.cat(codes), model.config.codes)
    return {
        "l1": float(torch.cat(l1).mean()),
        "psnr": float(torch.cat(psnr).mean()),
        "ssim": float(torch.cat(ssim).mean()),
        "perplexity": complexity,
        "usage": usage,
    }
