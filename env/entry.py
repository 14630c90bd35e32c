"""Trains with submitted code: runs ``code/train.py`` as the benchmark's rules say, and checks that it wrote a model.

    AUTORL_BASE_MODEL=... AUTORL_TRAIN_DATA=... AUTORL_OUTPUT=output/model AUTORL_SEED=1 AUTORL_SECONDS_LEFT=600 \\
        python env/entry.py [CODE_FOLDER]

The folder is ``code`` unless named. The script's working directory is that folder; its output goes where this one's
goes, as it comes. This file needs Python alone, and runs inside of a job's sandbox or a container. It decides nothing
about what the model is worth.

Exit status: 0 when something was written to AUTORL_OUTPUT, else one of ``Exit``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

SCRIPT = "train.py"
VARIABLES = ("AUTORL_BASE_MODEL", "AUTORL_TRAIN_DATA", "AUTORL_OUTPUT", "AUTORL_SEED", "AUTORL_SECONDS_LEFT")


class Exit(IntEnum):
    """How it ended; numbers that neither Python nor a shell uses by itself."""

    TRAINED = 0
    BAD_ENVIRONMENT = 80
    NO_SCRIPT = 81
    FAILED = 82
    NO_MODEL = 83


def problem_of(environment: dict[str, str]) -> str:
    """What is wrong with the variables, or nothing."""
    if missing := [name for name in VARIABLES if not environment.get(name)]:
        return f"set {', '.join(missing)}"
    for name in ("AUTORL_BASE_MODEL", "AUTORL_TRAIN_DATA"):
        if not Path(environment[name]).exists():
            return f"{name}={environment[name]} does not exist"
    try:
        int(environment["AUTORL_SEED"]), float(environment["AUTORL_SECONDS_LEFT"])
    except ValueError:
        return "AUTORL_SEED is a whole number, and AUTORL_SECONDS_LEFT a number"
    return ""


def how_it_ended(status: int) -> str:
    """An exit status as subprocess gives it, in words."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def holds_files(folder: Path) -> bool:
    """Whether there is a file with content anywhere in the folder. Links count as nothing."""
    for at, _, names in os.walk(folder):
        for name in names:
            file = Path(at, name)
            if file.is_file() and not file.is_symlink() and file.stat().st_size:
                return True
    return False


def train(code: Path, environment: dict[str, str]) -> tuple[Exit, str]:
    """Runs the script to its end; how that went, and in words."""
    if problem := problem_of(environment):
        return Exit.BAD_ENVIRONMENT, problem
    if not (code / SCRIPT).is_file():
        return Exit.NO_SCRIPT, f"there is no {code / SCRIPT}: it is what trains the model"
    # The script has another working directory than this one.
    paths = ("AUTORL_BASE_MODEL", "AUTORL_TRAIN_DATA", "AUTORL_OUTPUT")
    environment = environment | {name: str(Path(environment[name]).absolute()) for name in paths}
    output = Path(environment["AUTORL_OUTPUT"])
    output.mkdir(parents=True, exist_ok=True)
    status = subprocess.run([sys.executable, "-u", SCRIPT], cwd=code, env=environment, check=False).returncode
    if status != 0:
        return Exit.FAILED, f"{SCRIPT} {how_it_ended(status)}"
    if not holds_files(output):
        return Exit.NO_MODEL, f"{SCRIPT} ended well and wrote nothing to AUTORL_OUTPUT ({output})"
    return Exit.TRAINED, f"the model is in {output}"


def main() -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description="Trains with submitted code and checks that it wrote a model.")
    parser.add_argument("code", nargs="?", type=Path, default=Path("code"), help=f"folder that holds {SCRIPT}")
    status, words = train(parser.parse_args().code, dict(os.environ))
    print(f"entry: {words}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
