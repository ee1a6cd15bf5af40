"""The figures of the pages are those of results/, and those are of the bundled model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from experiments.tools import results_pages
from experiments.tools.results_pages import (
    BLOCK,
    BLOCKS,
    BUNDLED,
    PAGES,
    calibration_of,
    collect,
    filled,
    load,
    number,
    sha256_of,
    share_interval,
)
from scipy.stats import binomtest

ROOT = Path(__file__).parents[1]
SHA256 = json.loads((ROOT / "src/pixelsleuth/assets/faces/calibration.json").read_text())["model_sha256"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_was_measured(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert BLOCK.search(text)
    assert filled(text, load(ROOT / "results")) == text, "run python experiments/tools/results_pages.py"


def test_every_block_stands_on_a_page() -> None:
    found = {m[2] for name in PAGES for m in BLOCK.finditer((ROOT / name).read_text(encoding="utf-8"))}
    assert found == set(BLOCKS)


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "results").glob("*.json"))])
def test_results_are_of_the_bundled_model(name: str) -> None:
    tree = load(ROOT / "results")[name]
    if name == "protocols":
        for about in tree.values():
            if about["model"] in BUNDLED:
                assert about["model_sha256"] == calibration_of(about["model"])["model_sha256"], about["name"]
        return
    known = set(results_pages._found(tree, "model_sha256"))
    assert known == ({sha256_of(name)} - {""}), f"results/{name}.json: measure again, then collect"


def alarms(share: float) -> dict[str, Any]:
    rates = {rate: [share, share / 2, share * 2] for rate in results_pages.RATES}
    row = {
        **rates,
        "judged": 40,
        "of": 41,
        "verdicts": {verdict: rates for verdict in ("anomalous", "unsure")},
        "coloured": [0.0, 0.0, 0.0],
        "mean_scores": {"combined": 1.0},
    }
    return {"caltech1999": row, "pooled": rates}


def test_a_changed_figure_changes_its_block(tmp_path: Path) -> None:
    page = "# A page\n\n<!-- results:alarms -->\n<!-- /results -->\n\nThe end.\n"
    missing = filled(page, {})
    assert "Not measured with this model yet: `python experiments/studies/away.py alarms --maps" in missing
    once = filled(missing, {"away_alarms": alarms(0.05)})
    assert "5.0% [2.5, 10.0]" in once
    assert once.startswith("# A page\n\n<!-- results:alarms -->\n\n| source")
    assert once.endswith("--out RUNS`\n\n<!-- /results -->\n\nThe end.\n")
    assert filled(once, {"away_alarms": alarms(0.05)}) == once
    assert filled(once, {"away_alarms": alarms(0.06)}) != once


def test_collect_keeps_what_pages_need(tmp_path: Path) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results"
    runs.mkdir()
    (runs / "away_alarms.json").write_text(json.dumps(alarms(0.05) | {"model_sha256": SHA256}))
    collect(runs, results)
    kept = json.loads((results / "away_alarms.json").read_text())
    assert set(kept) == {"model_sha256", "caltech1999", "pooled"}
    assert "mean_scores" not in kept["caltech1999"]
    assert {path.name for path in results.iterdir()} == {"away_alarms.json", "left_out.json"}


def test_collect_refuses_figures_of_another_model(tmp_path: Path) -> None:
    (tmp_path / "away_alarms.json").write_text(json.dumps(alarms(0.05) | {"model_sha256": "0" * 64}))
    with pytest.raises(SystemExit, match="expected figures of the bundled model"):
        collect(tmp_path, tmp_path / "results")


def test_intervals_of_shares_are_wilsons() -> None:
    for hits, count in ((0, 40), (3, 39), (40, 40)):
        wilson = binomtest(hits, count).proportion_ci(method="wilson")
        assert share_interval(hits / count, count) == pytest.approx([hits / count, wilson.low, wilson.high], abs=1e-4)


def test_numbers_are_written_alike() -> None:
    assert [number(v) for v in (0.7359, -0.0204, 1.0, -0.0001)] == [".736", "-.020", "1.000", ".000"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8000


def test_the_example_of_a_record_is_of_the_bundled_model() -> None:
    assert f'"sha256": "{SHA256}"' in (ROOT / "docs/index.md").read_text(encoding="utf-8")


def test_the_source_is_named() -> None:
    """Nobody else knows which text *the text* is."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    for page in pages:
        assert not re.search(r"\b[Tt]he text's\b", page.read_text(encoding="utf-8")), page
