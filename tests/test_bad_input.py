"""Bad input, end to end: one clear message, the right exit status, no traceback, and nothing of earlier work lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from astune import cli
from astune.models.nano import NANO_PATH
from tests.small_run import Astuner, Outcome, jsonl, tasks_from

JUDGE_PATH = "task_judge.judge_protocol={}->Own"
WORKFLOW_PATH = "rollout.workflow={}->Own"


@pytest.fixture
def own_class(tmp_path: Path) -> Callable[[str], str]:
    """Writes the user's module with a class ``Own`` and returns its file."""

    def write(text: str) -> str:
        file = tmp_path / "own.py"
        file.write_text("from __future__ import annotations\n" + text)
        return str(file)

    return write


def task(number: int) -> dict[str, object]:
    return {"id": f"t{number}", "question": f"Tom has {number} eggs and buys 2. How many eggs?", "answer": number + 2}


class TestTasks:
    def refused(self, astuner: Astuner, *records: object) -> str:
        outcome = astuner(*tasks_from(jsonl(astuner.folder / "tasks.jsonl", *records)))
        assert outcome.status == 2
        assert not astuner.run.path.exists()
        return outcome.err

    def test_a_missing_file_is_named_with_what_is_near(self, astuner: Astuner) -> None:
        jsonl(astuner.folder / "tasks.jsonl", task(1))
        outcome = astuner(*tasks_from(astuner.folder / "task.jsonl"))
        assert outcome.status == 2
        assert "task.jsonl: no such file; in" in outcome.err
        assert "there is tasks.jsonl" in outcome.err

    def test_a_broken_line_is_named_by_file_and_number(self, astuner: Astuner) -> None:
        assert "tasks.jsonl, line 2: " in self.refused(astuner, task(1), '{"question": "How', task(3))

    def test_a_task_without_answer_is_named(self, astuner: Astuner) -> None:
        message = self.refused(astuner, task(1), {"id": "bad", "question": "How many?"})
        assert "tasks.jsonl, line 2: no field 'answer'" in message
        assert "name the right one as answer_key" in message

    def test_an_empty_answer_is_named(self, astuner: Astuner) -> None:
        assert "tasks.jsonl, line 1: its field 'answer' is empty" in self.refused(astuner, task(1) | {"answer": ""})

    def test_an_empty_data_set_is_refused(self, astuner: Astuner) -> None:
        assert "tasks.jsonl: no tasks; a data set needs at least one record" in self.refused(astuner)

    def test_duplicate_ids_are_named_with_their_lines(self, astuner: Astuner) -> None:
        message = self.refused(astuner, task(1), task(2), task(1) | {"question": "Another?"})
        assert "task id 't1' occurs twice in lines 1 and 3; ids must be unique" in message


class TestNames:
    def test_an_unknown_key_is_answered_with_the_nearest(self, astuner: Astuner) -> None:
        outcome = astuner("trainer.group_sizes=4")
        assert (outcome.status, "did you mean 'group_size'?" in outcome.err) == (2, True)

    def test_an_unknown_key_in_the_file_is_named_by_its_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        conf = tmp_path / "own.yaml"
        conf.write_text("astune:\n  trainer:\n    stepps: 3\n")
        assert cli.main(["--conf", str(conf)]) == 2
        assert "own.yaml:3: unknown key 'astune.trainer.stepps'" in capsys.readouterr().err

    def test_an_unknown_backbone_is_answered_with_the_nearest(self, astuner: Astuner) -> None:
        outcome = astuner(backbone="locla")
        assert (outcome.status, outcome.err) == (2, "error: unknown backbone 'locla'; did you mean 'local'?\n")

    def test_a_group_of_one_is_refused_with_the_reason(self, astuner: Astuner) -> None:
        outcome = astuner("trainer.group_size=1")
        assert outcome.status == 2
        assert "group_size is 1" in outcome.err
        assert "every advantage is 0" in outcome.err

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("rollout.workflow=no_such_module->Agent", "workflow 'no_such_module->Agent': no module 'no_such_module'"),
            (
                "rollout.workflow=tutorial.example_math_agent.math_agent->MathLearn",
                "has no class 'MathLearn'; did you mean 'ExampleMathLearn'",
            ),
            ("rollout.workflow=no/such/agent.py->Agent", "workflow 'no/such/agent.py->Agent': no file"),
            (
                "task_judge.judge_protocol=astune.task_judge.math_answer->MathAnswerAsJudge",
                "did you mean 'astune.task_judge.math_answer_as_judge'",
            ),
            (
                "task_judge.judge_protocol=astune.task_judge.math_answer_as_judge->MathAnswerJudge",
                "has no class 'MathAnswerJudge'; did you mean 'MathAnswerAsJudge'",
            ),
            ("task_judge.judge_protocol=no/such/judge.py->Own", "judge 'no/such/judge.py->Own': no file"),
        ],
    )
    def test_an_unknown_class_is_answered_with_the_nearest(self, astuner: Astuner, override: str, message: str) -> None:
        outcome = astuner(override)
        assert outcome.status == 2
        assert message in outcome.err


class TestJudges:
    def test_one_that_raises_is_named_with_the_task(self, astuner: Astuner, own_class: Callable[[str], str]) -> None:
        judge = own_class("class Own:\n    def compute_reward(self, evidence): return 1 / 0, True\n")
        outcome = astuner(JUDGE_PATH.format(judge))
        assert outcome.status == 2
        assert "judge Own on task 'nano_gsm" in outcome.err
        assert "raised ZeroDivisionError: division by zero" in outcome.err

    def test_one_that_returns_nan_is_named_with_the_task(
        self, astuner: Astuner, own_class: Callable[[str], str]
    ) -> None:
        judge = own_class("class Own:\n    def compute_reward(self, evidence): return float('nan'), True\n")
        outcome = astuner(JUDGE_PATH.format(judge))
        assert outcome.status == 2
        assert "judge Own on task 'nano_gsm" in outcome.err
        assert "returned nan as raw_reward; expected a finite number" in outcome.err


class TestModels:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(NANO_PATH, tmp_path / "model", ignore=shutil.ignore_patterns("*.py", "__*")))

    @staticmethod
    def give_vocabulary(model: Path, size: int) -> None:
        """Puts a tokenizer of ``size`` words into the folder."""
        ids = {"<|endoftext|>": 0} | {f"w{n}": n for n in range(1, size)}
        inner = Tokenizer(WordLevel(ids, unk_token="<|endoftext|>"))
        PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<|endoftext|>").save_pretrained(model)

    def test_a_folder_without_weights_names_the_files_expected(self, astuner: Astuner, model: Path) -> None:
        (model / "model.safetensors").unlink()
        outcome = astuner(f"model.path={model}")
        assert outcome.status == 2
        assert f"model folder {model} has no weights; expected one of: model.safetensors" in outcome.err

    def test_a_tokenizer_with_more_words_than_the_model_is_refused(self, astuner: Astuner, model: Path) -> None:
        self.give_vocabulary(model, 5000)
        outcome = astuner(f"model.path={model}")
        assert outcome.status == 2
        assert "token ids up to 4999, but the model has embeddings for" in outcome.err
        assert "Copy the model's own tokenizer files into the folder" in outcome.err

    def test_a_tokenizer_with_far_fewer_words_than_the_model_is_refused(self, astuner: Astuner, model: Path) -> None:
        self.give_vocabulary(model, 50)
        outcome = astuner(f"model.path={model}")
        assert outcome.status == 2
        assert "token ids up to 49, but the model has embeddings for" in outcome.err


class TestContext:
    def test_a_prompt_that_never_fits_ends_the_run_with_the_lengths(self, astuner: Astuner) -> None:
        outcome = astuner("model.max_context=32")
        assert outcome.status == 2
        assert "all 4 episodes of the first step failed with context_overflow" in outcome.err
        assert "holds 32" in outcome.err

    def test_a_prompt_that_does_not_fit_once_is_recorded_and_dropped(self, astuner: Astuner) -> None:
        long = {"id": "long", "question": "How many eggs? " * 1000, "answer": "1"}
        tasks = jsonl(astuner.folder / "tasks.jsonl", task(1), long)
        assert astuner(*tasks_from(tasks)).status == 0
        ends = {(episode.task_id, episode.stop_reason) for episode in astuner.episodes()}
        assert ("long", "context_overflow") in ends
        assert ("t1", "context_overflow") not in ends
        assert astuner.run.read_metrics()[0]["episodes_failed/context_overflow"] == 2


HANGING_TOOL = """
from astune.tools.python_tool import execute_python_code
from astune.workflow.types import Workflow, WorkflowOutput

class Own(Workflow):
    async def execute(self, workflow_task, astune_proxy):
        await astune_proxy.chat(workflow_task.task.init_messages)
        seen = await execute_python_code("while True: pass")
        astune_proxy.update_judge_input_dictionary(final_answer="")
        return WorkflowOutput(metadata={"seen": seen})
"""
HANGING_WORKFLOW = """
import asyncio
from astune.workflow.types import Workflow, WorkflowOutput

class Own(Workflow):
    async def execute(self, workflow_task, astune_proxy):
        await astune_proxy.chat(workflow_task.task.init_messages)
        if workflow_task.sample_index == 0:
            await asyncio.sleep(3600)
        return WorkflowOutput(reward=1.0, is_success=True)
"""


class TestWhatNeverReturns:
    def test_a_tool_is_stopped_and_the_model_reads_so(self, astuner: Astuner, own_class: Callable[[str], str]) -> None:
        workflow = own_class(HANGING_TOOL)
        assert astuner(WORKFLOW_PATH.format(workflow), "rollout.sandbox.seconds=0.3").status == 0
        for episode in astuner.episodes():
            assert [call.stop_reason for call in episode.tool_calls] == ["timeout"]
            assert "TimeoutError: the code ran longer than it may" in episode.metadata["seen"]
            assert episode.error is None

    def test_a_workflow_is_dropped_and_the_run_goes_on(self, astuner: Astuner, own_class: Callable[[str], str]) -> None:
        workflow = own_class(HANGING_WORKFLOW)
        assert astuner(WORKFLOW_PATH.format(workflow), "rollout.max_episode_seconds=4").status == 0
        ends = [(episode.sample_index, episode.stop_reason) for episode in astuner.episodes()]
        assert sorted(ends) == [(0, "timeout"), (0, "timeout"), (1, "finished"), (1, "finished")]
        assert astuner.run.read_metrics()[0]["episodes_failed/timeout"] == 2


class TestRunFolder:
    def test_a_read_only_place_is_named(self, astuner: Astuner) -> None:
        outcome = astuner("save_dir=/proc/astune")
        assert outcome.status == 2
        assert "cannot write /proc/astune/run" in outcome.err
        assert "choose another folder" in outcome.err

    def test_a_file_in_the_way_is_named(self, astuner: Astuner) -> None:
        (astuner.folder / "runs").write_text("mine")
        outcome = astuner()
        assert (outcome.status, "runs/run: " in outcome.err) == (2, True)
        assert (astuner.folder / "runs").read_text() == "mine"

    def test_one_that_another_process_writes_is_left_alone(self, astuner: Astuner) -> None:
        astuner.run.create()
        astuner.run.metrics.write_bytes(b'{"step": 1}\n{"st')  # a line that the other process is writing
        with locked(astuner.run.path / ".lock"):
            outcome = astuner()
        assert outcome.status == 2
        assert f"another process is writing {astuner.run.path}: wait for it, or give this run a name" in outcome.err
        assert astuner.files() == {"metrics.jsonl": b'{"step": 1}\n{"st'}


class locked:
    """Another process holds the lock in ``file`` within the block."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> None:
        code = (
            "import sys, filelock\nlock = filelock.FileLock(sys.argv[1])\nlock.acquire()\n"
            "print(flush=True)\nsys.stdin.read()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(self.file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


#: Raises once ``limit`` episodes are judged; the limit is read from a file, so that it can be lifted.
FRAGILE_JUDGE = """
from pathlib import Path

class Own:
    judged = 0
    def compute_reward(self, evidence):
        Own.judged += 1
        limit = Path(__file__).with_name("limit")
        if limit.exists() and Own.judged > int(limit.read_text()):
            raise RuntimeError("the judge's server is gone")
        return float(Own.judged % 2), True
"""


class TestNothingIsLost:
    TASKS = tuple(task(number) for number in range(1, 9))

    @pytest.fixture
    def trained(self, astuner: Astuner) -> Iterator[Callable[..., Outcome]]:
        """A run of two steps on a task file; gives the command that would go on to a third."""
        tasks = jsonl(astuner.folder / "tasks.jsonl", *self.TASKS)
        command = (*tasks_from(tasks), "tracking.report=true", "evaluation.at_start=true", "evaluation.sampled=true",
                   "evaluation.greedy=true", "evaluation.n_heldout=2")  # fmt: skip
        assert astuner(*command, "trainer.steps=2").status == 0
        yield lambda *more, **options: astuner(*command, "trainer.steps=3", *more, **options)

    def test_refused_starts_leave_a_trained_run_as_it_was(
        self, astuner: Astuner, trained: Callable[..., Outcome], own_class: Callable[[str], str]
    ) -> None:
        before = astuner.files()
        assert {"metrics.jsonl", "report.html", "summary.json", "checkpoints/step_000002/model.safetensors"} <= set(
            before
        )
        judge = own_class("class Own:\n    def compute_reward(self, evidence): return 1 / 0, True\n")
        for change in (
            "task_reader.dataset_file.path=gone.jsonl",
            "rollout.workflow=no_such_module->Agent",
            "task_judge.judge_protocol=no_such_module->Judge",
            JUDGE_PATH.format(judge),
            "model.path=no_such_folder",
            "model.max_context=32",
            "trainer.group_size=1",
            "trainer.learning_rate=1",
            "evaluation.n_heldout=3",
            "seed=1",
            "no_such_key=1",
        ):
            assert trained(change).status == 2, change
            assert astuner.files() == before, change

    def test_a_broken_task_file_leaves_a_trained_run_as_it_was(
        self, astuner: Astuner, trained: Callable[..., Outcome]
    ) -> None:
        before = astuner.files()
        jsonl(astuner.folder / "tasks.jsonl", *self.TASKS, "{broken")
        outcome = trained()
        assert (outcome.status, "tasks.jsonl, line 9" in outcome.err) == (2, True)
        assert astuner.files() == before
        jsonl(astuner.folder / "tasks.jsonl", *self.TASKS)
        assert trained().status == 0
        assert [row["step"] for row in astuner.run.read_metrics()] == [1, 2, 3]

    def test_a_judge_that_fails_later_costs_no_finished_step(
        self, astuner: Astuner, own_class: Callable[[str], str]
    ) -> None:
        judge = own_class(FRAGILE_JUDGE)
        command = (JUDGE_PATH.format(judge), "trainer.steps=4", "checkpoint.every=10")
        limit = astuner.folder / "limit"
        limit.write_text("9")  # two steps of four episodes, and one episode
        outcome = astuner(*command)
        assert (outcome.status, "the judge's server is gone" in outcome.err) == (2, True)
        before = astuner.run.metrics.read_bytes()
        assert before.count(b"\n") == 2
        limit.unlink()
        assert astuner(*command).status == 0
        assert astuner.run.metrics.read_bytes().startswith(before)
        assert len(astuner.run.read_metrics()) == 4
