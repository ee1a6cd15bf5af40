"""State what a file's metadata, signatures and compression say, one plain statement each; none is proof."""

from __future__ import annotations

import os
from datetime import datetime
from typing import NamedTuple

from pixelsleuth.errors import InputError
from pixelsleuth.evidence.containers import video_statements
from pixelsleuth.evidence.credentials import credentials
from pixelsleuth.evidence.metadata import Metadata, read_metadata
from pixelsleuth.evidence.programs import (
    DEVELOPERS,
    EDITORS,
    GENERATOR_PHRASES,
    GENERATORS,
    MAX_DATE_GAP,
    camera,
    named,
    origin,
    phrased,
    steps_of,
    with_settings,
)
from pixelsleuth.evidence.thumbnails import likeness
from pixelsleuth.records import Statement
from pixelsleuth.sources.compression import is_standard, jpeg_quality
from pixelsleuth.sources.images import read_bytes

#: Likeness to its own thumbnail, in [-1, 1], below which a picture is another one.
UNLIKE = 0.8
#: Longer sides in pixels that messengers scale pictures to, by their own source code: Signal for Android
#: (`PushMediaConstraints`, image size targets), Telegram for Android (`AndroidUtilities.getPhotoSize`).
PASSED_ON = {1024: "Signal", 1280: "Telegram", 1600: "Signal", 2048: "Signal", 4096: "Signal"}
#: What image generators write beside their pictures: keywords of a PNG's texts.
_PROMPTS = ("parameters", "prompt", "workflow", "Dream", "invokeai_metadata", "sd-metadata", "generation_data")


class FileEvidence(NamedTuple):
    """What a file tells of itself; captured: when it was taken, by its own word, as ISO 8601 without a zone."""

    statements: tuple[Statement, ...] = ()
    captured: str | None = None


def evidence_of(source: object, kind: str) -> FileEvidence:
    """Collect what an input's file says of itself; nothing for scans.

    Args:
        source: a path, or of an image its encoded bytes; of anything else there is no file.
        kind: as `inputs.kind_of` gives it.
    """
    if kind == "video" and isinstance(source, str | os.PathLike):
        return FileEvidence(video_statements(source))
    if kind == "image" and isinstance(source, str | os.PathLike):
        try:
            source = read_bytes(source)
        except InputError:
            return FileEvidence()
    return picture_evidence(source) if isinstance(source, bytes) else FileEvidence()


def picture_evidence(data: bytes) -> FileEvidence:
    """Collect what an encoded image says of itself; nothing if it cannot be opened. The time it was taken is EXIF's
    DateTimeOriginal."""
    metadata = read_metadata(data)
    if metadata is None:
        return FileEvidence()
    found = [
        *credentials(data), *_origin(metadata), *_programs(metadata), *_dates(metadata), *_size(metadata),
        *_thumbnail(metadata, data), *_compression(metadata),
    ]  # fmt: skip
    if metadata.broken:
        found.append(Statement("metadata_broken", "unknown", {"parts": ", ".join(metadata.broken).upper()}))
    signed = any(one.code.startswith("c2pa_") and one.code != "c2pa_none" for one in found)
    if metadata.empty and not metadata.broken and not signed:
        found.append(Statement("no_metadata", "unknown"))
    taken = _time(metadata.exif.get("DateTimeOriginal", ""))
    return FileEvidence(tuple(found), None if taken is None else taken.isoformat())


def _origin(metadata: Metadata) -> list[Statement]:
    """Where it comes from by its own word: the IPTC's source type, a generator's settings, a camera's name."""
    found = origin(metadata.xmp)
    prompts = [key for key in _PROMPTS if key in metadata.texts]
    settings = [*prompts, *with_settings(metadata.searched.items())]
    if settings:
        found.append(Statement("generator_settings", "ai", {"where": settings[0][:80]}))
    return found + camera(*_make_and_model(metadata))


def _make_and_model(metadata: Metadata) -> tuple[str, str]:
    """EXIF's names of the camera's maker and model; empty where a generator left its settings in their place."""
    if with_settings((key, metadata.searched.get(key, "")) for key in ("Make", "Model")):
        return "", ""
    return metadata.exif.get("Make", ""), metadata.exif.get("Model", "")


def _programs(metadata: Metadata) -> list[Statement]:
    """Programs that the metadata name, and the steps that they list."""
    found = []
    keys = ("CreatorTool", "softwareAgent", "Software", "AISystemUsed")
    texts = [
        metadata.exif.get("Software", ""),
        metadata.exif.get("ProcessingSoftware", ""),
        metadata.iptc.get((2, 65), ""),
    ]
    texts += [text for key in keys for text in metadata.xmp.get(key, [])]
    texts += [metadata.texts.get(key, "") for key in ("Software", "software", "Source")]
    # What people write, too: credit lines and comments, such as GIMP's "Created with GIMP".
    written = [text for key in ("Credit", "creditLine") for text in metadata.xmp.get(key, [])]
    written += [metadata.iptc.get((2, 110), ""), metadata.texts.get("Comment", "")]
    generator = named(GENERATORS, texts) or phrased(GENERATORS, written, GENERATOR_PHRASES)
    developer = named(DEVELOPERS, texts) or phrased(DEVELOPERS, written)
    # "Adobe Photoshop Lightroom" is no Photoshop.
    editor = named(EDITORS, [text for text in texts if not named(DEVELOPERS, [text])]) or phrased(EDITORS, written)
    if generator:
        found.append(Statement("generator", "ai", {"program": generator[:80]}))
    if editor:
        found.append(Statement("editor", "edited", {"program": editor[:80]}))
    elif developer:
        found.append(Statement("developer", "edited", {"program": developer[:80]}))
    return found + steps_of(metadata.history)


def _dates(metadata: Metadata) -> list[Statement]:
    taken, changed = _time(metadata.exif.get("DateTimeOriginal", "")), _time(metadata.exif.get("DateTime", ""))
    if taken is None or changed is None:
        return []
    values = {"taken": f"{taken:%Y-%m-%d %H:%M}", "changed": f"{changed:%Y-%m-%d %H:%M}"}
    seconds = (changed - taken).total_seconds()
    if seconds < -MAX_DATE_GAP:
        return [Statement("changed_before_taken", "edited", values)]
    return [Statement("changed_later", "edited", values)] if seconds > MAX_DATE_GAP else []


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def _size(metadata: Metadata) -> list[Statement]:
    """The size that EXIF names, which programs that do not know it leave as it was."""
    try:
        told = (int(metadata.exif["ExifImageWidth"]), int(metadata.exif["ExifImageHeight"]))
    except (KeyError, ValueError):
        return []
    if min(told) <= 0 or sorted(told) == sorted(metadata.size):
        return []
    values = {"told": f"{told[0]} x {told[1]}", "is": f"{metadata.size[0]} x {metadata.size[1]}"}
    return [Statement("size_differs", "edited", values)]


def _thumbnail(metadata: Metadata, data: bytes) -> list[Statement]:
    if metadata.thumbnail is None:
        return []
    alike = likeness(data, metadata.thumbnail)
    if alike is None:
        return []
    if alike < UNLIKE:
        return [Statement("thumbnail_differs", "edited", {"alike": f"{alike:.2f}"})]
    return [Statement("thumbnail_agrees", "neutral")]


def _compression(metadata: Metadata) -> list[Statement]:
    if metadata.format != "JPEG" or 0 not in metadata.tables:
        return []
    quality = str(jpeg_quality(metadata.tables[0])[0])
    if not is_standard(metadata.tables):
        return [Statement("tables_own", "neutral", {"quality": quality})]
    found = [Statement("tables_standard", "neutral", {"quality": quality})]
    if metadata.empty and max(metadata.size) in PASSED_ON:
        side = max(metadata.size)
        found.append(Statement("passed_on", "passed_on", {"side": str(side), "messenger": PASSED_ON[side]}))
    elif _make_and_model(metadata)[1] and not metadata.maker_note:
        found.append(Statement("camera_saved_again", "edited", {"quality": quality}))
    return found
