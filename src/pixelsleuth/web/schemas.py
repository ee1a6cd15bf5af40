"""The types of the API's responses, which describe the record to programs that read `/openapi.json`.

Answers are made of dictionaries that are at hand; tests hold them against these.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pixelsleuth.records import Verdict

Share = Field(ge=0, le=1)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Refusal(_Answer):
    """Why a call was refused, in one line."""

    reason: str


class Cause(_Answer):
    """Why there is no plain verdict."""

    code: str
    sentence: str


class ModelName(_Answer):
    name: str
    sha256: str


class RegionRecord(_Answer):
    """A part of the input that few normal images match; `depth` is a volume's."""

    box: list[int] = Field(min_length=4, max_length=4, description="x0, y0, x1, y1 in pixels of the input")
    p_value: float = Share
    depth: list[int] | None = None
    millilitres: float | None = Field(None, description="of a volume's part, how much of it is coloured")


class FaceRecord(_Answer):
    """A face, or a person of a video."""

    box: list[int] = Field(min_length=4, max_length=4)
    angle: float
    confidence: float = Share
    padded: float = Share
    verdict: Verdict
    reason: Cause | None
    p_value: float = Share
    p_value_any_source: float | None = Field(ge=0, le=1)
    p_value_new_source: float | None = Field(ge=0, le=1)
    score: float
    scores: dict[str, float]
    regions: list[RegionRecord]


class FrameRecord(_Answer):
    index: int
    time: float = Field(description="seconds from the first frame")
    track: int = Field(description="number of the person in `faces`")
    box: list[int] = Field(min_length=4, max_length=4)
    confidence: float = Share
    padded: float = Share
    score: float
    p_value: float = Share
    heatmap: str | None


class NoteAnswer(_Answer):
    code: str
    sentence: str


class StatementAnswer(_Answer):
    """What the file tells of itself; proof of nothing."""

    code: str
    says: Literal["ai", "edited", "camera", "passed_on", "neutral", "unknown"]
    sentence: str


class ChangeRecord(_Answer):
    """A place where a picture differs from an earlier copy of it."""

    box: list[int] = Field(min_length=4, max_length=4)
    levels: float = Field(description="mean difference in grey levels")
    share: float = Share
    model: Literal["marked", "unmarked", "not_looked_at", ""] = Field(description="what the model says of the place")


class ComparisonRecord(_Answer):
    """A picture beside an earlier copy of it."""

    path: str
    sha256: str
    state: Literal["same", "changed", "not_alignable"]
    changes: list[ChangeRecord]
    mirrored: bool
    covered: float = Field(description="share of the picture that the copy shows")
    kept: float = Field(description="share of the copy that the picture shows")
    turned: float = Field(description="degrees, clockwise")
    scaled: float = Field(description="pixels of the picture a pixel of the copy")
    toned: float = Field(description="grey levels by which brightness and colours of the whole differed")
    verdict: Verdict
    p_value: float | None


class SliceRecord(_Answer):
    index: int
    score: float
    p_value: float = Share


class Tracks(_Answer):
    """What the two kinds of evidence say alone, in standard deviations of normal images."""

    codes: float
    detective: float
    disagree: Literal["codes", "detective"] | None = Field(description="which alarms while the other is calm")


class Record(_Answer):
    """One finding, as `pixelsleuth detect` writes it."""

    path: str = Field(description="name of the uploaded file")
    sha256: str | None
    kind: Literal["image", "video", "volume"]
    model: ModelName
    verdict: Verdict
    reason: Cause | None
    p_value: float | None = Field(ge=0, le=1, description="share of normal images at least as unusual")
    p_value_any_source: float | None = Field(
        ge=0,
        le=1,
        description="the largest of that share over the sources of calibration; null where they are not known",
    )
    p_value_new_source: float | None = Field(
        ge=0, le=1, description="p for images of a source never seen; null where the sources are not known"
    )
    score: float | None
    scores: dict[str, float]
    tracks: Tracks | None
    max_false_alarm: float = Share
    promise: Literal["calibration", "any-source", "new-source"] = Field(
        description="which of the three p-values the verdict rests on"
    )
    regions: list[RegionRecord]
    heatmap: str | None
    faces: list[FaceRecord]
    frames: list[FrameRecord]
    slices: list[SliceRecord]
    timeline: str | None
    notes: list[NoteAnswer]
    evidence: list[StatementAnswer]
    captured: str | None = Field(description="when the picture was taken, by its own word")
    against: ComparisonRecord | None
    seconds: float
    version: str


class Ticket(_Answer):
    """A job that was taken."""

    id: str
    state: str


class Picture(_Answer):
    uri: str = Field(description="data URI")
    caption: str


class Steps(_Answer):
    """How far a video or a volume has come."""

    stage: Literal["reading", "judging", "mapping"]
    done: int = Field(description="frames or slices of this stage")
    total: int
    share: float = Field(ge=0, le=1, description="of all the work on it")
    seconds_left: float | None = Field(description="null where that is not known yet")


class Progress(_Answer):
    """A job that has no finding, or none yet."""

    id: str
    state: Literal["waiting", "working", "failed", "withdrawn"]
    reason: str
    steps: Steps | None = Field(description="null before the first, and of a picture")


class Result(_Answer):
    """A job that is done."""

    id: str
    state: Literal["done"]
    record: Record
    words: str
    explained: str
    pictures: dict[str, Picture]
    section: str = Field(description="the finding as HTML")
    places: int = Field(description="regions that few normal inputs match")


class ServedModel(_Answer):
    name: str
    sha256: str
    n_calibration: int
    max_false_alarm: float
    most_bytes: int
    takes: list[Literal["image", "video", "volume"]]


class Health(_Answer):
    status: Literal["ok"]
    version: str
    waiting: int
