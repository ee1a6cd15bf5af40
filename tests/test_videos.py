"""Videos: frames, faces over time, verdicts, stores of data sets' trees."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from skimage import data

from pixelsleuth.datasets import preparation
from pixelsleuth.datasets.preparation import prepare_videos
from pixelsleuth.datasets.store import Store
from pixelsleuth.datasets.video_layouts import origins_of
from pixelsleuth.detector import Detector
from pixelsleuth.errors import CalibrationError, InputError, PixelsleuthError
from pixelsleuth.progress import Step
from pixelsleuth.records import Box, Face
from pixelsleuth.reporting.timeline import frames_per_video
from pixelsleuth.scoring.scorer import ScoreOptions, stacked
from pixelsleuth.sources import faces, videos
from pixelsleuth.sources.faces import Framing
from pixelsleuth.sources.images import decode
from pixelsleuth.sources.inputs import kind_of
from pixelsleuth.sources.samples import Sample
from pixelsleuth.sources.tracks import Policy, Sighting, Track, surrounded, tracks_of
from pixelsleuth.sources.videos import frames_at, open_video
from pixelsleuth.training.units import image_units
from tests.conftest import shape_picture
from tests.test_whole_run import run_cli
from tests.videofiles import broken_videos, face_frames, numbered_frames, write_video


def level(frame) -> int:
    """Which frame of `numbered_frames` this is, of every 40."""
    return round((float(frame.pixels[48:].mean()) - 20) / 5)


# --- frames ---


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi"])
def test_the_frames_asked_for_are_given(tmp_path: Path, suffix: str) -> None:
    video = open_video(write_video(tmp_path / f"v.{suffix}", numbered_frames(60)))
    assert len(video) == 60
    assert video.rate == pytest.approx(25, rel=0.05)
    found = list(frames_at(video, [0, 7, 8, 40, 59]))
    assert [frame.index for frame in found] == [0, 7, 8, 40, 59]
    assert [level(frame) for frame in found] == [0, 7, 8, 0, 19]
    assert found[3].time == pytest.approx(1.6, abs=0.05)


def test_seeking_gives_the_same_frames_as_decoding_all(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", numbered_frames(900, 64, 96))
    video = open_video(path)
    wanted = [3, 450, 451, 899]
    all_of_them = {frame.index: frame.pixels for frame in frames_at(video, range(900))}
    found = list(frames_at(video, wanted))
    assert [frame.index for frame in found] == wanted
    for frame in found:
        assert np.array_equal(frame.pixels, all_of_them[frame.index])


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [i / 25 if i < 20 else 0.8 + (i - 20) / 5 for i in range(40)]
    video = open_video(write_video(tmp_path / "v.mp4", numbered_frames(40), times=times))
    found = list(frames_at(video, [10, 30, 39]))
    assert [frame.time for frame in found] == pytest.approx([0.4, 2.8, 4.6], abs=0.002)
    assert [level(frame) for frame in found] == [10, 30, 39]


@pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (1, 0)), (180, (1, 1)), (-90, (0, 1))])
def test_rotated_videos_are_turned_upright(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    frames = numbered_frames(5)
    for frame in frames:
        frame[:32, :32] = 255
    pixels = next(frames_at(open_video(write_video(tmp_path / "v.mp4", frames, rotation=rotation)), [0])).pixels
    assert pixels.shape[:2] == ((160, 96) if rotation % 180 else (96, 160))
    bright = {(r, c): pixels[-8 if r else 8, -8 if c else 8].mean() > 200 for r in (0, 1) for c in (0, 1)}
    assert [place for place, is_bright in bright.items() if is_bright] == [corner]


def test_a_broken_tail_costs_only_the_tail(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "v.mkv", face_frames(50)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    video = open_video(tmp_path / "cut.mkv")
    assert 5 < len(video) < 50
    assert len(list(frames_at(video, range(len(video))))) >= len(video) - 2


def test_broken_videos_give_a_reason(tmp_path: Path) -> None:
    for path, code in broken_videos(tmp_path).items():
        with pytest.raises(InputError) as caught:
            open_video(path)
        assert caught.value.code == code, path
        assert len(caught.value.sentence) > 20


def test_a_video_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", numbered_frames(3))
    wrong = path.rename(tmp_path / "v.jpg")
    assert kind_of(wrong) == "video"
    assert kind_of(tmp_path / "missing.mp4") == "video"
    cv2.imwrite(str(tmp_path / "p.png"), shape_picture(0))
    (tmp_path / "p.png").rename(tmp_path / "p.mp4")
    assert kind_of(tmp_path / "p.mp4") == "image"


# --- faces ---


def test_a_square_over_the_edge_is_filled_up_by_reflection() -> None:
    picture = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    got = faces.patch(picture, Box(-3, 12, 9, 24))
    assert got.shape == (12, 12, 3)
    assert np.array_equal(got[:8, 3:], picture[12:, :9])
    assert np.array_equal(got[:8, :3], picture[12:, 3:0:-1])
    assert np.array_equal(got[8:, 3:], picture[18:14:-1, :9])
    assert faces.share_outside(Box(-3, 12, 9, 24), 20, 30) == pytest.approx(1 - 9 * 8 / 144, abs=1e-4)
    around, box = surrounded(picture, Box(-3, 12, 9, 24))
    assert np.array_equal(faces.patch(around, box), got)


def test_an_aligned_face_is_upright_and_its_map_drawn_back() -> None:
    photo = np.ascontiguousarray(data.astronaut())
    turn = cv2.getRotationMatrix2D((224, 110), -20, 1.0)
    tilted = cv2.warpAffine(photo, turn, photo.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    straight = faces.main_face(photo, Framing(align=True)).box
    face = faces.main_face(tilted, Framing(align=True))
    assert face.box.angle - straight.angle == pytest.approx(20, abs=4)
    ours, theirs = (faces.cut(p, b, 64).astype(float) for p, b in ((photo, straight), (tilted, face.box)))
    assert np.abs(ours - theirs).mean() < 15
    unaligned = faces.cut(tilted, faces.main_face(tilted).box, 64).astype(float)
    assert np.abs(ours - unaligned).mean() > 20
    # What is marked at the nose of the square is drawn back onto the nose of the picture.
    spot = np.zeros((64, 64), np.float32)
    x, y = (faces.TEMPLATE[2] * 64).round().astype(int)
    spot[y - 3 : y + 4, x - 3 : x + 4] = 1
    drawn = faces.drawn_back(spot, face.box, tilted.shape)
    row, column = np.unravel_index(int(np.argmax(cv2.GaussianBlur(drawn, (0, 0), 3))), drawn.shape)
    nose = face.landmarks[2]
    assert np.hypot(column - nose[0], row - nose[1]) < 0.12 * face.box.width


def test_two_people_are_two_tracks_and_a_passer_by_is_none(tmp_path: Path) -> None:
    frames = face_frames(40, people=2)
    for frame in frames[:32]:
        frame[:, 256:] = 90
    some = tracks_of(open_video(write_video(tmp_path / "a.mp4", frames)), Policy(frames=20), Framing())[0]
    assert [len(track.sightings) for track in some] == [16, 4]
    for frame in frames[32:38]:
        frame[:, 256:] = 90
    alone = tracks_of(open_video(write_video(tmp_path / "b.mp4", frames)), Policy(frames=20), Framing())[0]
    assert [len(track.sightings) for track in alone] == [16]
    left = {s.face.box.x0 // 256 for s in some[0].sightings}
    right = {s.face.box.x0 // 256 for s in some[1].sightings}
    assert (left, right) == ({0}, {1})


def test_the_best_frames_are_kept(tmp_path: Path) -> None:
    frames = face_frames(24, drift=0.0)
    for number, frame in enumerate(frames):
        if number >= 8:
            frames[number] = cv2.GaussianBlur(frame, (0, 0), 3)
    video = open_video(write_video(tmp_path / "v.mp4", frames, rate=5))
    (best,), seen = tracks_of(video, Policy(frames=24, keep=6, pick="quality"), Framing())
    assert seen == 24
    assert sum(s.index < 8 for s in best.sightings) >= 5
    (even,), _ = tracks_of(video, Policy(frames=24, keep=6), Framing())
    assert sum(s.index < 8 for s in even.sightings) == 2
    assert [s.index for s in even.sightings] == sorted(s.index for s in even.sightings)


def test_motion_is_measured_against_the_next_frame(tmp_path: Path) -> None:
    still = tracks_of(
        open_video(write_video(tmp_path / "a.mp4", face_frames(10, drift=0.0))), Policy(frames=5, pick="quality"),
        Framing(),
    )[0][0]  # fmt: skip
    moving = tracks_of(
        open_video(write_video(tmp_path / "b.mp4", face_frames(10, drift=6.0))), Policy(frames=5, pick="quality"),
        Framing(),
    )[0][0]  # fmt: skip
    assert (
        max(s.quality["motion"] for s in still.sightings)
        < 1
        < np.median([s.quality["motion"] for s in moving.sightings])
    )


def test_policies_spread_over_the_video() -> None:
    assert Policy(every=4).indices(10) == [0, 4, 8]
    assert Policy(frames=4).indices(100) == [12, 37, 62, 87]
    assert Policy(frames=50).indices(3) == [0, 1, 2]
    assert len(Policy(every=1).indices(1_000_000)) == 2_000
    with pytest.raises(ValueError, match="pick"):
        Policy(pick="nicest")
    shapes = Face(Box(0, 0, 9, 9), 1.0)
    sightings = [Sighting(i, i, shapes, (9, 9), np.zeros((1, 1, 3)), Box(0, 0, 1, 1), {}) for i in range(10)]
    assert [s.index for s in Track(sightings).kept(Policy(keep=3)).sightings] == [1, 5, 8]
    long = Track()
    for number in range(1000):
        long.add(Sighting(number, number, shapes, (9, 9), np.zeros((1, 1, 3)), Box(0, 0, 1, 1), {}), Policy(keep=4))
        assert len(long.sightings) <= 17
    assert long.seen == 1000
    kept = [s.index for s in long.kept(Policy(keep=4)).sightings]
    assert np.diff([0, *kept, 1000]).max() < 400, "still spread over all of it"


# --- verdicts ---


def test_a_video_gets_a_record_with_its_frames(faces_detector: Detector, tmp_path: Path) -> None:
    write_video(tmp_path / "in/v.mp4", face_frames(30))
    out = tmp_path / "out"
    options = ("--max-false-alarm", 0.05, "--frames", 6, "--keep", 4)
    code, _, _ = run_cli("detect", tmp_path / "in", "--out", out, *options)
    assert code == 0
    (record,) = [json.loads(line) for line in (out / "findings.jsonl").read_text(encoding="utf-8").splitlines()]
    assert record["kind"] == "video"
    assert len(record["frames"]) == 4
    ps = [frame["p_value"] for frame in record["frames"]]
    assert record["p_value"] == pytest.approx(min(1, 2 * np.mean(ps)))
    assert record["score"] == pytest.approx(np.mean([frame["score"] for frame in record["frames"]]), abs=1e-6)
    assert record["faces"][0]["p_value"] == record["p_value"]
    assert [frame["time"] for frame in record["frames"]] == sorted(frame["time"] for frame in record["frames"])
    drawn = cv2.imread(str(out / record["heatmap"]), cv2.IMREAD_UNCHANGED)
    assert drawn.dtype == np.uint16
    assert drawn.shape == (256, 256)
    assert (out / record["timeline"]).stat().st_size > 10_000
    name = f"{faces_detector.calibration.score}_frames_top_quarter"
    assert record["scores"][name] == pytest.approx(max(frame["score"] for frame in record["frames"]), abs=1e-5)


def test_a_map_is_of_its_own_frame_where_frames_change_their_size(faces_detector: Detector, tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{side}.h264", face_frames(6, side)).read_bytes() for side in (256, 320)]
    for number, order in enumerate((parts, parts[::-1])):
        (tmp_path / f"v{number}.h264").write_bytes(b"".join(order))
    findings = faces_detector.detect_many([tmp_path / "v0.h264", tmp_path / "v1.h264"], max_false_alarm=0.05)
    for finding, sides in zip(findings, ((256, 320), (320, 256)), strict=True):
        assert finding.stills
        for still in finding.stills:
            side = sides[finding.frames[still.frame].index >= 6]
            assert still.heatmap.shape == (side, side)
        assert finding.heatmap is not None
        assert finding.heatmap.shape == finding.stills[0].heatmap.shape


def check_steps(steps: list[Step], paths: list[Path]) -> None:
    """Of each video: every stage is told, in order, and the share of the work only grows."""
    for path in paths:
        of_this = [step for step in steps if step.path == str(path)]
        assert list(dict.fromkeys(step.stage for step in of_this)) == ["reading", "judging", "mapping"]
        assert [(s.done, s.total) for s in of_this if s.stage == "reading"] == [(k, 4) for k in range(4)]
        assert [(s.done, s.total) for s in of_this if s.stage == "judging"] == [(0, 4), (4, 4)]
        shares = [step.share for step in of_this]
        assert shares == sorted(shares)
        assert 0 <= shares[0] < shares[-1] < 1


def test_a_videos_finding_does_not_depend_on_the_batch(faces_detector: Detector, tmp_path: Path) -> None:
    paths = [write_video(tmp_path / "a.mp4", face_frames(12)), write_video(tmp_path / "b.mp4", face_frames(12)[::-1])]
    policy = Policy(frames=4)
    steps: list[Step] = []
    together = list(faces_detector.detect_many(paths, policy=policy, progress=steps.append))
    check_steps(steps, paths)
    for path, other in zip(paths, together, strict=True):
        (alone,) = faces_detector.detect_many([path], policy=policy, batch_size=3)
        assert alone.score == pytest.approx(other.score, abs=1e-4)
        assert alone.p_value == other.p_value
        assert np.abs(alone.heatmap - other.heatmap).max() < 1e-3


def test_faces_of_one_picture_are_judged_each(faces_detector: Detector) -> None:
    both = face_frames(1, people=2)[0]
    finding = faces_detector.detect(both, max_false_alarm=0.05)
    assert len(finding.faces) == 2
    assert finding.p_value == pytest.approx(min(1.0, 2 * min(face.p_value for face in finding.faces)))
    assert finding.score == max(face.score for face in finding.faces)
    for face in finding.faces:
        crops = stacked([faces.cut_views(both, face.face.box, faces_detector.scorer.sizes)], ["0" * 64])
        alone = faces_detector.scorer.score([crops], ScoreOptions(maps=False))
        assert face.score == pytest.approx(alone.scores[faces_detector.calibration.score][0], abs=1e-4)
    # Both faces are on the map.
    assert (finding.heatmap[:, :256] > 0).any()
    assert (finding.heatmap[:, 256:] > 0).any()


def test_bad_videos_get_records_and_stop_nothing(faces_detector: Detector, tmp_path: Path) -> None:
    bad = broken_videos(tmp_path)
    empty_of_faces = write_video(tmp_path / "grey.mp4", numbered_frames(5))
    findings = list(faces_detector.detect_many([*bad, empty_of_faces], policy=Policy(frames=2)))
    assert [f.verdict for f in findings] == ["not_applicable"] * (len(bad) + 1)
    assert [f.reason["code"] for f in findings] == [*bad.values(), "no_face"]
    assert {f.kind for f in findings} == {"video"}


def test_a_decoder_that_fails_gives_a_reason(
    faces_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "v.mp4", face_frames(4))

    def failing(*_):
        raise ValueError("no such format")

    monkeypatch.setattr(videos, "_shown", failing)
    finding = faces_detector.detect(path)
    assert finding.verdict == "not_applicable"
    assert finding.reason == {
        "code": "failed", "sentence": "reading failed (ValueError: no such format); look at the file",
    }  # fmt: skip


def test_whole_frames_are_judged_where_no_face_is_wanted(detector: Detector, tmp_path: Path) -> None:
    frames = [cv2.resize(shape_picture(number), (128, 128)) for number in range(5000, 5008)]
    path = write_video(tmp_path / "v.mp4", frames)
    finding = detector.detect(path, max_false_alarm=0.05)
    assert finding.kind == "video"
    assert len(finding.frames) == 8
    assert finding.faces == ()
    assert finding.square.as_list() == [0, 0, 128, 128]


def test_frames_picked_otherwise_than_calibrated_are_refused(faces_detector: Detector) -> None:
    with pytest.raises(PixelsleuthError, match="was calibrated on frames picked 'even'"):
        list(faces_detector.detect_many([], policy=Policy(pick="quality")))
    code, _, error = run_cli("detect", "x.mp4", "--pick", "quality")
    assert code == 2
    assert "picked 'even', 'quality' was asked for" in error


def test_evaluate_reports_frames_and_videos(tmp_path: Path) -> None:
    rows = ["file,label"]
    for number in range(3):
        frames = face_frames(6, drift=number)
        write_video(tmp_path / f"real{number}.mp4", frames)
        changed = [cv2.flip(frame, 0) if i % 2 else frame for i, frame in enumerate(frames)]
        write_video(tmp_path / f"fake{number}.mp4", [cv2.GaussianBlur(f, (0, 0), 2) for f in changed])
        rows += [f"real{number}.mp4,REAL", f"fake{number}.mp4,FAKE"]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(rows) + "\n")
    code, shown, _ = run_cli("evaluate", "--normal", labels, "--anomalous", labels, "--out", tmp_path / "out")
    assert code == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))
    assert (metrics["n_normal"], metrics["n_anomalous"]) == (3, 3)
    found = metrics["videos"]["all"]
    assert found["n_frames"] > 18
    for name in ("frames", "videos", "videos_median", "videos_top_quarter"):
        assert len(found[name]["auroc"]) == 3
    assert found["videos"]["auroc"][0] == metrics["scores"][metrics["default_score"]]["auroc"][0]
    assert "videos, all: 3 normal, 3 anomalous" in shown


# --- stores ---


def ffpp(root: Path) -> Path:
    """A stand-in of FaceForensics++'s tree, with its split files, and a bystander in one fake."""
    for number, name in enumerate(("000", "001", "002"), 1):
        write_video(root / f"original_sequences/youtube/c23/videos/{name}.mp4", face_frames(20, drift=number))
    write_video(root / "manipulated_sequences/Deepfakes/c23/videos/000_001.mp4", face_frames(40, drift=1.5, people=2))
    write_video(root / "manipulated_sequences/Face2Face/c23/videos/001_000.mp4", face_frames(40, drift=2.5))
    for split, pairs in (("train", [["000", "001"]]), ("val", [["002", "003"]]), ("test", [])):
        (root / "splits").mkdir(exist_ok=True)
        (root / f"splits/{split}.json").write_text(json.dumps(pairs))
    return root


def test_faceforensics_is_read_by_its_own_splits(tmp_path: Path) -> None:
    root = ffpp(tmp_path / "ffpp")
    (root / "original_sequences/youtube/c23/videos/003.mp4").write_text("broken")
    summary = prepare_videos([root], tmp_path / "s.h5", workers=1)
    assert [(Path(path).name, code) for path, code, _ in summary.skipped] == [("003.mp4", "not_a_video")]
    assert summary.videos == 5
    with Store(tmp_path / "s.h5") as store:
        table = store.table
        by_video = {Path(p).name: i for i, p in enumerate(table["path"])}
        told = {name: tuple(table[c][i] for c in ("label", "split", "method")) for name, i in by_video.items()}
        assert told["000.mp4"] == ("normal", "train", "")
        assert told["002.mp4"] == ("normal", "val", "")
        assert told["000_001.mp4"] == ("anomalous", "train", "Deepfakes")
        assert told["001_000.mp4"] == ("anomalous", "train", "Face2Face")
        groups = {name: table["group"][i] for name, i in by_video.items()}
        assert groups["000.mp4"] == groups["001.mp4"] == groups["000_001.mp4"] != groups["002.mp4"]
        counts = {name: int(sum(Path(p).name == name for p in table["path"])) for name in by_video}
        assert counts["000.mp4"] == 5, "every 4th of 20"
        assert counts["000_001.mp4"] == 4, "every 10th of 40, the bystander left out"
        assert set(table["frame"][table["path"] == table["path"][by_video["000.mp4"]]]) == {0, 4, 8, 12, 16}
        # What is kept around a face gives its square again.
        for row in range(len(store)):
            around = decode(store.encoded(row)).pixels
            assert around.shape[0] > store.box(row).height
            assert np.array_equal(faces.cut(around, store.box(row), 128), store.pixels([row])[0])


def test_a_killed_prepare_videos_resumes_to_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ffpp(tmp_path / "ffpp")
    monkeypatch.setattr(preparation, "VIDEO_PART", 2)
    prepare_videos([root], tmp_path / "whole.h5", workers=1)
    real_read, calls = preparation._read_video, []

    def dying(job, **how):
        calls.append(job)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real_read(job, **how)

    monkeypatch.setattr(preparation, "_read_video", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare_videos([root], tmp_path / "resumed.h5", workers=1)
    assert not (tmp_path / "resumed.h5").exists()
    prepare_videos([root], tmp_path / "resumed.h5", workers=1)
    assert len(calls) == 4 + 3, "the finished part of two is not read again"
    with h5py.File(tmp_path / "whole.h5") as a, h5py.File(tmp_path / "resumed.h5") as b:
        assert sorted(a["table"]) == sorted(b["table"])
        for name in ("pixels", "encoded", "offset", *(f"table/{n}" for n in a["table"])):
            left, right = a[name][:], b[name][:]
            assert np.array_equal(left, right, equal_nan=left.dtype.kind == "f"), name


def test_trees_of_other_data_sets(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "dfdc").mkdir(exist_ok=True)
        (tmp_path / "dfdc" / name).write_bytes(b"x")
    about = {"a.mp4": {"label": "FAKE", "original": "b.mp4"}, "b.mp4": {"label": "REAL", "original": None}}
    (tmp_path / "dfdc/metadata.json").write_text(json.dumps(about))
    found = {path.name: origin for path, origin in origins_of(tmp_path / "dfdc").items()}
    assert (found["a.mp4"].label, found["a.mp4"].method) == ("anomalous", "DFDC")
    assert (found["b.mp4"].label, found["b.mp4"].method) == ("normal", "")
    assert found["a.mp4"].group == found["b.mp4"].group
    assert found["a.mp4"].split == found["b.mp4"].split
    celeb = tmp_path / "celeb"
    for name in ("Celeb-real/id0_0001.mp4", "Celeb-synthesis/id0_id1_0002.mp4", "YouTube-real/00003.mp4"):
        (celeb / name).parent.mkdir(parents=True, exist_ok=True)
        (celeb / name).write_bytes(b"x")
    (celeb / "List_of_testing_videos.txt").write_text("1 YouTube-real/00003.mp4\n")
    # As large sets often lie: links to another disk.
    (celeb / "YouTube-real/00003.mp4").rename(tmp_path / "elsewhere.mp4")
    (celeb / "YouTube-real/00003.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    found = {path.name: origin for path, origin in origins_of(celeb).items()}
    assert [found[n].label for n in ("id0_0001.mp4", "id0_id1_0002.mp4", "00003.mp4")] == [
        "normal", "anomalous", "normal",
    ]  # fmt: skip
    assert found["id0_0001.mp4"].group == found["id0_id1_0002.mp4"].group
    assert found["00003.mp4"].split == "test"
    assert found["id0_0001.mp4"].split != "test"
    # One of its folders alone, as `evaluate` takes them.
    (origin,) = origins_of(celeb / "YouTube-real").values()
    assert (origin.label, origin.split) == ("normal", "test")
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "x.mp4").write_bytes(b"x")
    (plain / "labels.csv").write_text("file,label,split,group,method\nx.mp4,fake,val,me,Mine\n")
    (origin,) = origins_of(plain).values()
    assert (origin.label, origin.split, origin.group, origin.method) == ("anomalous", "val", "me", "Mine")
    (plain / "labels.csv").write_text("file,label\nx.mp4,perhaps\n")
    with pytest.raises(PixelsleuthError, match="real or fake"):
        origins_of(plain)


def test_calibration_takes_one_frame_of_each_video(tmp_path: Path) -> None:
    rows = ["file,label,split,group"]
    for number in range(3):
        write_video(tmp_path / f"in/{number}.mp4", face_frames(8, drift=number + 1))
        rows.append(f"{number}.mp4,real,calib,{number}")
    (tmp_path / "in/labels.csv").write_text("\n".join(rows) + "\n")
    prepare_videos([tmp_path / "in"], tmp_path / "s.h5", workers=1)
    with Store(tmp_path / "s.h5") as store:
        assert len(store.rows("calib")) == 6
        with pytest.raises(CalibrationError, match="has 3 normal images"):
            image_units(store)


def test_figures_of_a_store(tmp_path: Path) -> None:
    root = ffpp(tmp_path / "ffpp")
    write_video(root / "original_sequences/youtube/c23/videos/009.mp4", numbered_frames(4))
    code, _, shown = run_cli(
        "prepare", "videos", root, tmp_path / "s.h5", "--figures", tmp_path / "fig", "--workers", 1
    )
    assert code == 0
    assert "no_face" in shown
    assert (tmp_path / "fig/frames_per_video.png").stat().st_size > 5_000
    sheet = cv2.imread(str(tmp_path / "fig/faces.png"))
    assert sheet.shape[1] == 16 * 160
    code, _, _ = run_cli("figures", "frames", tmp_path / "s.h5", "--out", tmp_path / "frames.svg")
    assert code == 0
    with Store(tmp_path / "s.h5") as store:
        counts = Counter(store.table["path"].tolist())
        (axes,) = frames_per_video(store).axes
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
    assert bars == {0: 1, **Counter(counts.values())}
    assert f"{len(counts) + 1} videos, 1 without a face" in (tmp_path / "frames.svg").read_text(encoding="utf-8")


def test_whole_frames_stand_in_where_no_face_is_found(faces_detector: Detector, tmp_path: Path) -> None:
    path = write_video(tmp_path / "grey.mp4", numbered_frames(13)[4:])
    item = faces_detector.read(path, whole_without_face=True)
    assert isinstance(item, Sample)
    assert [look.face.confidence for look in item.tracks[0]] == [0.0] * 4
