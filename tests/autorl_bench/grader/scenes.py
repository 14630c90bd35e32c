"""Scenarios whose checker does as a test says: waits, dies, raises."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from autorl_bench.scenarios import Scenario
from autorl_bench.scenarios.registry import load_scenario
from tests.autorl_bench.small_bench import CHECKER, SmallBench, write_scenario

#: Notes each item that it grades; holds when so many were, while the file ``hold`` says so.
HOLDING = f"""\
import time
from pathlib import Path

{CHECKER}

class Holding(Words):
    def __init__(self, folder):
        self.folder = Path(folder)

    async def grade(self, item, completion):
        graded, hold = self.folder / "graded", self.folder / "hold"
        while hold.exists() and len(graded.read_text().splitlines()) >= int(hold.read_text()):
            (self.folder / "held").touch()
            time.sleep(0.02)
        with graded.open("a") as lines:
            lines.write(item.id + "\\n")
        return await super().grade(item, completion)
"""
DEADLY = """\
import os

class Words:
    async def grade(self, item, completion):
        os._exit(9)
"""
RAISING = """\
class Words:
    async def grade(self, item, completion):
        raise ValueError("the reference is not to be read")
"""


@dataclass(frozen=True)
class Hold:
    """Stops evaluations of its scenario before the n-th item that is graded from now on."""

    scenario: Scenario
    folder: Path

    def after(self, n: int) -> None:
        (self.folder / "graded").write_text("")
        (self.folder / "held").unlink(missing_ok=True)
        (self.folder / "hold").write_text(str(n))

    @property
    def reached(self) -> bool:
        return (self.folder / "held").exists()

    def release(self) -> None:
        (self.folder / "hold").unlink(missing_ok=True)


def holding(small: SmallBench, name: str) -> Hold:
    """A scenario that can be held; each test has one of its own."""
    folder = small.scenarios.parent / f"hold-{name}"
    folder.mkdir()
    (folder / "graded").write_text("")
    arguments = json.dumps({"folder": str(folder)})
    changes = (("->Words", "->Holding"), ("seed: 7", f"seed: 7\nchecker_arguments: {arguments}"))
    return Hold(load_scenario(write_scenario(folder, *changes, name=name, checker=HOLDING)), folder)


def broken(small: SmallBench, name: str, checker: str) -> Scenario:
    """A scenario with another checker."""
    return load_scenario(write_scenario(small.scenarios.parent / name, name=name, checker=checker))
