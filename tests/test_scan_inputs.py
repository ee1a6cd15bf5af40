"""Scans as people have them: every format by its content, damage, orientation that is not known, DICOM folders."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from pixelsleuth.datasets.volume_preparation import find_volumes
from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError
from pixelsleuth.records import Finding
from pixelsleuth.reporting.layers import view_of
from pixelsleuth.reporting.writing import save_heatmap
from pixelsleuth.sources.inputs import Refused, find_inputs, kind_of
from pixelsleuth.sources.samples import Sample
from pixelsleuth.sources.scans import dicompixels, scanfiles
from pixelsleuth.sources.scans.volumes import (
    Volume,
    in_file_order,
    is_volume,
    read_volume,
    save_volume,
    stem_of,
    voxel_sizes_of,
)
from tests.volumefiles import LPS, head, write

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (extra dicom)")
from tests.dicomfiles import (  # noqa: E402
    CT,
    How,
    packed_by_simpleitk,
    write_enhanced,
    write_index,
    write_report,
    write_series,
)  # fmt: skip

INPUTS = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared")) / "inputs"


def scan(seed: int = 1, shape: tuple[int, int, int] = (20, 24, 6)) -> np.ndarray:
    """(X, Y, Z) float32 whole numbers, so that every format holds them."""
    return np.rint(head(seed, shape)[0])


def codes_of(volume: Volume) -> set[str]:
    return {note.code for note in volume.notes}


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_volume(path)
    return caught.value


# --- formats ---


def nifti(values: np.ndarray, kind: Any = nibabel.Nifti1Image, affine: np.ndarray = LPS) -> bytes:
    return bytes(kind(np.ascontiguousarray(values[::-1, ::-1].astype(np.int16)), affine).to_bytes())


def nrrd(values: np.ndarray, encoding: str, extra: str = "") -> bytes:
    stored = np.ascontiguousarray(values[::-1, ::-1].astype("<i2"))
    data = stored.tobytes(order="F")
    body = {
        "raw": lambda: data, "gzip": lambda: gzip.compress(data), "bzip2": lambda: bz2.compress(data),
        "ascii": lambda: " ".join(str(int(v)) for v in stored.ravel(order="F")).encode(),
    }[encoding]()  # fmt: skip
    sizes = " ".join(map(str, values.shape))
    lines = (
        f"NRRD0005\n# made for a test\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nendian: little\n"
        f"encoding: {encoding}\nspace origin: (0,0,0)\n{extra}\n"
    )
    return lines.encode() + body


def _written(folder: Path, values: np.ndarray, how: str) -> Path:
    stored = np.ascontiguousarray(values[::-1, ::-1].astype(np.int16))
    if how in ("pair.img", "PAIR.HDR", "pair2.img"):
        kind = nibabel.Nifti2Pair if "2" in how else nibabel.Nifti1Pair
        nibabel.save(kind(stored, LPS), folder / how.lower())
        if how.isupper():
            for path in list(folder.iterdir()):
                path.rename(path.with_name(path.name.upper()))
    elif how in ("packed.img.gz", "packed.hdr.gz"):
        nibabel.save(nibabel.Nifti1Pair(stored, LPS), folder / "packed.img.gz")
    elif how == "analyze.img":
        # Analyze's own custom: x grows to the left.
        nibabel.save(nibabel.AnalyzeImage(np.ascontiguousarray(values[::-1].astype(np.int16)),
                                          np.diag([-1.0, 1, 1, 1])), folder / how)  # fmt: skip
    elif how.lower().endswith((".mgz", ".mgh")):
        nibabel.save(nibabel.MGHImage(stored, LPS), folder / how.lower())
        (folder / how.lower()).rename(folder / how)
    else:
        contents: dict[str, Callable[[], bytes]] = {
            "a.nii": lambda: nifti(values), "a.nii.gz": lambda: gzip.compress(nifti(values)),
            "A.NII.GZ": lambda: gzip.compress(nifti(values)), "plain.nii.gz": lambda: nifti(values),
            "packed.nii": lambda: gzip.compress(nifti(values)),
            "second.nii": lambda: nifti(values, nibabel.Nifti2Image),
            "second.nii.gz": lambda: gzip.compress(nifti(values, nibabel.Nifti2Image)),
            "two_parts.nii.gz": lambda: gzip.compress(nifti(values)[:999]) + gzip.compress(nifti(values)[999:]),
            "padded.nii.gz": lambda: gzip.compress(nifti(values)) + b"no part of it",
            "big.nii": lambda: bytes(
                nibabel.Nifti1Image(stored, LPS, nibabel.Nifti1Header(endianness=">")).to_bytes()
            ),
        }  # fmt: skip
        made = contents[how]() if how in contents else nrrd(values, how.split(".")[0])
        (folder / how).write_bytes(made)
    return folder / how


FORMATS = [
    "a.nii", "a.nii.gz", "A.NII.GZ", "plain.nii.gz", "packed.nii", "second.nii", "second.nii.gz", "two_parts.nii.gz",
    "padded.nii.gz", "big.nii", "pair.img", "PAIR.HDR", "pair2.img", "packed.img.gz", "packed.hdr.gz", "analyze.img",
    "a.mgh", "a.mgz", "A.MGZ", "raw.nrrd", "gzip.nrrd", "bzip2.nrrd", "ascii.nrrd",
]  # fmt: skip


@pytest.mark.parametrize("how", FORMATS)
def test_every_format_reads_as_the_same_volume(tmp_path: Path, how: str) -> None:
    values = scan()
    path = _written(tmp_path, values, how)
    volume = read_volume(path)
    assert np.array_equal(volume.values, values)
    assert volume.values.dtype == np.float32
    assert volume.sha256 == scanfiles.sha256_of(path)
    assert codes_of(volume) == ({"orientation_unknown"} if how == "analyze.img" else set())
    assert is_volume(path)
    assert kind_of(path) == "volume"
    assert "." not in stem_of(path)


def facts_of(path: Path | str) -> dict[str, str]:
    """The facts that the report tells of a scan that was not judged, for these need no maps."""
    finding = Finding(str(path), None, "volume", {}, "not_applicable")
    return dict(view_of(finding, path, "").facts.rows)


@pytest.mark.parametrize("how", [*FORMATS, "no_suffix", "scan.dat"])
def test_the_report_tells_the_facts_of_every_format(tmp_path: Path, how: str) -> None:
    path = _written(tmp_path, scan(), "a.nii.gz" if how in ("no_suffix", "scan.dat") else how)
    path = path.rename(tmp_path / how) if path.name == "a.nii.gz" else path
    facts = facts_of(path)
    assert "metadata" not in facts
    assert facts["bytes"] == f"{path.stat().st_size:,}"
    assert "20 x 24 x 6 voxels of 1 x 1 x 1 mm" in facts["format"]
    assert facts["format"].endswith("float32" if how == "big.nii" else "int16")
    assert facts["axes"].startswith("LAS" if how == "analyze.img" else "LPS")


def test_the_report_tells_the_facts_of_dicom_and_of_what_cannot_be_read(tmp_path: Path) -> None:
    write_series(tmp_path / "s", scan(), How(series="1.2.3"))
    write_series(tmp_path / "s", scan(), How(series="1.2.4"), prefix="b")
    facts = facts_of(f"{tmp_path}/s#1.2.4")
    assert facts["files"] == "6"
    assert facts["format"] == "DICOM (MR), 20 x 24 x 6 voxels of 1.5 x 1.5 x 4 mm, uint16"
    alone = facts_of(write_enhanced(tmp_path / "all.dcm", scan(), range(6)))
    assert "bytes" in alone
    assert "20 x 24 x 6 voxels" in alone["format"]
    (tmp_path / "a.nii").write_bytes(nifti(scan())[:900])
    assert facts_of(tmp_path / "a.nii") == {"bytes": "900", "metadata": "cannot be read (truncated)"}
    image = nibabel.Nifti1Image(scan().astype(np.int16), np.diag([1e-3, 1e-3, 1e-3, 1]))
    image.header.set_xyzt_units("meter")
    image.header["descrip"] = b"a scan"
    nibabel.save(image, tmp_path / "m.nii")
    facts = facts_of(tmp_path / "m.nii")
    assert "voxels of 1 x 1 x 1 mm" in facts["format"]
    assert facts["description"] == "a scan"


def test_one_file_is_one_file_whatever_half_of_a_pair_it_is_named_as(tmp_path: Path) -> None:
    values = scan()
    for name in ("a.img", "b.hdr", "c.img.gz"):
        content = nifti(values, nibabel.Nifti2Image if name[0] == "a" else nibabel.Nifti1Image)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        assert np.array_equal(read_volume(tmp_path / name).values, values), name


def test_where_sform_is_no_orientation_qform_is_taken(tmp_path: Path) -> None:
    values = scan()
    image = nibabel.Nifti1Image(np.ascontiguousarray(values[::-1, ::-1].astype(np.int16)), LPS)
    image.set_qform(LPS, 1)
    content = bytearray(image.to_bytes())
    content[280:328] = bytes(48)
    (tmp_path / "a.nii").write_bytes(content)
    volume = read_volume(tmp_path / "a.nii")
    assert np.array_equal(volume.values, values)
    (note,) = volume.notes
    assert note.code == "sform_qform"
    assert "qform was taken" in note.sentence


def test_a_pair_is_one_volume_of_a_folder(tmp_path: Path) -> None:
    _written(tmp_path, scan(), "pair.img")
    assert list(find_volumes(tmp_path)) == [tmp_path / "pair.img"]
    (tmp_path / "pair.hdr").unlink()
    assert refusal(tmp_path / "pair.img").code == "missing_pair"
    _written(tmp_path, scan(), "pair.img")
    (tmp_path / "pair.img").unlink()
    assert refusal(tmp_path / "pair.hdr").code == "missing_pair"


# --- damage and limits ---


def _changed(data: bytes, at: int, value: int = 0x55) -> bytes:
    return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]


def _damaged(values: np.ndarray) -> dict[str, tuple[bytes, str]]:
    """Name -> what it holds and its reason's code."""
    whole = nifti(values)
    packed = gzip.compress(whole, mtime=0)
    mgh = bytes(nibabel.MGHImage(values.astype(np.int16), LPS).to_bytes())
    coloured = np.zeros(values.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    empty = bytearray(whole)
    empty[44:46] = b"\0\0"
    return {
        "checksum.nii.gz": (_changed(packed, -6), "corrupt"),
        "length.nii.gz": (_changed(packed, -2), "corrupt"),
        "middle.nii.gz": (_changed(packed, len(packed) // 2), "corrupt"),
        "cut.nii.gz": (packed[:-100], "truncated"),
        "cut_checksum.nii.gz": (packed[:-5], "truncated"),
        "cut.nii": (whole[:-100], "truncated"),
        "cut_header.nii": (whole[:200], "truncated"),
        "cut.mgh": (mgh[:2000], "truncated"),
        "cut.mgz": (gzip.compress(mgh)[:-300], "truncated"),
        "checksum.mgz": (_changed(gzip.compress(mgh), -6), "corrupt"),
        "cut.nrrd": (nrrd(values, "raw")[:-10], "truncated"),
        "cut_gzip.nrrd": (nrrd(values, "gzip")[:-10], "truncated"),
        "checksum.nrrd": (_changed(nrrd(values, "gzip"), -6), "corrupt"),
        "cut_text.nrrd": (nrrd(values, "ascii")[:-100], "truncated"),
        "cut_header.nrrd": (nrrd(values, "raw")[:60], "truncated"),
        "no_type.nrrd": (nrrd(values, "raw").replace(b"type: short\n", b""), "not_a_volume"),
        "colour.nii": (bytes(nibabel.Nifti1Image(coloured, LPS).to_bytes()), "not_scalar"),
        "complex.nii": (bytes(nibabel.Nifti1Image(values.astype(np.complex64), LPS).to_bytes()), "not_scalar"),
        "times.nii": (bytes(nibabel.Nifti1Image(np.stack([values] * 3, -1), LPS).to_bytes()), "not_3d"),
        "times.mgh": (bytes(nibabel.MGHImage(np.stack([values] * 3, -1), LPS).to_bytes()), "not_3d"),
        "no_side.nii": (bytes(empty), "not_a_volume"),
        "vectors.nrrd": (nrrd(np.stack([values] * 3), "raw").replace(b"dimension: 3", b"dimension: 4")
                         .replace(b"(1,0,0) (0,1,0)", b"none (1,0,0) (0,1,0)")
                         .replace(b"kinds: domain", b"kinds: vector domain"), "not_scalar"),
        "text.nrrd": (b"NRRD0005\n\n", "not_a_volume"),
        "meta.mha": (b"ObjectType = Image\nNDims = 3\n", "unsupported_format"),
        "a.nii": (b"\x89PNG\r\n\x1a\n" + bytes(600), "unsupported_format"),
    }  # fmt: skip


DAMAGED = list(_damaged(scan()))


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_has_its_word(tmp_path: Path, name: str) -> None:
    data, code = _damaged(scan())[name]
    (tmp_path / name).write_bytes(data)
    error = refusal(tmp_path / name)
    assert (error.code, "\n" in error.sentence) == (code, False), error.sentence
    assert error.sha256 == scanfiles.sha256_of(tmp_path / name)
    if name in ("cut.nii", "cut.mgh"):
        # By the header's promise, before anything is decoded.
        assert "expected 6,112 bytes" in error.sentence or "expected 6,044 bytes" in error.sentence


def test_a_header_that_promises_too_much_or_too_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = scan()
    huge = nrrd(values, "gzip").replace(b"sizes: 20 24 6", b"sizes: 30000 30000 3000")
    (tmp_path / "huge.nrrd").write_bytes(huge)
    mgh = bytearray(nibabel.MGHImage(values.astype(np.int16), LPS).to_bytes())
    mgh[4:16] = np.array([30_000, 30_000, 3_000], ">i4").tobytes()
    (tmp_path / "huge.mgz").write_bytes(gzip.compress(bytes(mgh)))
    assert [refusal(tmp_path / f"huge.{s}").code for s in ("nrrd", "mgz")] == ["too_large"] * 2
    # A little file that unpacks to far more than its header says.
    monkeypatch.setattr(scanfiles, "MAX_TAIL", 1 << 20)
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(nifti(values) + bytes(1 << 23)))
    assert refusal(tmp_path / "bomb.nii.gz").code == "corrupt"
    monkeypatch.setattr(dicompixels, "MAX_INFLATED", 1 << 20)
    how = How(syntax=pydicom.uid.DeflatedExplicitVRLittleEndian)
    whole = write_enhanced(tmp_path / "whole.dcm", values, range(6), how)
    assert np.array_equal(read_volume(whole).values, values)
    bomb = write_enhanced(tmp_path / "bomb.dcm", np.zeros((400, 400, 6)), range(6), how)
    assert refusal(bomb).code == "truncated"


@pytest.mark.parametrize("line", ["data file: /etc/passwd", "datafile: LIST", "data file: ../%03d.raw 1 9 1"])
def test_a_nrrd_reads_no_other_file(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.nrrd").write_bytes(nrrd(scan(), "raw", line + "\n"))
    assert refusal(tmp_path / "a.nrrd").code == "unsupported_format"


def test_a_nrrd_says_how_it_lies(tmp_path: Path) -> None:
    values = scan()
    path = tmp_path / "a.nrrd"
    whole = nrrd(values, "raw")
    path.write_bytes(whole.replace(b"left-posterior-superior", b"right-anterior-superior"))
    assert np.array_equal(read_volume(path).values, values[::-1, ::-1])
    path.write_bytes(whole.replace(b"left-posterior-superior", b"scanner-xyz"))
    assert codes_of(read_volume(path)) == {"orientation_unknown"}
    for line in (b"space: left-posterior-superior\n", b"space directions: (1,0,0) (0,1,0) (0,0,1)\n"):
        whole = whole.replace(line, b"")
    path.write_bytes(whole.replace(b"space origin: (0,0,0)\n", b"spacings: 1 1 -4\n"))
    volume = read_volume(path)
    assert codes_of(volume) == {"orientation_unknown", "voxel_size", "thick_slices"}
    # An axis of one entry is none.
    path.write_bytes(nrrd(values[None], "raw").replace(b"dimension: 3", b"dimension: 4")
                     .replace(b"(1,0,0) (0,1,0)", b"none (1,0,0) (0,1,0)")
                     .replace(b"kinds: domain", b"kinds: list domain"))  # fmt: skip
    assert read_volume(path).values.shape == values.shape


# --- what the header leaves open ---


def _with_codes(path: Path, values: np.ndarray, sform: Any, qform: Any, codes: tuple[int, int]) -> Path:
    image = nibabel.Nifti1Image(values.astype(np.int16), None)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    path.write_bytes(image.to_bytes())
    return path


def test_orientation_that_is_not_known_is_told(tmp_path: Path) -> None:
    values, right, left = scan(), np.eye(4), np.diag([-1.0, 1, 1, 1])
    path = tmp_path / "a.nii"
    unknown = read_volume(_with_codes(path, values, right, right, (0, 0)))
    assert codes_of(unknown) == {"orientation_unknown"}
    assert "left or right" in unknown.notes[0].sentence
    against = read_volume(_with_codes(path, values, right, left, (1, 1)))
    assert np.array_equal(against.values, values)
    assert codes_of(against) == {"sform_qform"}
    assert "RAS" in against.notes[0].sentence
    assert "LAS" in against.notes[0].sentence
    larger = read_volume(_with_codes(path, values, right, np.diag([1.2, 1.2, 1.2, 1]), (1, 1)))
    assert "voxel sizes differ" in larger.notes[0].sentence
    for codes in ((1, 0), (0, 1), (2, 2)):
        assert read_volume(_with_codes(path, values, right, right, codes)).notes == ()
    # MGH without its flag is taken for coronal slices.
    mgh = bytearray(nibabel.MGHImage(scan(shape=(20, 24, 18)).astype(np.int16), LPS).to_bytes())
    mgh[28:30] = b"\0\0"
    (tmp_path / "a.mgh").write_bytes(bytes(mgh))
    assert codes_of(read_volume(tmp_path / "a.mgh")) == {"orientation_unknown"}


def turned(degrees: float, sizes: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return affine @ np.diag([*sizes, 1.0])


def test_oblique_thick_and_oblong_scans_are_told_with_their_numbers(tmp_path: Path) -> None:
    values = scan()

    def notes(affine: np.ndarray) -> dict[str, str]:
        volume = read_volume(_with_codes(tmp_path / "a.nii", values, affine, affine, (1, 0)))
        return {note.code: note.sentence for note in volume.notes}

    assert notes(turned(8)) == {}
    assert "25 degrees" in notes(turned(25))["oblique"]
    assert "5.5 mm" in notes(turned(0, (0.9, 0.9, 5.5)))["thick_slices"]
    assert set(notes(turned(0, (5, 1, 1)))) == {"oblong_voxels"}
    assert "5 x 1 x 1 mm" in notes(turned(0, (5, 1, 1)))["oblong_voxels"]


@pytest.mark.parametrize("size", [0.0, -2.0])
def test_voxel_sizes_that_none_can_have_are_told(tmp_path: Path, size: float) -> None:
    values = scan()
    path = _with_codes(tmp_path / "a.nii", values, LPS, LPS, (1, 0))
    data = bytearray(path.read_bytes())
    data[80:84] = np.array([size], "<f4").tobytes()
    path.write_bytes(bytes(data))
    volume = read_volume(path)
    assert np.array_equal(volume.values[::-1, ::-1], values)
    assert codes_of(volume) == {"voxel_size"}


@pytest.mark.parametrize(("unit", "scale"), [("micron", 1000.0), ("meter", 0.001)])
def test_sizes_are_told_in_millimetres_whatever_the_header_counts_in(tmp_path: Path, unit: str, scale: float) -> None:
    values, affine = scan(), np.diag([-0.9, -0.9, 5.5, 1.0])
    plain = read_volume(_with_codes(tmp_path / "mm.nii", values, affine, affine, (1, 0)))
    own = np.diag([scale, scale, scale, 1.0]) @ affine
    image = nibabel.Nifti1Image(values.astype(np.int16), own)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert np.array_equal(volume.values, plain.values)
    assert voxel_sizes_of(volume) == pytest.approx(voxel_sizes_of(plain), rel=1e-6)
    assert codes_of(volume) == {"voxel_unit", "thick_slices"}
    assert "5.5 mm apart" in next(note.sentence for note in volume.notes if note.code == "thick_slices")
    # Maps go back as the file is.
    assert np.allclose(volume.affine, own)
    save_volume(tmp_path / "map.nii.gz", in_file_order(volume.values, volume), volume.affine, volume.unit)
    back = nibabel.load(tmp_path / "map.nii.gz")
    assert np.allclose(back.affine, own)
    assert back.header.get_xyzt_units()[0] == unit


def test_the_map_of_a_finding_is_in_the_unit_of_its_file(tmp_path: Path) -> None:
    finding = Finding("a.nii", None, "volume", {}, "normal", heatmap=np.zeros((3, 3, 3), np.float32),
                      affine=np.diag([1e-3, 1e-3, 1e-3, 1]), unit="meter")  # fmt: skip
    written = nibabel.load(tmp_path / str(save_heatmap(finding, tmp_path, 0).heatmap_file))
    assert written.header.get_xyzt_units()[0] == "meter"


def test_small_voxels_are_not_taken_for_flat_ones(tmp_path: Path) -> None:
    values = scan()
    fine = np.diag([-5e-4, -5e-4, 5e-4, 1.0])
    assert read_volume(_with_codes(tmp_path / "a.nii", values, fine, fine, (1, 0))).values.shape == values.shape
    sheared = np.array([[100, 100, 0, 0], [0, 1e-9, 0, 0], [0, 0, 100, 0], [0, 0, 0, 1.0]])
    assert refusal(_with_codes(tmp_path / "b.nii", values, sheared, np.eye(4), (1, 0))).code == "wrong_affine"


def test_infinite_voxels_are_background(tmp_path: Path) -> None:
    values = scan()
    values[0, 0, :4] = np.inf, -np.inf, np.nan, 1e38
    volume = read_volume(write(tmp_path / "a.nii.gz", values))
    assert np.abs(volume.values).max() < 300
    assert codes_of(volume) == {"not_a_number"}


# --- DICOM ---


HOWS = {
    "plain": How(), "implicit": How(syntax=pydicom.uid.ImplicitVRLittleEndian),
    "big_endian": How(syntax=pydicom.uid.ExplicitVRBigEndian),
    "deflated": How(syntax=pydicom.uid.DeflatedExplicitVRLittleEndian),
    "no_preamble": How(preamble=False), "data_set_alone": How(meta=False), "signed": How(signed=True),
    "turned_over": How(photometric="MONOCHROME1"), "turned_over_signed": How(photometric="MONOCHROME1", signed=True),
    "scaled": How(slopes=[0.5] * 6, intercept=-1000, modality="CT", sop_class=CT),
    "own_scales": How(slopes=[0.25, 0.5, 1, 1, 0.5, 0.25]), "no_place": How(turn=None),
    "upside_down": How(step=(0, 0, -4.0)),
}  # fmt: skip
TOLD = {
    "no_preamble": {"no_preamble"}, "data_set_alone": {"no_preamble"}, "turned_over": {"turned_over"},
    "turned_over_signed": {"turned_over"}, "own_scales": {"rescaled"}, "no_place": {"orientation_unknown"},
}  # fmt: skip


@pytest.mark.parametrize("name", HOWS)
def test_a_series_reads_as_the_volume_however_it_is_written(tmp_path: Path, name: str) -> None:
    values, how = scan(), HOWS[name]
    write_series(tmp_path / "s", values, how)
    volume = read_volume(tmp_path / "s")
    assert np.array_equal(volume.values, values[..., ::-1] if name == "upside_down" else values)
    sizes = nibabel.affines.voxel_sizes(volume.affine)
    assert np.allclose(sizes, (1.5, 1.5, 1.0 if name == "no_place" else 4.0))
    assert codes_of(volume) == TOLD.get(name, set()) | (set() if name == "no_place" else {"thick_slices"})
    assert kind_of(tmp_path / "s") == "volume"


def test_values_by_simpleitk_are_the_same(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (extra dicom)")
    tilted = (0.8, 0.0, -0.6, 0.0, 1.0, 0.0)
    for number, how in enumerate((How(), How(photometric="MONOCHROME1"), How(turn=tilted, step=(2.4, 0, 3.2)))):
        folder = tmp_path / str(number)
        write_series(folder, scan(), how)
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
        image = sitk.ReadImage(list(names), sitk.sitkFloat32)
        volume = read_volume(folder)
        back = nibabel.orientations.ornt_transform(
            nibabel.orientations.io_orientation(np.eye(4)), np.asarray(volume.orientation)
        )
        stored = nibabel.orientations.apply_orientation(volume.values, back)
        assert np.array_equal(stored, sitk.GetArrayFromImage(image).transpose(2, 1, 0))
        sides = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
        assert np.allclose(volume.affine[:3, :3], np.diag([-1, -1, 1]) @ sides, atol=1e-6)
        assert np.allclose(volume.affine[:3, 3], np.array([-1, -1, 1]) * image.GetOrigin())


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG", "RLE"])
def test_compressed_pixels(tmp_path: Path, compressor: str) -> None:
    if compressor != "RLE":
        pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (extra dicom)")
    values = scan()
    # Turned over and scaled: the unpacking must do neither.
    how = How(photometric="MONOCHROME1", slopes=[0.5] * 6, intercept=-40, bits=16)
    paths = write_series(tmp_path / "s", values, how)
    for path in paths:
        if compressor == "RLE":
            whole = pydicom.dcmread(path)
            whole.compress(pydicom.uid.RLELossless)
            whole.save_as(path)
        else:
            packed_by_simpleitk(path, compressor)
    assert pydicom.dcmread(paths[0]).file_meta.TransferSyntaxUID.is_compressed
    assert np.array_equal(read_volume(tmp_path / "s").values, values)
    paths[2].write_bytes(paths[2].read_bytes()[:-300])
    assert refusal(tmp_path / "s").code == "truncated"


def test_a_decoder_that_is_brought_down_or_hangs_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (extra dicom)")
    for path in write_series(tmp_path / "s", scan(), How(bits=16)):
        packed_by_simpleitk(path, "JPEG2000")
    for text in ("import sys, os; sys.stdin.readline(); os.abort() #{}", "import time; time.sleep(60) #{}"):
        monkeypatch.setattr(dicompixels, "_START", text)
        monkeypatch.setattr(dicompixels, "MAX_SECONDS", 1.0)
        began = time.monotonic()
        error = refusal(tmp_path / "s")
        assert time.monotonic() - began < 30
        assert error.code == "truncated"
        assert "compressed pixels are damaged" in error.sentence


def test_pixels_that_cannot_be_unpacked_are_refused_by_name(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "s", scan())
    for path in paths:
        whole = pydicom.dcmread(path)
        whole.PixelData = pydicom.encaps.encapsulate([whole.PixelData])
        whole["PixelData"].VR = "OB"
        whole.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2.4.201")
        whole.save_as(path)
    error = refusal(tmp_path / "s")
    assert error.code == "unsupported_format"
    assert "High-Throughput JPEG 2000" in error.sentence


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (3, 0, 5, 1, 4, 2)])
def test_frames_of_an_enhanced_file_lie_where_they_say(tmp_path: Path, order: tuple[int, ...]) -> None:
    values = scan()
    how = How(slopes=[0.25, 0.5, 1, 1, 0.5, 0.25])
    path = write_enhanced(tmp_path / "s/all.dcm", values, order, how)
    for given in (path, path.parent):
        volume = read_volume(given)
        assert np.array_equal(volume.values, values)
        # The step between frames counts, not the thickness that the file gives.
        assert np.allclose(nibabel.affines.voxel_sizes(volume.affine), (1.5, 1.5, 4))
    assert read_volume(path).sha256 == scanfiles.sha256_of(path)
    assert list(find_volumes(tmp_path)) == [path]
    twice = write_enhanced(tmp_path / "twice.dcm", np.concatenate([values, values], 2), [*order, *order], how=None)
    assert refusal(twice).code == "not_3d"


def test_frames_without_places_are_taken_as_stored(tmp_path: Path) -> None:
    values = scan()
    path = write_enhanced(tmp_path / "all.dcm", values, range(6))
    whole = pydicom.dcmread(path)
    del whole.PerFrameFunctionalGroupsSequence
    # One place for the file is none for its frames.
    whole.ImagePositionPatient, whole.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    whole.save_as(path)
    volume = read_volume(path)
    assert np.array_equal(volume.values, values)
    assert "orientation_unknown" in codes_of(volume)
    assert np.allclose(nibabel.affines.voxel_sizes(volume.affine), (1.5, 1.5, 9))


def test_what_lies_beside_a_series_is_named(tmp_path: Path) -> None:
    values, folder = scan(), tmp_path / "s"
    write_series(folder, values)
    write_index(folder)
    write_report(folder / "report.dcm")
    (folder / "notes.txt").write_text("no picture")
    scout = How(series="1.2.3", more={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    write_series(folder, values, scout, prefix="scout")
    write_series(folder, values[..., :2], How(series="1.2.4"), prefix="two")
    volume = read_volume(folder)
    assert np.array_equal(volume.values, values)
    told = next(note.sentence for note in volume.notes if note.code == "left_out")
    for word in ("DICOMDIR (index)", "report.dcm (Basic Text SR)", "(scout)", "(MR series of 2)"):
        assert word in told
    leftovers: list[str] = []
    assert list(find_inputs(tmp_path, leftovers)) == [folder]
    assert leftovers == ["s/notes.txt"]
    assert refusal(folder / "report.dcm").code == "not_a_volume"
    assert refusal(folder / "DICOMDIR").code == "not_a_volume"
    alone = refusal(folder / "999.dcm")
    assert alone.code == "too_few_slices"
    assert alone.sha256 == scanfiles.sha256_of(folder / "999.dcm")
    for path in folder.glob("*9*.dcm"):
        path.unlink()
    empty = refusal(folder)
    assert empty.code == "not_a_volume"
    assert "report.dcm" in empty.sentence


def test_the_index_of_a_disc_is_left_over_where_its_slices_lie_below(tmp_path: Path) -> None:
    write_series(tmp_path / "DICOM/S1", scan())
    write_index(tmp_path)
    leftovers: list[str] = []
    assert list(find_inputs(tmp_path, leftovers)) == [tmp_path / "DICOM/S1"]
    assert leftovers == ["DICOMDIR"]


def test_every_series_of_a_folder_is_an_input(tmp_path: Path) -> None:
    one, other = scan(1), scan(2, (24, 20, 7))
    write_series(tmp_path / "s", one, How(series="1.2.3"))
    write_series(tmp_path / "s", other, How(series="1.2.4"), prefix="b")
    # The same series number in another direction, as some scanners write reformatted slices.
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    write_series(
        tmp_path / "s", scan(3, (24, 20, 17)), How(series="1.2.4", turn=sagittal, step=(4.0, 0, 0)), prefix="c"
    )
    assert refusal(tmp_path / "s").code == "several_series"
    found = [str(item) for item in find_inputs(tmp_path)]
    assert found == [f"{tmp_path}/s#1.2.3", f"{tmp_path}/s#1.2.4", f"{tmp_path}/s#1.2.4-2"]
    assert [str(p) for p in find_volumes(tmp_path)] == found
    assert all(kind_of(name) == "volume" for name in found)
    assert np.array_equal(read_volume(found[0]).values, one)
    assert np.array_equal(read_volume(found[1]).values, other)
    assert read_volume(found[2]).values.shape == (17, 24, 20)
    assert refusal(Path(f"{tmp_path}/s#1.2.9")).code == "missing"


def test_volumes_in_time_copies_and_holes(tmp_path: Path) -> None:
    values, folder = scan(), tmp_path / "s"
    paths = write_series(folder, values)
    (folder / "copy.dcm").write_bytes(paths[0].read_bytes())
    volume = read_volume(folder)
    assert np.array_equal(volume.values, values)
    assert "copies" in codes_of(volume)
    write_series(folder, values, prefix="again")
    assert refusal(folder).code == "not_3d"
    for path in folder.glob("again*"):
        path.unlink()
    whole = paths[3].read_bytes()
    for length, code in ((300, "truncated"), (len(whole) - 200, "truncated"), (0, "uneven_slices")):
        paths[3].write_bytes(whole[:length])
        assert refusal(folder).code == code


def test_slices_that_share_an_identifier_are_no_copies(tmp_path: Path) -> None:
    values, one_for_all = scan(), {"SOPInstanceUID": "1.2.3.9"}
    paths = write_series(tmp_path / "s", values, How(more=one_for_all))
    volume = read_volume(tmp_path / "s")
    assert np.array_equal(volume.values, values)
    assert codes_of(volume) == {"thick_slices"}
    (tmp_path / "s/copy.dcm").write_bytes(paths[0].read_bytes())
    assert "copies" in codes_of(read_volume(tmp_path / "s"))
    # Without places their numbers tell them apart.
    write_series(tmp_path / "n", values, How(turn=None, more=one_for_all))
    assert np.array_equal(read_volume(tmp_path / "n").values, values)


def test_a_refusal_says_what_was_done_so_far(tmp_path: Path, brain_detector: Detector) -> None:
    paths = write_series(tmp_path / "s", scan())
    write_report(tmp_path / "s/report.dcm")
    (tmp_path / "s/copy.dcm").write_bytes(paths[0].read_bytes())
    paths[3].unlink()
    error = refusal(tmp_path / "s")
    assert error.code == "uneven_slices"
    assert [note.code for note in error.notes] == ["left_out", "copies"]
    # Also where it is what was read that is refused.
    write_series(tmp_path / "flat", np.full((20, 24, 6), 7.0), How(photometric="MONOCHROME1"))
    error = refusal(tmp_path / "flat")
    assert error.code == "no_contrast"
    assert "turned_over" in {note.code for note in error.notes}
    record = brain_detector.detect(tmp_path / "s", max_false_alarm=0.1).record()
    assert [note["code"] for note in record["notes"]] == ["left_out", "copies"]


def test_no_reason_names_a_file_that_stands_alone(tmp_path: Path) -> None:
    # A server gives what is sent to it names of its own.
    (tmp_path / "d394.nii").write_bytes(b"no scan, " * 100)
    (tmp_path / "d394.dcm").write_bytes(write_series(tmp_path / "s", scan())[0].read_bytes()[:300])
    whole = write_enhanced(tmp_path / "whole.dcm", scan(), range(6)).read_bytes()
    (tmp_path / "d394_cut.dcm").write_bytes(whole[:-300])
    for name in ("d394.nii", "d394.dcm", "d394_cut.dcm"):
        error = refusal(tmp_path / name)
        assert "d394" not in error.sentence
    assert error.code == "truncated"
    # Among others the one that is damaged is named.
    paths = write_series(tmp_path / "t", scan())
    paths[2].write_bytes(paths[2].read_bytes()[:-200])
    assert paths[2].name in refusal(tmp_path / "t").sentence


def test_sentences_are_of_one_line_whatever_names_and_elements_hold(tmp_path: Path, brain_detector: Detector) -> None:
    write_series(tmp_path / "s", scan())
    write_report(tmp_path / "s/re\nport.dcm")
    assert all(note.sentence.isprintable() for note in read_volume(tmp_path / "s").notes)
    odd = write_report(tmp_path / "odd.dcm")
    odd.write_bytes(odd.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.88.11", b"1.2.840.10008.5.1.4.1.1\n88.11"))
    assert refusal(odd).sentence.isprintable()
    (tmp_path / "no\nscan.nii").write_text("text")
    finding = brain_detector.detect(tmp_path / "no\nscan.nii", max_false_alarm=0.1)
    assert finding.reason is not None
    assert finding.reason["sentence"].isprintable()


def test_a_damaged_element_makes_no_long_sentence(tmp_path: Path) -> None:
    write_report(tmp_path / "a.dcm")
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data["SOPClassUID"]._value = "1.2." + "3" * 5000
    data.save_as(tmp_path / "a.dcm", enforce_file_format=False)
    error = refusal(tmp_path / "a.dcm")
    assert error.code == "not_a_volume"
    assert len(error.sentence) < 200


def test_pictures_that_are_no_sections(tmp_path: Path) -> None:
    write_series(tmp_path / "us", scan(), How(modality="US"))
    assert refusal(tmp_path / "us").code == "not_a_volume"
    write_series(tmp_path / "palette", scan(), How(photometric="PALETTE COLOR"))
    assert refusal(tmp_path / "palette").code == "not_scalar"


def test_what_values_tell(tmp_path: Path) -> None:
    values = scan()
    # Marked as turned over, and stored as if it were not: air comes out bright.
    write_series(tmp_path / "wrong", 4095 - values, How(photometric="MONOCHROME1"))
    volume = read_volume(tmp_path / "wrong")
    assert {"turned_over", "bright_air"} <= codes_of(volume)
    padded = values - 1024
    padded[0] = -3024
    write_series(tmp_path / "ct", padded, How(modality="CT", sop_class=CT, signed=True, bits=16))
    volume = read_volume(tmp_path / "ct")
    assert "ct_padding" in codes_of(volume)
    assert volume.values.min() == -1024
    write_series(tmp_path / "lossy", values, How(more={"LossyImageCompression": "01"}))
    assert "lossy_compression" in codes_of(read_volume(tmp_path / "lossy"))
    write_series(tmp_path / "tilted", values, How(step=(0, 1.5, 4.0)))
    volume = read_volume(tmp_path / "tilted")
    assert "21 degrees" in next(n.sentence for n in volume.notes if n.code == "tilted_gantry")
    write_series(tmp_path / "no_size", values, How(spacing=(0.0, 0.0)))
    assert "voxel_size" in codes_of(read_volume(tmp_path / "no_size"))


@pytest.mark.parametrize("missing", ["pydicom", "SimpleITK"])
def test_without_the_extra_the_reason_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for path in write_series(tmp_path / "s", scan(), How(bits=16)):
        if missing == "SimpleITK":
            pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (extra dicom)")
            packed_by_simpleitk(path, "JPEG2000")
    monkeypatch.setitem(sys.modules, missing, None)
    for given in (tmp_path / "s", *find_inputs(tmp_path)):
        assert not isinstance(given, Refused)
        error = refusal(given)
        assert error.code == "needs_extra"
        assert "pip install SimpleITK pydicom" in error.sentence


# --- the whole way ---


def test_a_folder_of_two_series_gives_two_records(
    tmp_path: Path, brain_detector: Detector, faces_detector: Detector
) -> None:
    # 4-D and thin: refused after reading, so that no network is asked.
    write_series(tmp_path / "s", scan(), How(series="1.2.3"))
    write_series(tmp_path / "s", scan(), How(series="1.2.3"), prefix="again")
    write_series(tmp_path / "s", scan(shape=(12, 12, 6)), How(series="1.2.4"), prefix="small")
    (tmp_path / "s/a.mgz").write_bytes(b"\0\0\0\1")
    findings = list(brain_detector.detect_many(find_inputs(tmp_path), max_false_alarm=0.1, heatmap=False))
    assert [f.reason["code"] for f in findings if f.reason] == ["not_3d", "too_small", "not_a_volume"]
    assert [Path(f.path).name for f in findings] == ["s#1.2.3", "s#1.2.4", "a.mgz"]
    assert {f.kind for f in findings} == {"volume"}
    findings = list(faces_detector.detect_many(find_inputs(tmp_path), heatmap=False))
    assert [f.reason["code"] for f in findings if f.reason] == ["unsupported_kind"] * 3


class Judged:
    """Records of the shared inputs; what the networks see alike is judged once."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.known: dict[tuple[bytes, bytes], Finding] = {}

    def record(self, path: Path) -> dict[str, Any]:
        found = self.detector.read(path)
        if isinstance(found, Sample):
            key = (found.slices.pixels.tobytes(), found.slices.inside.tobytes())
            if key not in self.known:
                self.known[key] = next(self.detector.detect_many([path], max_false_alarm=0.1, heatmap=False))
            about = {"path": str(path), "sha256": found.volume.sha256, "notes": found.volume.notes}
            return {**self.known[key].record(), **about, "notes": [n.sentence for n in found.volume.notes]}
        return found.record()


@pytest.fixture(scope="module")
def judged(brain_detector: Detector) -> Judged:
    return Judged(brain_detector)


def _entries() -> list[Any]:
    if not (INPUTS / "expected.json").is_file():
        return [pytest.param("", {}, marks=pytest.mark.skip(reason=f"{INPUTS}/expected.json is not there"))]
    known = json.loads((INPUTS / "expected.json").read_text(encoding="utf-8"))
    return [(name, entry["expect"]) for name, entry in known.items() if name.startswith("volumes/")]


@pytest.mark.parametrize(("name", "expect"), _entries())
def test_shared_inputs(name: str, expect: dict[str, Any], judged: Judged) -> None:
    path = INPUTS / name
    inputs = list(find_inputs(path)) if path.is_dir() else [path]
    assert len(inputs) == expect.get("records", len(inputs))
    assert kind_of(inputs[0]) == "volume"
    record = judged.record(Path(str(inputs[0])))
    told = " ".join(record["notes"]).lower()
    said = told + " " + (record["reason"] or {"sentence": ""})["sentence"].lower()
    for word, wanted in expect.items():
        if word == "judged":
            assert record["verdict"] != "not_applicable"
        elif word == "verdict":
            assert record["verdict"] in ([wanted] if isinstance(wanted, str) else wanted)
        elif word == "note_contains":
            assert any(one.lower() in told for one in wanted), told
        elif word == "says":
            assert any(one.lower() in said for one in wanted), said
        elif word == "says_not":
            assert not any(one.lower() in said for one in wanted), said
        elif word == "same_score_as":
            other = judged.record(INPUTS / wanted)["score"]
            assert abs(record["score"] - other) <= expect.get("within", 0.001) * max(1.0, abs(other))
        else:
            assert word in ("records", "within", "record"), word
    if path.is_file():
        assert record["sha256"] == scanfiles.sha256_of(path)
