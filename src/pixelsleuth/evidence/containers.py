"""Read the metadata of a video's container: camera, programs, dates, Content Credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from pixelsleuth.evidence.credentials import video_credentials
from pixelsleuth.evidence.metadata import decoded, plain, xmp_of
from pixelsleuth.evidence.programs import (
    CONVERTERS,
    DEVELOPERS,
    EDITORS,
    GENERATORS,
    MAX_DATE_GAP,
    SITES,
    VIDEO_EDITORS,
    address_in,
    camera,
    named,
    origin,
    phrased,
    steps_of,
    with_settings,
)
from pixelsleuth.records import Statement

#: Tags of QuickTime and Android that name what took a video.
_MAKES = ("com.apple.quicktime.make", "com.android.manufacturer", "make")
_MODELS = ("com.apple.quicktime.model", "com.android.model", "model")
#: Tags that programs and sites name themselves in, and those in which people write what they please.
_PROGRAMS = ("encoder", "encoding_tool", "software", "com.apple.quicktime.software", "writing_application",
             "handler_name", "vendor_id", "major_brand")  # fmt: skip
_FREE = ("comment", "description", "synopsis")
#: Years before which no container was written: a clock that was not set.
_FIRST_YEAR = 1990
#: How FFmpeg's libraries name themselves, with the version right behind.
_LIBAV = re.compile(r"^(Lav[fc])(?=\d)")
#: Tags of their own that ComfyUI keeps its settings in (`SaveWEBM`, `SaveVideo`).
_COMFY = ("prompt", "workflow")


def video_statements(path: str | os.PathLike[str]) -> tuple[Statement, ...]:
    """Collect the statements of a video's file; none if it cannot be opened."""
    import av

    try:
        # A path is never read as an address: the protocol is named. XMP is left out unless asked for.
        options = {"export_xmp": "1", "protocol_whitelist": "file"}
        with av.open(f"file:{os.fspath(path)}", metadata_errors="ignore", options=options) as container:
            tags = [dict(container.metadata), *(dict(stream.metadata) for stream in container.streams)]
            name = container.format.name
        found = list(video_credentials(path, name))
    except Exception:
        # What a broken file does to a demuxer is not foreseeable, and its finding has its own reason.
        return ()
    whole = {key.lower(): plain(value) for one in reversed(tags) for key, value in one.items() if key.lower() != "xmp"}
    broken = False
    try:
        xmp = xmp_of(tags[0].get("xmp") or "")
    except Exception:
        xmp, broken = {}, True
    found += [*origin(xmp.get("xmp", {})), *_camera(whole), *_programs(tags, xmp), *steps_of(xmp.get("history", []))]
    found += _dates(tags, whole)
    if broken:
        found.append(Statement("metadata_broken", "unknown", {"parts": "XMP"}))
    if all(one.code.startswith("c2pa_none") for one in found) and not xmp:
        found.append(Statement("no_video_metadata", "unknown"))
    return tuple(found)


def _camera(tags: dict[str, str]) -> list[Statement]:
    make = next((tags[key] for key in _MAKES if tags.get(key)), "")
    model = next((tags[key] for key in _MODELS if tags.get(key)), "")
    return camera(make, model)


def _programs(tags: list[dict[str, str]], xmp: dict[str, Any]) -> Iterator[Statement]:
    """Generators, editors and sites that the tags name; of converters only where no editor is named."""
    texts = [_LIBAV.sub(r"FFmpeg \1 ", plain(one[key])) for one in tags for key in one if key.lower() in _PROGRAMS]
    texts += [text for key in ("CreatorTool", "softwareAgent") for text in xmp.get("xmp", {}).get(key, [])]
    free = [plain(one[key]) for one in tags for key in one if key.lower() in _FREE]
    generator = named(GENERATORS, texts) or phrased(GENERATORS, free)
    lower = [(key.lower(), value) for one in tags for key, value in one.items()]
    settings = with_settings((key, decoded(value)) for key, value in lower if key in _FREE)
    settings += [key for key, value in lower if key in _COMFY and value.lstrip().startswith("{")]
    if generator:
        yield Statement("generator", "ai", {"program": generator[:80]})
    elif settings:
        yield Statement("generator_settings", "ai", {"where": settings[0]})
    editors = (VIDEO_EDITORS, EDITORS, DEVELOPERS)
    editor = next(filter(None, (named(names, texts) or phrased(names, free) for names in editors)), "")
    site, converter = named(SITES, texts) or address_in(free), named(CONVERTERS, texts)
    if editor:
        yield Statement("video_editor", "edited", {"program": editor[:80]})
    if site:
        yield Statement("video_site", "passed_on", {"site": site[:80].rstrip(".")})
    elif converter and not editor:
        yield Statement("converted", "passed_on", {"program": converter[:80]})


def _dates(tags: list[dict[str, str]], whole: dict[str, str]) -> Iterator[Statement]:
    """Whether the times at which it was taken and written agree."""
    written = [time for one in tags if (time := _time(one.get("creation_time", "")))]
    taken = _time(whole.get("com.apple.quicktime.creationdate", ""))
    if not written:
        return
    last = max(written)
    first = taken or min(written)
    seconds = (last - first).total_seconds()
    values = {"taken": f"{first:%Y-%m-%d %H:%M}", "changed": f"{last:%Y-%m-%d %H:%M}"}
    if taken and (min(written) - taken).total_seconds() < -MAX_DATE_GAP:
        values["changed"] = f"{min(written):%Y-%m-%d %H:%M}"
        yield Statement("changed_before_taken", "edited", values)
    elif seconds > MAX_DATE_GAP:
        yield Statement("changed_later" if taken else "tracks_apart", "edited", values)


def _time(text: str) -> datetime | None:
    """In UTC; None where there is none, or a clock was not set."""
    text = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text.strip().replace("Z", "+00:00"))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=timezone.utc)
    return found.astimezone(timezone.utc) if found.year >= _FIRST_YEAR else None
