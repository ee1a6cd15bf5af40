"""Track the faces of a video: which frames are searched, whose face is whose, and which frames of a person are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.records import Box, Face, Note
from pixelsleuth.sources import faces
from pixelsleuth.sources.faces import Framing
from pixelsleuth.sources.videos import Frame, Video, frames_at, is_black

PICKS = ("even", "quality")
#: Intersection over union of two squares from which they are one person's.
OVERLAP = 0.3
#: Frames looked at in which a track may be missing and still go on.
GAP = 3
#: Smallest share of the searched frames in which a face must stand to be a track; fewer are passers-by or errors.
MIN_PRESENCE = 0.1
#: Largest number of frames searched in one video, whatever the policy: the faces of all of them are held.
MAX_FRAMES = 2_000
#: Largest side, in pixels, at which a square is held; larger faces are scaled down.
MAX_SIDE = 512
#: Frames of a track held until the video's end, as a multiple of those kept.
HELD_PER_KEPT = 4
#: Most tracks of one video that are judged, the longest.
MAX_TRACKS = 8


@dataclass(frozen=True)
class Policy:
    """Which frames of a video are searched for faces, and which of them are kept.

    Attributes:
        frames: this many, evenly spaced, unless `every` is set.
        every: every n-th frame from the first, as *Deepfake CSI* takes 4 for real and 10 for fakes; 0: see `frames`.
        keep: at most this many of each track.
        pick: `even`: evenly over the track; `quality`: the best by sharpness, motion, size and confidence.
    """

    frames: int = 32
    every: int = 0
    keep: int = 16
    pick: str = "even"

    def __post_init__(self) -> None:
        if self.pick not in PICKS:
            raise ValueError(f"pick: expected one of {', '.join(PICKS)}; got {self.pick!r}")
        if self.frames < 1 or self.every < 0 or self.keep < 1:
            raise ValueError(
                f"frames, every, keep: expected at least 1, 0 and 1; got {self.frames}, {self.every}, {self.keep}"
            )

    def indices(self, count: int) -> list[int]:
        """The frames to search of a video with `count` frames, ascending; at most `MAX_FRAMES`."""
        if self.every:
            chosen = list(range(0, count, self.every))
            if len(chosen) <= MAX_FRAMES:
                return chosen
        wanted = min(MAX_FRAMES if self.every else self.frames, count, MAX_FRAMES)
        return [int((i + 0.5) * count / wanted) for i in range(wanted)]


@dataclass(frozen=True)
class Sighting:
    """One face in one frame.

    Attributes:
        shape: (H, W) of the frame.
        surroundings: (H, W, 3) uint8, its square and a quarter of its side around it, as far as the frame goes.
        box: the square on `surroundings`; `face.box` is the same in the frame.
        quality: `sharpness` (Laplacian variance of the square at 128 px), `motion` (mean |difference| of the square
            at 32 px to the next frame, in grey levels; 0 unless asked for), `size` in pixels, `confidence`.
    """

    index: int
    time: float
    face: Face
    shape: tuple[int, int]
    surroundings: np.ndarray
    box: Box
    quality: dict[str, float]


@dataclass
class Track:
    """One person's face over the frames that were looked at, in order of time.

    Attributes:
        sightings: never more than `HELD_PER_KEPT` times those the policy keeps, however long the video.
        seen: in how many frames it stood; `last`: where it was last.
    """

    sightings: list[Sighting] = field(default_factory=list)
    seen: int = 0
    last: Face | None = None
    _stride: int = 1

    def add(self, sighting: Sighting, policy: Policy) -> None:
        """Take one more sighting, and thin out what is held where it has become too many."""
        if self.seen % self._stride == 0:
            self.sightings.append(sighting)
        self.seen += 1
        self.last = sighting.face
        if len(self.sightings) <= HELD_PER_KEPT * policy.keep:
            return
        if policy.pick == "even":
            self.sightings = self.sightings[::2]
            self._stride *= 2
        else:
            self.sightings = _best(self.sightings, HELD_PER_KEPT * policy.keep // 2)

    def kept(self, policy: Policy) -> Track:
        """The frames that the policy keeps, in order of time."""
        if len(self.sightings) <= policy.keep:
            return self
        if policy.pick == "even":
            places = [int((i + 0.5) * len(self.sightings) / policy.keep) for i in range(policy.keep)]
        else:
            return Track(_best(self.sightings, policy.keep), self.seen, self.last)
        return Track([self.sightings[i] for i in places], self.seen, self.last)


def _best(sightings: Sequence[Sighting], count: int) -> list[Sighting]:
    """The `count` best by `quality_ranks`, in order of time."""
    return [sightings[i] for i in sorted(np.argsort(-quality_ranks(sightings), kind="stable")[:count].tolist())]


def quality_ranks(sightings: Sequence[Sighting]) -> np.ndarray:
    """(n,) float64, the mean rank of each sighting among its track's by sharpness, stillness, size and confidence;
    higher is better. Ranks, because the four have no common unit."""
    columns = [[s.quality[name] * sign for s in sightings] for name, sign in
               (("sharpness", 1), ("motion", -1), ("size", 1), ("confidence", 1))]  # fmt: skip
    return np.mean([np.argsort(np.argsort(np.array(c), kind="stable"), kind="stable") for c in columns], axis=0)


def tracks_of(
    video: Video, policy: Policy, framing: Framing, least_side: int = faces.MIN_FACE,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Track], int]:  # fmt: skip
    """The tracks of a video, longest first, each with the frames that the policy keeps; and how many frames were seen.

    Black frames, as before a fade-in, count as not seen.

    Args:
        told: gets how many frames have been looked at, of how many, before each one.

    Raises:
        InputError: `no_frames` (none could be decoded), `no_face`, or `face_too_small`.
    """
    open_tracks: list[Track] = []
    last_seen: list[int] = []
    seen = found_small = black = 0
    looks = len(policy.indices(len(video)))
    for number, (frame, after) in enumerate(_looks(video, policy)):
        told(number, looks)
        if is_black(frame.pixels):
            black += 1
            continue
        seen += 1
        found = faces.find_faces(frame.pixels, framing)[: faces.MAX_FACES]
        large = [face for face in found if face.box.width >= least_side]
        found_small += len(found) - len(large)
        alive = [k for k in range(len(open_tracks)) if seen - last_seen[k] <= GAP + 1]
        pairs = [
            (overlap(last.box, face.box), k, i)
            for k in alive
            for i, face in enumerate(large)
            if (last := open_tracks[k].last) is not None
        ]
        taken: dict[int, int] = {}
        for share, k, i in sorted(pairs, reverse=True):
            if share >= OVERLAP and i not in taken and k not in taken.values():
                taken[i] = k
        for i, face in enumerate(large):
            if i not in taken:
                taken[i] = len(open_tracks)
                open_tracks.append(Track())
                last_seen.append(seen)
            open_tracks[taken[i]].add(_sighting(frame, face, after), policy)
            last_seen[taken[i]] = seen
    if black:
        video.say(black_frames(black, seen))
    if not seen and black:
        sentence = f"all {black} frames looked at are black; look at more frames, or cut out the part in question"
        raise InputError("no_face", sentence, video.sha256)
    if not seen:
        raise InputError("no_frames", "no frame could be decoded; copy the video again from its source", video.sha256)
    if not open_tracks:
        raise _no_face(video, framing, seen, found_small, least_side)
    longest = max(track.seen for track in open_tracks)
    least = min(longest, max(2, round(MIN_PRESENCE * seen)))
    kept = [track for track in open_tracks if track.seen >= least]
    order = sorted(range(len(kept)), key=lambda k: (-kept[k].seen, kept[k].sightings[0].index))
    return [kept[k].kept(policy) for k in order[:MAX_TRACKS]], seen


def _no_face(video: Video, framing: Framing, seen: int, found_small: int, least_side: int) -> InputError:
    if found_small:
        return InputError(
            "face_too_small",
            f"faces in the {seen} frames looked at are under {least_side} px; use a larger video",
            video.sha256,
        )
    return InputError(
        "no_face",
        f"no face was found with confidence of at least {framing.min_confidence} in the {seen} frames looked at; "
        "look at more frames, or crop closer to the face",
        video.sha256,
    )


def black_frames(black: int, seen: int) -> Note:
    """The note of frames that were passed over, beside those that were seen."""
    return Note("black_frames", f"{black} of {seen + black} frames looked at are black and were passed over")


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    across = max(0, min(one.x1, other.x1) - max(one.x0, other.x0))
    down = max(0, min(one.y1, other.y1) - max(one.y0, other.y0))
    union = one.width * one.height + other.width * other.height - across * down
    return across * down / union


def _looks(video: Video, policy: Policy) -> Iterator[tuple[Frame, Frame | None]]:
    """The frames to look at, each with the next frame of the video where motion is asked for."""
    indices = policy.indices(len(video))
    if policy.pick != "quality":
        yield from ((frame, None) for frame in frames_at(video, indices))
        return
    after = {i + 1 for i in indices if i + 1 < len(video)}
    wanted = set(indices)
    waiting: Frame | None = None
    for frame in frames_at(video, sorted(wanted | after)):
        if waiting is not None:
            yield waiting, (frame if frame.index == waiting.index + 1 else None)
        waiting = frame if frame.index in wanted else None
    if waiting is not None:
        yield waiting, None


def _sighting(frame: Frame, face: Face, after: Frame | None) -> Sighting:
    surroundings, box = surrounded(frame.pixels, face.box)
    motion = 0.0
    square = faces.cut(frame.pixels, face.box, 128)
    if after is not None and after.pixels.shape == frame.pixels.shape:
        now, then = (faces.cut(pixels, face.box, 32).astype(np.float32) for pixels in (frame.pixels, after.pixels))
        motion = float(np.abs(now - then).mean())
    luma = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY).astype(np.float64)
    quality = {
        "sharpness": float(cv2.Laplacian(luma, cv2.CV_64F).var()),
        "motion": motion,
        "size": float(face.box.width),
        "confidence": face.confidence,
    }
    shape = (frame.pixels.shape[0], frame.pixels.shape[1])
    return Sighting(frame.index, frame.time, face, shape, surroundings, box, quality)


def rim(box: Box, shape: tuple[int, ...]) -> Box:
    """A square with a quarter of its side around it (more where it is turned), as far as a picture of `shape` goes."""
    more = box.width // 2 if box.angle else box.width // 4
    return Box(
        max(0, box.x0 - more), max(0, box.y0 - more), min(shape[1], box.x1 + more), min(shape[0], box.y1 + more)
    )  # fmt: skip


def surrounded(pixels: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """A copy of what lies around a square, a quarter of its side (more where it is turned) as far as the picture goes,
    and the square's place on it; scaled down where the square is larger than `MAX_SIDE`."""
    around = rim(box, pixels.shape)
    x0, y0 = around.x0, around.y0
    inside = replace(box, x0=box.x0 - x0, y0=box.y0 - y0, x1=box.x1 - x0, y1=box.y1 - y0)
    part = pixels[y0 : around.y1, x0 : around.x1]
    if box.width <= MAX_SIDE:
        return part.copy(), inside
    scale = MAX_SIDE / box.width
    small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    x, y = round(inside.x0 * scale), round(inside.y0 * scale)
    if not faces.share_outside(inside, *part.shape[:2]):
        # Rounding must not push a square over the edge that was within it.
        x, y = min(x, small.shape[1] - MAX_SIDE), min(y, small.shape[0] - MAX_SIDE)
    return small, Box(x, y, x + MAX_SIDE, y + MAX_SIDE, box.angle)
