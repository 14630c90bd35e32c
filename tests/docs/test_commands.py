"""Every command that the pages print names a target, an option, a key and a script that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from astune import cli
from astune.config.explain import known_keys
from autorl_bench import cli as bench
from tests.docs.test_links import ROOT, pages

#: Pages of the library's own commands (the benchmark agents and tutorials on toys have their own).
PAGES = [page for page in pages() if page.startswith(("README", "docs/", "tutorial/example_"))]


def commands(page: str, program: str) -> list[str]:
    """Lines of code blocks that run ``program``, with their continuations, and without comments."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(rf"^(?: {{4,}}|\t)?(?:[A-Z_]+=\S+ )?({program} .*)$", text, re.MULTILINE)
    return [re.sub(r"\s{2,}#.*$", "", line) for line in lines]


def options_of(command: str) -> set[str]:
    """Long options that the command named first in ``command`` takes."""
    words = command.split()
    name = words[1] if words[1] in cli._COMMANDS else "train"
    return set(cli._COMMANDS[name][0]()._option_string_actions)


@pytest.mark.parametrize("page", PAGES)
def test_options_of_astuner_exist(page: str) -> None:
    for command in commands(page, "astuner"):
        assert set(re.findall(r"(?<!\S)\[?(--[a-z-]+)", command)) <= options_of(command), command


@pytest.mark.parametrize("page", PAGES)
def test_configuration_keys_on_the_command_line_exist(page: str) -> None:
    known = {".".join(key) for key in known_keys()}
    for command in commands(page, "astuner") + commands(page, "make"):
        keys = set(re.findall(r"(?:^|[ \"])\[?([a-z_]+(?:\.[a-z_]+)*)=", command)) - {"section.key"}
        assert {key for key in keys if not key.startswith("task_judge.arguments")} <= known, command


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = (ROOT / page).read_text(encoding="utf-8")
    named = {command.split()[1] for command in commands(page, "make")} | set(re.findall(r"`make ([a-z-]+)", text))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_scripts_exist(page: str) -> None:
    for command in commands(page, "python"):
        if (script := command.split()[1]).endswith(".py") and "/" in script:
            assert (ROOT / script).is_file() or (Path(ROOT / page).parent / script).is_file(), command


BENCH_PAGES = [page for page in pages() if page.startswith(("README", "docs/", "agents/"))]


@pytest.mark.parametrize("page", BENCH_PAGES)
def test_commands_of_the_benchmark_are_understood(page: str) -> None:
    for command in commands(page, "autorl-bench"):
        words = shlex.split(re.sub(r"\s#.*$", "", command))[1:]
        if words and not re.search(r"[|\[…]", command):
            bench._parser().parse_args(words)  # raises SystemExit where it isn't


def test_there_are_commands_to_check() -> None:
    assert len([command for page in BENCH_PAGES for command in commands(page, "autorl-bench")]) > 15
    assert len([command for page in PAGES for command in commands(page, "astuner")]) > 15
