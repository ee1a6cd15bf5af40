"""What can go wrong for a user, each told in one line: what was expected, what came, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixelsleuth.records import Note


class PixelsleuthError(Exception):
    """An expected failure. The command line prints its text as one line and exits with 2."""


class InputError(PixelsleuthError):
    """An input that cannot be judged.

    Args:
        code: a stable word for programs, such as ``truncated`` or ``no_face``.
        sentence: the same for people.
        sha256: of the input's bytes, where they could be read.
        notes: what was done to read it, where it could be.
    """

    def __init__(self, code: str, sentence: str, sha256: str | None = None, notes: tuple[Note, ...] = ()) -> None:
        super().__init__(sentence)
        self.notes = notes
        self.sha256 = sha256
        self.code = code
        self.sentence = sentence


class ModelError(PixelsleuthError):
    """A model folder that cannot be loaded; the text names the file, the key and both shapes."""


class CalibrationError(PixelsleuthError):
    """A rate asked for that the calibration set cannot promise, or a calibration that does not fit."""
