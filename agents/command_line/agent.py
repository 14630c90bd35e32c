"""Hands the task's README to a coding agent of the command line, and sees to it that it ends in time."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agents.common.experiment import folder_size, tail
from agents.common.launch import end_group, wait_until_ended
from agents.common.script import run_agent
from agents.common.task import Task
from agents.common.training.publish import is_model, publish_model
from astune.errors import AstuneError, ConfigError

CLOSING_SECONDS = 5.0
_GRACE = 3.0
_LOG = "command_line.log"
_OUTPUT_BYTES = 64 * 2**20
_POLL = 0.2

_PREFACE = """You are alone with this task: nobody answers questions. Your working directory is {workspace}. Work \
until the model is as good as you can make it, or until about {seconds:.0f} seconds have passed; what is in place \
then counts. The variables that the text names are set in your environment.

"""


def command_of(task: Task) -> list[str]:
    """The command of ``arguments.command``.

    Raises:
        ConfigError: there is none, or no such programme.
    """
    text = task.arguments.get("command")
    if not text:
        raise ConfigError('name a command: --set command="claude -p" (it gets the task as its last argument)')
    command = shlex.split(str(text))
    if shutil.which(command[0]) is None:
        raise ConfigError(
            f"there is no programme {command[0]} in this job: list its folder under `readable` in the agent's "
            "config.yaml"
        )
    return command


def run_command(task: Task) -> int:
    """Runs the command within the time that is left; its exit status, negative for a signal.

    Raises:
        ConfigError: the command cannot be started.
    """
    readme = (task.workspace / "README.md").read_text(encoding="utf-8")
    seconds = task.deadline.seconds_left - CLOSING_SECONDS
    prompt = _PREFACE.format(workspace=task.workspace, seconds=seconds) + readme
    command = command_of(task)
    by_stdin = task.arguments.get("prompt", "argument") == "stdin"
    log = task.workspace / _LOG
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command if by_stdin else [*command, prompt],
            cwd=task.workspace,
            env=_environment(task),
            stdin=subprocess.PIPE if by_stdin else subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if process.stdin is not None:
            _hand_over(process, prompt)
        _wait(task, process, log, seconds)
    return int(process.returncode)


def _hand_over(process: subprocess.Popen[bytes], prompt: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(prompt.encode())
        process.stdin.close()
    except BrokenPipeError:
        print("the command did not read the task", file=sys.stderr, flush=True)


def _environment(task: Task) -> dict[str, str]:
    """This process's own, with a home that can be written."""
    home = task.workspace / "home"
    home.mkdir(exist_ok=True)
    return dict(os.environ) | {"HOME": str(home)}


def _wait(task: Task, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Until the command ends, or its time, its output or the disk is used up; then all of its group ends."""
    deadline = task.deadline.earlier_by(CLOSING_SECONDS)
    while process.poll() is None and deadline.seconds_left > 0:
        wait_until_ended(process, min(_POLL, max(0.01, deadline.seconds_left)))
        if log.stat().st_size > _OUTPUT_BYTES:
            print("the command printed too much and was ended", file=sys.stderr, flush=True)
            break
    if process.poll() is None:
        print(f"the command was ended after {seconds:.0f} s", file=sys.stderr, flush=True)
        process.terminate()
        wait_until_ended(process, _GRACE)
    end_group(process.pid)
    process.wait()


def main() -> None:
    """Runs the command; without a model of its own, the base model is what is handed in."""
    task = Task.from_environment()
    address = urlsplit(os.environ.get("ANTHROPIC_BASE_URL") or os.environ.get("OPENAI_BASE_URL") or "")
    print(f"service: {address.hostname or 'none declared'}", flush=True)
    status = run_command(task)
    print(tail(task.workspace / _LOG), flush=True)
    print(
        f"the command ended with status {status}; {folder_size(task.workspace) >> 20} MiB in the workspace", flush=True
    )
    if not is_model(task.output_model) and not any(task.output_model.glob("*")):
        publish_model(task.base_model, task.output_model)
    if status != 0:
        raise AstuneError(f"the command failed with status {status}; its output is in {_LOG}")


if __name__ == "__main__":
    run_agent(main)
