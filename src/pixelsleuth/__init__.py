"""pixelsleuth learns what normal images look like, and shows where a new one differs from them and how rare that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Detector", "Finding", "__version__"]

if TYPE_CHECKING:
    from pixelsleuth.detector import Detector
    from pixelsleuth.records import Finding


def __getattr__(name: str) -> Any:
    # Imported when asked for: torch takes a second, and `pixelsleuth --help` needs none of it.
    if name == "Detector":
        from pixelsleuth.detector import Detector

        return Detector
    if name == "Finding":
        from pixelsleuth.records import Finding

        return Finding
    raise AttributeError(f"module 'pixelsleuth' has no attribute {name!r}")
