"""Read the metadata of an image, without judging it: EXIF, XMP, IPTC, the texts of a PNG and comments."""

from __future__ import annotations

import contextlib
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
#: Characters searched of a text in which image generators leave their settings, behind prompts of any length.
MAX_SEARCHED = 65_536
#: Bytes of a PNG's keyword, by its specification.
MAX_KEYWORD = 79
#: Values kept of one XMP property, such as the steps of a history.
MAX_VALUES = 200

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_TAGS = {name: tag for tag, name in ExifTags.TAGS.items()}
#: Texts of EXIF in which generators leave their settings; ComfyUI takes the camera's for it.
_SEARCHED = ("UserComment", "ImageDescription", "Make", "Model")


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
        texts: of a PNG, keyword -> text; the comment of a JPEG or GIF as `Comment`.
        searched: name -> text, of EXIF's comments and camera and of these texts, up to `MAX_SEARCHED` characters of
            each as they stand: to be looked through, not to be shown.
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
    searched: dict[str, str] = field(default_factory=dict)
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
        told = _png_texts(data) if image.format == "PNG" else _comment(image)
        found["texts"] = {plain(key): plain(text) for key, text in told.items()}
        found["searched"] = found.get("searched", {}) | {plain(key): text for key, text in told.items()}
        tables = {k: list(v) for k, v in sorted((getattr(image, "quantization", None) or {}).items())}
        return Metadata(image.format or "", image.size, tables=tables, broken=tuple(broken), **found)


def plain(value: Any) -> str:
    """One line of what a file says, without control characters."""
    text = "".join(c if c.isprintable() else " " for c in decoded(value)[: 4 * MAX_CHARACTERS])
    return " ".join(text.split())[:MAX_CHARACTERS]


def decoded(value: Any) -> str:
    """What a file says as it stands, up to `MAX_SEARCHED` characters. Bytes are UTF-8, or UTF-16 where they begin with
    EXIF's name of it, UNICODE."""
    if not isinstance(value, bytes):
        return str(value)[:MAX_SEARCHED]
    if value.startswith(b"UNICODE\0"):
        return _utf_16(value[8 : 8 + 2 * MAX_SEARCHED])
    # Without their zeros, texts in UTF-16 that say nothing of it can be read as well, as Windows writes its own tags.
    told = value.removeprefix(b"ASCII\0\0\0")[: 2 * MAX_SEARCHED].replace(b"\0", b"")
    return told.decode("utf-8", "replace")[:MAX_SEARCHED]


def _utf_16(data: bytes) -> str:
    """UTF-16 in whichever byte order: by its mark, or by where the zeros stand that are half of every Latin letter,
    digit and space. EXIF leaves the order open, and programs do not keep to that of the block around it."""
    if data.startswith((b"\xfe\xff", b"\xff\xfe")):
        return data.decode("utf-16", "replace")
    high, low = data[::2].count(0), data[1::2].count(0)
    if not high and not low:
        # Some programs call UNICODE what is UTF-8; UTF-16 without any zero is hardly ever valid as such.
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode("utf-8")[:MAX_SEARCHED]
    return data.decode("utf-16-be" if high >= low else "utf-16-le", "replace")


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
    values = {name: inner.get(_TAGS[name], exif.get(_TAGS[name])) for name in _SEARCHED}
    searched = {name: decoded(value) for name, value in values.items() if value is not None}
    found = {"exif": texts, "searched": searched, "maker_note": maker in inner}
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


def _comment(image: Image.Image) -> dict[bytes, str]:
    """A JPEG's comment segment, or a GIF's comment, as a PNG would hold it; nothing where there is none."""
    comment = image.info.get("comment")
    return {b"Comment": decoded(comment)} if comment else {}


def _png_texts(data: bytes) -> dict[bytes, str]:
    """Texts of a PNG's chunks by keyword, also of those behind its pixels, which are not decoded for them."""
    found: dict[bytes, str] = {}
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
            found[keyword[:MAX_KEYWORD]] = decoded(rest)
    return found


def _three(rest: bytes) -> tuple[bytes, bytes, bytes]:
    """Language, translated keyword and text of an iTXt chunk."""
    language, _, rest = rest.partition(b"\0")
    translated, _, text = rest.partition(b"\0")
    return language, translated, text


def _inflated(packed: bytes) -> bytes:
    """No more than is searched of a text, however much it unpacks to."""
    try:
        return zlib.decompressobj().decompress(packed, MAX_SEARCHED)
    except zlib.error:
        return b""
