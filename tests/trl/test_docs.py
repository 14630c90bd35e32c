"""The snippets of docs/trl.md run as printed, and do what the page says."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.trl.conftest import Trainers


def snippets(project_root: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (project_root / "docs/trl.md").read_text(), re.S)


@pytest.mark.parametrize("use_critique", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_run_on_word_problems(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, use_critique: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    code = snippets(project_root)[0].replace("use_critique=True", f"use_critique={use_critique}")
    names: dict[str, Any] = {}
    exec(compile(code, "docs/trl.md", "exec"), names)

    history = names["trainer"].state.log_history
    losses = [row["loss"] for row in history if "loss" in row]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert any("refine/accuracy_t2" in row for row in history)
    assert any("eval_refine/accuracy_t2" in row for row in history)
    rows = [json.loads(line) for line in (tmp_path / "refined/self_refine_log.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 8 + 16
    refined = [row for row in rows if row["refined"] is not None]
    assert all((row["critique"] is not None) is use_critique for row in refined)
    assert not any(row["was_correct_at_t1"] for row in refined)
    assert "📊 Self-Refine Agent Evaluation (Batch 3):" in capsys.readouterr().out


def test_the_agent_of_ones_own(project_root: Path, text_trainer: Trainers) -> None:
    exec(compile(snippets(project_root)[1], "docs/trl.md", "exec"), {})
    trainer = text_trainer(agent_type="custom")
    trainer.train()
    assert trainer.state.global_step == 2
