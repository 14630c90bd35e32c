"""Data sets of the Hugging Face hub: from the caches on this machine first, then from the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from astune.errors import TaskError
from astune.files import atomic_path

if TYPE_CHECKING:
    from datasets import DatasetDict

_PROBE_SECONDS = 10.0


def load_splits(repo: str, subset: str | None) -> DatasetDict:
    """Returns all splits of a data set of the hub.

    What is cached is used as it is, so that a run does not depend on the network: first what ``datasets`` prepared
    earlier, then a snapshot in the hub's own cache. Only then is it downloaded.

    Raises:
        TaskError: neither cached nor reachable (with the command that downloads it), or no such data set or subset.
    """
    _require_datasets(repo)
    cached = _from_datasets_cache(repo, subset) or _from_hub_cache(repo, subset)
    return cached if cached is not None else _from_network(repo, subset)


def download(repo: str, folder: Path, subset: str | None) -> list[Path]:
    """Writes each split to ``folder/{subset}/{split}.parquet``, whole or not at all; returns the files.

    Raises:
        TaskError: as :func:`load_splits`.
        CheckpointError: the folder is read-only or full.
    """
    files = []
    for split, data in load_splits(repo, subset).items():
        file = folder / (subset or "") / f"{split}.parquet"
        with atomic_path(file) as temporary:
            data.to_parquet(str(temporary))
        files.append(file)
    return files


def _require_datasets(repo: str) -> None:
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise TaskError(f"data set {repo!r}: reading it needs datasets: pip install 'astune[hf]'") from error


def _from_datasets_cache(repo: str, subset: str | None) -> DatasetDict | None:
    from datasets.packaged_modules.cache.cache import Cache

    try:
        builder = Cache(
            dataset_name=repo.rpartition("/")[2], repo_id=repo, config_name=subset, version="auto", hash="auto"
        )
    except ValueError:  # how it says that nothing, or not this subset, is cached
        return None
    builder.download_and_prepare()
    splits: DatasetDict = builder.as_dataset()
    return splits


def _from_hub_cache(repo: str, subset: str | None) -> DatasetDict | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(repo, repo_type="dataset", local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise TaskError(f"data set {repo!r}: no such folder, and no name of the hub (owner/name) either") from error
    if subset is not None and (snapshot / subset).is_dir():
        return _load(repo, subset, str(snapshot), data_dir=subset)
    return _load(repo, subset, str(snapshot), name=subset) if any(snapshot.rglob("*.*")) else None


def _from_network(repo: str, subset: str | None) -> DatasetDict:
    if not _is_hub_reachable():
        option = "" if subset == "main" else f" --subset={subset or ''}"
        raise TaskError(
            f"data set {repo!r}: there is no such folder here, it is not cached on this machine, and the hub cannot be "
            f"reached. Where it can, run\n"
            f"    python scripts/download_dataset.py --target={repo} --path=DIR{option}\n"
            f"copy DIR here, and set astune.task_reader.huggingface_dat_repo.path=DIR"
        )
    return _load(repo, subset, repo, name=subset)


def _is_hub_reachable() -> bool:
    """Asks once, because ``datasets`` retries for half a minute; any answer counts."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        httpx.head(constants.ENDPOINT, timeout=_PROBE_SECONDS)
    except httpx.HTTPError:
        return False
    return True


def _load(repo: str, subset: str | None, source: str, **options: Any) -> DatasetDict:
    import datasets

    try:
        splits: DatasetDict = datasets.load_dataset(source, **options)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise TaskError(f"data set {repo!r}, subset {subset!r}: {error}") from error
    return splits
