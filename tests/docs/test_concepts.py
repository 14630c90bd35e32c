"""The page on concepts: its example prints what it says, and the numbers that it explains are written by real runs."""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
from pathlib import Path

import pytest

from astune.config.explain import known_keys
from tests.small_run import Astuner

#: Names that stand for a family of metrics.
FAMILIES = {"episodes_failed/{kind}", "reward/{part}", "split/{reason}"}


@pytest.fixture
def page(project_root: Path) -> str:
    return (project_root / "docs/concepts.md").read_text(encoding="utf-8")


def table(page: str) -> list[str]:
    """The rows of the table that tells how to read a run."""
    return page[page.index("| in `metrics.jsonl`") : page.index("Notes. `loss`")].strip().splitlines()[2:]


def test_the_example_prints_what_the_page_says(page: str) -> None:
    [code, printed] = re.findall(r"```python\n(.*?)```\n\n(.*?)\n\n", page, re.DOTALL)[0]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, {})
    assert said.getvalue() == textwrap.dedent(printed) + "\n"


def test_every_number_that_is_explained_is_written_by_a_run(page: str, astuner: Astuner) -> None:
    # Every answer is rewarded differently, so that the groups are informative.
    (astuner.folder / "judge.py").write_text(
        "class Ids:\n    def compute_reward(self, evidence):\n"
        "        ids = [id_ for turn in evidence['grouped_steps'] for id_ in turn.completion_ids]\n"
        "        return sum(ids), True, {'part': sum(ids)}\n"
    )
    judge = f"task_judge.judge_protocol={astuner.folder}/judge.py->Ids"
    assert astuner(judge, "task_judge.arguments={}", "trainer.beta=0.1", "rollout.max_tokens=8").status == 0
    [row] = astuner.run.read_metrics()
    named = {name for line in table(page) for name in re.findall(r"`([^`]+)`", line.split("|")[1])}
    assert named - FAMILIES <= set(row)
    assert {"reward/part", "split/template"} <= set(row)


def test_every_setting_that_is_advised_exists(page: str) -> None:
    known = {key[-1] for key in known_keys()}
    named = {name for line in table(page) for name in re.findall(r"`(\w+)(?:: [\d.]+)?`", line.split("|")[3])}
    assert {"learning_rate", "epsilon_high", "beta"} <= named & known
    assert named - known - {"dapo"} == set()
