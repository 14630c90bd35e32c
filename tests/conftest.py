"""What every test may ask for. No test reaches a network or opens a window."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.small_run import Astuner

# Read when a library is first imported, hence before any test module is.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests that run side by side would otherwise wait for each other's spinning threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def gsm8k(project_root: Path) -> Path:
    """The folder with GSM8K's train.jsonl and test.jsonl; skips where there is none."""
    folder = Path(os.environ.get("ASTUNE_GSM8K", project_root / "../shared/data/gsm8k")).resolve()
    if not (folder / "test.jsonl").is_file():
        pytest.skip("GSM8K is not here; name its folder with the environment variable ASTUNE_GSM8K")
    return folder


@pytest.fixture
def astuner(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Astuner:
    """The command, on a small configuration whose runs go to the test's own folder."""
    from astune.leftovers import MARK
    from tests.small_run import Astuner

    monkeypatch.setenv(MARK, "")  # restores the environment afterwards
    return Astuner(tmp_path, capsys)
