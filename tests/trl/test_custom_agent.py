"""The custom sampling agent of the interface runs as it is written there, on the real trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOTrainer as _GRPOTrainer

from astune.errors import ConfigError
from astune.refine.agents import register_agent
from tests.trl.conftest import Trainers, first_batch


class MyCustomSamplingAgent:
    """Refines in one stage, on the full batch: what the interface's document shows."""

    def __init__(self, trainer: Any, **kwargs: Any) -> None:
        self.trainer = trainer
        self.log_path = kwargs["log_path"]

    def refine_batch(
        self,
        inputs: Any,
        original_result: Any,
        original_prompts: Any,
        answers: Any,
        solutions: Any,
        correctness_mask: Any,
        batch_counter: int = 0,
    ) -> Any:
        incorrect_indices = torch.where(~correctness_mask)[0].tolist()
        if not incorrect_indices:
            return None

        # Build prompts of one's own
        custom_prompts = [
            [
                *original_prompts[index],
                {"role": "assistant", "content": answers[index]},
                {"role": "user", "content": "?"},
            ]
            for index in incorrect_indices
        ]

        # Expand to the full batch
        refine_inputs = []
        for position, row in enumerate(inputs):
            prompt = custom_prompts[position % len(custom_prompts)]
            refine_inputs.append({**row, "prompt": prompt})

        # Generate
        refined_result = _GRPOTrainer._generate_and_score_completions(self.trainer, refine_inputs)

        # Evaluate and log
        texts = self.trainer.processing_class.batch_decode(refined_result["completion_ids"], skip_special_tokens=True)
        with Path(self.log_path).open("a") as log:
            log.write(json.dumps({"batch": batch_counter, "solutions": solutions, "texts": texts}) + "\n")
        return refined_result


def test_the_custom_agent_runs_as_written(text_trainer: Trainers, tmp_path: Path) -> None:
    register_agent("custom")(MyCustomSamplingAgent)
    trainer = text_trainer(agent_type="custom")
    trainer.train()
    logged = [json.loads(line) for line in (tmp_path / "self_refine_log.jsonl").read_text().splitlines()]
    assert [row["batch"] for row in logged] == [1]  # called once, and not by its own generation again
    assert len(logged[0]["texts"]) == 8
    assert trainer.state.global_step == 2


class ReturnsAList:
    def __init__(self, trainer: Any, **kwargs: Any) -> None: ...

    def refine_batch(self, original_result: Any, **_: Any) -> Any:
        return list(original_result)


class LosesAField(ReturnsAList):
    def refine_batch(self, original_result: Any, **_: Any) -> Any:
        return {key: value for key, value in original_result.items() if key != "advantages"}


class LosesARow(ReturnsAList):
    def refine_batch(self, original_result: Any, **_: Any) -> Any:
        return {key: value[1:] if value.ndim else value for key, value in original_result.items()}


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (ReturnsAList, "ReturnsAList.refine_batch returned list"),
        (LosesAField, "LosesAField.refine_batch returned no advantages"),
        (LosesARow, "LosesARow.refine_batch returned 7 rows for 8"),
    ],
)
def test_a_result_that_trl_cannot_train_on_is_refused(text_trainer: Trainers, agent: type, message: str) -> None:
    register_agent("broken")(agent)
    trainer = text_trainer(agent_type="broken")
    with pytest.raises(ConfigError, match=message):
        trainer._generate_and_score_completions(first_batch(trainer))


def test_options_of_an_agent_reach_it(text_trainer: Trainers) -> None:
    trainer = text_trainer(agent_kwargs={"rows": "all", "log_path": None}, max_refine_rounds=2)
    agent = trainer.refine_agent
    assert (agent.rows, agent.log, agent.options.max_rounds, agent.options.use_critique) == ("all", None, 2, True)
