"""The command in this process, on a configuration small enough for tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from astune import cli
from astune.report.records import read_episodes
from astune.report.run_folder import RunFolder
from astune.trace import Episode

PLAIN_WORKFLOW = "tutorial.example_math_agent.math_agent_plain->PlainMathLearn"
#: One step of four short episodes with the bundled policy, and no evaluation.
SMALL = (
    f"rollout.workflow={PLAIN_WORKFLOW}", "trainer.steps=1", "trainer.prompts_per_step=2", "trainer.group_size=2",
    "trainer.threads=1", "rollout.max_tokens=48", "evaluation.at_start=false", "evaluation.sampled=false",
    "evaluation.greedy=false", "tracking.report=false", "name=run",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a command left on the terminal."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Astuner:
    """Runs :data:`SMALL` with changes; runs go to ``folder``."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *overrides: str, backbone: str = "local", options: tuple[str, ...] = ()) -> Outcome:
        return self.command("--backbone", backbone, *options, *overrides)

    def evaluate(self, checkpoint: Path, *overrides: str) -> Outcome:
        """``astuner eval``, sampled and greedy."""
        both = ("evaluation.sampled=true", "evaluation.greedy=true")
        return self.command("eval", "--checkpoint", str(checkpoint), *both, *overrides)

    def command(self, *arguments: str) -> Outcome:
        conf = self.folder / "run.yaml"
        conf.write_text("astune: {}\n")
        command = [arguments[0]] if arguments[0] == "eval" else []
        rest = arguments[len(command) :]
        self.capsys.readouterr()
        status = cli.main([*command, "--conf", str(conf), f"save_dir={self.folder}/runs", *SMALL, *rest])
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return Outcome(status, said.out, said.err)

    @property
    def run(self) -> RunFolder:
        return RunFolder("run", self.folder / "runs")

    @property
    def debug_run(self) -> RunFolder:
        return RunFolder("run-debug", self.folder / "runs")

    def files(self) -> dict[str, bytes]:
        """Everything in the run folder, but the lock's file."""
        paths = sorted(path for path in self.run.path.rglob("*") if path.is_file() and path.name != ".lock")
        return {str(path.relative_to(self.run.path)): path.read_bytes() for path in paths}

    def episodes(self, step: int = 1) -> list[Episode]:
        return read_episodes(self.run.episodes_file(step))


def jsonl(path: Path, *records: object) -> Path:
    """Writes one line a record; a text is a line as it stands."""
    path.write_text("".join(f"{record if isinstance(record, str) else json.dumps(record)}\n" for record in records))
    return path


def tasks_from(path: Path) -> tuple[str, ...]:
    """Trains on all tasks of a file, and holds out generated ones."""
    return (
        "task_reader.type=dataset_file",
        f"task_reader.dataset_file.path={path}",
        "task_reader.heldout.type=nano_gsm",
    )
