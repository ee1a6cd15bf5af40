"""List the facts of a file as they stand: format, EXIF, JPEG tables, video streams."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from pixelsleuth.language import Language, language
from pixelsleuth.sources.compression import jpeg_quality
from pixelsleuth.sources.images import opened

#: What is shown of EXIF; a camera writes hundreds of fields.
_EXIF = (
    "Make", "Model", "LensModel", "Software", "DateTime", "DateTimeOriginal", "DateTimeDigitized", "Artist",
    "Copyright", "ImageDescription", "ExposureTime", "FNumber", "ISOSpeedRatings", "Orientation",
)  # fmt: skip
#: Characters shown of a text that a file carries.
_MAX_CHARACTERS = 120


@dataclass(frozen=True)
class FileFacts:
    """The facts of a file.

    Attributes:
        rows: (label, value) in the order to show them.
        tables: name -> (8, 8) quantisation table of a JPEG.
        quality: a JPEG's quality from 1 to 100, estimated; None for other formats.
    """

    rows: tuple[tuple[str, str], ...] = ()
    tables: dict[str, list[list[int]]] = field(default_factory=dict)
    quality: int | None = None


def picture_facts(data: bytes, say: Language | None = None) -> FileFacts:
    """Facts of an encoded picture; of one that cannot be read only its size."""
    say = say or language()
    rows = [(say("fact.bytes"), say.number(len(data)))]
    tables: dict[str, list[list[int]]] = {}
    quality = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = opened(data)
            size = say("fact.pixels", width=str(image.width), height=str(image.height))
            rows.append((say("fact.format"), f"{image.format}, {size}, {image.mode}"))
            if image.format == "JPEG":
                found = getattr(image, "quantization", {})
                names = {0: "luminance", 1: "chrominance"}
                tables = {names.get(k, str(k)): np.reshape(v, (8, 8)).tolist() for k, v in sorted(found.items())}
                coding = "progressive" if image.info.get("progressive") else "baseline"
                rows.append((say("fact.coding"), coding))
                if 0 in found:
                    quality, exact = jpeg_quality(found[0])
                    about = say("fact.quality.exact" if exact else "fact.quality.about")
                    rows.append((say("fact.quality"), f"{quality} ({about})"))
            rows += _exif_rows(image, say)
    except Exception as error:
        # What a broken file does to a parser is not foreseeable, and the finding has its own reason.
        rows.append((say("fact.metadata"), say("fact.broken", why=type(error).__name__)))
    return FileFacts(tuple(rows), tables, quality)


def video_facts(path: str | os.PathLike[str], say: Language | None = None) -> FileFacts:
    """Facts of a video's container and its first video stream."""
    import av

    rows, say = [], say or language()
    try:
        rows.append((say("fact.bytes"), say.number(os.path.getsize(path))))
        # A path is never read as an address: the protocol is named.
        with av.open(f"file:{os.fspath(path)}", metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            codec = stream.codec_context
            rows.append((say("fact.format"), f"{container.format.long_name or container.format.name}, {codec.name}"))
            size = say("fact.pixels", width=str(codec.width), height=str(codec.height))
            rate = float(stream.average_rate) if stream.average_rate else 0
            told = [size, say("fact.rate", rate=say.decimal(rate, ".2f"))] if rate else [size]
            if container.duration:
                told.append(f"{say.decimal(container.duration / av.time_base, '.1f')} s")
            rows.append((say("fact.picture"), ", ".join(told)))
            if codec.bit_rate:
                rows.append((say("fact.bit_rate"), f"{say.number(round(codec.bit_rate / 1000))} kbit/s"))
            tags = {**container.metadata, **stream.metadata}
            for name in ("encoder", "creation_time", "com.apple.quicktime.model", "handler_name", "title", "comment"):
                if tags.get(name):
                    rows.append((name.rsplit(".", 1)[-1].replace("_", " "), _short(tags[name])))
    except Exception as error:
        rows.append((say("fact.metadata"), say("fact.broken", why=type(error).__name__)))
    return FileFacts(tuple(rows))


def volume_facts(path: str | os.PathLike[str], say: Language | None = None) -> FileFacts:
    """Facts of a NIfTI file's header; of a folder how many files it holds."""
    import nibabel

    rows, say = [], say or language()
    try:
        if os.path.isdir(path):
            return FileFacts(((say("fact.files"), say.number(len(os.listdir(path)))),))
        rows.append((say("fact.bytes"), say.number(os.path.getsize(path))))
        image = nibabel.Nifti1Image.from_filename(os.fspath(path))
        shape = " x ".join(f"{n}" for n in image.shape)
        sides = " x ".join(f"{float(side):.3g}" for side in image.header.get_zooms()[:3])
        told = say("fact.voxels", shape=shape, sides=sides)
        rows.append((say("fact.format"), f"NIfTI, {told}, {image.get_data_dtype()}"))
        rows.append((say("fact.axes"), say("fact.axes.ends", codes="".join(nibabel.aff2axcodes(image.affine)))))
        text = _short(bytes(image.header["descrip"]).rstrip(b"\0"))
        rows += [(say("fact.description"), text)] if text else []
    except Exception as error:
        # What a broken file does to a parser is not foreseeable, and the finding has its own reason.
        rows.append((say("fact.metadata"), say("fact.broken", why=type(error).__name__)))
    return FileFacts(tuple(rows))


def _exif_rows(image: Image.Image, say: Language) -> list[tuple[str, str]]:
    exif = image.getexif()
    if not exif:
        return [("EXIF", say("fact.none"))]
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    named = {ExifTags.TAGS.get(tag, str(tag)): value for tag, value in {**exif, **inner}.items()}
    rows = [(f"EXIF {name}", _short(named[name])) for name in _EXIF if name in named]
    if exif.get_ifd(ExifTags.IFD.GPSInfo):
        # A report is handed on; where somebody lives is not its subject.
        rows.append(("EXIF GPS", say("fact.gps")))
    if "MakerNote" in named:
        rows.append(("EXIF MakerNote", say("fact.present")))
    return rows or [("EXIF", say("fact.others", n=say.number(len(named))))]


def _short(value: Any) -> str:
    """One line of what a file says, without control characters."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
