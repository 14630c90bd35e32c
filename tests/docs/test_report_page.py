"""The page on reports: its Python runs on what a run leaves behind, and its files are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from astune.report.run_folder import RunFolder
from tests.small_run import Astuner


@pytest.fixture
def run(astuner: Astuner, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run under the name that `make train` gives, in the working directory."""
    monkeypatch.chdir(astuner.folder)
    evaluated = ("evaluation.at_start=true", "evaluation.sampled=true", "evaluation.greedy=true")
    here = ("save_dir=saved_experiments", "name=math_agent", "tracking.report=true", "evaluation.n_heldout=2")
    assert astuner(*evaluated, *here, "rollout.max_tokens=8").status == 0
    return RunFolder("math_agent")


def test_what_the_page_prints_runs(project_root: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    page = (project_root / "docs/report.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    run.report.unlink()
    exec(code, {})
    assert run.report.stat().st_size > 10_000
    assert capsys.readouterr().out


def test_the_files_of_the_table_are_written(project_root: Path, run: RunFolder) -> None:
    page = (project_root / "docs/report.md").read_text(encoding="utf-8")
    table = page[page.index("| `config.yaml`") : page.index("| `tensorboard/`")]
    names = [name.replace("000010", "000001") for name in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)]
    assert len(names) == 9
    assert [name for name in names if not (run.path / name).exists()] == []
