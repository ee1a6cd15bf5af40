"""What a file says of itself: format, EXIF, JPEG tables, video streams. Shown as it stands."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from pixelsleuth.sources.compression import jpeg_quality
from pixelsleuth.sources.images import opened

#: What is shown of EXIF; a camera writes hundreds of fields.
_EXIF = (
    "Make", "Model", "LensModel", "Software", "DateTime", "DateTimeOriginal", "DateTimeDigitized", "Artist",
    "Copyright", "ImageDescription", "ExposureTime", "FNumber", "ISOSpeedRatings", "Orientation",
)  # fmt: skip
#: Characters shown of a text that a file carries.
_LONGEST = 120


@dataclass(frozen=True)
class FileFacts:
    """What a file says of itself.

    Attributes:
        rows: (label, value) in the order to show them.
        tables: name -> (8, 8) quantisation table of a JPEG.
        quality: a JPEG's quality from 1 to 100, estimated; None for other formats.
    """

    rows: tuple[tuple[str, str], ...] = ()
    tables: dict[str, list[list[int]]] = field(default_factory=dict)
    quality: int | None = None


def picture_facts(data: bytes) -> FileFacts:
    """Facts of an encoded picture; of one that cannot be read only its size."""
    rows = [("bytes", f"{len(data):,}")]
    tables: dict[str, list[list[int]]] = {}
    quality = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = opened(data)
            rows.append(("format", f"{image.format}, {image.width} x {image.height} pixels, {image.mode}"))
            if image.format == "JPEG":
                found = getattr(image, "quantization", {})
                names = {0: "luminance", 1: "chrominance"}
                tables = {names.get(k, str(k)): np.reshape(v, (8, 8)).tolist() for k, v in sorted(found.items())}
                coding = "progressive" if image.info.get("progressive") else "baseline"
                rows.append(("JPEG coding", coding))
                if 0 in found:
                    quality, exact = jpeg_quality(found[0])
                    about = "libjpeg's tables" if exact else "the encoder's own tables, so only about"
                    rows.append(("JPEG quality", f"{quality} ({about})"))
            rows += _exif_rows(image)
    except Exception as error:
        # What a broken file does to a parser is not foreseeable, and the finding has its own reason.
        rows.append(("metadata", f"cannot be read ({type(error).__name__})"))
    return FileFacts(tuple(rows), tables, quality)


def video_facts(path: str | os.PathLike[str]) -> FileFacts:
    """Facts of a video's container and its first video stream."""
    import av

    rows = []
    try:
        rows.append(("bytes", f"{os.path.getsize(path):,}"))
        # A path is never read as an address: the protocol is named.
        with av.open(f"file:{os.fspath(path)}", metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            codec = stream.codec_context
            rows.append(("format", f"{container.format.long_name or container.format.name}, {codec.name}"))
            rate = f", {float(stream.average_rate):.2f} frames/s" if stream.average_rate else ""
            length = f", {container.duration / av.time_base:.1f} s" if container.duration else ""
            rows.append(("picture", f"{codec.width} x {codec.height} pixels{rate}{length}"))
            if codec.bit_rate:
                rows.append(("bit rate", f"{codec.bit_rate / 1000:,.0f} kbit/s"))
            tags = {**container.metadata, **stream.metadata}
            for name in ("encoder", "creation_time", "com.apple.quicktime.model", "handler_name", "title", "comment"):
                if tags.get(name):
                    rows.append((name.rsplit(".", 1)[-1].replace("_", " "), _short(tags[name])))
    except Exception as error:
        rows.append(("metadata", f"cannot be read ({type(error).__name__})"))
    return FileFacts(tuple(rows))


def volume_facts(path: str | os.PathLike[str]) -> FileFacts:
    """Facts of a NIfTI file's header; of a folder how many files it holds."""
    import nibabel

    rows = []
    try:
        if os.path.isdir(path):
            return FileFacts((("files", f"{len(os.listdir(path)):,}"),))
        rows.append(("bytes", f"{os.path.getsize(path):,}"))
        image = nibabel.Nifti1Image.from_filename(os.fspath(path))
        shape = " x ".join(f"{n}" for n in image.shape)
        sides = " x ".join(f"{float(side):.3g}" for side in image.header.get_zooms()[:3])
        rows.append(("format", f"NIfTI, {shape} voxels of {sides} mm, {image.get_data_dtype()}"))
        rows.append(("axes", "".join(nibabel.aff2axcodes(image.affine)) + " (the ends they point to)"))
        text = _short(bytes(image.header["descrip"]).rstrip(b"\0"))
        rows += [("description", text)] if text else []
    except Exception as error:
        # What a broken file does to a parser is not foreseeable, and the finding has its own reason.
        rows.append(("metadata", f"cannot be read ({type(error).__name__})"))
    return FileFacts(tuple(rows))


def _exif_rows(image: Image.Image) -> list[tuple[str, str]]:
    exif = image.getexif()
    if not exif:
        return [("EXIF", "none")]
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    named = {ExifTags.TAGS.get(tag, str(tag)): value for tag, value in {**exif, **inner}.items()}
    rows = [(f"EXIF {name}", _short(named[name])) for name in _EXIF if name in named]
    if exif.get_ifd(ExifTags.IFD.GPSInfo):
        # A report is handed on; where somebody lives is not its subject.
        rows.append(("EXIF GPS", "a position is in the file (not shown)"))
    if "MakerNote" in named:
        rows.append(("EXIF MakerNote", "present"))
    return rows or [("EXIF", f"{len(named)} fields, none of those that are shown")]


def _short(value: Any) -> str:
    """One line of what a file says, without control characters."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
