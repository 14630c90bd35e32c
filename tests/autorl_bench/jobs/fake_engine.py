#!/usr/bin/env python3
"""A fake of the docker command, for a machine without an engine: runs what a container would, as plain processes.

It knows the subcommands that the runner uses, keeps its containers in the folder FAKE_ENGINE, isolates nothing, and
translates the paths that a container has of its own to those of the machine.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

STATE = Path(os.environ["FAKE_ENGINE"])
FLAGS = {"--read-only", "--no-healthcheck"}


def value_of(words: list[str], name: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == name]


def command_of(words: list[str]) -> list[str]:
    """What follows the image, with the machine's paths in place of the container's."""
    at = 1
    while words[at].startswith("--"):
        at += 1 if words[at] in FLAGS else 2
    lines = [next(csv.reader([line])) for line in value_of(words, "--mount")]
    places = {line[2].removeprefix("target="): line[1].removeprefix("source=") for line in lines}
    return [sys.executable, *(places.get(word, word) for word in words[at + 1 :])]


def create(words: list[str]) -> int:
    (name,) = value_of(words, "--name")
    folder = STATE / name
    if folder.exists():
        sys.exit(f'Conflict. The container name "/{name}" is already in use')
    folder.mkdir()
    (environment,) = value_of(words, "--env-file")
    (workdir,) = value_of(words, "--workdir")
    plan = {"command": command_of(words), "environment": Path(environment).read_text(), "workdir": workdir}
    (folder / "plan.json").write_text(json.dumps(plan))
    state = {"Running": False, "Pid": 0, "ExitCode": 0, "OOMKilled": False, "Error": ""}
    (folder / "state.json").write_text(json.dumps(state))
    print("0123456789abcdef")
    return 0


def start(name: str) -> int:
    folder = STATE / name
    plan = json.loads((folder / "plan.json").read_text())
    environment = dict(line.split("=", 1) for line in plan["environment"].splitlines())
    process = subprocess.Popen(
        plan["command"], cwd=plan["workdir"], env=environment | {"PATH": os.environ["PATH"]}, start_new_session=True
    )
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"Running": True, "Pid": process.pid}))
    code = process.wait()
    ended = {"Running": False, "Pid": 0, "ExitCode": code if code >= 0 else 128 - code}
    with suppress(FileNotFoundError):  # removed meanwhile
        (folder / "state.json").write_text(json.dumps(state | ended))
    return code


def remove(name: str) -> int:
    folder = STATE / name
    if not folder.exists():
        sys.exit(f"Error response from daemon: No such container: {name}")
    state = json.loads((folder / "state.json").read_text())
    if state["Running"]:
        children = Path(f"/proc/{state['Pid']}/task/{state['Pid']}/children").read_text().split()
        for pid in (state["Pid"], *map(int, children)):
            os.kill(pid, signal.SIGKILL)
    gone = folder.rename(STATE.with_name(f"gone-{name}"))
    shutil.rmtree(gone, ignore_errors=True)
    return 0


def main(words: list[str]) -> int:
    if words[0] == "version":
        print("0.0-fake")
        return 0
    if words[0] == "create":
        return create(words)
    name = words[-1]
    if words[0] == "start":
        return start(name)
    if words[0] == "rm":
        return remove(name)
    if words[0] == "inspect":
        print((STATE / name / "state.json").read_text())
        return 0
    if words[0] == "stats":
        print(json.dumps({"MemUsage": "12.5MiB / 1GiB", "PIDs": "3", "CPUPerc": "50.00%"}))
        return 0
    sys.exit(f"unknown docker command: {words[0]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
