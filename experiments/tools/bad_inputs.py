"""What `pixelsleuth detect` says to every kind of broken or odd file that the tests make, as a page of documentation.

python experiments/tools/bad_inputs.py > docs/bad-inputs.md
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.badfiles import BAD, ODD, write_bad_files
from tests.videofiles import broken_videos
from tests.volumefiles import bad_volumes

from pixelsleuth.errors import InputError
from pixelsleuth.sources.faces import Sizes
from pixelsleuth.sources.inputs import kind_of
from pixelsleuth.sources.samples import CropSettings, read_sample
from pixelsleuth.sources.scans.volumes import read_volume

HEAD = """# What bad and odd files get

Made by `python experiments/tools/bad_inputs.py` from the files that the tests make; a test compares the two.
None of these files stops a run over many. Given alone, a file that is not judged ends `detect` with exit code 2. What
each code of a note means: [notes](notes.md).

Every other file of a folder gets a record too. Files that are plainly no picture, video or scan (`.txt`, `.json`,
`.DS_Store`, hidden files and the like) are left out, counted, and named in one line at the end.

Refused, with verdict `not_applicable`:

| file | code | sentence |
| --- | --- | --- |
"""
MIDDLE = """
Read, with what the record's notes say:

| file | note's code | sentence |
| --- | --- | --- |
"""
SCANS = """
Scans, judged by a model for scans:

| file | code | sentence |
| --- | --- | --- |
"""


def page(folder: Path) -> str:
    """The whole page; `folder` is where the files are made."""
    files = folder / "files"
    files.mkdir()
    write_bad_files(files)
    videos = [path.name for path in broken_videos(files)]
    how = CropSettings(Sizes(128, 128), "none")
    text = HEAD
    for name in (*BAD, *videos):
        try:
            read_sample(files / name, kind_of(files / name), how)
        except InputError as error:
            text += _row(name, error.code, error.sentence)
    text += MIDDLE
    for name in ODD:
        notes = read_sample(files / name, kind_of(files / name), how).notes
        text += "".join(_row(name, note.code, note.sentence) for note in notes) or _row(name, "", "read as it is")
    text += SCANS
    for path in bad_volumes(folder / "volumes").values():
        try:
            read_volume(path)
        except InputError as error:
            text += _row(path.name, error.code, error.sentence)
    return text


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        print(page(Path(made)), end="")
