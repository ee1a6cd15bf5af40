"""Every file a person has: read right, or refused with the right word; nothing vanishes and nothing stops a run."""

from __future__ import annotations

import csv
import ctypes
import io
import json
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.datasets.preparation import prepare_images
from pixelsleuth.datasets.store import Store
from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation.samples import read_pairs
from pixelsleuth.records import Box, Face, Note
from pixelsleuth.reporting.writing import RecordWriter
from pixelsleuth.sources import faces
from pixelsleuth.sources.formats import format_of
from pixelsleuth.sources.images import DecodedImage, decode
from pixelsleuth.sources.inputs import find_inputs, kind_of
from tests.badfiles import BAD, ODD, write_everything
from tests.conftest import SHARED
from tests.picturefiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    by_opencv,
    cmyk_profile,
    grey_profile,
    heic_of_words,
    png_of_words,
    portrait,
    saved,
    smooth,
    tiff_by_planes,
    tiff_of,
    tiff_of_pages,
    tiff_of_words,
    tiff_with_tags,
    with_chunk,
    with_orientation,
)
from tests.volumefiles import head

INPUTS = SHARED / "inputs"
FACE = portrait(128)
GREY = np.asarray(Image.fromarray(FACE).convert("L"))


def codes_of(picture: DecodedImage) -> list[str]:
    return [note.code for note in picture.notes]


def error_of(read: np.ndarray, meant: np.ndarray) -> float:
    """Mean difference in levels of 255."""
    assert read.shape[:2] == meant.shape[:2]
    meant = meant if meant.ndim == 3 else np.repeat(meant[..., None], 3, 2)
    return float(np.abs(read.astype(float) - meant.astype(float)).mean())


# --- the shared files and what a right reader gives ---


def expectations(*folders: str) -> dict[str, dict[str, Any]]:
    path = INPUTS / "expected.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    return {name: entry for name, entry in found.items() if name.split("/")[0] in folders}


@pytest.fixture(scope="module")
def shared_records(faces_detector: Detector) -> dict[str, dict[str, Any]]:
    """Records of every shared picture, and of the mixed folder given as a whole, by name below the inputs."""
    images = [INPUTS / name for name in expectations("images")]
    found = faces_detector.detect_many([*images, *find_inputs(INPUTS / "mixed")], heatmap=False)
    return {Path(finding.path).relative_to(INPUTS).as_posix(): finding.record() for finding in found}


@pytest.mark.skipif(not (INPUTS / "expected.json").is_file(), reason=f"needs {INPUTS} (set PIXELSLEUTH_SHARED)")
@pytest.mark.parametrize("name", list(expectations("images", "mixed")) or ["none"])
def test_the_shared_pictures_are_read_as_they_should(
    name: str, shared_records: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    entry = expectations("images", "mixed")[name]
    record = shared_records[name]
    assert record["kind"] == entry["kind"]
    choices = entry["expect"].get("any_of", [entry["expect"]])
    wrong = [failures(record, choice, shared_records, name, tmp_path) for choice in choices]
    assert any(not one for one in wrong), (entry["situation"], wrong, record)
    assert not failures(record, {k: v for k, v in entry["expect"].items() if k == "says_not"}, {}, name, tmp_path)


def failures(
    record: dict[str, Any], expect: dict[str, Any], others: dict[str, dict[str, Any]], name: str, tmp: Path
) -> list[str]:
    """What a record fails of one set of expectations; the words are those of the folder's README."""
    noted = " ".join(note["sentence"] for note in record["notes"]).lower()
    said = noted + " " + (record["reason"] or {"sentence": ""})["sentence"].lower()
    unlike = (record["reason"] or {}).get("code") == "unlike_calibration"

    def has(text: str, words: Any) -> bool:
        return any(word in text for word in ([words] if isinstance(words, str) else words))

    def overlaps(boxes: Any) -> bool:
        wanted = [boxes] if isinstance(boxes[0], int) else boxes
        return any(_overlap(face["box"], box) >= 0.6 for face in record["faces"] for box in wanted)

    checks: dict[str, Callable[[Any], bool]] = {
        "verdict": lambda v: record["verdict"] in ([v] if isinstance(v, str) else v),
        "judged": lambda _: record["verdict"] != "not_applicable" or (unlike and record["score"] is not None),
        "kind": lambda v: record["kind"] == v,
        "record": lambda _: record["verdict"] != "not_applicable" or len(record["reason"]["sentence"]) > 20,
        "says": lambda v: has(said, v),
        "note_contains": lambda v: has(noted, v),
        "says_not": lambda v: not has(said, v),
        "face": overlaps,
        "faces": lambda v: len(record["faces"]) == v,
        "same_verdict_as": lambda v: record["verdict"] == others[v]["verdict"],
        "same_pixels_as": lambda v: (
            error_of(decode((INPUTS / name).read_bytes()).pixels, decode((INPUTS / v).read_bytes()).pixels)
            <= expect["max_mean_abs_error"]
        ),
        "max_mean_abs_error": lambda _: True,
    }
    return [f"{word}: {value}" for word, value in expect.items() if not checks[word](value)]


def _overlap(one: list[int], other: list[int]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    both = max(wide, 0) * max(high, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return both / (sum(areas) - both)


# --- what a file is ---


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"\xff\xd8\xff\xe0" + bytes(20), "A.PNG", "JPEG"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "x.mp4", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "x.heic", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "x", "HEIC"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "x.jpg", "MP4"),
        (b"\0\0\0\x14ftypM4A \0\0\0\0M4A ", "x.mp4", "sound"),
        (b"The free text\n" * 40, "free.md", "data"),
        (b"The free text\n" * 40, "LICENSE", "text"),
        (b"export const x = 1;\n" * 20, "page.ts", "text"),
        (b"this is no picture\n", "x.jpg", "JPEG"),
        ((b"\x47" + bytes(187)) * 9, "x.bin", "MPEG transport stream"),
        ((bytes(4) + b"\x47" + bytes(187)) * 9, "00001.MTS", "MPEG transport stream"),
        (b"NRRD0004\ntype: short\n", "x", "NRRD"),
        (bytes(128) + b"DICM" + bytes(20), "IM000001", "DICOM"),
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + bytes(20), "IM000002", "DICOM"),
        (b"\x5c\x01\0\0" + bytes(400), "x.dat", "NIfTI"),
        (b"", "SCAN.NII.GZ", "NIfTI"),
        (b"", "brain.MGZ", "FreeSurfer (MGH)"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "x", "SVG"),
        (b"P6\n4 4\n255\n" + bytes(48), "x", "PNM"),
        (b"P1 is the first of the rules", "rules.txt", "data"),
        (b"BM is no picture", "notes", "text"),
        (b"", "x.CR2", "camera raw"),
        (bytes(5000), "x", ""),
    ],
)
def test_a_file_is_what_its_bytes_say(content: bytes, name: str, expected: str) -> None:
    assert format_of(content, name).name == expected


# --- colour and depth ---


def linear(signal: np.ndarray) -> np.ndarray:
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def signal(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


#: From linear light to sRGB's primaries, by the published matrices.
P3_TO_SRGB = np.array([[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]])
ADOBE_TO_SRGB = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])


def levels(light: np.ndarray) -> np.ndarray:
    return np.clip(signal(np.clip(light, 0, 1)) * 255, 0, 255)


def within_srgb(light: np.ndarray) -> np.ndarray:
    """Where no channel leaves what sRGB holds: what lies outside is clipped by one rule or another."""
    return ((light > 0.005) & (light < 0.995)).all(-1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
def test_colours_are_brought_to_srgb_by_their_profile(kind: str) -> None:
    stored = (smooth(3, 64, 80) * 255).round().astype(np.uint8)
    options: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    if kind in ("AVIF", "HEIF"):
        options = {"quality": 100} | ({"chroma": 444} if kind == "HEIF" else {"subsampling": "4:4:4"})
    for profile, light in (
        (DISPLAY_P3, linear(stored / 255) @ P3_TO_SRGB.T),
        (ADOBE_RGB, (stored / 255) ** 2.19921875 @ ADOBE_TO_SRGB.T),
    ):
        picture = decode(saved(stored, kind, icc_profile=profile, **options))
        assert codes_of(picture) == ["colour_profile"]
        inside = within_srgb(light)
        assert inside.mean() > 0.3
        assert np.abs(picture.pixels - levels(light))[inside].mean() < 1.6


def test_srgb_is_left_untouched_and_a_broken_profile_costs_no_picture() -> None:
    stored = (smooth(4, 48, 64) * 255).astype(np.uint8)
    for profile in (SRGB, grey_profile(2.2)):
        picture = decode(saved(stored, "PNG", icc_profile=profile))
        assert np.array_equal(picture.pixels, stored)
    plain = decode(saved(stored, "PNG", icc_profile=SRGB))
    assert not plain.notes
    broken = decode(saved(stored, "PNG", icc_profile=DISPLAY_P3[:200]))
    assert codes_of(broken) == ["colour_profile_ignored"]
    assert np.array_equal(broken.pixels, stored)


def test_inks_and_greys_by_their_profiles() -> None:
    ramp = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (40, 1))
    inks = Image.merge("CMYK", [Image.fromarray(np.zeros_like(ramp))] * 3 + [Image.fromarray(ramp)])
    picture = decode(saved(inks, "TIFF", icc_profile=cmyk_profile()))
    assert codes_of(picture) == ["colour_profile"]
    # Lightness falls evenly with the black ink, and lightness 50 is level 119 of sRGB.
    assert abs(int(picture.pixels[5, 32, 0]) - 119) <= 4
    assert picture.pixels[5].std(axis=1).max() < 2
    grey = decode(saved(ramp, "PNG", icc_profile=grey_profile(1.0)))
    assert error_of(grey.pixels, levels(ramp / 255)) < 1.5
    lab = np.zeros((40, 64, 3), np.uint8)
    lab[..., 0] = ramp
    measured = decode(saved(Image.frombytes("LAB", (64, 40), lab.tobytes()), "TIFF"))
    assert abs(int(measured.pixels[5, 32, 0]) - 119) <= 4


@pytest.mark.parametrize(("space", "index", "is_adobe"), [(0xFFFF, "R03", True), (2, "", True), (1, "R98", False),
                                                          (0xFFFF, "", False)])  # fmt: skip
def test_adobe_rgb_is_known_by_exif_alone(space: int, index: str, is_adobe: bool) -> None:
    stored = (smooth(6, 64, 80) * 255).round().astype(np.uint8)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = space
    if index:
        exif.get_ifd(0x8769)[0xA005] = {1: index}
    picture = decode(saved(stored, "JPEG", quality=100, subsampling=0, exif=exif))
    light = (stored / 255) ** 2.19921875 @ ADOBE_TO_SRGB.T
    assert codes_of(picture) == ["colour_profile"] * is_adobe
    if is_adobe:
        assert np.abs(picture.pixels - levels(light))[within_srgb(light)].mean() < 1.6
    else:
        assert error_of(picture.pixels, stored) < 1.6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_a_picture_that_is_wholly_transparent_is_read_as_if_it_were_not(kind: str) -> None:
    stored = np.dstack([FACE, np.zeros_like(GREY)])
    content = by_opencv(stored, ".bmp") if kind == "BMP" else saved(stored, kind)
    picture = decode(content)
    assert codes_of(picture) == ["transparency"]
    assert np.array_equal(picture.pixels, FACE)


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (b"PF\n4 4\n-1\n" + bytes(192), "x.pfm", "PFM of colours is not read"),
        (b"P7\nWIDTH 4\n", "x", "PAM is not read"),
        (tiff_of(FACE, bigtiff=True, byteorder=">"), "x.tif", "BigTIFF of big-endian order is not read"),
        (tiff_by_planes(FACE), "x.NEF", "camera raw is not read"),
        (tiff_of(np.ascontiguousarray(FACE.transpose(2, 0, 1)).astype(np.uint16), photometric="rgb",
                 planarconfig="separate", tile=(32, 32)), "x.tif", "3 channels of 16 bits"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(content: bytes, name: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        decode(content, name=name)
    assert caught.value.code == "unsupported_format"
    assert told in caught.value.sentence


def test_a_deep_tiff_in_planes_keeps_its_profile_and_orientation_and_its_end_is_missed() -> None:
    stored, _ = with_orientation(FACE, 6)
    content = tiff_by_planes((stored / 255).astype(np.float32))
    turned = tiff_of(np.ascontiguousarray((stored / 255).astype(np.float32).transpose(2, 0, 1)), photometric="rgb",
                     planarconfig="separate", extratags=[(274, 3, 1, 6, True)], iccprofile=DISPLAY_P3)  # fmt: skip
    picture = decode(turned)
    assert codes_of(picture) == ["reduced_to_8_bits", "colour_profile", "rotated_by_exif"]
    light = linear(FACE / 255) @ P3_TO_SRGB.T
    assert np.abs(picture.pixels - levels(light))[within_srgb(light)].mean() < 1.6
    with pytest.raises(InputError) as caught:
        decode(content[: len(content) // 2])
    assert caught.value.code in ("truncated", "corrupt")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [16, 257, 1 / 255])
@pytest.mark.parametrize("how", [{"bigtiff": True}, {"tile": (32, 32), "byteorder": ">"}], ids=["strips", "tiles"])
def test_deep_colours_of_a_tiff_are_turned_as_it_says(orientation: int, depth: float, how: dict[str, Any]) -> None:
    face = np.ascontiguousarray(FACE[:100])
    stored, _ = with_orientation(face, orientation)
    values = (stored * np.float32(depth)) if depth < 1 else stored.astype(np.uint16) * np.uint16(depth)
    picture = decode(tiff_of(values, photometric="rgb", extratags=[(274, 3, 1, orientation, True)], **how))
    assert error_of(picture.pixels, face) < 1.5
    assert codes_of(picture) == ["reduced_to_8_bits", *["rotated_by_exif"] * (orientation > 1)]


def test_png_says_its_colours_in_numbers() -> None:
    stored = (smooth(5, 48, 64) * 255).round().astype(np.uint8)
    png = saved(stored, "PNG")
    bright = decode(with_chunk(png, b"gAMA", struct.pack(">I", 100_000)))
    assert codes_of(bright) == ["gamma"]
    assert error_of(bright.pixels, levels(stored / 255)) < 1.5
    assert not decode(with_chunk(png, b"gAMA", struct.pack(">I", 45_455))).notes
    wide = decode(with_chunk(png, b"cICP", bytes([12, 13, 0, 1])))
    light = linear(stored / 255) @ P3_TO_SRGB.T
    assert codes_of(wide) == ["colour_profile"]
    # They count before a profile.
    both = with_chunk(saved(stored, "PNG", icc_profile=ADOBE_RGB), b"cICP", bytes([1, 13, 0, 1]))
    assert np.array_equal(decode(both).pixels, stored)
    assert np.abs(wide.pixels - levels(light))[within_srgb(light)].mean() < 1.6
    for transfer, word in ((16, "PQ"), (18, "HLG")):
        high = decode(with_chunk(png, b"cICP", bytes([9, transfer, 0, 1])))
        assert codes_of(high) == ["hdr"]
        assert word in high.notes[0].sentence
        assert 20 < high.pixels.mean() < 235


def test_high_range_becomes_standard_range_by_its_own_curve() -> None:
    # 100 and 203 nits of PQ, where 203 is white; signal .5 and .75 of HLG are 51 and 203 nits on its reference screen.
    for transfer, codes, nits in ((16, (130, 148), (100, 203)), (18, (128, 191), (51, 203))):
        stored = np.repeat(np.array([codes], np.uint8).repeat(32, 1)[..., None], 3, 2).repeat(40, 0)
        high = decode(with_chunk(saved(stored, "PNG"), b"cICP", bytes([1, transfer, 0, 1])))
        for column, light in zip((5, 50), nits, strict=True):
            assert abs(float(high.pixels[5, column, 0]) - float(levels(np.array(light / 203)))) < 6


@pytest.mark.parametrize(
    ("content", "note", "limit"),
    [
        (png_of_words(GREY.astype(np.uint16) * 4), "10 bits", 1),
        (png_of_words(GREY.astype(np.uint16) * 16), "12 bits", 1.5),
        (png_of_words(GREY.astype(np.uint16) * 64), "14 bits", 1),
        (png_of_words(GREY.astype(np.uint16) * 257), "high byte", 0),
        (with_chunk(png_of_words(GREY.astype(np.uint16)), b"sBIT", bytes([8])), "file says", 0.1),
        (png_of_words(portrait(128).astype(np.uint16) * 16), "12 bits", 1.5),
        (tiff_of_words(portrait(128).astype(np.uint16) * 16), "12 bits", 1.5),
        (tiff_of_words(portrait(128).astype(np.uint16) * 257), "high byte", 0),
        (tiff_of_words(portrait(128).astype(np.float32)), "from 0 to 255", 0.1),
        (tiff_with_tags(Image.fromarray(GREY.astype(np.uint16) * 100), {280: 0, 281: 25_500}), "file says", 0.5),
        (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "from 0 to 255", 0.1),
        (saved(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"), "from 0 to 1", 0.1),
        (saved(Image.fromarray(GREY.astype(np.float32) * 1e-4), "TIFF"), "stretched", 12),
        (saved(Image.fromarray(GREY.astype(np.int32) * 1_000_000 - 9), "TIFF"), "stretched", 12),
        (tiff_of(GREY.astype(np.uint32) << 24), "stretched", 12),
        (tiff_of(GREY.astype(np.uint32) * 16), "12 bits", 1),
        (tiff_of((GREY.astype(np.int16) - 128).astype(np.int8)), "stretched", 12),
        (tiff_of((GREY.astype(np.int16) - 128) * 100), "stretched", 12),
        (tiff_of((GREY / 255).astype(np.float16)), "from 0 to 1", 0.1),
        (tiff_of(GREY / 255), "from 0 to 1", 0.1),
        (tiff_by_planes(FACE.astype(np.uint16) * 257), "high byte", 0),
        (tiff_by_planes(FACE.astype(np.uint16) * 16, packed=True), "12 bits", 1.5),
        (tiff_by_planes((FACE / 255).astype(np.float32), packed=True), "from 0 to 1", 0.1),
        (tiff_by_planes((FACE / 255).astype(np.float16)), "from 0 to 1", 0.1),
        (tiff_of_pages([FACE[::8, ::8], FACE.astype(np.uint16) * 16]), "12 bits", 1.5),
        (by_opencv(FACE.astype(np.uint16) * 16, ".jp2"), "12 bits", 1.5),
        (by_opencv(FACE.astype(np.uint16) * 257, ".jp2"), "high byte", 1),
        (by_opencv(FACE.astype(np.uint16) * 16, ".ppm"), "12 bits", 1.5),
        (by_opencv(np.dstack([FACE, np.full_like(GREY, 255)]).astype(np.uint16) * 16, ".png"), "12 bits", 1.5),
    ],
)  # fmt: skip
def test_more_than_8_bits_are_scaled_and_never_black(content: bytes, note: str, limit: float) -> None:
    picture = decode(content)
    assert any(n.code == "reduced_to_8_bits" and note in n.sentence for n in picture.notes), picture.notes
    assert error_of(picture.pixels, FACE if picture.pixels.std(axis=2).max() > 0 else GREY) <= limit


def test_one_hot_pixel_does_not_darken_and_missing_values_are_counted() -> None:
    words = GREY.astype(np.uint16) * 16
    words[5, 5] = 65_535
    assert error_of(decode(png_of_words(words)).pixels, GREY) < 1.6
    floats = GREY.astype(np.float32)
    floats[0, :3] = np.nan
    floats[1, 0], floats[1, 1] = np.inf, -np.inf
    picture = decode(saved(Image.fromarray(floats), "TIFF"))
    assert "3 are no numbers" in picture.notes[0].sentence
    assert "2 are infinite" in picture.notes[0].sentence
    assert picture.pixels[0, 0, 0] == 0
    assert picture.pixels[1, 0, 0] == 255
    assert picture.pixels[1, 1, 0] == 0
    assert error_of(picture.pixels[2:], GREY[2:]) < 0.1
    lost = np.full((40, 40), np.nan, np.float32)
    assert decode(saved(Image.fromarray(lost), "TIFF")).pixels.max() == 0


def test_the_largest_page_is_taken_and_heic_grids_are_whole() -> None:
    face = portrait(160)
    pages = [Image.fromarray(face).resize((40, 40)), Image.fromarray(face), Image.fromarray(face[:120])]
    picture = decode(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert codes_of(picture) == ["largest_page"]
    assert np.array_equal(picture.pixels, face)
    tiled = np.asarray(Image.fromarray(portrait(256)).resize((700, 400)))
    grid = saved(tiled, "HEIF", quality=95, tile_size=256)
    assert b"grid" in grid
    assert error_of(decode(grid).pixels, tiled) < 2.5


# --- every writable format, bit depth, profile and orientation ---

#: Format -> options and the mean error in levels it may cost.
WRITABLE: dict[str, tuple[str, dict[str, Any], float]] = {
    "png": ("PNG", {}, 0),
    "bmp": ("BMP", {}, 0),
    "ppm": ("PPM", {}, 0),
    "tiff": ("TIFF", {}, 0),
    "tiff_lzw": ("TIFF", {"compression": "tiff_lzw"}, 0),
    "tiff_deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}, 0),
    "webp_lossless": ("WEBP", {"lossless": True}, 0),
    "webp": ("WEBP", {"quality": 95}, 5),
    "jpeg": ("JPEG", {"quality": 95, "subsampling": 0}, 2),
    "jpeg_progressive": ("JPEG", {"quality": 95, "progressive": True}, 5),
    "jp2": ("JPEG2000", {"irreversible": False}, 0),
    "gif": ("GIF", {}, 12),
    "avif": ("AVIF", {"quality": 95}, 5),
    "heic": ("HEIF", {"quality": 95}, 5),
}
TURNABLE = ("png", "tiff", "webp_lossless", "jpeg", "avif", "heic")


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(WRITABLE)),
    seed=st.integers(0, 10_000),
    height=st.integers(32, 90),
    width=st.integers(32, 90),
    mode=st.sampled_from(["RGB", "L", "RGBA", "P", "CMYK", "1"]),
    profile=st.sampled_from([None, "srgb", "p3", "adobe"]),
    orientation=st.integers(1, 8),
)
def test_what_is_written_is_read_back(
    kind: str, seed: int, height: int, width: int, mode: str, profile: str | None, orientation: int
) -> None:
    name, options, limit = WRITABLE[kind]
    options = dict(options)
    upright = (smooth(seed, height, width) * 255).round().astype(np.uint8)
    stored, exif = with_orientation(upright, orientation if kind in TURNABLE else 1)
    if kind in TURNABLE:
        options["exif"] = exif
    image = Image.fromarray(stored)
    meant, codes = upright.astype(float), set()
    modes = {
        "jpeg": ("L", "CMYK"), "jpeg_progressive": ("L",), "png": ("L", "RGBA", "P", "1"), "bmp": ("L", "P", "1"),
        "ppm": ("L", "1"), "tiff": ("L", "RGBA", "P", "1", "CMYK"), "tiff_lzw": ("L", "RGBA"), "gif": ("L", "P"),
        "webp_lossless": ("RGBA",), "jp2": ("L", "RGBA"), "avif": ("RGBA",), "heic": ("L", "RGBA"),
    }.get(kind, ())  # fmt: skip
    grey = np.asarray(Image.fromarray(upright).convert("L")).astype(float)
    if mode == "RGBA" and mode in modes:
        image.putalpha(255)
    elif mode in ("L", "P", "CMYK", "1") and mode in modes:
        image = image.convert(mode)
        if mode == "L":
            meant = grey
        elif mode == "P":
            limit = max(limit, 20)
        elif mode == "CMYK":
            codes.add("colours_converted")
            limit += 1
        else:
            # Dithered: the same brightness on average.
            picture = decode(saved(image, name, **options))
            assert abs(picture.pixels.mean() - grey.mean()) < 12
            return
    if profile and kind not in ("bmp", "ppm", "gif", "jp2") and image.mode in ("RGB", "RGBA"):
        options["icc_profile"] = {"srgb": SRGB, "p3": DISPLAY_P3, "adobe": ADOBE_RGB}[profile]
    inside = np.ones(upright.shape[:2], bool)
    if options.get("icc_profile") not in (None, SRGB):
        light = linear(upright / 255) @ P3_TO_SRGB.T
        if profile == "adobe":
            light = (upright / 255) ** 2.19921875 @ ADOBE_TO_SRGB.T
        meant, limit = levels(light), limit + 2
        codes.add("colour_profile")
        inside = within_srgb(light)
    if kind in TURNABLE and orientation > 1:
        codes.add("rotated_by_exif")
    picture = decode(saved(image, name, **options))
    assert set(codes_of(picture)) == codes
    assert picture.pixels.shape == upright.shape
    if inside.any():
        reference = meant if meant.ndim == 3 else np.repeat(meant[..., None], 3, 2)
        assert np.abs(picture.pixels - reference)[inside].mean() <= limit + 0.01


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(
        [
            "png",
            "png_colour",
            "png_alpha_colour",
            "tiff",
            "tiff_colour",
            "planes_colour",
            "packed_planes_colour",
            "float",
            "half",
            "float_colour",
            "float_planes_colour",
            "int32",
            "uint32",
            "jp2",
            "jp2_colour",
            "ppm_colour",
            "heic_colour",
        ]
    ),
    seed=st.integers(0, 10_000),
    bits=st.integers(8, 16),
    turned=st.integers(1, 8),
)
def test_what_is_written_deep_is_read_back(kind: str, seed: int, bits: int, turned: int) -> None:
    light = smooth(seed, 50, 70)
    # As a camera exposes: up to the highest value.
    light = light / light.max()
    light = light if "colour" in kind else light.mean(2) / light.mean(2).max()
    top = float(2**bits - 1)
    words = (light * top).round().astype(np.uint16)
    exif = Image.Exif()
    floats = light * (255.0 if bits > 12 else 1.0)
    if kind == "tiff":
        words, exif = with_orientation(words, turned)
    # HEIC has no more than the highest bits of its words.
    bits = 16 if kind == "heic_colour" else bits
    top = float(2**bits - 1)
    opaque = np.full(words.shape[:2], int(top), np.uint16)
    content = {
        "png": lambda: png_of_words(words), "png_colour": lambda: png_of_words(words),
        "png_alpha_colour": lambda: by_opencv(np.dstack([words, opaque]), ".png"),
        "tiff": lambda: saved(Image.fromarray(words), "TIFF", exif=exif), "tiff_colour": lambda: tiff_of_words(words),
        "planes_colour": lambda: tiff_by_planes(words), "packed_planes_colour": lambda: tiff_by_planes(words, True),
        "float": lambda: saved(Image.fromarray(floats.astype(np.float32)), "TIFF"),
        "half": lambda: tiff_of(floats.astype(np.float16)),
        "float_colour": lambda: tiff_of_words(floats.astype(np.float32)),
        "float_planes_colour": lambda: tiff_by_planes(floats),
        "int32": lambda: saved(Image.fromarray(words.astype(np.int32)), "TIFF"),
        "uint32": lambda: tiff_of(words.astype(np.uint32)),
        "jp2": lambda: saved(Image.fromarray(words), "JPEG2000"), "jp2_colour": lambda: by_opencv(words, ".jp2"),
        "ppm_colour": lambda: by_opencv(words, ".ppm"),
        "heic_colour": lambda: heic_of_words((light * 65535).round().astype(np.uint16)),
    }[kind]()  # fmt: skip
    picture = decode(content)
    assert "reduced_to_8_bits" in codes_of(picture)
    # Depths that no device has are read as the next that one has: 9 bits as 10, at half the brightness.
    told = next(depth for depth in (8, 10, 12, 14, 16) if bits <= depth)
    scale = 1.0 if kind.startswith(("float", "half")) else top / (2**told - 1)
    assert error_of(picture.pixels, light * 255 * scale) < 1.6


# --- a folder of everything ---


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_everything(tmp_path_factory.mktemp("everything"))


def test_every_file_of_a_folder_has_a_record_or_is_named(everything: Path, faces_detector: Detector) -> None:
    leftovers: list[str] = []
    began = time.perf_counter()
    found = list(find_inputs(everything, leftovers))
    assert time.perf_counter() - began < 2
    records = list(faces_detector.detect_many(found, heatmap=False))
    named = {Path(r.path).relative_to(everything).as_posix() for r in records} | set(leftovers)
    there = {p.relative_to(everything).as_posix() for p in everything.rglob("*") if not p.is_dir() or p.is_symlink()}
    assert named == there
    assert len(records) == len(found) > 60
    assert set(leftovers) == {
        "notes.txt", "table.csv", "page.html", "data.json", ".DS_Store", "Thumbs.db", ".hidden.jpg", "README",
        "song.mp3", "letter.docx",
    }  # fmt: skip
    by_name = {Path(r.path).name: r for r in records}
    for name, code in BAD.items():
        if name in by_name and name not in ("text.jpg",):
            assert by_name[name].reason is not None, name
            assert by_name[name].reason["code"] in (code, "not_a_video"), name
    for name in ODD:
        # The portrait there is too small to be judged; the others hold no face.
        assert (by_name[name].reason or {}).get("code") in (None, "no_face", "face_too_small", "unstable"), name
    assert by_name["IMAGE.JPG"].p_value is not None
    assert by_name["no_suffix"].p_value is not None
    assert by_name["clip.MP4"].kind == by_name["clip.avi"].kind == "video"
    assert by_name["scan.NII.GZ"].reason == {
        "code": "unsupported_kind",
        "sentence": "this model judges pictures and videos, got a scan (NIfTI); use a model for scans, such as "
        "brain_t1",
    }
    assert "camera raw" in by_name["raw.NEF"].reason["sentence"]
    assert by_name["up"].reason["code"] == "not_a_file"
    for record in records:
        assert "\n" not in (record.reason or {"sentence": ""})["sentence"]


def test_dicom_in_a_folder_is_one_input_and_the_rest_is_not_lost(tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="needs the dicom extra")
    from tests.dicomfiles import write_series

    write_series(tmp_path / "patient", head(1)[0])
    (tmp_path / "patient/photo.jpg").write_bytes(saved(portrait(), "JPEG"))
    found = list(find_inputs(tmp_path))
    assert found == [tmp_path / "patient", tmp_path / "patient/photo.jpg"]
    assert [kind_of(path) for path in found] == ["volume", "image"]


def test_unreadable_files_odd_names_and_links_stop_no_run(tmp_path: Path) -> None:
    face = saved(portrait(), "JPEG")
    (tmp_path / "a.jpg").write_bytes(face)
    odd = os.fsencode(tmp_path) + b"/b\xff.jpg"
    with open(odd, "wb") as file:
        file.write(face)
    (tmp_path / "c.jpg").write_bytes(face)
    (tmp_path / "c.jpg").chmod(0)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/e.jpg").write_bytes(face)
    (tmp_path / "d").chmod(0)
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe.jpg")

    def as_anybody() -> None:
        # Without these two capabilities root reads no more than others; CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
        libc = ctypes.CDLL(None)
        for capability in (1, 2):
            libc.prctl(24, capability, 0, 0, 0)

    locked = subprocess.run(
        [sys.executable, "-c", f"open({str(tmp_path / 'c.jpg')!r})"], preexec_fn=as_anybody, capture_output=True
    )
    if locked.returncode == 0:
        pytest.skip("root's right to read everything cannot be dropped here")
    done = subprocess.run(
        [sys.executable, "-m", "pixelsleuth", "detect", str(tmp_path), "--no-heatmap"],
        preexec_fn=as_anybody, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    (tmp_path / "d").chmod(0o700)
    assert done.returncode == 0, done.stderr.decode()
    records = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
    told = {os.fsencode(r["path"])[len(os.fsencode(tmp_path)) + 1 :]: (r["reason"] or {}).get("code") for r in records}
    assert told == {
        b"a.jpg": None, b"b\xff.jpg": None, b"c.jpg": "unreadable", b"d": "unreadable", b"loop": "unreadable",
        b"pipe.jpg": "not_a_file",
    }  # fmt: skip


def test_a_list_of_names_and_every_form_of_record_take_odd_names(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")
    with open(name, "wb") as file:
        file.write(saved(portrait(), "PNG"))
    for form in ("jsonl", "csv", "parquet"):
        done = CliRunner().invoke(
            app,
            ["detect", "-", "--no-heatmap", "--report", "--max-false-alarm", "0.1",
             "--format", form, "--out", str(tmp_path / form)],
            input=os.fsencode(name) + b"\n",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "jsonl/findings.jsonl").read_text())["path"] == name


def test_what_is_left_out_is_counted_and_named_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved(portrait(), "PNG"))
    for name in ("notes.txt", "b.json", ".DS_Store"):
        (tmp_path / name).write_text("{}")
    call = ["detect", str(tmp_path), "--no-heatmap", "--max-false-alarm", "0.1"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    why = "no picture, video or scan, hidden, or of an earlier run"
    assert f"left out 3: {why}: .DS_Store, b.json, notes.txt" in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_a_name_that_no_file_can_have_is_a_record(tmp_path: Path, faces_detector: Detector) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(portrait(), "PNG"))
    names = [
        stem + suffix
        for stem in ("n" * 300, "nul\0", "lone\ud800")
        for suffix in (".jpg", ".mp4", ".nii.gz", ".dcm", "#1.2.3", "")
    ]
    *refused, judged = faces_detector.detect_many([*names, path], max_false_alarm=0.1, heatmap=False)
    for finding in refused:
        # What is a scan by its name is refused as one, as where there is no such file.
        scan = finding.path.endswith((".nii.gz", ".dcm"))
        assert finding.reason_code == ("unsupported_kind" if scan else "missing"), finding.path
        assert "no file can have this name" in finding.reason_sentence or scan
    assert judged.p_value is not None


def test_a_list_with_a_name_that_no_file_can_have_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved(portrait(), "PNG"))
    # Letters of four bytes: what is written beside a record must not have a longer name than files may have.
    wide = tmp_path / f"{chr(0x1D400) * 60}.png"
    wide.write_bytes(saved(portrait(), "PNG"))
    listed = [b"n" * 300 + b".jpg", b"nul\0.jpg", os.fsencode(tmp_path / "a.png"), os.fsencode(wide)]
    call = ["detect", "-", "--report", "--no-restore", "--max-false-alarm", "0.1", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, call, input=b"\n".join(listed))
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in (tmp_path / "out/findings.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(record["reason"] or {}).get("code") for record in records] == ["missing", "missing", None, None]
    assert all((tmp_path / "out" / record["heatmap"]).is_file() for record in records[2:])


def test_pairs_and_places_with_a_name_that_no_file_can_have_are_told(tmp_path: Path) -> None:
    for folder in ("real", "fake"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"")
    (tmp_path / "pairs.csv").write_text(f"fake,real\n{'n' * 300}.png,a.png\na.png,a.png\n")
    found = read_pairs(tmp_path / "pairs.csv", tmp_path / "real", tmp_path / "fake")
    assert found == ({tmp_path / "fake/a.png": tmp_path / "real/a.png"}, 1)
    place = "n" * 300
    for call in (["evaluate", "--normal", place, "--anomalous", place], ["detect", "a.png", "--model", place]):
        done = CliRunner().invoke(app, call)
        assert isinstance(done.exception, PixelsleuthError), call


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_records_are_written_in_any_encoding(form: str, encoding: str, faces_detector: Detector) -> None:
    finding = faces_detector.detect("\u4f60\xe4\udcff.jpg")
    finding = replace(finding, notes=(Note("a", "\u4f60\xe4"),))
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    writer = RecordWriter(None, form, stream)
    writer.write(finding.record())
    stream.flush()
    text = raw.getvalue().decode(encoding)
    if form == "jsonl":
        assert json.loads(text)["path"] == finding.path
        return
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    known = {"ascii": "\\u4f60\\xe4", "latin-1": "\\u4f60\xe4", "utf-8": "\u4f60\xe4"}
    assert row["path"] == known[encoding] + "\\udcff.jpg"
    assert json.loads(row["notes"]) == [{"code": "a", "sentence": "\u4f60\xe4"}]


def test_a_folder_in_a_list_is_told_what_to_do(tmp_path: Path, faces_detector: Detector) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.png").write_bytes(saved(portrait(), "PNG"))
    finding = faces_detector.detect(tmp_path / "full")
    assert finding.reason_code == "not_a_file"
    assert "give the folder itself to `pixelsleuth detect`" in finding.reason_sentence
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(app, ["detect", str(tmp_path / "empty"), str(tmp_path / "full"), "--no-heatmap"])
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["reason"]["sentence"] == "the folder holds nothing that could be judged; check the path"
    assert second["path"] == str(tmp_path / "full/a.png")


def test_pictures_that_pillow_cannot_read_end_no_run(tmp_path: Path, faces_detector: Detector) -> None:
    written = saved(portrait(), "JPEG")
    closed = Image.open(io.BytesIO(written))
    closed.close()
    cut = Image.open(io.BytesIO(written[: len(written) // 2]))
    whole = Image.fromarray(portrait())
    given = [closed, cut, whole.convert("LA").convert("La"), whole]
    findings = list(faces_detector.detect_many(given, max_false_alarm=0.1, heatmap=False))
    assert [finding.reason_code for finding in findings[:2]] == ["unreadable"] * 2
    assert "give its file, or an RGB copy" in findings[0].reason_sentence
    assert all(finding.score is not None for finding in findings[2:])


def test_a_vanishing_file_is_a_record(tmp_path: Path, faces_detector: Detector) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        path.write_bytes(saved(portrait(), "PNG"))
    found = list(find_inputs(tmp_path))
    paths[1].unlink()
    findings = list(faces_detector.detect_many(found, max_false_alarm=0.1, heatmap=False))
    assert [(f.reason or {}).get("code") for f in findings] == [None, "missing", None]


# --- faces ---


def test_a_face_that_fills_the_picture_asks_for_room(faces_detector: Detector) -> None:
    photo = data.astronaut()
    box = faces.main_face(photo).box
    crops = [(0, 0, 0), (8, 20, 4), (15, 0, 20), (18, 18, 10), (26, 20, 10), (30, 22, 12), (25, 25, 20), (26, 8, 20)]
    refused = 0
    for top, sides, bottom in crops:
        # From brow to chin, cheek to cheek.
        tight = photo[box.y0 + top : box.y1 - bottom, box.x0 + sides : box.x1 - sides]
        tight = cv2.resize(np.ascontiguousarray(tight), None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
        finding = faces_detector.detect(tight, heatmap=False)
        if finding.verdict == "not_applicable":
            refused += 1
            assert finding.reason is not None
            assert finding.reason["code"] in ("face_fills_picture", "no_face")
            assert "room around" in finding.reason["sentence"]
            assert "closer" not in finding.reason["sentence"]
    assert refused >= 3


def test_a_face_with_room_around_it_does_not_fill_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a copy with a drawn-out border shows alone: a face within the picture is no reason to ask for room.
    pixels = np.full((200, 200, 3), 90, np.uint8)
    for box, says in ((Box(80, 80, 210, 210), "no_face"), (Box(20, 80, 150, 210), "face_fills_picture")):
        monkeypatch.setattr(
            faces, "find_faces", lambda found, *_, box=box: [Face(box, 0.99)] if found.shape[0] == 300 else []
        )
        with pytest.raises(InputError) as caught:
            faces.judged_faces(pixels)
        assert caught.value.code == says


def scene(height: int, width: int, side: int, places: list[tuple[int, int]]) -> np.ndarray:
    """(height, width, 3) grey slope with the same portrait at several places, its face about `side` px wide."""
    face = portrait(round(side * 2.1))
    made = np.repeat(np.linspace(70, 130, width).astype(np.uint8)[None, :, None], height, 0).repeat(3, 2)
    for y, x in places:
        made[y : y + len(face), x : x + len(face)] = face
    return made


@pytest.mark.parametrize(
    ("height", "width", "side", "most"),
    [(3000, 4000, 60, 12.0), (3000, 4000, 90, 12.0), (1500, 20_000, 140, 12.0)],
)
def test_a_small_face_in_a_large_picture_is_found(height: int, width: int, side: int, most: float) -> None:
    picture = scene(height, width, side, [(height // 2, width // 3)])
    notes: list[Any] = []
    began = time.process_time()
    if side < faces.MIN_FACE:
        with pytest.raises(InputError, match="at least 64 are needed"):
            faces.judged_faces(picture, notes=notes)
    else:
        found = faces.judged_faces(picture, notes=notes)
        assert found[0].box.width >= faces.MIN_FACE
        assert [note.code for note in notes] == ["small_face"]
        assert abs(found[0].box.x0 - width // 3) < 2 * side
    assert time.process_time() - began < most


def test_of_thirty_faces_the_largest_are_judged_and_it_is_said() -> None:
    places = [(10 + 210 * (i // 6), 10 + 210 * (i % 6)) for i in range(30)]
    notes: list[Any] = []
    found = faces.judged_faces(scene(1080, 1290, 92, places), notes=notes)
    assert len(found) == faces.MAX_FACES
    assert "most_faces" in [note.code for note in notes]


# --- the same through every door ---


def test_the_store_keeps_the_bytes_of_every_format(tmp_path: Path) -> None:
    folder = tmp_path / "train/real"
    folder.mkdir(parents=True)
    write = {"a.heic": "HEIF", "b.avif": "AVIF", "c.jp2": "JPEG2000", "d.jpg": "JPEG"}
    for number, (name, kind) in enumerate(write.items()):
        (folder / name).write_bytes(saved((smooth(number, 80, 80) * 255).astype(np.uint8), kind))
    (folder / "e.jxl").write_bytes(b"\xff\x0a" + bytes(50))
    (folder / "f").write_bytes(saved(portrait(96), "PNG"))
    (folder / "g.txt").write_text("no picture")
    odd = os.fsdecode(os.fsencode(folder) + b"/h\xff.png")
    Path(odd).write_bytes(saved((smooth(9, 80, 80) * 255).astype(np.uint8), "PNG"))
    summary = prepare_images([tmp_path], tmp_path / "s.h5", size=64, crop="none", workers=1)
    assert summary.stored == 6
    assert dict(summary.reasons()) == {"unsupported_format": 1}
    with Store(tmp_path / "s.h5") as store:
        for row in range(len(store)):
            picture = decode(store.encoded(row))
            assert picture.sha256 == store.table["sha256"][row]


def test_the_server_answers_as_the_detector_does(everything: Path, faces_detector: Detector) -> None:
    pytest.importorskip("fastapi", reason="needs the web extra")
    from starlette.testclient import TestClient

    from pixelsleuth.web.app import application

    names = [path.name for path in sorted(everything.iterdir()) if path.is_file() and not path.is_symlink()]
    assert len(names) > 60
    with TestClient(application(faces_detector, "faces", rate=0.1)) as client:
        for name in names:
            alone = faces_detector.detect(everything / name, max_false_alarm=0.1)
            answer = client.post("/api/findings", files={"file": (name, (everything / name).read_bytes())})
            assert answer.status_code == 200, name
            same = ("sha256", "kind", "verdict", "reason", "notes")
            told = alone.record()
            assert {k: answer.json()[k] for k in same} == {k: told[k] for k in same}, name


def test_notes_are_shown_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(png_of_words(portrait().astype(np.uint16) * 16))
    call = ["detect", str(tmp_path / "deep.png"), "--report", "--no-heatmap", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, call).exit_code == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'data-part="notes"' in text
    assert "as its values fill 12 bits" in text
    record = json.loads((tmp_path / "findings.jsonl").read_text())
    assert record["notes"][0]["code"] == "reduced_to_8_bits"


def test_a_refused_record_says_what_was_read(faces_detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff_of_words(np.full((90, 90, 3), 2000, np.uint16)))
    record = faces_detector.detect(tmp_path / "a.tif").record()
    assert record["reason"]["code"] == "no_face"
    assert [note["code"] for note in record["notes"]] == ["reduced_to_8_bits"]


# --- what is written about it ---

ROOT = Path(__file__).parents[1]


def test_every_code_of_a_note_is_documented() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/pixelsleuth").rglob("*.py"))
    used = set(re.findall(r"\bNote\(\s*\"(\w+)\"", sources))
    assert len(used) > 30
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/notes.md").read_text(encoding="utf-8"), re.M))
    assert used == documented


def test_the_page_of_bad_inputs_is_what_the_program_says(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from experiments.tools.bad_inputs import page

    written = (ROOT / "docs/bad-inputs.md").read_text(encoding="utf-8")
    # What stands in brackets are words of libraries, which change with their versions.
    plain = [re.sub(r"\([^()]*\)", "()", text) for text in (written, page(tmp_path))]
    assert plain[0] == plain[1], "run experiments/tools/bad_inputs.py > docs/bad-inputs.md"
