"""Models on the Hugging Face Hub, with the usual method names: `from_pretrained`, `save_pretrained`, `push_to_hub`. A
model is its folder: nothing is pickled, and what is downloaded is checked like any folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelsleuth.errors import ModelError, PixelsleuthError
from pixelsleuth.files import whole_folder, write_text
from pixelsleuth.models.configuration import MODEL_FILES, digest_of, find_model, load_config
from pixelsleuth.reporting.card import card_of

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, EvalResult

    from pixelsleuth.detector import Detector

#: Of `metrics.json` what a card's header repeats, and what the Hub calls it.
MEASURED = {
    "auroc": "AUROC", "ap": "Average precision", "tpr_at_fpr_0.01": "Found at 1% false alarms",
    "tpr_at_fpr_0.05": "Found at 5% false alarms",
}  # fmt: skip


def from_pretrained(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str | None = None,
    **where: Any,
) -> Detector:
    """A detector by a model of the Hub, or by a folder.

    Args:
        model: a Hub id, with the revision behind an @ if there is one (`user/name@v1`), a folder or a bundled name.
        revision: a branch, a tag or, what alone never changes, the hash of a commit.
        dtype, device: as of `Detector.load`.
        where: what `huggingface_hub.snapshot_download` takes: `cache_dir`, `token`, `local_files_only`,
            `force_download`.

    Raises:
        ModelError: the model cannot be found or read.
    """
    from pixelsleuth.detector import Detector

    if revision is not None:
        if os.path.isdir(model) or "/" not in os.fspath(model):
            raise ModelError(f"only models of the Hub have revisions, which {model} is not", "revision")
        model = f"{model}@{revision}"
    folder, _ = find_model(model, **where)
    return Detector.load(folder, dtype, device)


def save_pretrained(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    repo_id: str | None = None,
    metrics: Path | None = None,
    licence: str | None = None,
    push_to_hub: bool = False,
    **to_hub: Any,
) -> str | None:
    """Write a model as a folder that the Hub takes: its files, and a card with the header that the Hub reads.

    Args:
        model: a folder, a bundled name or a Hub id; calibrated.
        folder: one that is not there yet.
        repo_id: the model's name on the Hub; its own unless given.
        metrics: `metrics.json` of `evaluate`: what was measured of this very model stands in the card.
        licence: an identifier of the Hub (`apache-2.0`, `cc-by-nc-4.0`); not needed where the model's folder holds
            LICENSE-WEIGHTS.
        push_to_hub: also push it; `to_hub`: as of `push_to_hub`.

    Returns:
        The address of the commit where it was pushed, else None.

    Raises:
        PixelsleuthError: no licence, metrics of another model, a model that is not calibrated, or a folder in use.
    """
    source, name = find_model(model)
    if not (source / "calibration.json").is_file():
        raise ModelError(f"{source}: the model is not calibrated; run `pixelsleuth calibrate` before it is shared")
    header = _header(source, metrics, licence)
    with whole_folder(Path(folder)) as partial:
        for path in sorted(source.iterdir()):
            if any(path.match(pattern) for pattern in MODEL_FILES):
                shutil.copyfile(path, partial / path.name)
        write_text(partial / "README.md", f"---\n{header}---\n\n{card_of(source, name=repo_id or name)}")
    if push_to_hub:
        return str(_uploaded(Path(folder), repo_id or Path(folder).name, **to_hub).commit_url)
    return None


def push_to_hub(
    model: str | os.PathLike[str],
    repo_id: str,
    *,
    metrics: Path | None = None,
    licence: str | None = None,
    commit_message: str = "Model of pixelsleuth",
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    create_pr: bool = False,
) -> str:
    """Upload a model, with its card, to a repository of the Hub, which is made where there is none.

    Args:
        repo_id: `user/name`.
        metrics, licence: as of `save_pretrained`.
        branch: that is written to, the main one unless given; create_pr: propose it in place of writing.
        token: of huggingface_hub; that of `hf auth login` unless given.

    Returns:
        The hash of the commit: whoever loads `repo_id@hash` gets these very files.

    Raises:
        PixelsleuthError: as `save_pretrained`, or the Hub refused.
    """
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "model"
        save_pretrained(model, folder, repo_id=repo_id, metrics=metrics, licence=licence)
        made = _uploaded(
            folder, repo_id, commit_message=commit_message, private=private, token=token, branch=branch,
            create_pr=create_pr,
        )  # fmt: skip
    return str(made.oid)


def _uploaded(
    folder: Path,
    repo_id: str,
    *,
    commit_message: str = "Model of pixelsleuth",
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if branch is not None and not create_pr:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        return api.upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message=commit_message, revision=branch, create_pr=create_pr
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PixelsleuthError(f"{repo_id}: the Hub did not take the model ({reason})", "repo_id") from error


def _header(source: Path, metrics: Path | None, licence: str | None) -> str:
    """What the Hub reads of a card, as YAML."""
    from huggingface_hub import ModelCardData

    own = (source / "LICENSE-WEIGHTS").is_file()
    if not own and licence is None:
        raise PixelsleuthError(
            f"{source} holds no LICENSE-WEIGHTS: name the licence of the weights, as apache-2.0 or other", "licence"
        )
    config = load_config(source)
    kind = {"face": "image-forensics", "volume": "medical"}.get(config.preprocessing["crop"])
    data = ModelCardData(
        license="other" if own else licence,
        license_name="terms-of-the-weights" if own else None,
        license_link="LICENSE-WEIGHTS" if own else None,
        library_name="pixelsleuth",
        tags=["anomaly-detection", "vq-vae", *([kind] if kind else [])],
        model_name=source.resolve().name,
        eval_results=_measured(source, metrics) if metrics else None,
    )
    return str(data.to_yaml(line_break="\n")).rstrip("\n") + "\n"


def _measured(source: Path, path: Path) -> list[EvalResult]:
    """The default score's figures on what `evaluate` was given, with their 95% intervals in the names."""
    from huggingface_hub import EvalResult

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        figures, digest = found["scores"][found["default_score"]], found["model_sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise PixelsleuthError(f"{path}: expected metrics.json of `evaluate` ({error!r})", "metrics") from error
    if digest != digest_of(source, load_config(source)):
        raise PixelsleuthError(f"{path}: measured of another model; evaluate this one", "metrics")
    data = f"{found['n_normal']} normal and {found['n_anomalous']} anomalous inputs"
    return [
        EvalResult(
            task_type="image-classification",
            task_name="Anomaly detection",
            dataset_type=str(found["data_sha256"]),
            dataset_name=data,
            metric_type=name,
            metric_name=f"{title} [{low:.3f}, {high:.3f}]",
            metric_value=round(value, 4),
        )
        for name, title in MEASURED.items()
        for value, low, high in [figures[name]]
    ]
