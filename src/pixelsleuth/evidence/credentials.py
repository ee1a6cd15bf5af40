"""Content Credentials: the signed C2PA manifest that a file may carry, read where the library is installed."""

from __future__ import annotations

import io
import json
from typing import Any

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
#: Marks of a manifest: the box that holds it, and its address in XMP. Without them the library need not be asked.
_MARKS = (b"jumb", b"c2pa", b"dcterms:provenance")


def credentials(data: bytes, mime: str | None = None) -> list[Statement]:
    """One or two statements on the manifest of a file; absence is no more than unknown."""
    mime = mime or mime_of(data)
    if mime is None:
        return []
    if not any(mark in data for mark in _MARKS):
        return [Statement("c2pa_none", "unknown")]
    try:
        tree = manifest_store(io.BytesIO(data), mime)
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
    manifest = tree.get("manifests", {}).get(tree.get("active_manifest"), {})
    signed = manifest.get("signature_info") or {}
    maker = (manifest.get("claim_generator_info") or [{}])[0].get("name") or manifest.get("claim_generator") or "?"
    values = {"signer": plain(signed.get("issuer") or "?")[:80], "program": plain(maker)[:80]}
    problems = [plain(one.get("code", "")) for one in tree.get("validation_status") or []]
    broken = [code for code in problems if code not in _UNTRUSTED]
    if broken:
        return [Statement("c2pa_invalid", "edited", values | {"why": broken[0][:80]})]
    found = [Statement("c2pa_untrusted" if problems else "c2pa_valid", "neutral", values)]
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in (assertion.get("data") or {}).get("actions", [])
    ]
    kinds = [source_type_of(str(action["digitalSourceType"])) for action in actions if action.get("digitalSourceType")]
    made = next((code for code, says in kinds if says in ("ai", "ai_part")), "")
    if made:
        found.append(Statement("c2pa_ai", "ai", values | {"type": made}))
    elif any(says == "camera" for _, says in kinds):
        found.append(Statement("c2pa_camera", "camera", values))
    done = list(dict.fromkeys(plain(action.get("action", "")).removeprefix("c2pa.") for action in actions))
    changes = [name for name in done if name and name not in ("created", "opened")]
    if changes:
        found.append(Statement("c2pa_actions", "edited", values | {"actions": ", ".join(changes)[:120]}))
    return found
