"""Files whose metadata, signatures or compression tell something, made at run time, and what is to be said of each."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, PngImagePlugin
from skimage import data

#: Tables that no quality of libjpeg gives: a camera's own.
OWN_TABLES = {0: [2 + k // 9 for k in range(64)], 1: [3 + k // 7 for k in range(64)]}
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" {attributes}>{inside}</rdf:Description>'
    "</rdf:RDF></x:xmpmeta>"
)
_STEP = '<rdf:li stEvt:action="{}" stEvt:when="2024-05-0{}T10:00:00" stEvt:softwareAgent="Adobe Photoshop 25.0"/>'


def photo(side: int = 512) -> Image.Image:
    return Image.fromarray(data.astronaut()).resize((side, side))


def xmp(attributes: str = "", inside: str = "") -> bytes:
    return _XMP.format(attributes=attributes, inside=inside).encode()


def source_type(code: str) -> bytes:
    address = f"http://cv.iptc.org/newscodes/digitalsourcetype/{code}"
    return xmp(f'Iptc4xmpExt:DigitalSourceType="{address}"')


def exif(
    software: str = "", camera: str = "", taken: str = "", changed: str = "", size: tuple[int, int] | None = None,
    maker: bool = False, comment: str = "", code: str = "ascii",
) -> Image.Exif:  # fmt: skip
    made = Image.Exif()
    inner = made.get_ifd(0x8769)
    for tag, text in ((0x0131, software), (0x0110, camera), (0x0132, changed)):
        if text:
            made[tag] = text
    if camera:
        made[0x010F] = camera.split()[0]
    if taken:
        inner[0x9003] = taken
    if size:
        inner[0xA002], inner[0xA003] = size
    if maker:
        inner[0x927C] = b"the maker's own notes"
    if comment:
        inner[0x9286] = (b"ASCII\0\0\0" if code == "ascii" else b"UNICODE\0") + comment.encode(code)
    return made


def with_thumbnail(image: Image.Image, small: Image.Image) -> bytes:
    """An EXIF block whose second directory holds a thumbnail, byte by byte: Pillow writes none."""
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    thumbnail = buffer.getvalue()
    # TIFF header; an empty first directory; a second of two entries: offset and length of what follows it.
    start = 8 + 2 + 4 + 2 + 2 * 12 + 4
    entries = b"".join(
        tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, value in ((0x0201, start), (0x0202, len(thumbnail)))
    )
    tiff = b"II*\0" + (8).to_bytes(4, "little") + b"\0\0" + (14).to_bytes(4, "little")
    return b"Exif\0\0" + tiff + b"\2\0" + entries + b"\0\0\0\0" + thumbnail


def barred(image: Image.Image) -> Image.Image:
    """As cameras make thumbnails of another shape: between black bars."""
    made = Image.new("RGB", (160, 120))
    made.paste(image.resize((120, 120)), (20, 0))
    return made


def jpeg(image: Image.Image | None = None, **how: object) -> bytes:
    buffer = io.BytesIO()
    (image or photo()).save(buffer, "JPEG", **{"quality": 90, **how})
    return buffer.getvalue()


def webp(make: str, model: str) -> bytes:
    """As ComfyUI's SaveAnimatedWEBP writes it: its settings stand where EXIF has the names of a camera."""
    told = Image.Exif()
    told[0x010F], told[0x0110] = make, model
    buffer = io.BytesIO()
    photo(128).save(buffer, "WEBP", exif=told)
    return buffer.getvalue()


def png(**texts: str) -> bytes:
    told = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        told.add_text(key, text, zip=key.endswith("z"))
    buffer = io.BytesIO()
    photo(128).save(buffer, "PNG", pnginfo=told)
    return buffer.getvalue()


def iptc(program: str, number: int = 65) -> bytes:
    """A Photoshop resource with one IPTC field: the originating program, or that of the number, such as 110, credit."""
    field = b"\x1c\x02" + bytes([number]) + len(program).to_bytes(2, "big") + program.encode()
    block = b"8BIM\x04\x04\0\0" + len(field).to_bytes(4, "big") + field + (b"\0" if len(field) % 2 else b"")
    body = b"Photoshop 3.0\0" + block
    whole = jpeg()
    return whole[:2] + b"\xff\xed" + (len(body) + 2).to_bytes(2, "big") + body + whole[2:]


def _two_people() -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(data.chelsea()[:, 60:360])).resize((512, 512))


TAKEN = "2024:05:01 10:00:00"

#: Name -> the file's bytes and the codes that must be among what is said, and those that must not.
FILES: dict[str, tuple[Callable[[], bytes], set[str], set[str]]] = {
    "photoshop_history.jpg": (
        lambda: jpeg(exif=exif("Adobe Photoshop 25.0 (Macintosh)", taken=TAKEN, changed="2024:05:03 12:00:00"),
                     xmp=xmp('xmp:CreatorTool="Adobe Photoshop 25.0"', "<xmpMM:History><rdf:Seq>"
                             + _STEP.format("opened", 2) + _STEP.format("saved", 3) + "</rdf:Seq></xmpMM:History>")),
        {"editor", "history", "changed_later"}, {"no_metadata", "camera", "generator"}),
    "gimp.jpg": (lambda: jpeg(exif=exif("GIMP 2.10.36")), {"editor"}, {"no_metadata", "history"}),
    "lightroom.jpg": (lambda: jpeg(exif=exif("Adobe Photoshop Lightroom Classic 13.2")), {"developer"}, {"editor"}),
    "iptc_photoshop.jpg": (lambda: iptc("Adobe Photoshop 7.0"), {"editor"}, {"no_metadata"}),
    "ai_source_type.jpg": (lambda: jpeg(xmp=source_type("trainedAlgorithmicMedia")), {"source_type_ai"},
                           {"source_type_camera", "no_metadata"}),
    "ai_part.jpg": (lambda: jpeg(xmp=source_type("compositeWithTrainedAlgorithmicMedia")), {"source_type_ai_part"},
                    {"source_type_ai"}),
    "captured.jpg": (lambda: jpeg(xmp=source_type("digitalCapture")), {"source_type_camera"}, {"source_type_ai"}),
    "sd_parameters.png": (lambda: png(parameters="an astronaut, Steps: 30, Sampler: Euler a, Seed: 1"),
                          {"generator_settings"}, {"no_metadata"}),
    "comfy_workflow.png": (lambda: png(workflow='{"nodes": []}'), {"generator_settings"}, {"no_metadata"}),
    "sd_comment.jpg": (lambda: jpeg(exif=exif(comment="a cat Steps: 20, Sampler: DPM++ 2M, Size: 512x512")),
                       {"generator_settings"}, {"no_metadata"}),
    "sd_long_prompt.jpg": (
        lambda: jpeg(exif=exif(comment="a cat, " * 300 + "Steps: 20, Sampler: DPM++ 2M", code="utf-16-be")),
        {"generator_settings"}, {"no_metadata"}),
    "comfy.webp": (lambda: webp(make='workflow:{"nodes": []}', model='prompt:{"3": {"class_type": "KSampler"}}'),
                   {"generator_settings"}, {"camera", "no_metadata"}),
    "firefly.jpg": (lambda: jpeg(xmp=xmp('xmp:CreatorTool="Adobe Firefly"')), {"generator"}, {"editor"}),
    "credit_line.jpg": (
        lambda: jpeg(xmp=xmp('xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
                             'photoshop:Credit="Luma Press / Gemini Agency"')),
        set(), {"generator", "editor", "developer", "no_metadata"}),
    "credit_google.jpg": (
        lambda: jpeg(xmp=xmp('xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
                             'photoshop:Credit="Made with Google AI"')),
        {"generator"}, {"editor", "developer"}),
    "camera.jpg": (
        lambda: jpeg(qtables=OWN_TABLES, exif=exif(camera="NIKON D850", taken=TAKEN, changed=TAKEN, size=(512, 512),
                                                   maker=True)),
        {"camera", "tables_own"}, {"camera_saved_again", "changed_later", "size_differs", "editor"}),
    "camera_saved_again.jpg": (lambda: jpeg(exif=exif(camera="NIKON D850")), {"camera", "camera_saved_again"},
                               {"tables_own"}),
    "cropped.jpg": (lambda: jpeg(exif=exif(camera="NIKON D850", size=(8256, 5504))), {"size_differs"}, set()),
    "clock_wrong.jpg": (lambda: jpeg(exif=exif(taken=TAKEN, changed="2023:01:01 00:00:00")), {"changed_before_taken"},
                        {"changed_later"}),
    "stripped.jpg": (lambda: jpeg(), {"no_metadata", "tables_standard", "c2pa_none"}, {"passed_on", "camera"}),
    "messenger.jpg": (lambda: jpeg(photo(1600), quality=75), {"passed_on", "no_metadata"}, {"camera_saved_again"}),
    "thumbnail_swapped.jpg": (lambda: jpeg(exif=with_thumbnail(photo(), barred(_two_people()))), {"thumbnail_differs"},
                              {"thumbnail_agrees"}),
    "thumbnail_kept.jpg": (lambda: jpeg(exif=with_thumbnail(photo(), barred(photo()))), {"thumbnail_agrees"},
                           {"thumbnail_differs"}),
    "bomb.jpg": (lambda: jpeg(xmp=b'<!DOCTYPE a [<!ENTITY b "c">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'),
                 {"metadata_broken"}, {"no_metadata"}),
    "plain.png": (lambda: png(), {"no_metadata"}, {"tables_standard", "tables_own"}),
}  # fmt: skip


def video(
    tags: dict[str, str], stream: dict[str, str] | None = None, suffix: str = "mp4", by_ffmpeg: bool = False
) -> bytes:
    """A clip of a few grey frames whose container says `tags`, its video track `stream`; FFmpeg names itself as its
    writer where `by_ffmpeg`."""
    buffer = io.BytesIO()
    options = {"movflags": "use_metadata_tags"} | ({} if by_ffmpeg else {"fflags": "+bitexact"})
    with av.open(buffer, "w", {"mp4": "mp4", "mov": "mov"}[suffix], options=options) as container:
        track = container.add_stream("mpeg4", 25)
        track.width, track.height = 64, 48
        container.metadata.update(tags)
        track.metadata.update(stream or {})
        for level in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * level, np.uint8), "rgb24")
            container.mux(track.encode(frame))
        container.mux(track.encode())
    return buffer.getvalue()


def with_xmp_box(data: bytes, packet: bytes) -> bytes:
    """An MP4 with Adobe's box of XMP behind it."""
    body = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + packet
    return data + (8 + len(body)).to_bytes(4, "big") + b"uuid" + body


APPLE = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": "iPhone 15"}
#: As `FILES`, of videos.
VIDEOS: dict[str, tuple[Callable[[], bytes], set[str], set[str]]] = {
    "phone.mov": (
        lambda: video({**APPLE, "com.apple.quicktime.creationdate": "2024-05-01T10:00:00+0000",
                       "creation_time": "2024-05-01T10:00:03Z"}, suffix="mov"),
        {"camera", "c2pa_none"}, {"converted", "changed_later", "no_video_metadata"}),
    "phone_cut_later.mov": (
        lambda: video({**APPLE, "com.apple.quicktime.creationdate": "2024-05-01T12:00:00+0200",
                       "creation_time": "2024-05-03T10:00:00Z"}, suffix="mov", by_ffmpeg=True),
        {"camera", "changed_later", "converted"}, {"no_video_metadata", "changed_before_taken"}),
    "premiere.mp4": (
        lambda: with_xmp_box(video({}), xmp(
            'xmp:CreatorTool="Adobe Premiere Pro 2024.0"', "<xmpMM:History><rdf:Seq>" + _STEP.format("saved", 3)
            + "</rdf:Seq></xmpMM:History>")),
        {"video_editor", "history"}, {"camera", "no_video_metadata"}),
    "capcut.mp4": (lambda: video({"comment": "made with CapCut"}), {"video_editor"}, {"converted"}),
    "directed.mp4": (lambda: video({"comment": "Directed by Sora Tanaka"}), set(), {"generator", "video_editor"}),
    "youtube.mp4": (lambda: video({}, {"handler_name": "ISO Media file produced by Google Inc."}), {"video_site"},
                    {"video_editor", "no_video_metadata"}),
    "ffmpeg.mp4": (lambda: video({}, by_ffmpeg=True), {"converted"}, {"video_editor", "camera"}),
    "generated.mp4": (lambda: video({"comment": '{"prompt": {}, "workflow": {}}'}), {"generator_settings"},
                      {"no_video_metadata"}),
    "comfy.mp4": (lambda: video({"prompt": '{"3": {"class_type": "KSampler"}}', "workflow": '{"nodes": []}'}),
                  {"generator_settings"}, {"camera", "no_video_metadata"}),
    "stripped.mp4": (lambda: video({}), {"no_video_metadata", "c2pa_none"}, {"converted", "camera"}),
}  # fmt: skip


def write_evidence_files(folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in (*FILES, *VIDEOS)}
    for name, (made, _, _) in (FILES | VIDEOS).items():
        paths[name].write_bytes(made())
    return paths


def signed(
    data: bytes, actions: list[dict[str, Any]], mime: str = "image/jpeg", of: bytes | None = None,
    relationship: str = "parentOf", signer: str = "A tester",
) -> bytes:  # fmt: skip
    """A file with a C2PA manifest, signed by somebody whom nobody was told to trust; of: the file that it was made of,
    which the manifest names as its ingredient `xmp:iid:1`."""
    import c2pa
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.oid.NameOID
    root_key = ec.generate_private_key(ec.SECP256R1())

    def called(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(name.ORGANIZATION_NAME, text), x509.NameAttribute(name.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.timezone.utc)
    chain = b""
    for subject, issuer, own, by in ((signer, "A root", key, root_key), ("A root", "A root", root_key, root_key)):
        root = own is root_key
        usage = {
            name: False
            for name in ("key_encipherment", "content_commitment", "data_encipherment", "key_agreement", "crl_sign",
                         "encipher_only", "decipher_only")
        } | {"digital_signature": not root, "key_cert_sign": root}  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(called(subject))
            .issuer_name(called(issuer))
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(root, None), True)
            .add_extension(x509.KeyUsage(**usage), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
        )
        if not root:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION]), True
            )
        chain += builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = c2pa.C2paSignerInfo(b"es256", chain, private, None)
    manifest = {
        "claim_generator_info": [{"name": "a test", "version": "1"}],
        "format": mime,
        "title": "a",
        "assertions": [{"label": "c2pa.actions", "data": {"actions": actions}}],
    }
    result = io.BytesIO()
    with c2pa.Builder(manifest) as builder_, c2pa.Signer.from_info(info) as signs:
        if of is not None:
            ingredient = {"title": "b", "relationship": relationship, "instance_id": "xmp:iid:1"}
            builder_.add_ingredient(json.dumps(ingredient), mime, io.BytesIO(of))
        builder_.sign(signs, mime, io.BytesIO(data), result)
    return result.getvalue()
