"""The records that travel between the stages, and the legend of array shapes.

| letter | meaning |
| --- | --- |
| B | images in a batch |
| C, H, W | channels, height, width of an image as the model sees it (float32, range [0, 1]) |
| h, w | height and width of the code grid |
| K | size of the codebook; a code is an int64 in [0, K) |
| S | restorations of one image |
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pixelsleuth.language import Language, language

if TYPE_CHECKING:
    # Processes that only read pictures should not pay for torch.
    import torch

Verdict = Literal["normal", "anomalous", "unsure", "not_applicable"]

#: Which pictures a rate is promised for: such as those of calibration taken together, of any one of their sources, or
#: of a source never seen (see scoring.origins).
Promise = Literal["calibration", "any-source", "new-source"]

#: Share of normal inputs that may be called anomalous unless told otherwise, on the page as on the command line.
MAX_FALSE_ALARM = 0.01

#: Keys of a record, in their order.
RECORD_FIELDS = (
    "path", "sha256", "kind", "model", "verdict", "reason", "p_value", "p_value_any_source", "p_value_new_source",
    "score", "scores", "tracks", "max_false_alarm", "promise", "regions", "heatmap", "faces", "frames", "slices",
    "timeline", "notes", "evidence", "captured", "against", "seconds", "version",
)  # fmt: skip


@dataclass(frozen=True)
class Note:
    """What was done to an input to read it, or what limits a finding.

    Attributes:
        code: one word a thing, stable for programs: `rotated_by_exif`, `colour_profile`, ...
        sentence: the same for people.
    """

    code: str
    sentence: str


@dataclass(frozen=True)
class Statement:
    """What a file says of itself beside its pixels; not proof.

    Attributes:
        code: one word a thing, stable for programs: `editor`, `thumbnail_differs`, ...
        says: what it speaks for: `ai`, `edited`, `camera`, `passed_on`, `neutral`, or `unknown`.
        values: what its sentence is filled in with.
    """

    code: str
    says: str
    values: dict[str, str] = field(default_factory=dict)

    def sentence(self, say: Language) -> str:
        return say(f"evidence.{self.code}", **self.values)

    def record(self) -> dict[str, str]:
        return {"code": self.code, "says": self.says, "sentence": self.sentence(language())}


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the input: x0, y0 inclusive, x1, y1 exclusive.

    Attributes:
        angle: in degrees, by which a face's square is turned clockwise about its centre; 0 for all but aligned faces.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    angle: float = 0.0

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    def as_list(self) -> list[int]:
        return [self.x0, self.y0, self.x1, self.y1]


@dataclass(frozen=True)
class Change:
    """A place where a picture differs from an earlier copy of it.

    Attributes:
        box: in pixels of the picture.
        levels: mean difference there, in grey levels of the channel that differs most.
        share: of the part of the picture that was compared, in (0, 1].
        model: what the model says of that place: `marked`, `unmarked`, or `not_looked_at`; empty where none was asked.
    """

    box: Box
    levels: float
    share: float
    model: str = ""


@dataclass(frozen=True)
class Comparison:
    """A picture beside an earlier copy of it.

    Attributes:
        path, sha256: of the copy.
        state: `same`: nothing that saving, scaling or a change of brightness does not explain; `changed`;
            `not_alignable`: no way was found to lay them onto each other.
        shape: (H, W) of the picture.
        changes: the largest first.
        covered: share of the picture that the copy shows; kept: share of the copy that the picture shows.
        mirrored: the picture is; turned: by degrees, clockwise; scaled: pixels of the picture a pixel of the copy.
        toned: grey levels by which brightness and colours of the whole differed, before that was taken out.
        verdict, p_value: of the copy, by the model.
        earlier: (H, W, 3) uint8, the copy as it lies on the picture, both shrunk; excess: (H, W) float32, how much they
            differ there, 1 being more than noise explains; None where they could not be laid onto each other.
    """

    path: str
    sha256: str
    state: Literal["same", "changed", "not_alignable"]
    shape: tuple[int, ...] = ()
    changes: tuple[Change, ...] = ()
    covered: float = 0.0
    kept: float = 0.0
    mirrored: bool = False
    turned: float = 0.0
    scaled: float = 1.0
    toned: float = 0.0
    verdict: Verdict = "not_applicable"
    p_value: float | None = None
    earlier: np.ndarray | None = None
    excess: np.ndarray | None = None

    def record(self) -> dict[str, Any]:
        numbers = {name: round(getattr(self, name), 4) for name in ("covered", "kept", "turned", "scaled", "toned")}
        changes = [
            {"box": one.box.as_list(), "levels": round(one.levels, 2), "share": round(one.share, 6), "model": one.model}
            for one in self.changes
        ]
        return {
            "path": self.path, "sha256": self.sha256, "state": self.state, "changes": changes,
            "mirrored": self.mirrored, **numbers, "verdict": self.verdict, "p_value": self.p_value,
        }  # fmt: skip


@dataclass(frozen=True)
class Face:
    """One detected face: the square that is cut, the detector's confidence in [0, 1], and the landmarks.

    `padded` is the share of the square that lay outside the picture; `landmarks` holds left eye, right eye, nose,
    left and right mouth corner as (x, y) in pixels of the input, left and right as the viewer sees them.
    """

    box: Box
    confidence: float
    landmarks: tuple[tuple[float, float], ...] = ()
    padded: float = 0.0


@dataclass(frozen=True)
class Surprise:
    """A prior's negative log-likelihood and entropy at each position of a code grid.

    Attributes:
        nll: (B, h, w) float32, nats, -log p(code | context); at least 0.
        entropy: (B, h, w) float32, nats, of the same conditional distribution; in [0, ln K].
    """

    nll: torch.Tensor
    entropy: torch.Tensor


@dataclass(frozen=True)
class Region:
    """A connected part of the input that few normal images match.

    Attributes:
        box: in pixels of the input; of a volume in voxels along the first two axes of the file.
        depth: of a volume, its first voxel and the one after its last along the third axis.
        millilitres: of a volume, how much of it is coloured, by the header's voxel sizes.
    """

    box: Box
    p_value: float
    depth: tuple[int, int] | None = None
    millilitres: float | None = None

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = {"box": self.box.as_list(), "p_value": self.p_value}
        if self.depth is None:
            return found
        return found | {"depth": list(self.depth), "millilitres": self.millilitres}


def p_by(promise: Promise, judged: Finding | FaceFinding) -> float | None:
    """The p-value of what was judged that a verdict under this promise rests on."""
    if promise == "calibration":
        return judged.p_value
    return judged.p_value_any_source if promise == "any-source" else judged.p_value_new_source


@dataclass(frozen=True)
class FaceFinding:
    """The judgement of one face of a picture, or of one person's track in a video, whose most unusual frame `face` is
    of; the fields are the finding's."""

    face: Face
    verdict: Verdict
    p_value: float
    score: float
    scores: dict[str, float]
    regions: tuple[Region, ...] = ()
    reason: dict[str, str] | None = None
    p_value_any_source: float | None = None
    p_value_new_source: float | None = None

    def record(self) -> dict[str, Any]:
        return {
            "box": self.face.box.as_list(),
            "angle": round(self.face.box.angle, 2),
            "confidence": self.face.confidence,
            "padded": self.face.padded,
            "verdict": self.verdict,
            "reason": self.reason,
            "p_value": self.p_value,
            "p_value_any_source": self.p_value_any_source,
            "p_value_new_source": self.p_value_new_source,
            "score": self.score,
            "scores": self.scores,
            "regions": [region.record() for region in self.regions],
        }


@dataclass(frozen=True)
class FrameFinding:
    """One face in one frame of a video.

    Attributes:
        index: of the frame; `time`: in seconds from the first.
        track: number of the person in `Finding.faces`.
    """

    index: int
    time: float
    track: int
    face: Face
    score: float
    p_value: float
    heatmap_file: str | None = None

    def record(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "time": round(self.time, 4),
            "track": self.track,
            "box": self.face.box.as_list(),
            "confidence": self.face.confidence,
            "padded": self.face.padded,
            "score": self.score,
            "p_value": self.p_value,
            "heatmap": self.heatmap_file,
        }


@dataclass(frozen=True)
class SliceFinding:
    """One axial slice of a volume.

    Attributes:
        index: from the lowest of the volume, in RAS.
        p_value: among one slice of each calibration volume.
    """

    index: int
    score: float
    p_value: float

    def record(self) -> dict[str, Any]:
        return {"index": self.index, "score": self.score, "p_value": self.p_value}


@dataclass(frozen=True)
class Still:
    """A frame of a video that was mapped.

    Attributes:
        frame: number of its `FrameFinding` in `Finding.frames`.
        pixels: (H, W, 3) uint8, the face and what lies around it, perhaps scaled down.
        excess: (H, W) float32 over `pixels`, as `Finding.excess`.
        heatmap: (H', W') float32 over the whole frame, as `Finding.heatmap`.
    """

    frame: int
    pixels: np.ndarray
    excess: np.ndarray
    heatmap: np.ndarray


@dataclass(frozen=True)
class Finding:
    """The judgement of one input; `record()` is its line in findings.jsonl.

    Attributes:
        verdict: `normal`, `anomalous`, `unsure` or `not_applicable`.
        p_value: share of normal calibration images at least this unusual, in (0, 1]; None if not judged.
        heatmap: (H, W) float32 in the pixels of the input, the share of normal pixels at that place that
            are less unusual, 0 outside the face; None if not judged or not asked for.
        excess: (H, W) float32 from 0, the map on the scale of colours: below 1, which 95% of normal images reach
            nowhere, nothing is drawn; from 2, which 999 of 1,000 reach nowhere, colour is full. None where
            `heatmap` is.
        restoration: (size, size, 3) uint8, the weighted mean restoration of the square that was cut.
        raw_maps: name -> (size, size) float32, maps of the square that was cut, before calibration.
        square: the square that was cut, in pixels of the input; of several faces the most unusual one's.
        frames, stills: of a video, the frames that were judged, and the most unusual ones with their maps; `heatmap`
            and `regions` are then those of the first still.
        p_value: among all calibration pictures; p_value_any_source, p_value_new_source: valid for pictures of each of
            their sources, and of sources never seen (see scoring.origins); None where sources are not known.
        promise: which of the three the verdict rests on.
        slices: of a volume, those that were judged; `heatmap` and `excess` are then (X, Y, Z) in the file's order.
        affine: (4, 4) of a volume's file, to write maps in its space; unit: what it counts lengths in.
        notes: what was done to read the input, or what limits the finding.
        tracks: of a face, what the codes and what the detective say alone, each in standard deviations of normal
            training images, and which of them alarms while the other is calm (`disagree`); None without both.
        evidence: of a picture's or a video's file, what it tells of itself; captured: when it was taken, by its own
            word (ISO 8601), or None.
        against: of a picture, how it differs from an earlier copy; None unless that was asked for.
    """

    path: str
    sha256: str | None
    kind: str
    model: dict[str, str]
    verdict: Verdict
    reason: dict[str, str] | None = None
    p_value: float | None = None
    p_value_any_source: float | None = None
    p_value_new_source: float | None = None
    score: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    tracks: dict[str, Any] | None = None
    max_false_alarm: float = MAX_FALSE_ALARM
    promise: Promise = "calibration"
    regions: tuple[Region, ...] = ()
    faces: tuple[FaceFinding, ...] = ()
    frames: tuple[FrameFinding, ...] = ()
    stills: tuple[Still, ...] = ()
    slices: tuple[SliceFinding, ...] = ()
    affine: np.ndarray | None = None
    unit: str = "mm"
    notes: tuple[Note, ...] = ()
    evidence: tuple[Statement, ...] = ()
    captured: str | None = None
    against: Comparison | None = None
    seconds: float = 0.0
    version: str = ""
    heatmap: np.ndarray | None = None
    excess: np.ndarray | None = None
    restoration: np.ndarray | None = None
    raw_maps: dict[str, np.ndarray] = field(default_factory=dict)
    square: Box | None = None
    heatmap_file: str | None = None
    timeline_file: str | None = None

    @property
    def p_promised(self) -> float | None:
        """The p-value that the verdict rests on: to be held against `max_false_alarm`; None if not judged."""
        return None if self.p_value is None else p_by(self.promise, self)

    @property
    def reason_code(self) -> str:
        """The code of the reason for there being no plain verdict; "" where there is none."""
        return self.reason["code"] if self.reason else ""

    @property
    def reason_sentence(self) -> str:
        """The reason in an English sentence; "" where there is none."""
        return self.reason["sentence"] if self.reason else ""

    def record(self) -> dict[str, Any]:
        """The finding as a JSON-ready dictionary with the keys of `RECORD_FIELDS`, in that order."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "kind": self.kind,
            "model": self.model,
            "verdict": self.verdict,
            "reason": self.reason,
            "p_value": self.p_value,
            "p_value_any_source": self.p_value_any_source,
            "p_value_new_source": self.p_value_new_source,
            "score": self.score,
            "scores": self.scores,
            "tracks": self.tracks,
            "max_false_alarm": self.max_false_alarm,
            "promise": self.promise,
            "regions": [region.record() for region in self.regions],
            "heatmap": self.heatmap_file,
            "faces": [face.record() for face in self.faces],
            "frames": [frame.record() for frame in self.frames],
            "slices": [one.record() for one in self.slices],
            "timeline": self.timeline_file,
            "notes": [asdict(note) for note in self.notes],
            "evidence": [statement.record() for statement in self.evidence],
            "captured": self.captured,
            "against": None if self.against is None else self.against.record(),
            "seconds": round(self.seconds, 4),
            "version": self.version,
        }
