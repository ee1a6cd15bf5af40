"""Videos as people have them: turned, mirrored, interlaced, of high dynamic range, with covers and edit lists."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pixelsleuth.detector import Detector, Finding
from pixelsleuth.errors import InputError
from pixelsleuth.sources import tone, videos
from pixelsleuth.sources.faces import Framing, Sizes
from pixelsleuth.sources.formats import VIDEO_SUFFIXES, format_of
from pixelsleuth.sources.samples import CropSettings, read_sample
from pixelsleuth.sources.tracks import Policy, _looks, overlap, tracks_of
from pixelsleuth.sources.videos import Video, frames_at, open_video
from tests.videofiles import (
    Coding,
    face_frames,
    numbered_frames,
    with_edit_list,
    write_coded,
    write_encrypted,
    write_interlaced,
    write_sound,
    write_tracks,
    write_video,
)

INPUTS = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared")) / "inputs"
#: Colours of the patches, sRGB: greys, skin, and one that is far from grey.
PATCHES = [(40, 40, 40), (128, 128, 128), (235, 235, 235), (224, 172, 105), (60, 90, 160), (180, 60, 60)]


def read(video: Video, index: int = 0) -> np.ndarray:
    return next(frames_at(video, [index])).pixels


def codes_of(video: Video) -> set[str]:
    return {note.code for note in video.notes}


def patches(colours=PATCHES, side: int = 64) -> np.ndarray:
    """(side, side * n, 3) uint8, one square a colour."""
    return np.concatenate([np.full((side, side, 3), colour, np.uint8) for colour in colours], 1)


def seen_in(pixels: np.ndarray, count: int = len(PATCHES)) -> np.ndarray:
    """(count, 3) colours in the middle of each patch."""
    side = pixels.shape[1] // count
    middle = slice(side // 4, -side // 4)
    return np.array([pixels[middle, i * side : (i + 1) * side][:, middle].mean((0, 1)) for i in range(count)])


# --- turned, mirrored, not square ---


def quarters():
    """The eight ways to turn and mirror by quarters, as (a, b, c, d)."""
    for first, second in itertools.product((-1, 1), repeat=2):
        yield (first, 0, 0, second)
        yield (0, first, second, 0)


@pytest.mark.parametrize("matrix", list(quarters()))
def test_every_display_matrix_is_followed(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    # One corner's colour each, so that no two ways look alike.
    stored = np.full((96, 160, 3), 30, np.uint8)
    levels = {(0, 0): 90, (1, 0): 140, (0, 1): 190, (1, 1): 240}
    for (right, low), level in levels.items():
        stored[low * 48 : low * 48 + 48, right * 80 : right * 80 + 80] = level
    video = open_video(write_coded(tmp_path / "v.mp4", [stored] * 2, Coding(display=matrix)))
    pixels = read(video)
    a, b, c, d = matrix
    assert pixels.shape[:2] == ((96, 160) if a else (160, 96))
    height, width = pixels.shape[:2]
    for (right, low), level in levels.items():
        x, y = 2 * right - 1, 2 * low - 1
        at = (height // 2 + (b * x + d * y) * height // 4, width // 2 + (a * x + c * y) * width // 4)
        assert pixels[at] == pytest.approx(level, abs=3)
    assert ("display_matrix" in codes_of(video)) == (matrix != (1, 0, 0, 1))


def test_a_leaning_display_matrix_is_rounded_and_an_empty_one_ignored(tmp_path: Path) -> None:
    turned, degrees = np.deg2rad(70), np.rot90(patches(), -1)
    leaning = (np.cos(turned), np.sin(turned), -np.sin(turned), np.cos(turned))
    video = open_video(write_coded(tmp_path / "a.mp4", [patches()] * 2, Coding(display=leaning)))
    assert np.abs(read(video).astype(int) - degrees).mean() < 3
    assert {"display_matrix", "display_matrix_rounded"} <= codes_of(video)
    video = open_video(write_coded(tmp_path / "b.mp4", [patches()] * 2, Coding(display=(1, 0, 1, 0))))
    assert read(video).shape == patches().shape
    assert "display_matrix_unusable" in codes_of(video)


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [((64, 45), (96, 228)), ((8, 9), (108, 160)), ((199, 200), (96, 160)), ((9, 1), (96, 160)), ((1, 90), (96, 160))],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pixels_are_made_square(tmp_path: Path, aspect: tuple[int, int], shape: tuple[int, int], suffix: str) -> None:
    frames = [np.full((96, 160, 3), 30, np.uint8)] * 2
    frames[0][24:72, 40:120] = 200
    video = open_video(write_coded(tmp_path / f"v.{suffix}", frames, Coding(aspect=Fraction(*aspect))))
    pixels = read(video)
    assert pixels.shape[:2] == shape
    bright = np.argwhere(pixels[..., 1] > 115)
    assert (bright.max(0) - bright.min(0) + 1) == pytest.approx(np.array(shape) / 2, abs=1)
    wanted = {(64, 45): "pixel_aspect", (8, 9): "pixel_aspect", (199, 200): None}.get(aspect, "pixel_aspect_ignored")
    assert {code for code in codes_of(video) if code.startswith("pixel")} == ({wanted} if wanted else set())


def test_pixels_are_made_square_before_the_frame_is_turned(tmp_path: Path) -> None:
    how = Coding(aspect=Fraction(2), display=(0, 1, -1, 0))
    assert read(open_video(write_coded(tmp_path / "v.mp4", numbered_frames(2), how))).shape[:2] == (320, 96)


# --- two fields ---


def combing(pixels: np.ndarray) -> float:
    """How much lines differ from the mean of their neighbours."""
    luma = pixels.astype(float).mean(2)
    return float(np.abs(luma[1:-1] - (luma[:-2] + luma[2:]) / 2).mean())


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.mts", "libx264"), ("v.mpg", "mpeg2video")])
def test_interlaced_frames_are_made_whole(tmp_path: Path, name: str, codec: str, monkeypatch) -> None:
    path = write_interlaced(tmp_path / name, codec=codec)
    video = open_video(path)
    found = list(frames_at(video, range(len(video))))
    assert [frame.index for frame in found] == list(range(10))
    assert "deinterlaced" in codes_of(video)
    monkeypatch.setattr("pixelsleuth.sources.display._DEINTERLACERS", ())
    combed = open_video(path)
    for left, right in zip(found, frames_at(combed, range(len(video))), strict=True):
        assert left.time == right.time
        assert combing(left.pixels) < 0.3 * combing(right.pixels)
        # The square stands where its frame's first field has it.
        columns = np.flatnonzero(left.pixels[120, :, 1] > 130)
        assert columns[0] == pytest.approx(20 + 20 * left.index, abs=12)
    assert "interlaced" in codes_of(combed)


def test_a_progressive_video_is_not_filtered(tmp_path: Path) -> None:
    video = open_video(write_video(tmp_path / "v.mp4", face_frames(4)))
    list(frames_at(video, range(4)))
    assert codes_of(video) == {"colour_by_rule"}


# --- colours ---


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_colours_follow_the_tags(tmp_path: Path, matrix: int, full: bool) -> None:
    how = Coding(matrix=matrix, full=full, tags=(matrix, 1, 1, 2 if full else 1))
    video = open_video(write_coded(tmp_path / "v.mp4", [patches()] * 2, how))
    assert np.abs(seen_in(read(video)) - PATCHES).max() < 3
    assert codes_of(video) == set()


@pytest.mark.parametrize(
    ("side", "name", "matrix", "told"),
    [
        (64, "v.ts", 6, "under 720"), (720, "v.ts", 1, "from 720"), (720, "v.mkv", 6, "FFmpeg"),
        (720, "v.mp4", 6, "FFmpeg"),
    ],
)  # fmt: skip
def test_untagged_colours_follow_a_rule(tmp_path: Path, side: int, name: str, matrix: int, told: str) -> None:
    # A transport stream names no program that wrote it.
    frame = patches(PATCHES[3:], side)
    video = open_video(write_coded(tmp_path / name, [frame] * 9, Coding(matrix=matrix)))
    assert np.abs(seen_in(read(video), 3) - PATCHES[3:]).max() < 3
    (note,) = video.notes
    assert note.code == "colour_by_rule"
    assert told in note.sentence


def test_a_matrix_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    video = open_video(write_coded(tmp_path / "v.mp4", [patches()] * 2, Coding(tags=(8, 1, 1, 1))))
    with pytest.raises(InputError, match="YCgCo") as caught:
        read(video)
    assert (caught.value.code, caught.value.sha256) == ("unsupported_colour", video.sha256)


def linear(colours) -> np.ndarray:
    signal = np.asarray(colours) / 255
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def graded(curve: str, nits: np.ndarray) -> np.ndarray:
    """(64, 64 n, 3) uint16 signal of patches in BT.2020, of (n, 3) light in BT.709 and nits."""
    light = nits @ np.linalg.inv(tone._TO_709[9].astype(float)).T
    if curve == "pq":
        signal = tone.nits_to_pq(light)
    else:
        luma = light @ tone._LUMA_2020.astype(float)
        scene = light / 1000 * np.maximum(luma[:, None] / 1000, 1e-9) ** (1 / 1.2 - 1)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    codes = np.round(signal * 65535).astype(np.uint16)
    return np.concatenate([np.full((64, 64, 3), colour, np.uint16) for colour in codes], 1)


HDR = {"pq": (9, 16, 9, 1), "hlg": (9, 18, 9, 1)}


@pytest.mark.parametrize("curve", ["pq", "hlg"])
def test_high_dynamic_range_is_brought_to_standard_range(tmp_path: Path, curve: str) -> None:
    how = Coding(layout="yuv444p10le", matrix=9, tags=HDR[curve])
    frame = graded(curve, linear(PATCHES) * 203)
    video = open_video(write_coded(tmp_path / "v.mp4", [frame] * 2, how))
    assert np.abs(seen_in(read(video)) - PATCHES).max() < 5
    (note,) = video.notes
    assert note.code == "tone_mapped"
    assert "HDR" in note.sentence
    # Highlights have some room above white, and take none of what lies well below it.
    greys = np.array([20, 60, 203, 400, 700, 1000.0])
    frame = graded(curve, np.repeat(greys[:, None], 3, 1))
    got = seen_in(read(open_video(write_coded(tmp_path / "w.mp4", [frame] * 2, how)))).mean(1)
    assert (np.diff(got)[:4] > 3).all()
    assert got[5] >= got[4]
    plain = 255 * np.where(greys < 203, 1.055 * (greys / 203) ** (1 / 2.4) - 0.055, 1)
    assert got[:2] == pytest.approx(plain[:2], abs=4)
    assert 200 < got[2] < 245
    assert got[-1] > 250


def test_the_curves_of_high_dynamic_range_are_the_standards() -> None:
    # Values of BT.2100 and BT.2408: 203 nits are 58% of PQ, and 75% of HLG.
    assert tone.nits_to_pq(np.array([0, 100, 203, 1000, 10_000])) == pytest.approx(
        [0, 0.508, 0.581, 0.752, 1], abs=1e-3
    )
    assert tone.pq_to_nits(tone.nits_to_pq(np.array([0.1, 5, 4000]))) == pytest.approx([0.1, 5, 4000], rel=1e-6)
    assert tone.hlg_to_scene(np.array([0, 0.5, 1])) == pytest.approx([0, 1 / 12, 1], abs=1e-4)
    assert 1000 * tone.hlg_to_scene(np.array(0.75)) ** 1.2 == pytest.approx(203, abs=1)


def test_a_wide_gamut_is_brought_to_bt709(tmp_path: Path) -> None:
    # BT.709's colours said in BT.2020 under the screen's gamma come back as they were.
    light = (np.array(PATCHES) / 255) ** 2.4 @ np.linalg.inv(tone._TO_709[9].astype(float)).T
    codes = np.round(light ** (1 / 2.4) * 65535).astype(np.uint16)
    frame = np.concatenate([np.full((64, 64, 3), colour, np.uint16) for colour in codes], 1)
    how = Coding(layout="yuv444p10le", matrix=9, tags=(9, 14, 9, 1))
    video = open_video(write_coded(tmp_path / "v.mp4", [frame] * 2, how))
    assert np.abs(seen_in(read(video)) - PATCHES).max() < 3
    assert codes_of(video) == {"wide_gamut"}


# --- tracks, times, containers ---


def test_a_cover_is_not_the_video(tmp_path: Path) -> None:
    cover = np.full((400, 400, 3), 250, np.uint8)
    video = open_video(write_tracks(tmp_path / "v.mp4", [numbered_frames(5)], cover))
    assert len(video) == 5
    assert read(video).shape[:2] == (96, 160)
    (note,) = [note for note in video.notes if note.code == "other_tracks"]
    assert "cover or thumbnail of 400 x 400" in note.sentence
    # Nor where the video, too, has one frame only.
    still = open_video(write_tracks(tmp_path / "w.mp4", [numbered_frames(1)], cover))
    assert read(still).shape[:2] == (96, 160)


def test_the_largest_track_that_moves_is_judged(tmp_path: Path) -> None:
    small = [np.full((48, 64, 3), 250, np.uint8)] * 8
    huge = [np.full((480, 640, 3), 250, np.uint8)]
    video = open_video(write_tracks(tmp_path / "v.mkv", [small, huge, numbered_frames(5), small]))
    assert len(video) == 5
    assert read(video).shape[:2] == (96, 160)
    assert "a track of 64 x 48" in video.notes[0].sentence


def test_a_track_of_few_large_pictures_is_no_video(tmp_path: Path) -> None:
    # One a chapter, as in films and podcasts.
    chapters = [np.full((480, 640, 3), 250, np.uint8)] * 3
    video = open_video(write_tracks(tmp_path / "v.mkv", [chapters, numbered_frames(40)]))
    assert len(video) == 40
    assert read(video).shape[:2] == (96, 160)
    assert "a track of 640 x 480" in video.notes[0].sentence


@pytest.mark.parametrize(("name", "codec"), [("v.h264", "libx264"), ("v.hevc", "libx265")])
def test_frames_without_times_are_counted(tmp_path: Path, name: str, codec: str) -> None:
    options = (("qp", "1"), ("preset", "ultrafast")) if codec == "libx264" else (("x265-params", "log-level=none"),)
    video = open_video(write_coded(tmp_path / name, numbered_frames(40), Coding(codec, "yuv420p", options)))
    assert (len(video), video.rate) == (40, 25)
    found = list(frames_at(video, [0, 7, 39]))
    assert [frame.index for frame in found] == [0, 7, 39]
    assert [round((frame.pixels.mean() - 20) / 5) for frame in found] == [0, 7, 39]
    assert found[1].time == pytest.approx(7 / 25)


def test_frames_of_which_few_have_a_time_are_counted(tmp_path: Path) -> None:
    # Small pictures share the packets of MPEG-PS, each of which has one time.
    options = (("preset", "ultrafast"), ("bf", "2"))
    path = write_coded(tmp_path / "v.mpg", numbered_frames(300, 64, 64), Coding("libx264", "yuv420p", options))
    video = open_video(path)
    assert (len(video), round(video.rate, 6)) == (300, 25)
    (note,) = [note for note in video.notes if note.code == "frames_counted"]
    assert "of 300 frames have no time" in note.sentence
    found = list(frames_at(video, [0, 7, 150, 299]))
    assert [round((frame.pixels.mean() - 20) / 5) for frame in found] == [0, 7, 30, 19]


def test_packets_without_a_time_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "COUNTED_FROM", 1000)
    options = (("preset", "ultrafast"), ("bf", "2"))
    path = write_coded(tmp_path / "v.mpg", numbered_frames(300, 64, 64), Coding("libx264", "yuv420p", options))
    video = open_video(path)
    assert len(video) < 50
    assert "frames_untimed" in codes_of(video)


def test_sizes_that_cannot_be_are_no_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    path = write_video(tmp_path / "v.mp4", numbered_frames(2))

    def failing(*_: object, **__: object) -> None:
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(av, "open", failing)
    with pytest.raises(InputError, match="promises more than there can be") as caught:
        open_video(path)
    assert caught.value.code == "not_a_video"


def test_cinema_raw_is_refused_by_its_name(tmp_path: Path, faces_detector: Detector) -> None:
    (tmp_path / "take.R3D").write_bytes(bytes(3000))
    finding = faces_detector.detect(tmp_path / "take.R3D")
    assert finding.reason == {"code": "unsupported_format",
                              "sentence": "cinema raw is not read; export it as H.264 in MP4"}  # fmt: skip


def test_whole_frames_pass_over_black_ones(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(60, 190, (96, 96, 3)).astype(np.uint8)
    black = np.zeros_like(noise)
    how = CropSettings(Sizes(32, 32), "none", policy=Policy(keep=8))
    prepared = read_sample(write_video(tmp_path / "v.mp4", [black] * 20 + [noise] * 20), "video", how)
    assert [look.index >= 20 for look in prepared.tracks[0]] == [True] * 4
    (note,) = [note for note in prepared.notes if note.code == "black_frames"]
    assert "4 of 8" in note.sentence
    # A video that is black throughout is judged as it is.
    dark = read_sample(write_video(tmp_path / "w.mp4", [black] * 9), "video", how)
    assert len(dark.tracks[0]) == 8
    assert "black_frames" not in {note.code for note in dark.notes}


def test_an_edit_list_is_no_missing_end(tmp_path: Path) -> None:
    path = with_edit_list(write_video(tmp_path / "v.mp4", numbered_frames(22)), skipped=10, shown=12)
    video = open_video(path)
    assert codes_of(video) == {"edit_list"}
    assert "12 of 22 frames" in video.notes[0].sentence
    levels = [round((frame.pixels[48:].mean() - 20) / 5) for frame in frames_at(video, range(len(video)))]
    assert levels == list(range(10, 22))


def test_a_missing_end_is_still_said(tmp_path: Path) -> None:
    # The index stands before the frames, so that the file opens.
    path = tmp_path / "v.mp4"
    whole = write_coded(path, face_frames(30), Coding(), index_first=True).read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    video = open_video(path)
    assert 2 < len(video) < 30
    assert "end_missing" in codes_of(video)


def test_an_uneven_rate_is_said(tmp_path: Path) -> None:
    times = [i / 25 if i < 20 else 0.8 + (i - 20) / 5 for i in range(40)]
    video = open_video(write_video(tmp_path / "v.mp4", numbered_frames(40), times=times))
    assert codes_of(video) == {"variable_frame_rate"}
    assert "0.04 to 0.2 seconds" in video.notes[0].sentence


def test_a_black_start_is_passed_over(tmp_path: Path) -> None:
    frames = face_frames(30)
    black = [np.full_like(frames[0], 2)] * 60
    (track, *_), seen = tracks_of(
        video := open_video(write_video(tmp_path / "v.mp4", black + frames)), Policy(frames=9), Framing()
    )
    assert seen == 3
    assert [sighting.index >= 60 for sighting in track.sightings] == [True] * 3
    (note,) = [note for note in video.notes if note.code == "black_frames"]
    assert "6 of 9" in note.sentence
    with pytest.raises(InputError, match="are black") as caught:
        tracks_of(open_video(write_video(tmp_path / "b.mp4", black)), Policy(frames=9), Framing())
    assert caught.value.code == "no_face"


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.ts", "libx264"), ("v.MTS", "libx264"), ("v.m2ts", "libx264"), ("v.3gp", "libx264"), ("v.mkv", "libx264"),
        ("v.webm", "libvpx"), ("v.webm", "libvpx-vp9"), ("v.avi", "mpeg4"), ("v.mov", "libx264"), ("v.flv", "libx264"),
        ("v.wmv", "wmv2"), ("v.mpg", "mpeg1video"), ("v.vob", "mpeg2video"), ("v.mkv", "ffv1"), ("v.mp4", "libx265"),
        ("v.avi", "mjpeg"), ("v.mxf", "mpeg2video"), ("v.mov", "prores_ks"), ("v.h264", "libx264"),
        ("v.h265", "libx265"), ("v.ivf", "libvpx"), ("v.y4m", "wrapped_avframe"), ("v.m2v", "mpeg2video"),
    ],
)  # fmt: skip
def test_every_container_is_read(tmp_path: Path, name: str, codec: str) -> None:
    layout = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}.get(codec, "yuv420p")
    options = (("b", "2000000"),) if codec != "libx265" else (("x265-params", "log-level=none"),)
    how = Coding(codec, layout, options, full=codec == "mjpeg")
    path = write_coded(tmp_path / name, [patches(PATCHES[:3], 128)] * 12, how)
    video = open_video(path)
    assert len(video) == 12
    found = list(frames_at(video, [0, 5, 11]))
    assert [frame.index for frame in found] == [0, 5, 11]
    assert found[1].time == pytest.approx(0.2, abs=0.02)
    assert np.abs(seen_in(found[2].pixels, 3) - PATCHES[:3]).max() < 6
    if name not in ("v.h265", "v.m2v"):
        # What begins with no mark of its own is known by its name alone.
        assert format_of(path.read_bytes()[:4096]).kind == "video"
    assert path.suffix.lower() in VIDEO_SUFFIXES


@pytest.mark.parametrize(
    ("head", "is_video"),
    [
        (b"\0\0\0\x20ftypisom", True), (b"\0\0\0\x20ftypqt  ", True), (b"\0\0\0\x20ftypM4V ", True),
        (b"\0\0\0\x20ftypheic", False), (b"\0\0\0\x20ftypmif1", False), (b"\0\0\0\x20ftypavif", False),
        (b"\0\0\0\x20ftypavis", False), (b"\0\0\0\x20ftypmsf1", False), (b"\0\0\0\x20ftyphevc", False),
        (b"GIF89a" + bytes(400), False), ((b"G" + bytes(187)) * 3, True), (b"\xff\xd8\xff", False),
        (b"RIFF\0\0\0\0WEBP", False), (b"", False),
    ],
)  # fmt: skip
def test_pictures_in_a_videos_box_are_no_video(head: bytes, is_video: bool) -> None:
    assert (format_of(head).kind == "video") is is_video


def test_what_cannot_be_judged_says_why(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", numbered_frames(8))
    made = {
        write_encrypted(tmp_path / "locked.mp4"): "encrypted",
        write_sound(tmp_path / "sound.mp4"): "no_video_stream",
        write_tracks(tmp_path / "cover.mp4", [], np.full((96, 96, 3), 9, np.uint8)): "no_video_stream",
    }
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{whole}\n#EXT-X-ENDLIST\n")
    script = tmp_path / "script.mp4"
    script.write_text("ffconcat version 1.0\nfile whole.mp4\n")
    for path, code in {**made, playlist: "not_a_video", script: "not_a_video"}.items():
        with pytest.raises(InputError) as caught:
            open_video(path)
        assert caught.value.code == code, path
        assert caught.value.sha256


def test_frames_beyond_the_limits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.mp4", numbered_frames(8))
    monkeypatch.setattr(videos, "MAX_FRAMES", 5)
    with pytest.raises(InputError, match="more than 5 frames"):
        open_video(path)
    monkeypatch.undo()
    monkeypatch.setattr(videos, "MAX_DECODED", 3 * 96 * 160)
    video = open_video(path)
    assert len(list(frames_at(video, range(8)))) < 8
    assert "stopped_early" in codes_of(video)
    monkeypatch.setattr(videos, "MAX_FRAME_PIXELS", 1000)
    with pytest.raises(InputError, match="160 x 96") as caught:
        open_video(path)
    assert caught.value.code == "too_many_pixels"


def test_a_video_with_one_key_frame_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = Coding(options=(("preset", "ultrafast"), ("sc_threshold", "0")), keys=10_000)
    video = open_video(write_coded(tmp_path / "v.mp4", numbered_frames(2000, 32, 32), how))
    assert len(video.keys) == 1
    counted = []
    real = videos.display.whole_frames
    monkeypatch.setattr(
        videos.display, "whole_frames", lambda frames, *rest: real((counted.append(1) or f for f in frames), *rest)
    )
    assert [frame.index for frame in frames_at(video, [400, 900, 1400, 1900])] == [400, 900, 1400, 1900]
    assert len(counted) < 2000


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.ts", "libx264", (("preset", "ultrafast"), ("bf", "2"), ("sc_threshold", "0"))),
        ("v.ts", "mpeg2video", (("b", "3000000"), ("bf", "2"), ("sc_threshold", "1000000000"))),
        ("v.mpg", "mpeg2video", (("b", "3000000"), ("bf", "2"), ("sc_threshold", "1000000000"))),
        ("v.mp4", "libx264", (("preset", "ultrafast"), ("x264-params", "intra-refresh=1"))),
    ],
)
def test_no_frame_is_lost_where_a_seek_lands_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, options: tuple[tuple[str, str], ...]
) -> None:
    # Key frames lie 31 apart, so that frames of all places between them are wanted.
    monkeypatch.setattr(videos, "SEEK_FROM", 50)
    how = Coding(codec, "yuv420p", options, keys=31)
    video = open_video(write_coded(tmp_path / name, numbered_frames(800, 64, 64), how))
    wanted = [3, *range(60, 800, 67), 799]
    found = list(frames_at(video, wanted))
    assert [frame.index for frame in found] == wanted
    assert [round((frame.pixels.mean() - 20) / 5) for frame in found] == [index % 40 for index in wanted]
    # With the frame after each, as motion wants it.
    pairs = list(_looks(video, Policy(frames=12, pick="quality")))
    assert [after is not None for _, after in pairs] == [True] * 12


def test_a_seek_that_lands_behind_every_frame_wanted_goes_on_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the first key frame is one: what the others promise cannot be decoded from there.
    how = Coding(options=(("preset", "ultrafast"), ("sc_threshold", "0")), keys=10_000)
    video = open_video(write_coded(tmp_path / "v.ts", numbered_frames(200, 32, 32), how))
    monkeypatch.setattr(videos, "SEEK_FROM", 5)
    # A few times, not once for every frame that is wanted.
    monkeypatch.setattr(videos, "MAX_DECODED", 700 * 32 * 32)
    promised = replace(video, keys=video.stamps[::20].copy())
    wanted = list(range(9, 200, 10))
    found = list(frames_at(promised, wanted))
    assert [round((frame.pixels.mean() - 20) / 5) for frame in found] == [index % 40 for index in wanted]


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not count threads in /proc")
def test_reading_leaves_no_threads_and_frames_behind(tmp_path: Path) -> None:
    paths = [write_interlaced(tmp_path / "a.mp4"), write_video(tmp_path / "b.mp4", face_frames(6))]

    def threads() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Threads"))

    def read_all() -> int:
        return sum(len(list(frames_at(video := open_video(path), range(len(video))))) for path in paths)

    read_all()
    gc.disable()
    try:
        before = threads()
        assert sum(read_all() for _ in range(4)) == 64
        assert threads() <= before
    finally:
        gc.enable()


def test_whatever_demuxing_fails_with_is_a_reason(tmp_path: Path) -> None:
    # Too short to be probed: FFmpeg's end of file is no OSError in Python.
    path = tmp_path / "v.flv"
    path.write_bytes(b"FLV\x01\x05\0\0\0\x09\0\0\0\0")
    with pytest.raises(InputError) as caught:
        open_video(path)
    assert caught.value.code in ("not_a_video", "no_video_stream")
    cut = tmp_path / "v.ts"
    cut.write_bytes(write_coded(tmp_path / "w.ts", [patches()] * 2, Coding()).read_bytes()[:376])
    with pytest.raises(InputError) as caught:
        open_video(cut)
    assert caught.value.code in ("not_a_video", "no_video_stream", "no_frames")


def test_a_track_that_comes_unannounced_ends_the_reading(tmp_path: Path) -> None:
    # Flash Video: the type of one packet turned from picture to sound, of which the head says nothing.
    content = bytearray(write_coded(tmp_path / "v.flv", face_frames(400, 64), Coding(options=())).read_bytes())
    tags, at = [], 13
    while at < len(content):
        tags.append(at)
        at += 15 + int.from_bytes(content[at + 1 : at + 4], "big")
    content[tags[-5]] = 8
    (tmp_path / "v.flv").write_bytes(content)
    video = open_video(tmp_path / "v.flv")
    assert "stopped_early" in codes_of(video)
    assert len(list(frames_at(video, [0, 100]))) == 2


# --- the shared files ---


@pytest.fixture(scope="module")
def shared_findings(faces_detector: Detector) -> dict[str, Finding]:
    if not (INPUTS / "expected.json").is_file():
        pytest.skip(f"{INPUTS} is not there")
    names = sorted(f"videos/{path.name}" for path in (INPUTS / "videos").iterdir())
    found = faces_detector.detect_many([INPUTS / name for name in names], heatmap=False)
    return dict(zip(names, found, strict=True))


def expected() -> dict[str, dict]:
    path = INPUTS / "expected.json"
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: entry for name, entry in entries.items() if name.startswith("videos/")} or {"videos": {}}


def fails(expect: dict, finding: Finding, others: dict[str, Finding]) -> list[str]:
    """Which words of an entry do not hold."""
    if "any_of" in expect:
        tried = [fails(one, finding, others) for one in expect["any_of"]]
        return [] if [] in tried else tried[0]
    notes = " ".join(note.sentence for note in finding.notes).lower()
    said = notes + str(finding.reason or "").lower()
    wanted = expect.get("face")
    boxes = [wanted] if wanted and not isinstance(wanted[0], list) else wanted or []
    near = [overlap(face.face.box, type(face.face.box)(*box)) for face in finding.faces for box in boxes]
    other = others.get(expect.get("same_score_as", ""))
    holds = {
        "judged": finding.verdict != "not_applicable",
        "verdict": finding.verdict in np.atleast_1d(expect.get("verdict", "")),
        "faces": len(finding.faces) == expect.get("faces"),
        "face": max(near, default=0.0) >= 0.6,
        "note_contains": any(word in notes for word in expect.get("note_contains", ())),
        "says": any(word in said for word in expect.get("says", ())),
        "same_verdict_as": finding.verdict == getattr(others.get(expect.get("same_verdict_as", "")), "verdict", None),
        "same_score_as": other is not None
        and abs(finding.score - other.score) <= expect.get("within", 0.001) * max(1, abs(other.score)),
    }
    return [word for word in expect if not holds.get(word, word == "within")]


@pytest.mark.parametrize("name", list(expected()))
def test_shared_videos(name: str, shared_findings: dict[str, Finding]) -> None:
    assert fails(expected()[name]["expect"], shared_findings[name], shared_findings) == []
