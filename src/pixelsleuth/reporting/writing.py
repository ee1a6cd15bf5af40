"""Write findings as files: JSON Lines, CSV, Parquet, and heatmaps as 16-bit PNG, or as NIfTI for volumes."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import check_file, whole_file
from pixelsleuth.records import RECORD_FIELDS, Finding, Verdict
from pixelsleuth.sources.scans.volumes import save_volume

FORMATS = ("jsonl", "csv", "parquet")
#: Fields of a record that are numbers or null.
NUMBERS = {"p_value", "p_value_any_source", "p_value_new_source", "score", "max_false_alarm", "seconds"}


def name_of(finding: Finding, number: int) -> str:
    """A beginning of file names that two inputs of one run never share and that no input's own name can steer."""
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(finding.path).stem)[:60] or "input"
    # File systems count bytes; what is written behind it must find room, too.
    return f"{number:06d}_{stem.encode()[:180].decode(errors='ignore')}"


def save_heatmap(finding: Finding, folder: Path, number: int) -> Finding:
    """Write the heatmap (share of normal pixels less unusual, 65535 is 1), of a video those of its most unusual frames
    and its timeline, and give the finding with their names."""
    name = name_of(finding, number)
    if finding.stills:
        frames = list(finding.frames)
        for still in finding.stills:
            frame = frames[still.frame]
            file = _save_map(still.heatmap, folder, f"heatmaps/{name}_frame_{frame.index:06d}_heatmap.png")
            frames[still.frame] = replace(frame, heatmap_file=file)
        finding = replace(finding, frames=tuple(frames), heatmap_file=frames[finding.stills[0].frame].heatmap_file)
    elif finding.heatmap is not None and finding.affine is not None:
        file = f"heatmaps/{name}_heatmap.nii.gz"
        save_volume(folder / file, finding.heatmap, finding.affine, finding.unit)
        finding = replace(finding, heatmap_file=file)
    elif finding.heatmap is not None:
        finding = replace(finding, heatmap_file=_save_map(finding.heatmap, folder, f"heatmaps/{name}_heatmap.png"))
    if finding.frames:
        # Heavy, and of no use to those who judge pictures.
        from pixelsleuth.reporting.figures import png_of
        from pixelsleuth.reporting.timeline import timeline

        file = f"timelines/{name}_timeline.png"
        with whole_file(folder / file) as partial:
            partial.write_bytes(png_of(timeline(finding)))
        finding = replace(finding, timeline_file=file)
    return finding


def _save_map(heatmap: np.ndarray, folder: Path, name: str) -> str:
    values = np.zeros(heatmap.shape, np.uint16)
    rows, columns = (np.flatnonzero(heatmap.any(axis)) for axis in (1, 0))
    if len(rows):
        # Of a large photograph a face is a small part.
        where = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        # Shares are at most 1, so that nothing can overflow.
        values[where] = np.rint(heatmap[where] * np.float32(65535))
    good, data = cv2.imencode(".png", values)
    if not good:
        raise OSError(f"{name}: the PNG encoder failed")
    with whole_file(folder / name) as partial:
        partial.write_bytes(data.tobytes())
    return name


class RecordWriter:
    """Writes records one by one, each line as soon as it is known; Parquet, which has no lines, at the end.

    Args:
        path: the file; None: JSON Lines or CSV to `stream`.
        kind: one of `FORMATS`.
        more: write behind what is in the file.
    """

    def __init__(self, path: Path | None, kind: str, stream: IO[str], more: bool = False) -> None:
        self.kind = kind
        self._rows: list[dict[str, Any]] = []
        self._path = path
        if path is not None:
            check_file(path)
        if path is not None and kind != "parquet":
            self._stream: IO[str] = open(path, "a" if more else "w", encoding="utf-8", newline="")  # noqa: SIM115
        else:
            self._stream = stream
        self._table = csv.DictWriter(self._stream, RECORD_FIELDS) if kind == "csv" else None
        if self._table:
            self._table.writeheader()

    def write(self, record: dict[str, Any]) -> None:
        if self.kind == "jsonl":
            self._stream.write(_line(record, getattr(self._stream, "encoding", None) or "utf-8") + "\n")
        elif self._table:
            self._table.writerow(_flat(record, getattr(self._stream, "encoding", None) or "utf-8"))
        else:
            self._rows.append(_flat(record))
        self._stream.flush()

    def close(self) -> None:
        if self.kind == "parquet" and self._path is not None:
            import pyarrow as pa
            import pyarrow.parquet as pq

            # Named, not inferred: a column without a value would be of another type in each file.
            schema = pa.schema([(name, pa.float64() if name in NUMBERS else pa.string()) for name in RECORD_FIELDS])
            columns = {name: [row[name] for row in self._rows] for name in RECORD_FIELDS}
            with whole_file(self._path) as partial:
                pq.write_table(pa.table(columns, schema), partial)
        if self._path is not None and self.kind != "parquet":
            self._stream.close()


def written_behind(
    found: Iterable[Finding],
    writer: RecordWriter,
    folder: Path | None,
    also: Callable[[Finding], None] = lambda finding: None,
    first: int = 0,
) -> Iterator[Verdict]:
    """Write heatmaps (into `folder`, if there is one) and records in a thread of its own, while the next inputs are
    computed; give each verdict once its record is written. At most two findings wait. `also` gets each finding there
    too, while its arrays are at hand; `first` is the number of the first, for the names of files."""

    def write(finding: Finding, number: int) -> Verdict:
        if folder is not None:
            finding = save_heatmap(finding, folder, number)
        writer.write(finding.record())
        also(finding)
        return finding.verdict

    waiting: deque[Future[Verdict]] = deque()
    # One thread: records stay in order.
    with ThreadPoolExecutor(1) as pool:
        for number, finding in enumerate(found, first):
            waiting.append(pool.submit(write, finding, number))
            if len(waiting) > 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def kept_records(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON Lines file, none where there is no file. A last line that was cut off when its run was
    stopped is taken off the file.

    Raises:
        PixelsleuthError: another line is no record.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
        with whole_file(path) as partial:
            partial.write_bytes(b"".join(lines))
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise PixelsleuthError(f"{path} is no file of records ({error}); write to another folder") from error


def _line(record: dict[str, Any] | list[Any], encoding: str) -> str:
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode(encoding, "strict")
    except UnicodeEncodeError:
        # A file's name need not be text, nor does a terminal know every letter; JSON's escapes bring both back.
        return json.dumps(record)
    return text


def _flat(record: dict[str, Any], encoding: str = "utf-8") -> dict[str, Any]:
    """Nested fields as JSON text, so that every format has the same columns; bytes of a name that are no text, and
    letters that the encoding does not know, are escaped."""
    flat = {k: _line(v, encoding) if isinstance(v, list | dict) else v for k, v in record.items()}
    return {
        k: v.encode(encoding, "backslashreplace").decode(encoding) if isinstance(v, str) else v for k, v in flat.items()
    }
