"""The Dockerfiles, as far as they can be read without an engine."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ["env/training/Dockerfile", "env/eval/Dockerfile"]
INSTRUCTIONS = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "CMD", "EXPOSE"}


def instructions(file: str) -> list[tuple[str, str]]:
    """Each instruction with its words; comments gone and lines joined, as the builder does."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if line.strip() and not line.startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines()]


def words_of(file: str, name: str) -> list[str]:
    return [words for instruction, words in instructions(file) if instruction == name]


@pytest.mark.parametrize("file", FILES)
class TestEachFile:
    def test_every_line_is_an_instruction(self, file):
        assert {name for name, _ in instructions(file)} <= INSTRUCTIONS
        assert [name for name, _ in instructions(file)][:2] == ["ARG", "FROM"]

    def test_the_base_is_one_version(self, file):
        (base,) = words_of(file, "FROM")
        (version,) = [words for words in words_of(file, "ARG") if words.startswith("PYTHON=")]
        assert base == "python:${PYTHON}-slim-bookworm"
        assert re.fullmatch(r"PYTHON=3\.\d+\.\d+", version)

    def test_every_variable_was_declared(self, file):
        declared = {words.partition("=")[0] for words in words_of(file, "ARG")}
        used = set(re.findall(r"\$\{(\w+)\}", (ROOT / file).read_text()))
        assert used <= declared

    def test_what_is_copied_is_there_and_reaches_the_builder(self, file):
        allowed = (ROOT / f"{file}.dockerignore").read_text().splitlines()
        sources = [source for words in words_of(file, "COPY") for source in words.split()[:-1]]
        assert sources
        assert [source for source in sources if not (ROOT / source).exists()] == []
        assert [source for source in sources if f"!{source}" not in allowed] == []

    def test_what_the_project_is_built_from_is_copied(self, file):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
        needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"], "LICENSE"}
        copied = {source for words in words_of(file, "COPY") for source in words.split()[:-1]}
        assert needed <= copied

    def test_the_project_is_installed_by_the_constraints_with_known_extras(self, file):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        (install,) = [words for words in words_of(file, "RUN") if '".[' in words]
        assert "-c constraints.txt" in install
        assert set(re.search(r"\.\[([\w,]+)\]", install)[1].split(",")) <= set(extras)

    def test_it_does_not_run_as_root(self, file):
        user = words_of(file, "USER")[-1]
        assert f"--create-home {user}" in " ".join(words_of(file, "RUN"))

    def test_the_command_is_a_list_of_words(self, file):
        (command,) = words_of(file, "CMD")
        assert all(isinstance(word, str) for word in json.loads(command))


def test_the_libraries_of_training_are_those_that_the_project_was_tested_with():
    text = (ROOT / "env/training/Dockerfile").read_text()
    (trl,) = re.findall(r"TRL=([\d.]+)", text)
    assert f"trl=={trl}" in (ROOT / "constraints.txt").read_text().splitlines()
