"""The examples of docs/autorl_bench/scenarios.md work as they stand."""

import re
from pathlib import Path

import pytest

from autorl_bench.scenarios import Roots, ScenarioRegistry, load_items, make_checker, prepare
from autorl_bench.types import Item

PAGE = Path(__file__).parents[3] / "docs" / "autorl_bench" / "scenarios.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my scenarios"
    folder.mkdir()
    (folder / "sums.yaml").write_text(blocks("yaml")[0])
    (folder / "parity.py").write_text(blocks("python")[1])
    (folder / "mine.py").write_text(blocks("python")[2])
    return folder


def test_one_yaml_is_a_scenario(folder: Path, roots: Roots):
    scenario = ScenarioRegistry([folder]).get("sums")
    prepare(scenario, roots)
    assert len(load_items(scenario, "test", roots, run_seed=1)) == 50
    assert len((roots.public / scenario.train_data_path).read_text().splitlines()) == 500


async def test_its_targets_are_answers_that_its_checker_takes(folder: Path, roots: Roots):
    scenario = ScenarioRegistry([folder]).get("sums")
    checker = make_checker(scenario)
    item = load_items(scenario, "dev", roots)[0]
    assert await checker.grade(item, f"The answer is {item.target}.") is True
    assert await checker.grade(item, f"The answer is {item.target}1.") is False


@pytest.mark.parametrize("said, correct", [("Even.", True), ("odd", False), ("perhaps", None)])
async def test_a_checker_beside_the_yaml_grades(folder: Path, said, correct):
    change(folder, "checker: math ", "checker: parity.py->Parity ")
    checker = make_checker(ScenarioRegistry([folder]).get("sums"))
    assert await checker.grade(Item("sums/1", [], "4"), said) is correct


def test_a_generator_beside_the_yaml_draws(folder: Path, roots: Roots):
    change(folder, "generator: reasoning_gym ", "generator: mine.py->Mine ")
    change(folder, "  arguments: {dataset: chain_sum, config: {min_terms: 3, max_terms: 3, max_digits: 2}}\n", "")
    item = load_items(ScenarioRegistry([folder]).get("sums"), "test", roots, run_seed=1)[0]
    assert item.messages[0]["content"].startswith("What is twice ")


def test_the_table_lists_every_bundled_scenario_with_its_baseline():
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+)[^|]*\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    registry = ScenarioRegistry()
    assert {name: float(score) for name, score in rows.items()} == {
        name: registry.get(name).baseline_score for name in registry.ids
    }


def change(folder: Path, old: str, new: str) -> None:
    file = folder / "sums.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
