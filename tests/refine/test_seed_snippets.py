"""What the interface's documents print about refinement, run as printed: the agent, and the from-scratch tutorial."""

from __future__ import annotations

import inspect
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from astune.refine.agents import make_agent, register_agent
from astune.refine.log import read_log
from astune.refine.prompts import bundled_prompts
from astune.refine.self_refine_agent import SelfRefineAgent
from astune.refine.types import SampleRequest
from tests.refine.fake_stage import FakeStage

TRAINER = "GRPOTrainer(..., enable_self_refine=True, use_critique=True, max_refine_rounds=1)"

CALL = """
refined_result = self.refine_agent.refine_batch(
    inputs=inputs, original_result=result, original_prompts=prompts,
    answers=completions_text, solutions=solutions,
    correctness_mask=correctness_tensor, batch_counter=self.batch_counter)
"""

CRITIQUE_SYSTEM = """\
You are a critical reviewer. Evaluate the given solution and provide constructive feedback.

Focus on:
- Correctness of reasoning and calculations
- Completeness of the solution
- Clarity and organization
- Common mistakes or edge cases

Format your critique in <think></think> tags for internal analysis,\x20
followed by clear, actionable feedback."""

REFINE_SYSTEM = """\
You are a problem solver. Given a question and feedback on a previous attempt,\x20
provide an improved solution.

Use the standard format:
<think>Your unstructured internal reasoning</think>
<answer>Clear, well-formatted solution with final answer in \\boxed{}</answer>"""

CONSOLE = """\
[Self-Refine Agent] Processing 4 incorrect samples using Self-Refine Agent (Critique + Refine)

📊 Self-Refine Agent Evaluation (Batch 1):
  Accuracy@t1: 4/8 = 50.00%
  Accuracy@t2: 6/8 = 75.00%
  Δ(batch):    +25.00% 📈

  Transitions:
    i→c:  2  |  i→i:  2
    c→c:  4  |  c→i:  0

  Example trace:
    Original: To solve this problem...
    Critique: The reasoning is correct but...
    Refined:  Using the corrected approach...
    Result: ✓ Correct

  ✓ Logged 8 samples to self_refine_log.jsonl
"""

CUSTOM_AGENT = '''
class MyCustomSamplingAgent:
    """Asks every incorrect sample again, with a hint."""

    def __init__(self, trainer, **kwargs):
        self.trainer = trainer
        self.hint = kwargs.get("hint", "Check your work.")
        self.log = kwargs.get("log_path", "self_refine_log.jsonl")

    def refine_batch(self, inputs, original_result, original_prompts, answers, solutions,
                     correctness_mask, batch_counter=0):
        incorrect = torch.where(~correctness_mask)[0].tolist()
        if not incorrect:
            return None
        own_prompts = {
            row: [*original_prompts[row], {"role": "user", "content": self.hint}] for row in incorrect
        }
        refine_inputs = [
            {**given, "prompt": own_prompts.get(row, original_prompts[row])} for row, given in enumerate(inputs)
        ]
        refined = _GRPOTrainer._generate_and_score_completions(self.trainer, refine_inputs)
        texts = self.trainer.processing_class.batch_decode(refined["completion_ids"], skip_special_tokens=True)
        correct = [str(solution) in text for text, solution in zip(texts, solutions)]
        with open(self.log, "a", encoding="utf-8") as log:
            for row in incorrect:
                log.write(json.dumps({"batch": batch_counter, "sample_idx": row, "original": answers[row],
                                      "refined": texts[row], "is_correct_at_t2": correct[row]}) + "\\n")
        print(f"batch {batch_counter}: {len(incorrect)} samples asked again, {sum(correct)} of {len(correct)} correct")
        return refined
'''

#: Files that the documents name, where they are here, and what is in each.
FILES = {
    "astune/refine/self_refine_agent.py": "class SelfRefineAgent",
    "astune/trl/sampler.py": "class TrlSampler",
    "astune/trl/trainer.py": "class GRPOTrainer",
    "tutorial/example_self_refine_vlm/grpo_vlm.py": "enable_self_refine",
    "tutorial/example_self_refine_vlm/launch.sh": "grpo_vlm",
    "docs/SELF_REFINE_ARCHITECTURE.md": "refine_batch",
    "docs/SAMPLER_ARCHITECTURE.md": "Sampler",
    "tutorial/self_refine_from_scratch/from_scratch.py": "def self_refine",
    "tutorial/self_refine_from_scratch/test_self_refine.py": "torch.manual_seed",
}

LOOP_COMMANDS = ["python test_self_refine.py", "python -m pytest test_self_refine.py"]

ANSWERS = ["To solve this problem..."] * 4 + ["That is right."] * 4


def say(request: SampleRequest) -> str:
    if request.role == "critique":
        return "The reasoning is correct but..."
    return "Using the corrected approach..." if request.row < 2 else "It stays so."


@pytest.fixture
def stage() -> FakeStage:
    from astune.refine.types import Grade

    def grade(text: str) -> Grade:
        correct = text.startswith(("That", "Using"))
        return Grade(float(correct), correct)

    return FakeStage(ANSWERS, say, grade)


def called(stage: FakeStage, agent: Any, batch_counter: int = 1) -> Any:
    """Runs the trainer's one call as it is printed."""
    batch = stage.batch()
    scope = {
        "self": SimpleNamespace(refine_agent=agent, batch_counter=batch_counter),
        "inputs": batch["inputs"],
        "result": batch["original_result"],
        "prompts": batch["original_prompts"],
        "completions_text": batch["answers"],
        "solutions": batch["solutions"],
        "correctness_tensor": torch.tensor(batch["correctness_mask"]),
    }
    exec(CALL, scope)
    return scope["refined_result"]


def test_the_one_call_returns_a_refined_result_in_the_form_of_the_original(stage: FakeStage, tmp_path: Path):
    agent = SelfRefineAgent(stage.trainer, log_path=tmp_path / "self_refine_log.jsonl")
    assert called(stage, agent) == [
        *["Using the corrected approach..."] * 2, *["It stays so."] * 2, *["That is right."] * 4,
    ]  # fmt: skip


def test_the_console_shows_what_is_printed(
    stage: FakeStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    called(stage, SelfRefineAgent(stage.trainer))
    assert capsys.readouterr().out == CONSOLE
    assert len(list(read_log("self_refine_log.jsonl"))) == 8


def test_the_one_call_returns_none_when_nothing_was_incorrect(tmp_path: Path):
    stage = FakeStage(["right"] * 3, say)
    assert called(stage, SelfRefineAgent(stage.trainer, log_path=None)) is None


def test_the_critics_prompt_is_the_printed_one():
    assert bundled_prompts().critique_system == CRITIQUE_SYSTEM


def test_the_refiners_prompt_is_the_printed_one():
    assert bundled_prompts().refine_system == REFINE_SYSTEM


def test_a_refining_agent_has_the_printed_signature():
    parameters = inspect.signature(SelfRefineAgent.refine_batch).parameters
    assert list(parameters) == [
        "self", "inputs", "original_result", "original_prompts", "answers", "solutions", "correctness_mask",
        "batch_counter",
    ]  # fmt: skip
    assert parameters["batch_counter"].default == 0


@pytest.fixture
def trl_parts(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Evaluates the printed construction with real parts in the place of its dots."""
    pytest.importorskip("trl")
    from datasets import Dataset

    from astune.trl import GRPOTrainer
    from tests.trl.conftest import config, even_length, nano, text_rows

    def made(printed: str = TRAINER, **more: Any) -> Any:
        parts = {
            "reward_funcs": even_length,
            "args": config(tmp_path, max_completion_length=8),
            "train_dataset": Dataset.from_list(text_rows()),
            **nano(),
            **more,
        }
        construction = printed.replace("...", "**parts")
        return eval(construction, {"GRPOTrainer": GRPOTrainer, "parts": parts})

    yield made


def test_the_trainer_is_made_as_printed(trl_parts: Callable[..., Any]):
    trainer = trl_parts()
    assert isinstance(trainer.refine_agent, SelfRefineAgent)
    assert (trainer.enable_self_refine, trainer.use_critique, trainer.max_refine_rounds) == (True, True, 1)


@pytest.mark.parametrize(
    ("printed", "use_critique", "rounds"),
    [
        (TRAINER.replace("max_refine_rounds=1", "max_refine_rounds=3"), True, 3),
        (TRAINER.replace("use_critique=True", "use_critique=False"), False, 1),
    ],
)
def test_the_trainers_other_printed_settings_reach_the_agent(
    trl_parts: Callable[..., Any], printed: str, use_critique: bool, rounds: int
):
    options = trl_parts(printed).refine_agent.options
    assert (options.use_critique, options.max_rounds) == (use_critique, rounds)


def test_each_round_is_appended_to_the_history_while_its_evaluation_says_to_go_on(stage: FakeStage):
    agent = SelfRefineAgent(stage.trainer, max_refine_rounds=3, log_path=None, console=lambda _: None)
    called(stage, agent)
    assert [(done.number, sorted(done.rows)) for done in agent.refine_history] == [
        (1, [0, 1, 2, 3]),
        (2, [2, 3]),
        (3, [2, 3]),
    ]


def test_my_custom_sampling_agent_runs_on_trls_trainer(
    trl_parts: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from trl import GRPOTrainer as _GRPOTrainer

    from tests.trl.conftest import first_batch

    scope = {"json": json, "torch": torch, "_GRPOTrainer": _GRPOTrainer}
    exec(CUSTOM_AGENT, scope)
    register_agent("custom")(scope["MyCustomSamplingAgent"])  # type: ignore[arg-type]
    trainer = trl_parts(reward_funcs=lambda completions, **_: [0.0] * len(completions), agent_type="custom")
    batch = trainer._generate_and_score_completions(first_batch(trainer))
    assert batch["completion_ids"].shape[0] == 8
    assert "batch 1: 8 samples asked again, " in capsys.readouterr().out
    assert [row["sample_idx"] for row in read_log(tmp_path / "self_refine_log.jsonl")] == list(range(8))


def test_custom_is_a_name_like_any_other(stage: FakeStage):
    register_agent("custom")(SelfRefineAgent)
    assert isinstance(make_agent("custom", stage.trainer, use_critique=False), SelfRefineAgent)


@pytest.mark.parametrize(("file", "holds"), FILES.items())
def test_a_file_that_the_documents_name_is_there(file: str, holds: str, project_root: Path):
    assert holds in (project_root / file).read_text(encoding="utf-8")


def test_the_tutorial_has_the_printed_names_and_seven_tests(project_root: Path):
    folder = project_root / "tutorial" / "self_refine_from_scratch"
    scope = runpy.run_path(str(folder / "from_scratch.py"))
    assert {"QuadraticScorer", "Generator", "reflect_and_edit", "self_refine"} <= scope.keys()
    torch.manual_seed(0)
    found = scope["self_refine"](scope["Generator"](2), scope["QuadraticScorer"](torch.ones(2)), rounds=3)
    assert found._fields == ("best_candidate", "best_score", "score_history", "initial_score")
    assert "MultiheadAttention" not in (folder / "from_scratch.py").read_text(encoding="utf-8")
    tests = (folder / "test_self_refine.py").read_text(encoding="utf-8")
    assert len(re.findall(r"^def test_", tests, re.MULTILINE)) == 7


@pytest.mark.slow
@pytest.mark.parametrize("command", LOOP_COMMANDS)
def test_the_tutorials_commands_run_in_its_folder(command: str, project_root: Path):
    folder = project_root / "tutorial" / "self_refine_from_scratch"
    arguments = [sys.executable, *shlex.split(command)[1:]]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout or "7 of 7 tests passed" in done.stdout
