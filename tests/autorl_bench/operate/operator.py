"""The real `autorl-bench run` in a process of its own, and an agent that does as a test says through files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from autorl_bench.store import RunState
from autorl_bench.store.records import Run
from tests.autorl_bench.small_bench import SmallBench, autorl_bench, children, wait_until

AGENT = '''\
"""Leaves a model, asks for its score, and goes on when it is told to."""

import json
import os
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from autorl_bench.client import BenchClient, BenchError

workspace, arguments = Path.cwd(), json.loads(os.environ["AUTORL_ARGUMENTS"])
model = workspace / "output" / "model"
attempt = len(list(workspace.glob("attempt-*"))) + 1
if not model.exists():
    base, scratch = Path(os.environ["AUTORL_BASE_MODEL"]), workspace / "scratch"
    scratch.mkdir(exist_ok=True)
    state = load_file(base / "model.safetensors")
    state["model.norm.weight"] *= np.float32(1 + arguments["nudge"])
    save_file(state, scratch / "model.safetensors", {"format": "pt"})
    (scratch / "config.json").write_bytes((base / "config.json").read_bytes())
    scratch.rename(model)
note = workspace / f".attempt-{attempt}"
note.write_text(json.dumps(dict(os.environ)))
note.rename(workspace / f"attempt-{attempt}")
client = BenchClient.from_environment()


def look(path):
    """What is seen of a path: names, a file, or why nothing is."""
    try:
        return sorted(os.listdir(path)) if os.path.isdir(path) else open(path, "rb").read().hex()
    except OSError as error:
        return type(error).__name__


def ask(path):
    try:
        return client.evaluate(path).model_dump(mode="json")
    except BenchError as error:
        return error.code


def answer(name, value):
    (workspace / f".{name}").write_text(json.dumps(value))
    (workspace / f".{name}").rename(workspace / name)


if arguments["ask"]:
    answer("answer", ask("output/model"))
while arguments["wait"] and not (workspace / "go").exists():
    if (workspace / "look").exists():
        paths = json.loads((workspace / "look").read_text())
        (workspace / "look").unlink()
        answer("seen", {path: look(path) for path in paths})
    if (workspace / "foreign").exists():
        path = (workspace / "foreign").read_text()
        (workspace / "foreign").unlink()
        answer("refused", ask(path))
    time.sleep(0.05)
'''
CONFIG = """\
description: does as a test says
command: [python, agent.py]
arguments: {wait: false, ask: true, nudge: 0.001}
restarts: 2
"""


@dataclass(frozen=True)
class Operator:
    """One `autorl-bench run` at work."""

    small: SmallBench
    process: subprocess.Popen[bytes]
    output: Path
    earlier: frozenset[str]

    @property
    def run(self) -> Run:
        """The run that it has made, when its agent is at work."""

        def mine() -> list[Run]:
            assert self.process.poll() is None, self.said
            with self.small.bench.store.read() as tx:
                return [run for run in tx.runs.all() if run.id not in self.earlier and run.state != RunState.CREATED]

        return wait_until(mine, f"a run: {self.said}")[0]

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def workspace(self) -> Path:
        return self.small.home.workspace(self.run.id)

    def finish(self, status: int = 0) -> str:
        """Waits for its end; what it said."""
        assert self.process.wait(300) == status, self.said
        assert "Traceback" not in self.said
        return self.said

    def everybody(self) -> list[psutil.Process]:
        """All that it has started, its agent's processes too."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def agent(self) -> psutil.Process:
        """The agent's own process."""
        script = str(self.small.scenarios.parent / "agents" / "worker" / "agent.py")
        [process] = wait_until(lambda: children(self.process.pid, script), "the agent's process")
        return process


def await_end(processes: list[psutil.Process]) -> None:
    """Waits until none of them is left; one that nobody reaps has ended, too."""

    def living() -> list[psutil.Process]:
        found = []
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    wait_until(lambda: not living(), f"the end of {processes}")


def write_agent(small: SmallBench) -> Path:
    folder = small.scenarios.parent / "agents" / "worker"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "agent.py").write_text(AGENT)
    return folder.parent


def hear_ctrl_c() -> None:
    """Tests may run in the background, where a shell has Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def operator(small: SmallBench, *more: object, **environment: str) -> Iterator[Operator]:
    """Starts the command in a session of its own; whatever the test shows, nothing of it is left."""
    folders = ("--home", small.home.root, "--scenarios", small.scenarios, "--agents", write_agent(small))
    with small.bench.store.read() as tx:
        earlier = frozenset(run.id for run in tx.runs.all())
    output = small.home.root / f"said-{len(list(small.home.root.glob('said-*')))}"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            autorl_bench("run", *folders, *more),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=hear_ctrl_c,
        )
    try:
        yield Operator(small, process, output, earlier)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def command(small: SmallBench, verb: str, *more: object) -> tuple[int, str]:
    """Another command beside it: exit status and what it said."""
    folders = ("--home", small.home.root, "--scenarios", small.scenarios, "--agents", write_agent(small))
    done = subprocess.run(autorl_bench(verb, *folders, *more), capture_output=True, text=True, check=False, timeout=300)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def noted(workspace: Path, name: str) -> Any:
    """What the agent wrote into a file of its workspace, once it has."""
    wait_until((workspace / name).exists, f"{name} in the workspace")
    return json.loads((workspace / name).read_text())
