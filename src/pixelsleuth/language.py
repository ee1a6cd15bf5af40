"""Texts shown to people, by language: one JSON file a language, with the same keys in all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

#: By their codes (ISO 639-1); the first is what is taken unless another is asked for.
LANGUAGES = ("en", "de")


@dataclass(frozen=True)
class Language:
    """One language's texts.

    Attributes:
        texts: key -> text with `{names}` to fill in.
    """

    code: str
    texts: dict[str, str]

    def __call__(self, key: str, **values: str) -> str:
        return self.texts[key].format(**values)

    def first_of(self, *keys: str) -> str:
        """The text of the first key that there is."""
        return next(self.texts[key] for key in keys if key in self.texts)

    def number(self, value: int) -> str:
        return f"{value:,}".replace(",", self.texts["thousands"])

    def decimal(self, value: float, form: str) -> str:
        """A number by a format such as `.4f`, with the language's decimal sign."""
        return format(value, form).replace(".", self.texts["point"])


@cache
def language(code: str = LANGUAGES[0]) -> Language:
    """The language with this code, or English where there is none."""
    known = code if code in LANGUAGES else LANGUAGES[0]
    text = resources.files("pixelsleuth").joinpath(f"languages/{known}.json").read_text("utf-8")
    return Language(known, json.loads(text))
