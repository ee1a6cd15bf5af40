"""LOG.md can be searched: newest first, every title asks, every entry stands in the index."""

from __future__ import annotations

import re
from pathlib import Path

LOG = (Path(__file__).parents[1] / "LOG.md").read_text(encoding="utf-8")
TITLES = [title for title in re.findall(r"^## (.*)$", LOG, re.M) if title != "Index"]
ROWS = re.findall(r"^\| (.+\?) \| (.+) \| \[([\d-]+)\]\(#(.+)\) \|$", LOG, re.M)


def anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_every_title_is_a_dated_question() -> None:
    assert len(TITLES) > 10
    for title in TITLES:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d: .+\?( \(negative.*\))?", title), title


def test_entries_stand_newest_first() -> None:
    dates = [title[:10] for title in TITLES]
    assert dates == sorted(dates, reverse=True)


def test_the_index_names_every_entry() -> None:
    assert {row[3] for row in ROWS} == {anchor(title) for title in TITLES}
    for _, verdict, date, target in ROWS:
        assert re.match(r"(kept|rejected|superseded|negative|open)\b", verdict), verdict
        assert target.startswith(date)
