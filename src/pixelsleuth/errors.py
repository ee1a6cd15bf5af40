"""Errors meant for users, one line each: what was expected, what was found, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixelsleuth.records import Note


class PixelsleuthError(Exception):
    """An expected failure. The command line prints it as one line and exits with 2.

    Args:
        text: what was expected, what came, what to do.
        setting: name of the argument it is about, "" for none; the command line prints it as an option.
    """

    def __init__(self, text: str = "", setting: str = "") -> None:
        super().__init__(f"{setting}: {text}" if setting else text)
        self.text, self.setting = text, setting


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
    """A model folder that cannot be loaded; the message names the file, the key and both shapes."""


class CalibrationError(PixelsleuthError):
    """A rate asked for that the calibration set cannot promise, or a calibration that does not fit."""


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Surround imports of optional dependencies: one that is missing becomes an error with the command to install it.

    Args:
        extra: its name in pyproject.toml.
        what: that needs it, as the error begins.
    """
    try:
        yield
    except ImportError as error:
        told = f"{what} needs {error.name}; in your copy of the repository run `pip install '.[{extra}]'`"
        raise PixelsleuthError(told) from error
