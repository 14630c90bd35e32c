"""TRL's GRPOTrainer with a refine stage after the first generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from trl.trainer.grpo_trainer import GRPOTrainer as _GRPOTrainer

from astune.errors import ConfigError
from astune.refine.agents import make_agent
from astune.refine.log import LOG_NAME
from astune.trl.attempts import FirstAttempts
from astune.trl.correctness import Correctness
from astune.trl.layout import Batch, row_count
from astune.trl.stage import TrlStage


class GRPOTrainer(_GRPOTrainer):
    """TRL's trainer; with ``enable_self_refine``, incorrect first attempts are refined, in training and evaluation.

    After a generation batch is scored, one call to the agent's ``refine_batch`` returns the batch to train on, in the
    form of TRL's own. Without ``enable_self_refine`` this is TRL's trainer, bit for bit.

    An attempt is correct when a reward function of the trainer says so. Images in the dataset's columns
    (``image``, ``images``) or prompts reach the critic and the refiner, with pixels batch-first (LLaVA) or flattened
    (``image_grid_thw``, Qwen-VL); the processor needs a chat template that renders image parts.
    Any reward function that judges rows one by one works; ``environment_factory`` does not, and tools are not offered
    to the critic and the refiner.

    Args:
        args, kwargs: of TRL's GRPOTrainer, by position or name.
        enable_self_refine: turns the stage on.
        use_critique: ask a critic first; otherwise the refiner is shown the attempt alone.
        max_refine_rounds: at most so many rounds a row; a row that is correct takes no further one.
        agent_type: ``self_refine``, a name given to ``register_agent``, or ``package.module->Class``.
        agent_kwargs: for the agent's constructor, beside ``use_critique``, ``max_refine_rounds`` and ``log_path``
            (``self_refine_log.jsonl`` in the output folder), which it is given anyway.
        correctness_reward: name of the reward function that decides; None takes the first.
        correctness_threshold: the reward from which an attempt is correct.
        solution_column: the dataset's column with the reference answer, for the agent's log; None looks for
            ``solution``, ``answer``, ``ground_truth``, ``reference``.

    Attributes:
        refine_agent: the agent; None without ``enable_self_refine``.
        refine_stage: what the agent samples, grades and merges with.
        batch_counter: generation batches so far, in training and evaluation.

    Raises:
        ConfigError: options that do not fit each other, or a tokenizer without a chat template.
    """

    def __init__(
        self,
        *args: Any,
        enable_self_refine: bool = False,
        use_critique: bool = True,
        max_refine_rounds: int = 1,
        agent_type: str = "self_refine",
        agent_kwargs: dict[str, Any] | None = None,
        correctness_reward: str | None = None,
        correctness_threshold: float = 0.5,
        solution_column: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.enable_self_refine = enable_self_refine
        self.use_critique = use_critique
        self.max_refine_rounds = max_refine_rounds
        self.batch_counter = 0
        self.refine_stage: TrlStage | None = None
        self.refine_agent: Any = None
        self._solution_column = solution_column
        self._first_attempts: FirstAttempts | None = None
        if enable_self_refine:
            _check(self)
            correctness = Correctness.of(self.reward_func_names, correctness_reward, correctness_threshold)
            self.refine_stage = TrlStage(self, correctness)
            options = {
                "use_critique": use_critique,
                "max_refine_rounds": max_refine_rounds,
                "log_path": Path(self.args.output_dir or ".") / LOG_NAME,
            }
            self.refine_agent = make_agent(agent_type, self, **options | (agent_kwargs or {}))

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: Any
    ) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.enable_self_refine:
            self._first_attempts = FirstAttempts(inputs, prompts, completions, completion_ids_list, rewards)
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        result: Batch = super()._generate_and_score_completions(inputs)
        if self.refine_stage is None:
            return result
        first = self._first_attempts
        assert first is not None
        self.batch_counter += 1
        prompts, completions_text = first.prompts, first.texts
        solutions = first.solutions(self._solution_column)
        correctness_tensor = self.refine_stage.begin(first, result)
        refined_result = self.refine_agent.refine_batch(
            inputs=inputs,
            original_result=result,
            original_prompts=prompts,
            answers=completions_text,
            solutions=solutions,
            correctness_mask=correctness_tensor,
            batch_counter=self.batch_counter,
        )
        return result if refined_result is None else _checked(refined_result, result, self.refine_agent)


def _check(trainer: Any) -> None:
    if trainer.environment_factories is not None:
        raise ConfigError(
            "enable_self_refine cannot be used with environment_factory: an environment's state belongs to the first "
            "attempt, and a refined one could not be scored by it"
        )
    if getattr(trainer.processing_class, "chat_template", None) is None:
        raise ConfigError(
            "enable_self_refine needs a chat template: critic and refiner are asked in messages; set "
            "processing_class.chat_template"
        )


def _checked(refined: Any, original: Batch, agent: Any) -> Batch:
    """What an agent returned, if TRL can train on it."""
    name = type(agent).__name__
    if not isinstance(refined, dict):
        raise ConfigError(f"{name}.refine_batch returned {type(refined).__name__}: it must be a dict like its input")
    if missing := sorted(original.keys() - refined.keys()):
        raise ConfigError(f"{name}.refine_batch returned no {', '.join(missing)}: TRL's batch has them")
    if row_count(refined) != row_count(original):
        raise ConfigError(
            f"{name}.refine_batch returned {row_count(refined)} rows for {row_count(original)}: TRL splits the batch "
            "into minibatches of a fixed size"
        )
    return refined
