"""Models go to the Hub and come from it as folders; the Hub itself is played here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import ModelCard

from pixelsleuth import hub
from pixelsleuth.detector import Detector
from pixelsleuth.errors import ModelError, PixelsleuthError
from pixelsleuth.models.configuration import find_model


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A Hub that keeps what was uploaded under two revisions, and what it was asked."""
    asked: dict[str, Any] = {"folders": {}, "calls": []}

    class Api:
        def __init__(self, token: str | None = None) -> None:
            asked["token"] = token

        def create_repo(self, repo_id: str, **how: Any) -> None:
            asked["calls"].append(("create_repo", repo_id, how))

        def create_branch(self, repo_id: str, **how: Any) -> None:
            asked["calls"].append(("create_branch", repo_id, how))

        def upload_folder(self, *, repo_id: str, folder_path: Path, revision: str | None, **how: Any) -> Any:
            there = tmp_path / "hub" / (revision or "main")
            shutil.copytree(folder_path, there)
            asked["folders"][repo_id, revision] = there
            return SimpleNamespace(oid="c0ffee", commit_url=f"https://hub/{repo_id}")

    def snapshot_download(repo_id: str, *, revision: str | None = None, allow_patterns: Any = None, **how: Any) -> str:
        asked["calls"].append(("snapshot_download", repo_id, {"revision": revision, **how}))
        return str(asked["folders"][repo_id, revision])

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_model_that_was_pushed_is_the_one_that_is_loaded(
    model_folder: Path, detector: Detector, played: dict[str, Any]
) -> None:
    commit = hub.push_to_hub(model_folder, "me/shapes", licence="apache-2.0", private=True, branch="v1", token="t")
    assert commit == "c0ffee"
    assert played["token"] == "t"
    assert played["calls"][0] == ("create_repo", "me/shapes", {"private": True, "exist_ok": True})
    loaded = hub.from_pretrained("me/shapes", revision="v1", local_files_only=True)
    assert played["calls"][-1] == ("snapshot_download", "me/shapes", {"revision": "v1", "local_files_only": True})
    assert loaded.model.sha256 == detector.model.sha256
    assert find_model("me/shapes@v1") == (played["folders"]["me/shapes", "v1"], "me/shapes@v1")
    assert not (played["folders"]["me/shapes", "v1"] / "training").exists()
    with pytest.raises(ModelError, match="only models of the Hub have revisions"):
        hub.from_pretrained(model_folder, revision="v1")


def test_the_card_says_what_was_measured_and_is_valid(model_folder: Path, detector: Detector, tmp_path: Path) -> None:
    figures = {name: [0.9, 0.85, 0.95] for name in hub.MEASURED}
    found = {
        "scores": {"x": figures}, "default_score": "x", "model_sha256": detector.model.sha256, "n_normal": 10,
        "n_anomalous": 5, "data_sha256": "d" * 64,
    }  # fmt: skip
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(found))
    with pytest.raises(PixelsleuthError, match="holds no LICENSE-WEIGHTS"):
        hub.save_pretrained(model_folder, tmp_path / "out")
    hub.save_pretrained(model_folder, tmp_path / "out", repo_id="me/shapes", licence="apache-2.0", metrics=path)
    card = ModelCard.load(tmp_path / "out/README.md")
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "pixelsleuth")
    results = {one.metric_type: one for one in card.data.eval_results}
    assert results["auroc"].metric_value == 0.9
    assert results["auroc"].metric_name == "AUROC [0.850, 0.950]"
    assert card.text.lstrip().startswith("# Model card: me/shapes")
    assert detector.model.sha256 in card.text
    path.write_text(json.dumps(found | {"model_sha256": "other"}))
    with pytest.raises(PixelsleuthError, match="measured of another model"):
        hub.save_pretrained(model_folder, tmp_path / "again", licence="mit", metrics=path)
    hub.save_pretrained("brain_t1", tmp_path / "brain")
    card = ModelCard.load(tmp_path / "brain/README.md")
    assert (card.data.license, card.data.license_link) == ("other", "LICENSE-WEIGHTS")
    assert (tmp_path / "brain/atlas.safetensors").is_file()
