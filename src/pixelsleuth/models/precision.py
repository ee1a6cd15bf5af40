"""Choose the reduced precision that the processor supports."""

from __future__ import annotations

from pathlib import Path

import torch


def has_bf16() -> bool:
    """Whether the hardware multiplies bf16; elsewhere it is emulated, and slow."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8") or torch.cpu._is_amx_tile_supported()
    except (OSError, AttributeError):
        return False
