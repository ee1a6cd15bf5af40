"""List the facts of a file as they stand: format, EXIF, JPEG tables, video streams."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from pixelsleuth.errors import InputError
from pixelsleuth.language import Language, language
from pixelsleuth.sources.compression import jpeg_quality
from pixelsleuth.sources.images import opened as opened_picture
from pixelsleuth.sources.scans.scanfiles import MILLIMETRES, Opened
from pixelsleuth.sources.videos import open_container

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
            image = opened_picture(data)
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
    """Facts of a video's container and its first video stream, where it has one."""
    import av

    rows, say = [], say or language()
    try:
        rows.append((say("fact.bytes"), say.number(os.path.getsize(path))))
        with open_container(path) as container:
            name = container.format.long_name or container.format.name
            duration = [f"{say.decimal(container.duration / av.time_base, '.1f')} s"] if container.duration else []
            tags = dict(container.metadata)
            stream = next(iter(container.streams.video), None)
            codec = stream.codec_context if stream is not None else None
            if stream is None or codec is None:
                rows.append((say("fact.format"), ", ".join([name, *duration])))
            else:
                rows.append((say("fact.format"), f"{name}, {codec.name}"))
                size = say("fact.pixels", width=str(codec.width), height=str(codec.height))
                rate = float(stream.average_rate) if stream.average_rate else 0
                told = [size, say("fact.rate", rate=say.decimal(rate, ".2f"))] if rate else [size]
                rows.append((say("fact.picture"), ", ".join(told + duration)))
                if codec.bit_rate:
                    rows.append((say("fact.bit_rate"), f"{say.number(round(codec.bit_rate / 1000))} kbit/s"))
                tags |= stream.metadata
            for name in ("encoder", "creation_time", "com.apple.quicktime.model", "handler_name", "title", "comment"):
                if tags.get(name):
                    rows.append((name.rsplit(".", 1)[-1].replace("_", " "), _short(tags[name])))
    except Exception as error:
        rows.append((say("fact.metadata"), say("fact.broken", why=type(error).__name__)))
    return FileFacts(tuple(rows))


def volume_facts(path: str | os.PathLike[str], opened: Opened | InputError, say: Language | None = None) -> FileFacts:
    """Facts of a scan's file, or of the files of a series.

    Args:
        opened: what the reader that judged it makes of it, or why it cannot be read.
    """
    import nibabel

    rows, say = [], say or language()
    try:
        if os.path.isdir(path):
            rows.append((say("fact.files"), say.number(len(os.listdir(path)))))
        elif os.path.isfile(path):
            rows.append((say("fact.bytes"), say.number(os.path.getsize(path))))
        elif isinstance(opened, Opened):
            rows.append((say("fact.files"), say.number(opened.files)))
        if isinstance(opened, InputError):
            rows.append((say("fact.metadata"), say("fact.broken", why=opened.code)))
            return FileFacts(tuple(rows))
        shape = " x ".join(f"{n}" for n in opened.shape)
        lengths = nibabel.affines.voxel_sizes(opened.affine) * MILLIMETRES[opened.unit]
        told = say("fact.voxels", shape=shape, sides=" x ".join(f"{float(side):.3g}" for side in lengths))
        rows.append((say("fact.format"), f"{opened.format}, {told}, {opened.dtype.name}"))
        codes = "".join(str(code or "?") for code in nibabel.aff2axcodes(opened.affine))
        rows.append((say("fact.axes"), say("fact.axes.ends", codes=codes)))
        text = _short(opened.description)
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
