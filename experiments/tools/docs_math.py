"""Equations of the documentation as MathML, so that a page needs no script and no network: a hook of mkdocs.yml.

`pymdownx.arithmatex` finds $...$ and $$...$$, which also GitHub renders; latex2mathml translates them when the site is
built, and browsers set MathML by themselves. KaTeX and MathJax would be a megabyte of script and fonts to carry along.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.S)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.S)


def mathml(latex: str, display: str) -> str:
    """One equation. Raises ValueError where a command was not understood: it would be printed as it stands."""
    made = convert(html.unescape(latex).strip(), display=display)
    if "\\" in made:
        raise ValueError(f"not understood as LaTeX: {latex}")
    return made


def on_page_content(content: str, **_: Any) -> str:
    content = _BLOCK.sub(lambda found: f'<div class="math-block">{mathml(found[1], "block")}</div>', content)
    return _INLINE.sub(lambda found: mathml(found[1], "inline"), content)
