"""Items of a scenario's splits, from its seeded generator or from the vault's files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import cast

from astune.errors import TaskError
from astune.task_reader.dataset_file import read_dataset_file
from astune.task_reader.types import Task
from autorl_bench.scenarios.generators import BUNDLED_GENERATORS
from autorl_bench.scenarios.parts import make_part
from autorl_bench.scenarios.problem import Generator, Problem, region_of
from autorl_bench.scenarios.schema import DataFile, Files, Scenario
from autorl_bench.types import Item, Split

_HIDDEN: tuple[Split, ...] = ("test", "twin")
_MAX_REPEATS = 20_000


@dataclass(frozen=True, slots=True)
class Roots:
    """Two folders: ``public`` holds assets/ and is an agent's to read; ``vault`` is the grader's alone."""

    public: Path
    vault: Path

    def fill(self, how: str) -> str:
        """A scenario's ``how`` with the folders in place of ``{public}`` and ``{vault}``."""
        return how.replace("{public}", str(self.public)).replace("{vault}", str(self.vault))


def load_items(scenario: Scenario, split: Split, roots: Roots, run_seed: int | None = None) -> list[Item]:
    """The items of one split, always in the same order.

    Args:
        scenario: whose items.
        split: ``train`` and ``dev`` are the same for all runs; ``test`` and ``twin`` of a generator are the run's own.
        roots: where files are; a generator needs none.
        run_seed: secret and of many bits, because the generators are public; files ignore it.

    Raises:
        TaskError: files are missing or not as they should be, or there are too few problems.
        ValueError: ``run_seed`` is missing where the split is drawn with it.
    """
    return [_item(scenario, problem) for problem in load_problems(scenario, split, roots, run_seed)]


def load_problems(scenario: Scenario, split: Split, roots: Roots, run_seed: int | None = None) -> list[Problem]:
    """As :func:`load_items`, with worked solutions: for the training data and for the grader's own use."""
    if scenario.source.files is not None:
        return _from_files(scenario, scenario.source.files, split, roots)
    if split in _HIDDEN and run_seed is None:
        raise ValueError(f"scenario {scenario.id}: its {split} items are drawn anew for each run; give the run's seed")
    seed = run_seed if split in _HIDDEN else scenario.seed
    return _from_generator(scenario, split, f"{scenario.id}:{split}:{seed}")


def _item(scenario: Scenario, problem: Problem) -> Item:
    prompt = scenario.prompt
    system = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    user = {"role": "user", "content": prompt.user.replace("{question}", problem.question)}
    return Item(problem_id(scenario, problem), [*system, user], problem.target)


def problem_id(scenario: Scenario, problem: Problem) -> str:
    """An id that says nothing of the problem but which it is."""
    return f"{scenario.id}/{_hash(problem.key)[:16]}"


# --- generators -------------------------------------------------------------------------------------------------


def _from_generator(scenario: Scenario, split: Split, seed: str) -> list[Problem]:
    """Draws until the split has its number of distinct problems."""
    n = scenario.n.of(split) or 0
    generator, rng = make_generator(scenario), Random(seed)
    problems: dict[str, Problem] = {}
    repeats = 0
    while len(problems) < n:
        problem = generator.draw(rng, len(problems))
        if region_of(problem.key) == split and problem.key not in problems:
            problems[problem.key] = problem
            repeats = 0
        elif (repeats := repeats + 1) > _MAX_REPEATS:
            raise TaskError(
                f"scenario {scenario.id}: its generator has only {len(problems)} distinct problems for {split}; "
                f"set n.{split} to that, or widen source.arguments"
            )
    return list(problems.values())


def make_generator(scenario: Scenario) -> Generator:
    """The scenario's generator, made with its arguments.

    Raises:
        ConfigError: there is none of this name, or it refuses the arguments.
    """
    source = scenario.source
    part = make_part(source.generator or "", "generator", BUNDLED_GENERATORS, source.arguments, "draw")
    return cast(Generator, part)


# --- files ------------------------------------------------------------------------------------------------------


def _from_files(scenario: Scenario, files: Files, split: Split, roots: Roots) -> list[Problem]:
    """Test is the test file; dev is set apart from the training file; no question of one is in another."""
    if split == "twin":
        raise TaskError(f"scenario {scenario.id}: its problems come from files, and files have no twin")
    test = _read(files.test, roots)
    if split == "test":
        return _first(list(test.values()), scenario.n.test, scenario, split)
    rest = [problem for key, problem in _read(files.train, roots).items() if key not in test]
    by_hash = sorted(rest, key=lambda problem: _hash(f"{scenario.seed}:{problem.key}"))
    dev = _first(by_hash, scenario.n.dev, scenario, "dev")
    if split == "dev":
        return dev
    apart = {problem.key for problem in dev}
    return _first([problem for problem in rest if problem.key not in apart], scenario.n.train, scenario, split)


def _read(file: DataFile, roots: Roots) -> dict[str, Problem]:
    """The file's problems by key; of records with the same question the first counts."""
    path = roots.vault / file.path
    if not path.is_file():
        raise TaskError(f"{path}: no such file. Get it: {roots.fill(file.how)}")
    if file.sha256 is not None and (found := hash_of(path)) != file.sha256:
        raise TaskError(
            f"{path}: its SHA-256 is {found}, not {file.sha256}: another version. Get it: {roots.fill(file.how)}"
        )
    problems: dict[str, Problem] = {}
    for task in read_dataset_file(path, question_key=file.question_key, answer_key=file.answer_key):
        problem = _from_task(task)
        problems.setdefault(problem.key, problem)
    return problems


def _from_task(task: Task) -> Problem:
    key = " ".join(task.main_query.split()).casefold()
    answer = task.answer or ""
    return Problem(key, task.main_query, answer, task.metadata.get("solution", answer))


def _first(problems: list[Problem], n: int | None, scenario: Scenario, split: Split) -> list[Problem]:
    if n is not None and len(problems) < n:
        raise TaskError(f"scenario {scenario.id}: n.{split} is {n}, but its files hold {len(problems)}")
    return problems[:n]


def hash_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
