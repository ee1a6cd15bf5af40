"""Read the metadata of an image, without judging it: EXIF, XMP, IPTC and the texts of a PNG."""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ElementTree
import zlib
from dataclasses import dataclass, field
from typing import Any

from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

from pixelsleuth.sources.images import opened

#: Bytes read of one XMP packet; real ones have kilobytes.
MAX_XMP_BYTES = 4_000_000
#: Characters kept of one text.
MAX_CHARACTERS = 500
#: Values kept of one XMP property, such as the steps of a history.
MAX_VALUES = 200

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_TAGS = {name: tag for tag, name in ExifTags.TAGS.items()}


@dataclass(frozen=True)
class Metadata:
    """The metadata of a file.

    Attributes:
        format: Pillow's name of it, such as `JPEG`.
        size: width and height as stored.
        exif: name -> text, of all directories but GPS and the maker's.
        xmp: local name of a property -> its values, wherever in the packet it stands.
        history: steps of xmpMM:History, each field -> text.
        iptc: (record, number) -> text.
        texts: of a PNG, keyword -> text.
        thumbnail: the encoded picture in EXIF's second directory.
        maker_note: whether the camera's own block is there.
        tables: a JPEG's quantisation tables by number, 64 values each, row by row.
        broken: which of these could not be read.
    """

    format: str
    size: tuple[int, int]
    exif: dict[str, str] = field(default_factory=dict)
    xmp: dict[str, list[str]] = field(default_factory=dict)
    history: list[dict[str, str]] = field(default_factory=list)
    iptc: dict[tuple[int, int], str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    thumbnail: bytes | None = None
    maker_note: bool = False
    tables: dict[int, list[int]] = field(default_factory=dict)
    broken: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.exif or self.xmp or self.iptc or self.texts or self.thumbnail)


def read_metadata(data: bytes) -> Metadata | None:
    """Metadata of an encoded picture, None where it cannot be opened. A part that is broken costs that part alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = opened(data)
        except Exception:
            # What a broken file does to a parser is not foreseeable, and the finding has its own reason.
            return None
        broken: list[str] = []
        found: dict[str, Any] = {}
        for name, part in (("exif", _exif), ("xmp", _xmp), ("iptc", _iptc)):
            try:
                found |= part(image)
            except Exception:
                broken.append(name)
        if image.format == "PNG":
            found["texts"] = _png_texts(data)
        tables = {k: list(v) for k, v in sorted((getattr(image, "quantization", None) or {}).items())}
        return Metadata(image.format or "", image.size, tables=tables, broken=tuple(broken), **found)


def plain(value: Any) -> str:
    """One line of what a file says, without control characters."""
    if isinstance(value, bytes):
        value = (
            value.removeprefix(b"ASCII\0\0\0").removeprefix(b"UNICODE\0").replace(b"\0", b"").decode("utf-8", "replace")
        )
    text = "".join(c if c.isprintable() else " " for c in str(value)[: 4 * MAX_CHARACTERS])
    return " ".join(text.split())[:MAX_CHARACTERS]


def _exif(image: Image.Image) -> dict[str, Any]:
    exif = image.getexif()
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    maker = _TAGS["MakerNote"]
    texts = {
        ExifTags.TAGS.get(tag, str(tag)): plain(value)
        for tag, value in {**exif, **inner}.items()
        if tag not in (maker, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop, _TAGS["XMLPacket"])
    }
    # A TIFF's own tags say how its pixels are stored.
    if image.format == "TIFF":
        told = {"Make", "Model", "Software", "DateTime", "Artist", "Copyright", "ImageDescription"}
        names = told | {ExifTags.TAGS.get(tag, "") for tag in inner}
        texts = {name: text for name, text in texts.items() if name in names}
    found = {"exif": texts, "maker_note": maker in inner}
    # A TIFF's second directory is its second page; of anything else it is the thumbnail's.
    second = {} if image.format == "TIFF" else exif.get_ifd(ExifTags.IFD.IFD1)
    start, length = second.get(_TAGS["JpegIFOffset"]), second.get(_TAGS["JpegIFByteCount"])
    block = image.info.get("exif")
    if start and length and isinstance(block, bytes):
        # Offsets count from the TIFF header, which follows the block's name.
        body = block.removeprefix(b"Exif\0\0")
        data = body[int(start) : int(start) + int(length)]
        if data.startswith(b"\xff\xd8"):
            found["thumbnail"] = data
    return found


def _xmp(image: Image.Image) -> dict[str, Any]:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if not packet and image.format == "TIFF":
        packet = image.tag_v2.get(_TAGS["XMLPacket"], b"")  # type: ignore[attr-defined]
    return xmp_of(packet)


def xmp_of(packet: str | bytes) -> dict[str, Any]:
    """`xmp` and `history` of a packet, see `Metadata`; empty for none. Raises ValueError or ParseError where it is
    broken."""
    raw = packet.encode() if isinstance(packet, str) else bytes(packet)
    raw = raw.strip(b" \0\r\n\t")
    if not raw:
        return {}
    # XMP has no document type; one that has is made to do harm.
    if len(raw) > MAX_XMP_BYTES or b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        raise ValueError("no plain XMP packet")
    root = ElementTree.fromstring(raw)
    values: dict[str, list[str]] = {}
    history: list[dict[str, str]] = []
    for element in root.iter():
        name = _local(element.tag)
        for key, value in element.attrib.items():
            values.setdefault(_local(key), []).append(plain(value))
        if name == "History":
            history += [step for step in map(_step, element.iter(f"{_RDF}li")) if step]
        texts = [child.text for child in element.iter(f"{_RDF}li")] if len(element) else [element.text]
        kept = [plain(text) for text in texts if text and text.strip()]
        if kept and not element.tag.startswith(_RDF):
            values.setdefault(name, []).extend(kept)
    return {"xmp": {key: found[:MAX_VALUES] for key, found in values.items()}, "history": history[:MAX_VALUES]}


def _step(item: ElementTree.Element) -> dict[str, str]:
    step = {_local(key): plain(value) for key, value in item.attrib.items()}
    return step | {_local(child.tag): plain(child.text) for child in item.iter() if child.text and child.text.strip()}


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _iptc(image: Image.Image) -> dict[str, Any]:
    if not isinstance(image, ImageFile.ImageFile) or image.format not in ("JPEG", "TIFF"):
        return {}
    found = IptcImagePlugin.getiptcinfo(image) or {}
    first = {key: value[0] if isinstance(value, list) else value for key, value in found.items()}
    # Record 1 and number 0 say how the block is coded.
    return {"iptc": {key: plain(value) for key, value in first.items() if key[0] == 2 and key[1] > 0}}


def _png_texts(data: bytes) -> dict[str, str]:
    """Texts of a PNG's chunks, also of those behind its pixels, which are not decoded for them."""
    found: dict[str, str] = {}
    at = 8
    while at + 12 <= len(data) and len(found) < MAX_VALUES:
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        at += 12 + length
        keyword, _, rest = body.partition(b"\0")
        if kind == b"zTXt":
            rest = _inflated(rest[1:])
        elif kind == b"iTXt":
            packed, (_, _, rest) = rest[:1] == b"\1", _three(rest[2:])
            rest = _inflated(rest) if packed else rest
        elif kind != b"tEXt":
            continue
        if keyword != b"XML:com.adobe.xmp":
            found[plain(keyword)] = plain(rest)
    return found


def _three(rest: bytes) -> tuple[bytes, bytes, bytes]:
    """Language, translated keyword and text of an iTXt chunk."""
    language, _, rest = rest.partition(b"\0")
    translated, _, text = rest.partition(b"\0")
    return language, translated, text


def _inflated(packed: bytes) -> bytes:
    """No more than is kept of a text, however much it unpacks to."""
    try:
        return zlib.decompressobj().decompress(packed, 4 * MAX_CHARACTERS)
    except zlib.error:
        return b""
