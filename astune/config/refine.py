"""The `refine` section: what the refine stage does, and how what it samples trains the policy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

from pydantic import Field, field_validator, model_validator

from astune.config.section import FilePath, NotNegative, Section
from astune.errors import ConfigError
from astune.refine.training.credit import check_shaping


class RefineStage(Section):
    """What holds from step `start` on, until the next stage begins."""

    start: int = Field(ge=0, description="First step of the stage, counted from 0; the first stage begins at 0.")
    turn_weights: list[NotNegative] = Field([1.0], min_length=1, description="As `refine.turn_weights`.")
    turn_kl: list[NotNegative] | None = Field(None, min_length=1, description="As `refine.turn_kl`.")


class RefineExpert(Section):
    """Correct refinements that are trained after the original prompt (`credit: expert`)."""

    weight: Literal["shaped", "tis", "logp"] = Field(
        "shaped",
        description="What a token's gradient is weighed by: p/(p+0.1) differentiated (`shaped`), min(p/mu, `tis_max`) "
        "(`tis`), or nothing (`logp`). The first two hardly lift tokens that the policy holds unlikely.",
    )
    tis_max: float = Field(2.0, gt=0, description="Largest importance weight of `tis`.")
    per_task: int = Field(1, ge=1, description="Most experts of one task in a step.")


class Refine(Section):
    """The refine stage: each first answer is criticised and answered again, and both attempts train the policy."""

    enabled: bool = Field(False, description="Refine, in training and in evaluation.")
    train: bool = Field(
        True,
        description="Train on what refinement samples; off trains on first answers alone and refines in evaluation.",
    )
    credit: Literal["joint", "replace", "expert"] = Field(
        "joint",
        description="How refined samples train the policy: all attempts, each turn by itself (`joint`); the refined "
        "sample in place of a wrong first answer (`replace`); a correct refinement of a wrong answer, after the "
        "original prompt (`expert`).",
    )
    use_critique: bool = Field(True, description="Ask for a critique first, and refine with it.")
    max_refine_rounds: int = Field(1, ge=1, description="Attempts after the first answer.")
    attempt: Literal["turn", "workflow"] = Field(
        "turn",
        description="What a refined attempt is: one answer without tools (`turn`), or the run's workflow on a task "
        "that carries the refine prompt (`workflow`).",
    )
    rows: Literal["auto", "all", "wrong", "mixture"] = Field(
        "auto",
        description="First answers that are refined in training: all, the wrong ones, or those and a share of the "
        "correct ones; `auto` is `all` under `joint` and else `wrong`. Under `joint` wrong ones alone teach the policy "
        "that a refine prompt means a wrong answer, and it changes correct ones. Evaluation always refines all.",
    )
    correct_share: float = Field(0.5, ge=0, le=1, description="Share of correct first answers that `mixture` refines.")
    alpha: float = Field(0.0, ge=0, description="Bonus for improving on the attempt before (`joint`).")
    gamma: float = Field(
        0.0, ge=0, le=1, description="Share of later turns in a turn's return (`joint`); gamma * alpha stays below 1."
    )
    critique_credit: Literal["auto", "none", "outcome", "verdict", "both"] = Field(
        "auto",
        description="What a critique is worth (`joint`): nothing, the change of the reward that it leads to, whether "
        "its verdict was right, or the last two together; `auto` is `outcome` where critiques can be trained.",
    )
    turn_weights: list[NotNegative] = Field(
        [1.0],
        min_length=1,
        description="Weight of each turn's mean in the loss, first answers first; turns beyond the list take its last. "
        "A critique counts with the attempt that it leads to.",
    )
    critique_weight: float = Field(1.0, ge=0, description="Weight of critiques, times that of their turn.")
    turn_kl: list[NotNegative] | None = Field(
        None, min_length=1, description="KL coefficient of each turn, as `turn_weights`; null is `trainer.beta`."
    )
    stages: list[RefineStage] = Field(
        [], description="Weights and KL coefficients that change with the step; takes the place of the two above."
    )
    expert: RefineExpert = Field(RefineExpert(), description="Used when `credit` is expert.")
    gate: Literal["always", "verdict", "score_threshold"] = Field(
        "always",
        description="When a refined answer takes the place of the first in what evaluation reports as gated: always, "
        "unless the critic calls the first correct, or where the first one's score is below `score_threshold`. "
        "Ungated accuracy is always reported.",
    )
    score_threshold: float = Field(0.5, description="Score from which the gate keeps a first answer.")
    score_component: str | None = Field(
        None,
        description="Component of the judge's verdict that the gate takes as score; null is the reward, which is an "
        "oracle where the judge knows the reference.",
    )
    prompts: FilePath | None = Field(
        None, description="Folder with prompts of your own (critique_system.txt, ...); null takes the bundled ones."
    )
    max_tokens: int | None = Field(
        None, ge=1, description="Largest critique or refined answer, tokens; null is `rollout.max_tokens`."
    )
    floor: float = Field(
        0.02,
        ge=0,
        le=1,
        description="The best checkpoint is the one with the highest Accuracy@t2, ungated, among those whose "
        "Accuracy@t1 is at most this far below the untrained policy's.",
    )

    @field_validator("stages")
    @classmethod
    def _stages_rise(cls, value: list[RefineStage]) -> list[RefineStage]:
        starts = [stage.start for stage in value]
        if starts and (starts[0] != 0 or any(a >= b for a, b in itertools.pairwise(starts))):
            raise ValueError(f"the stages must begin at step 0 and then rise, got the starts {starts}")
        return value

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Refine:
        problem = next(self._misfits(), None)
        if problem is not None:
            raise ValueError(problem)
        return self

    def _misfits(self) -> Iterator[str]:
        try:
            check_shaping(self.alpha, self.gamma)
        except ConfigError as error:
            yield str(error)
        if self.credit != "joint" and (self.alpha or self.gamma):
            yield f"alpha and gamma belong to credit: joint, and credit is {self.credit}: leave them at 0"
        if self.critique_credit not in ("auto", "none") and (self.credit != "joint" or not self.use_critique):
            reason = f"credit is {self.credit}" if self.credit != "joint" else "use_critique is false"
            yield f"critique_credit is {self.critique_credit}, but {reason}: no critique is trained"
        if self.gate == "verdict" and not self.use_critique:
            yield "gate: verdict asks the critic, and use_critique is false: use always or score_threshold"
        if self.stages and (self.turn_weights != [1.0] or self.turn_kl is not None):
            yield "turn_weights and turn_kl are given and stages, too: give each stage its own"
        if self.credit != "joint" and self.rows in ("all", "mixture"):
            yield f"rows is {self.rows}, but credit: {self.credit} refines wrong answers only: leave rows at auto"

    @property
    def refined_rows(self) -> Literal["all", "wrong", "mixture"]:
        """`rows` with `auto` resolved."""
        if self.rows != "auto":
            return self.rows
        return "all" if self.credit == "joint" else "wrong"

    @property
    def critique_worth(self) -> Literal["none", "outcome", "verdict", "both"]:
        """`critique_credit` with `auto` resolved."""
        if self.critique_credit != "auto":
            return self.critique_credit
        return "outcome" if self.credit == "joint" and self.use_critique else "none"
