"""Replaying code: what leaves the workspace, what the training sees, and why there is no model."""

import dataclasses
import json
import os
import runpy
import textwrap
from pathlib import Path

import pytest

from astune.errors import SandboxError
from astune.models.nano import NANO_PATH
from autorl_bench import replay as replaying
from autorl_bench.jobs import JobLimits, LocalJobRunner
from autorl_bench.replay import Replayed, replay
from autorl_bench.submission.tree import TreeLimits
from autorl_bench.types import Reason

ROOM = JobLimits(wall_seconds=60, cpu_seconds=60, memory=2 * 2**30, processes=16, disk=64 * 2**20)
WRITE = """
    import os, pathlib
    output = pathlib.Path(os.environ["AUTORL_OUTPUT"])
    (output / "model.safetensors").write_text("weights")
"""


@pytest.fixture(scope="session")
def runner() -> LocalJobRunner:
    return LocalJobRunner()


@dataclasses.dataclass
class Run:
    """A workspace with code in it, and where it is replayed."""

    workspace: Path
    folder: Path
    runner: LocalJobRunner

    @property
    def code(self) -> Path:
        return self.workspace / "code"

    def write(self, script: str) -> None:
        (self.code / "train.py").write_text(textwrap.dedent(script))

    async def replay(self, *, seed: int = 7, base_model: Path = NANO_PATH, **changes) -> Replayed:
        options = {name: changes.pop(name) for name in ("hidden", "code_limits") if name in changes}
        data = self.workspace.parent / "train.jsonl"
        data.write_text('{"question": "1+1", "answer": "2"}\n')
        limits = dataclasses.replace(ROOM, **changes)
        return await replay(
            self.code,
            self.folder,
            base_model=base_model,
            train_data=data,
            seed=seed,
            limits=limits,
            runner=self.runner,
            **options,
        )

    async def reason(self, **changes) -> Reason:
        replayed = await self.replay(**changes)
        assert replayed.model is None
        assert replayed.reason is not None
        return replayed.reason


@pytest.fixture
def run(tmp_path, runner) -> Run:
    (tmp_path / "run" / "code").mkdir(parents=True)
    (tmp_path / "log").mkdir()
    return Run(tmp_path / "run", tmp_path / "log" / "replay", runner)


async def test_the_model_that_the_code_writes_is_returned(run):
    run.write(WRITE)
    replayed = await run.replay()
    assert replayed.reason is None
    assert (replayed.model / "model.safetensors").read_text() == "weights"
    assert replayed.record.exit_code == 0
    assert not (run.workspace / "output").exists()


async def test_the_training_gets_its_variables_and_the_folder_of_the_code(run):
    (run.code / "package").mkdir()
    (run.code / "package" / "__init__.py").write_text("HERE = True\n")
    run.write(WRITE + "    import json, package\n    print(json.dumps([os.getcwd(), dict(os.environ)]))\n")
    await run.replay(seed=11)
    folder, variables = json.loads((run.folder / "stdout.log").read_text())
    assert folder == str(run.folder / "workspace" / "code")
    assert variables["AUTORL_SEED"] == "11"
    assert variables["AUTORL_BASE_MODEL"] == str(NANO_PATH.resolve())
    assert variables["AUTORL_SECONDS_LEFT"] == "60.0"
    assert "AUTORL_TOKEN" not in variables


async def test_nothing_but_the_code_leaves_the_workspace(run, runner):
    if runner.probe().level != "kernel":
        pytest.skip("no kernel confinement here")
    (run.workspace / "weights").write_text("trained elsewhere")
    (run.code / "__pycache__").mkdir()
    (run.code / "__pycache__" / "helper.pyc").write_text("not what its source says")
    script = f"""
    print(os.path.exists({str(run.workspace)!r}), os.listdir(), os.listdir(".."))
    """
    run.write(WRITE + script)
    await run.replay()
    assert (run.folder / "stdout.log").read_text() == "False ['train.py'] ['code', 'output']\n"


async def test_code_without_a_script_is_named(run):
    assert (await run.reason()).code == "no_train_script"


async def test_no_code_at_all_is_named(run):
    run.code.rmdir()
    reason = await run.reason()
    assert reason.code == "code_not_found"
    assert "code does not exist" in reason.message


async def test_a_script_that_fails_is_quoted(run):
    run.write("raise ValueError('the learning rate \\x1b[31m is negative')")
    reason = await run.reason()
    assert reason.code == "training_failed"
    assert "ValueError: the learning rate [31m is negative" in reason.message
    assert reason.message.endswith("entry: train.py ended with exit status 1")


async def test_a_script_that_dies_of_a_signal_is_named(run):
    run.write("import os\nos.abort()")
    assert "train.py was ended by SIGABRT" in (await run.reason()).message


async def test_a_script_that_kills_its_starter_has_failed(run):
    run.write("import os\nos.kill(os.getppid(), 9)\nimport time\ntime.sleep(600)")
    assert (await run.reason()).code == "training_failed"


@pytest.mark.parametrize(
    ("script", "limits", "code"),
    [
        ("import time\ntime.sleep(600)", {"wall_seconds": 1.5}, "replay_wall_limit"),
        ("while True: pass", {"cpu_seconds": 1}, "replay_cpu_limit"),
    ],
)
async def test_a_limit_is_named(run, script, limits, code):
    run.write(script)
    reason = await run.reason(**limits)
    assert reason.code == code
    assert "was ended at a limit" in reason.message


async def test_a_script_that_writes_no_model_is_named(run):
    run.write("print('done')")
    reason = await run.reason()
    assert reason.code == "no_model"
    assert "wrote nothing to AUTORL_OUTPUT" in reason.message


async def test_a_link_in_the_place_of_the_model_is_none(run):
    run.write(WRITE + "    os.rename(output, '../elsewhere')\n    os.symlink('../elsewhere', output)\n")
    reason = await run.reason()
    assert reason.code == "no_model"
    assert "symbolic link" in reason.message


def link(code: Path) -> None:
    (code / "secret").symlink_to("/etc/passwd")


def hard_link(code: Path) -> None:
    os.link(code / "train.py", code / "other.py")


def linked_folder(code: Path) -> None:
    (code / "package").symlink_to(code.parent)


def pipe(code: Path) -> None:
    os.mkfifo(code / "pipe")


def large_file(code: Path) -> None:
    with (code / "weights.bin").open("wb") as file:
        file.truncate(100 * 2**30)


def many_files(code: Path) -> None:
    (code / "many").mkdir()
    for number in range(31):
        (code / "many" / str(number)).touch()


def deep_folder(code: Path) -> None:
    code.joinpath(*["deep"] * 6).mkdir(parents=True)


@pytest.mark.parametrize(
    ("plant", "code"),
    [
        (link, "link"),
        (hard_link, "link"),
        (linked_folder, "link"),
        (pipe, "special_file"),
        (large_file, "too_large"),
        (many_files, "too_many_files"),
        (deep_folder, "too_many_files"),
    ],
)
async def test_what_is_no_code_is_refused_before_anything_runs(run, plant, code):
    run.write(WRITE)
    plant(run.code)
    replayed = await run.replay(code_limits=TreeLimits(entries=30, depth=5))
    assert (replayed.model, replayed.record, replayed.reason.code) == (None, None, f"code_{code}")
    assert "Leave in it, as ordinary files, the code that trains the model" in replayed.reason.message


async def test_code_that_is_a_link_is_refused(run, tmp_path):
    run.code.rmdir()
    (tmp_path / "elsewhere").mkdir()
    run.code.symlink_to(tmp_path / "elsewhere")
    assert (await run.reason()).code == "code_link"


async def test_an_infrastructure_problem_is_not_blamed_on_the_code(run, tmp_path):
    run.write(WRITE)
    with pytest.raises(SandboxError, match="AUTORL_BASE_MODEL=.* does not exist"):
        await run.replay(base_model=tmp_path / "gone")


async def test_what_is_hidden_stays_so(run, tmp_path):
    run.write(WRITE)
    with pytest.raises(ValueError, match="is to be hidden"):
        await run.replay(hidden=(tmp_path,))


async def test_a_replay_does_not_run_over_another(run):
    run.write(WRITE)
    await run.replay()
    with pytest.raises(FileExistsError):
        await run.replay()


def test_the_statuses_are_those_of_the_entry():
    entry = runpy.run_path(str(replaying._entry()))["Exit"]
    theirs = (entry.BAD_ENVIRONMENT, entry.NO_SCRIPT, entry.FAILED, entry.NO_MODEL)
    assert theirs == (replaying._BAD_ENVIRONMENT, replaying._NO_SCRIPT, replaying._FAILED, replaying._NO_MODEL)


@pytest.mark.slow
async def test_a_real_model_is_trained_from_the_base(run):
    script = """
        import os
        import torch
        from transformers import AutoModelForCausalLM
        torch.manual_seed(int(os.environ["AUTORL_SEED"]))
        model = AutoModelForCausalLM.from_pretrained(os.environ["AUTORL_BASE_MODEL"])
        ids = torch.randint(0, 100, (2, 20))
        model(input_ids=ids, labels=ids).loss.backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        model.save_pretrained(os.environ["AUTORL_OUTPUT"])
    """
    run.write(script)
    replayed = await run.replay()
    assert replayed.reason is None
    first = (replayed.model / "model.safetensors").read_bytes()
    run.folder = run.folder.with_name("replay-2")
    assert (await run.replay()).model.joinpath("model.safetensors").read_bytes() == first
