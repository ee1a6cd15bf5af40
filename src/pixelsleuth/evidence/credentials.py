"""Read Content Credentials, the signed C2PA manifest that a file may carry, where the library is installed."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from pixelsleuth.evidence.metadata import plain
from pixelsleuth.evidence.programs import source_type_of
from pixelsleuth.records import Statement

#: Formats whose manifests are looked for, by what files begin with.
_HEADS = (
    (b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG", "image/png"), (b"GIF8", "image/gif"), (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)  # fmt: skip
#: What validation says of signers whom the library was not told to trust: of the signer, not of the file.
_UNTRUSTED = ("signingCredential.untrusted",)
#: The box of an MP4 that holds a manifest (C2PA 2.1, section A.5), and the number of top-level boxes searched for it.
C2PA_BOX, MAX_BOXES = bytes.fromhex("d8fec3d61b0e483c92975828877ec481"), 10_000
#: Earlier versions of a picture, signed one after another, that are followed back.
MAX_VERSIONS = 32
#: Marks of a manifest: the box that holds it, and its address in XMP. Without them the library need not be asked.
_MARKS = (b"jumb", b"c2pa", b"dcterms:provenance")


def credentials(data: bytes) -> list[Statement]:
    """One or two statements on the manifest of an encoded picture; absence is no more than unknown."""
    mime = mime_of(data)
    if mime is None:
        return []
    if not any(mark in data for mark in _MARKS):
        return [Statement("c2pa_none", "unknown")]
    return _manifest_of(io.BytesIO(data), mime)


def video_credentials(path: str | os.PathLike[str], container: str) -> list[Statement]:
    """The same of a video file. Of its containers MP4 and its kin alone carry manifests.

    Args:
        container: FFmpeg's names of it, such as `mov,mp4,m4a,3gp,3g2,mj2`.
    """
    if "mp4" not in container.split(","):
        return []
    with open(path, "rb") as file:
        if C2PA_BOX not in _boxes(file):
            return [Statement("c2pa_none", "unknown")]
        return _manifest_of(file, "video/mp4")


def _boxes(file: BinaryIO) -> Iterator[bytes]:
    """The kinds of an MP4's outermost boxes, of those of one's own kind (`uuid`) their 16 bytes."""
    file.seek(0)
    at = 0
    for _ in range(MAX_BOXES):
        head = file.read(32)
        if len(head) < 8:
            break
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        start = 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), 16
        yield head[start : start + 16] if kind == b"uuid" else kind
        if length < start:
            break
        at += length
        file.seek(at)


def _manifest_of(file: BinaryIO, mime: str) -> list[Statement]:
    file.seek(0)
    try:
        tree = manifest_store(file, mime)
    except ImportError:
        return [Statement("c2pa_not_read", "unknown")]
    except Exception as error:
        if "ManifestNotFound" in f"{type(error).__name__} {error}":
            return [Statement("c2pa_none", "unknown")]
        return [Statement("c2pa_broken", "edited", {"why": plain(error)[:120]})]
    return _said(tree)


def manifest_store(source: Any, mime: str) -> dict[str, Any]:
    """The manifests of a file as the library tells them. Raises ImportError without it, and what it raises."""
    import c2pa

    # A manifest may name an address to be fetched from; nothing leaves the machine.
    settings = c2pa.Settings.from_dict({"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}})
    with c2pa.Reader(mime, source, context=c2pa.Context(settings=settings)) as reader:
        found: dict[str, Any] = json.loads(reader.json())
        return found


def mime_of(data: bytes) -> str | None:
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return {b"avif": "image/avif", b"heic": "image/heic", b"mif1": "image/heif"}.get(data[8:12], "video/mp4")
    return next((mime for head, mime in _HEADS if data.startswith(head)), None)


def _said(tree: dict[str, Any]) -> list[Statement]:
    manifests, label = tree.get("manifests") or {}, tree.get("active_manifest")
    manifest = manifests.get(label) or {}
    values = {"signer": _signer(manifest), "program": _program(manifest)}
    problems = [plain(one.get("code", "")) for one in tree.get("validation_status") or []]
    broken = [code for code in problems if code not in _UNTRUSTED]
    if broken:
        return [Statement("c2pa_invalid", "edited", values | {"why": broken[0][:80]})]
    found = [Statement("c2pa_untrusted" if problems else "c2pa_valid", "neutral", values)]
    earlier = _earlier(manifests, label)
    made, taken = _made_by_ai(manifest), _taken(manifest)
    if made:
        found.append(Statement("c2pa_ai", "ai", values | {"type": made}))
    elif taken:
        found.append(Statement("c2pa_camera", "camera", values))
    # What is said of the picture itself is not said again of an earlier version.
    before = next((one for one in earlier if _made_by_ai(one)), None)
    camera = next((one for one in earlier if _taken(one)), None)
    if before and not made:
        found.append(Statement("c2pa_earlier_ai", "ai", {"signer": _signer(before), "type": _made_by_ai(before)}))
    elif camera and not before and not taken:
        found.append(Statement("c2pa_earlier_camera", "camera", {"signer": _signer(camera)}))
    actions = [action for one in (manifest, *earlier) for action in _actions(one)]
    done = dict.fromkeys(plain(action.get("action", "")).removeprefix("c2pa.") for action in actions)
    changes = [name for name in done if name and name not in ("created", "opened")]
    if changes:
        found.append(Statement("c2pa_actions", "edited", values | {"actions": ", ".join(changes)[:120]}))
    return found


def _earlier(manifests: dict[str, Any], label: Any) -> list[dict[str, Any]]:
    """The manifests of the picture's earlier versions, the last one first, at most `MAX_VERSIONS`: each names the one
    that it was made of as its parent. One whose own signature did not hold when it was opened is not followed: then
    what was opened is not what had been signed. Pictures that were placed in this one are no versions of it."""
    found: list[dict[str, Any]] = []
    seen, waiting = {label}, [label]
    while waiting and len(found) < MAX_VERSIONS:
        for ingredient in (manifests.get(waiting.pop(0)) or {}).get("ingredients") or []:
            parent = ingredient.get("active_manifest")
            held = not set(_failures(ingredient)) - set(_UNTRUSTED)
            if ingredient.get("relationship") == "parentOf" and parent in manifests and parent not in seen and held:
                seen.add(parent)
                waiting.append(parent)
                found.append(manifests[parent])
    return found[:MAX_VERSIONS]


def _failures(ingredient: dict[str, Any]) -> list[str]:
    """What the signer who opened an ingredient found wrong with its manifest, in the form of C2PA 2 or of C2PA 1."""
    results = (ingredient.get("validation_results") or {}).get("activeManifest") or {}
    told = [*(results.get("failure") or []), *(ingredient.get("validation_status") or [])]
    return [str(one.get("code", "")) for one in told]


def _signer(manifest: dict[str, Any]) -> str:
    return plain((manifest.get("signature_info") or {}).get("issuer") or "?")[:80]


def _program(manifest: dict[str, Any]) -> str:
    told = (manifest.get("claim_generator_info") or [{}])[0].get("name") or manifest.get("claim_generator") or "?"
    return plain(told)[:80]


def _actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of work that a manifest lists. What is in an assertion is up to who wrote it."""
    held = [
        assertion.get("data")
        for assertion in manifest.get("assertions") or []
        if str(assertion.get("label", "")).startswith("c2pa.actions")
    ]
    listed = [one.get("actions") for one in held if isinstance(one, dict)]
    return [step for steps in listed if isinstance(steps, list) for step in steps if isinstance(step, dict)]


def _made_by_ai(manifest: dict[str, Any]) -> str:
    """The first source type of a manifest's actions that speaks of AI; empty without one."""
    return next((code for code, says in _source_types(manifest) if says in ("ai", "ai_part")), "")


def _taken(manifest: dict[str, Any]) -> bool:
    return any(says == "camera" for _, says in _source_types(manifest))


def _source_types(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    told = [action.get("digitalSourceType") for action in _actions(manifest)]
    return [source_type_of(str(one)) for one in told if one]
