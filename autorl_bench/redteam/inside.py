"""The agent's side of a cheat: runs one function inside a job, and tells outside what was refused and what was taken.

python -m autorl_bench.redteam.inside autorl_bench.redteam.cheats.vault:read_by_path
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: A variable of the operator's that no agent declares.
OPERATOR_SECRET = "REDTEAM_OPERATOR_SECRET"  # noqa: S105  the name of one
#: Begins each line of an attack's report among whatever else a job prints.
LINE = "REDTEAM "


class Report:
    """What an attack tells of itself, line by line: it may be ended at any moment."""

    def took(self, what: str) -> None:
        """Something that it must not get."""
        self._say(took=what)

    def refused(self, code: str) -> None:
        """How an attempt was answered."""
        self._say(refused=code)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Whatever gets to the end of the block was taken; a refusal is told by its code."""
        try:
            yield
        except OSError as error:
            self.refused(name_of(error))
        except Exception as error:
            if not isinstance(code := getattr(error, "code", None), str):
                raise
            self.refused(code)  # a BenchError, which not every attack needs to import
        else:
            self.took(what)

    def _say(self, **told: str) -> None:
        sys.stdout.write(f"{LINE}{json.dumps(told)}\n")
        sys.stdout.flush()


def name_of(error: OSError) -> str:
    """The symbol of an operating system's error, such as ``ENOENT``."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def told(output: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The codes and the loot in a job's output."""
    codes: dict[str, None] = {}
    loot: dict[str, None] = {}
    for line in output.splitlines():
        if line.startswith(LINE):
            said = json.loads(line.removeprefix(LINE))
            codes |= dict.fromkeys([said["refused"]] if "refused" in said else [])
            loot |= dict.fromkeys([said["took"]] if "took" in said else [])
    return tuple(codes), tuple(loot)


def workspace() -> Path:
    """The agent's own folder."""
    return Path(os.environ["AUTORL_WORKSPACE"])


def arguments() -> dict[str, Any]:
    """What the operator of the attack told the agent."""
    return dict(json.loads(os.environ.get("AUTORL_ARGUMENTS", "{}")))


def main() -> int:
    """Runs the function that the command line names."""
    module, _, name = sys.argv[1].partition(":")
    attack: Callable[[Report], None] = getattr(importlib.import_module(module), name)
    attack(Report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
