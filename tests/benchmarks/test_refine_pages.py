"""The numbers that pages state about refinement are those of the committed results."""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def results(project_root: Path) -> Path:
    return project_root / "benchmarks" / "results"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def row_of(page: str, label: str) -> list[str]:
    """The cells after ``label`` of the one table row that begins with it."""
    [cells] = re.findall(rf"^\| {re.escape(label)} \|(.*)\|$", page, re.MULTILINE)
    return [cell.strip() for cell in cells.split("|")]


@pytest.fixture
def writer(project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_root / "scripts"))
    import write_benchmark_docs as module

    monkeypatch.setattr(module, "REFINE_FIGURE", tmp_path / "figure.png")
    return module


@pytest.mark.parametrize("section", ["refine_training", "refine_cost"])
def test_the_benchmark_page_holds_what_its_script_writes(writer: ModuleType, project_root: Path, section: str):
    page = (project_root / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert getattr(writer, section)() in page


def test_the_examples_table_is_the_mean_over_the_seeds(results: Path, project_root: Path):
    runs = read(results / "refine_training.json")["runs"]
    page = (project_root / "tutorial" / "example_self_refine" / "README.md").read_text(encoding="utf-8")

    def mean(name: str) -> str:
        return f"{100 * fmean(run['sampled'][name]['rate'] for run in runs):.0f} %"

    before = f"{mean('untrained_joint_t2')} with critiques, {mean('untrained_joint_no_critique_t2')} without"
    assert row_of(page, "before") == [mean("untrained_t1"), before]
    with_critiques, without = (
        row_of(page, f"after 40 steps {how}") for how in ("with critiques (this file)", "without critiques")
    )
    assert with_critiques == [mean("joint_t1"), mean("joint_t2")]
    assert without == [mean("joint_no_critique_t1"), mean("joint_no_critique_t2")]
    rivals = [mean("plain_for_joint_no_critique_t1"), mean("plain_for_joint_t1")]
    assert [re.search(rf"reaches\s+{rival}", page) is not None for rival in rivals] == [True, True]


def test_the_table_of_strategies_is_that_of_the_largest_budget(results: Path, project_root: Path):
    document = read(results / "refine_strategies.json")
    page = (project_root / "docs" / "refine.md").read_text(encoding="utf-8")
    for name, by_budget in document["strategies"].items():
        one = by_budget[str(max(document["options"]["budgets"]))]
        (low, high), (below, above) = one["ci95"], one["minus_plain_ci95"]
        difference = f"{one['minus_plain']:+.3f} [{below:+.3f}, {above:+.3f}]"
        plain = name == "plain"
        cells = row_of(page, "plain: one answer" if plain else name)
        shown = [re.findall(r"[+-]?\d+\.?\d*", cell) for cell in cells]
        wanted = [f"{one['accuracy']:.3f} [{low:.3f}, {high:.3f}]", "" if plain else difference]
        wanted += [f"{one['tokens']:.0f}", f"{one['prompt_tokens']:.0f}"]
        expected = [re.findall(r"[+-]?\d+\.?\d*", cell) for cell in wanted]
        assert [len(cell) for cell in shown] == [len(cell) for cell in expected]
        for a, b in zip(chain(*shown), chain(*expected), strict=True):
            assert float(a) == pytest.approx(float(b), abs=1.01 * 10 ** -len(b.partition(".")[2]))


@pytest.mark.parametrize("model", ["tiny-llava", "tiny-qwen2vl"])
def test_the_vision_language_table_is_the_mean_over_the_seeds(project_root: Path, model: str):
    folder = project_root / "tutorial" / "example_self_refine_vlm"
    page = (folder / "README.md").read_text(encoding="utf-8")
    block = page[page.index(f"| {model} | before |") :].splitlines()[:3]
    runs = read(folder / f"measured_{model}.json")["runs"]
    for line, run in zip(block, ("before", "refine", "plain"), strict=True):
        found = [float(value) for value in re.findall(r"(\.\d\d) ±", line)]
        names = ("accuracy_t1", "accuracy_t2", "p_c_given_i", "p_i_given_c")
        means = [fmean(row[name] for row in runs if row["run"] == run) for name in names]
        assert found == pytest.approx(means, abs=0.0051)
