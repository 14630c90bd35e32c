"""Refinement through the command, on the bundled model: a step or two of each kind, and a run that is continued."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import pytest

from astune import cli
from astune.leftovers import MARK
from astune.models.nano import NANO_PATH
from astune.report.metrics import answers
from astune.report.run_folder import RunFolder
from astune.rollout.prefix_cache import common_length
from tests.small_run import PLAIN_WORKFLOW, SMALL, Astuner

#: Two direct answers to two small problems, each criticised and answered again.
REFINE = (
    "refine.enabled=true", "rollout.workflow=astune.workflow.direct->DirectAnswer", "rollout.max_tokens=32",
    "refine.max_tokens=40", "task_reader.nano_gsm.largest=60", "task_reader.nano_gsm.n_train=16",
    "task_reader.nano_gsm.families=[give_away, get_more]", "trainer.learning_rate=1e-3",
)  # fmt: skip
#: Tells answers apart whatever the model can do, so that there is something to refine and to learn.
GRADED = ("task_judge.judge_protocol=tests.refine.text_judge->TextAsJudge",)


@dataclass(frozen=True)
class Evaluated:
    """A finished run and what it printed."""

    run: RunFolder
    said: str


def rows(astuner: Astuner) -> list[dict[str, Any]]:
    return astuner.run.read_metrics()


def train(astuner: Astuner, *overrides: str) -> list[dict[str, Any]]:
    done = astuner(*REFINE, *GRADED, *overrides)
    assert done.status == 0, done.err
    return rows(astuner)


@pytest.mark.parametrize("credit", ["joint", "replace", "expert"])
def test_each_credit_trains(astuner: Astuner, credit: str) -> None:
    [row] = train(astuner, f"refine.credit={credit}", "refine.max_refine_rounds=2", "trainer.group_size=3")
    assert row["grad_norm"] > 0
    assert row["refine/attempts"] >= row["refine/refined"] > 0


def test_episodes_keep_role_round_and_the_sample_that_they_belong_to(astuner: Astuner) -> None:
    train(astuner, "refine.max_refine_rounds=2")
    found = [(e.role, e.round, e.sample_index) for e in astuner.episodes()]
    expected = [("answer", 0)] * 4
    for number in (1, 2):
        expected += [("critique", number)] * 4 + [("refine", number)] * 4
    assert [(role, number) for role, number, _ in found] == expected
    assert {sample for _, _, sample in found} == {0, 1}


def test_without_critiques_there_are_none(astuner: Astuner) -> None:
    [row] = train(astuner, "refine.use_critique=false")
    assert (row["refine/critiques"], row["refine/attempts"]) == (0, 4)


def test_the_run_continued_is_the_run_that_was_not_stopped(astuner: Astuner) -> None:
    train(astuner, "trainer.steps=1")
    train(astuner, "trainer.steps=2")
    train(astuner, "trainer.steps=2", "name=whole")
    whole = astuner.run.path.with_name("whole")
    for name in ("metrics.jsonl", "checkpoints/step_000002/model.safetensors"):
        assert (astuner.run.path / name).read_bytes() == (whole / name).read_bytes(), name


def test_other_rows_to_refine_make_another_run(astuner: Astuner) -> None:
    train(astuner)
    done = astuner(*REFINE, *GRADED, "refine.rows=wrong")
    assert (done.status, "another refine" in done.err) == (2, True)


def test_another_gate_goes_on_with_the_same_run(astuner: Astuner) -> None:
    train(astuner)
    assert len(train(astuner, "refine.gate=verdict", "trainer.steps=2")) == 2


def test_tool_agents_are_refined_with_their_tools(astuner: Astuner) -> None:
    [row] = train(astuner, f"rollout.workflow={PLAIN_WORKFLOW}", "refine.attempt=workflow", "rollout.max_tokens=96")
    attempts = [episode for episode in astuner.episodes() if episode.role == "refine"]
    assert row["refine/attempts"] == len(attempts) == 4
    prompts = [episode.turns[0].prompt_ids for episode in answers(astuner.episodes())]
    preamble = common_length(prompts[0], prompts[-1])  # system prompt and tools: the problems differ
    assert preamble > 20
    assert all(episode.turns[0].prompt_ids[:preamble] == prompts[0][:preamble] for episode in attempts)


def test_a_section_that_is_switched_off_changes_no_bit(astuner: Astuner) -> None:
    plain = ("trainer.learning_rate=1e-3", "trainer.group_size=4")
    assert astuner(*plain).status == 0
    assert astuner(*plain, "refine.credit=replace", "refine.max_refine_rounds=3", "name=other").status == 0
    other = astuner.run.path.with_name("other")
    for name in ("metrics.jsonl", "checkpoints/step_000001/model.safetensors"):
        assert (astuner.run.path / name).read_bytes() == (other / name).read_bytes()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """A run with both evaluations, before and after."""
    folder = tmp_path_factory.mktemp("evaluated")
    conf = folder / "run.yaml"
    conf.write_text("astune: {}\n")
    modes = ("evaluation.at_start=true", "evaluation.sampled=true", "evaluation.greedy=true", "evaluation.n_heldout=3")
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setenv(MARK, "")
        status = cli.main(
            ["--conf", str(conf), f"save_dir={folder}", *SMALL, *REFINE, *modes, "tracking.report=true", "name=run"]
        )
    assert status == 0
    return Evaluated(RunFolder("run", folder), said.getvalue())


def test_evaluations_refine_every_answer_in_both_modes(evaluated: Evaluated) -> None:
    found = evaluated.run.read_evaluations()
    assert [(e.step, e.mode, e.refine and e.refine["refined"]) for e in found] == [
        (0, "greedy", 3), (0, "sampled", 3), (1, "greedy", 3), (1, "sampled", 3),
    ]  # fmt: skip
    assert all(e.refine and e.refine["accuracy_t1"] == e.success for e in found)


def test_what_an_evaluation_sampled_is_kept(evaluated: Evaluated) -> None:
    episodes = evaluated.run.read_evaluation_episodes(1, "greedy")
    assert [e.role for e in episodes] == ["answer"] * 3 + ["critique"] * 3 + ["refine"] * 3
    assert len(answers(episodes)) == 3


def test_the_summary_has_both_attempts_before_and_after(evaluated: Evaluated) -> None:
    summary = json.loads(evaluated.run.summary.read_text())
    assert {mode: sorted(found) for mode, found in summary["refine"].items()} == {
        "greedy": ["after", "before"],
        "sampled": ["after", "before"],
    }


def test_people_are_told(evaluated: Evaluated) -> None:
    for words in ("Accuracy@t1", "@t2 ungated", "oracle-gated", "i→c", "P(i|c)", "Accuracy@t2, ungated"):
        assert words in evaluated.said


def test_the_page_shows_accuracies_and_chains(evaluated: Evaluated) -> None:
    page = evaluated.run.report.read_text()
    for words in (
        "Refinement, every training batch",
        "a/(a+b)",
        "Every answer refined",
        "From the question to the last attempt",
        "Critique, ",
        "Refined answer",
    ):
        assert words in page


def test_the_curve_is_drawn(evaluated: Evaluated) -> None:
    assert evaluated.run.reward_curve.stat().st_size > 10_000


def test_eval_refines_as_the_run_does(astuner: Astuner) -> None:
    done = astuner.evaluate(NANO_PATH, *REFINE, "evaluation.n_heldout=3", "evaluation.sampled=false")
    assert done.status == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["greedy"]["refine"]["refined"] == 3


def test_a_run_can_train_on_first_answers_and_refine_in_evaluation_alone(astuner: Astuner) -> None:
    evaluated = ("evaluation.sampled=true", "evaluation.n_heldout=2")
    [row] = train(astuner, "refine.train=false", *evaluated)
    assert "refine/rows" not in row
    assert all(evaluation.refine is not None for evaluation in astuner.run.read_evaluations())
    assert {episode.role for episode in astuner.episodes()} == {"answer"}
