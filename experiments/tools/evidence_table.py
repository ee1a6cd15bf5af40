"""What is said of each file that `tests/evidencefiles.py` makes, as the table of docs/evidence.md.

python experiments/tools/evidence_table.py docs/evidence.md
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.evidencefiles import write_evidence_files

from pixelsleuth.evidence.statements import evidence_of
from pixelsleuth.language import language
from pixelsleuth.sources.inputs import kind_of

BEGIN, END = "<!-- evidence -->\n", "<!-- /evidence -->"
#: Statements that nearly every file has: they are left out where there is another.
USUAL = ("c2pa_none", "tables_standard", "no_metadata", "thumbnail_agrees")


def table(folder: Path) -> str:
    """The table; `folder` is where the files are made."""
    rows = ["| file | what is said of it |", "| --- | --- |"]
    for name, path in write_evidence_files(folder / "files").items():
        told = evidence_of(path, kind_of(path)).statements
        telling = [one for one in told if one.code not in USUAL] or told
        said = " ".join(one.sentence(language()) for one in telling)
        # Which version of FFmpeg wrote the file differs from one machine to the next.
        rows.append(f"| `{name}` | {re.sub(r'Lavf [0-9]+[.0-9]+[0-9]', 'Lavf …', said)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    text = page.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    with tempfile.TemporaryDirectory() as made:
        page.write_text(before + BEGIN + table(Path(made)) + END + after, encoding="utf-8")
