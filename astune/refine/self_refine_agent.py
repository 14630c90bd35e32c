"""``SelfRefineAgent``: answer, critique and refine sub-agents behind one call of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from astune.errors import ConfigError
from astune.refine.agents import register_agent
from astune.refine.batch import Gate, RefineOptions, refine_rounds, run_rounds
from astune.refine.log import LOG_NAME, LogRow, RefineLog, log_row
from astune.refine.prompts import Message, Prompts, question_text
from astune.refine.report import announcement, logged_line, report_of_rows
from astune.refine.sub_agents import CritiqueView, SubAgents
from astune.refine.trainer_stage import RefiningTrainer, TrainerStage
from astune.refine.types import Attempt, History, Keep, Round, Sample, Sampler, SampleRequest
from astune.refine.verdict import VerdictReader, read_verdict


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What one round did to a batch: by row, for the rows that took part."""

    number: int
    rows: dict[int, Round]


@register_agent("self_refine")
class SelfRefineAgent:
    """Refines the batches of a trainer: critique, refine, grade, log, report.

    Args:
        trainer: offers ``refine_stage``, see :class:`~astune.refine.trainer_stage.TrainerStage`.
        use_critique: ask the critic first; else refine in one stage.
        max_refine_rounds: rounds that a row may take: critique, refine, critique, refine, ...
        rows: which rows may be refined: those that the mask calls incorrect, or all.
        gate, score_threshold, keep: see :class:`~astune.refine.batch.RefineOptions`. By default a row goes on until
            it is correct, or with ``rows="all"`` takes every round.
        prompts: the texts, or a folder whose files take the place of the bundled ones.
        critique_view: what the refiner is shown of a critique: ``all``, or the ``feedback`` after ``</think>``.
        verdict_reader: reads whether a critique calls the answer correct.
        sampler, critic_sampler: in the place of the trainer's, for everything or for critiques alone.
        log_path: the log; None writes none.
        console: is given the report, block by block.

    Attributes:
        refine_history: of the last batch, one entry a round.
        histories: of the last batch, one a row that was to be refined.

    Raises:
        ConfigError: options that do not fit each other, or a prompt folder that cannot be used.
    """

    def __init__(
        self,
        trainer: RefiningTrainer,
        *,
        use_critique: bool = True,
        max_refine_rounds: int = 1,
        rows: Literal["wrong", "all"] = "wrong",
        gate: Gate | None = None,
        score_threshold: float | None = None,
        keep: Keep = "last",
        prompts: Prompts | str | Path | None = None,
        critique_view: CritiqueView = "all",
        verdict_reader: VerdictReader = read_verdict,
        sampler: Sampler | None = None,
        critic_sampler: Sampler | None = None,
        log_path: str | Path | None = LOG_NAME,
        console: Callable[[str], None] = print,
    ) -> None:
        if rows not in ("wrong", "all"):
            raise ConfigError(f"refine rows {rows!r} is not known: use 'wrong' or 'all'")
        self.trainer = trainer
        self.rows = rows
        gate = gate or ("wrong" if rows == "wrong" else "always")
        self.options = RefineOptions(use_critique, max_refine_rounds, gate, score_threshold, keep)
        texts = prompts if isinstance(prompts, Prompts) else Prompts.load(prompts)
        self.agents = SubAgents.of(texts, critique_view=critique_view, verdict_reader=verdict_reader)
        self.log = None if log_path is None else RefineLog(log_path)
        self.console = console
        self.refine_history: list[RoundResult] = []
        self.histories: list[History] = []
        self._sampler, self._critic_sampler = sampler, critic_sampler

    def refine_batch(
        self,
        inputs: Any,
        original_result: Any,
        original_prompts: Sequence[Any],
        answers: Sequence[str],
        solutions: Sequence[Any] | None,
        correctness_mask: Any,
        batch_counter: int = 0,
    ) -> Any | None:
        """Refines the incorrect rows of a batch (``~correctness_mask``).

        Args:
            inputs: the trainer's rows; the trainer's stage has them, too.
            original_result: the trainer's result of the first generation.
            original_prompts: one conversation, or question, a row.
            answers: texts of the first answers.
            solutions: reference answers, for the log alone: no sub-agent sees them.
            correctness_mask: one truth value a row, as a tensor, array or list. NaN is not correct.
            batch_counter: number of the batch, as it is shown and logged.

        Returns:
            The refined result in the form of ``original_result``; None where nothing was refined.

        Raises:
            ValueError: the lists differ in length.
            EngineError: the model could not be sampled.
        """
        stage = self.trainer.refine_stage
        prompts = [_conversation(prompt) for prompt in original_prompts]
        mask = [self.rows == "all" or not correct for correct in _truth_values(correctness_mask)]
        first = list(stage.first)
        if not len(prompts) == len(answers) == len(mask) == len(first):
            lengths = f"{len(prompts)} prompts, {len(answers)} answers, a mask of {len(mask)}, {len(first)} attempts"
            raise ValueError(f"refine_batch needs one of each a row, and was given {lengths}")
        self._announce(stage, sum(mask))
        self.histories = self._refine(stage, prompts, first, mask, batch_counter)
        self.refine_history = _by_round(self.histories)
        self._record(stage, self._log_rows(batch_counter, prompts, first, solutions))
        return stage.merge(original_result, self.histories)

    def answer(self, prompts: Sequence[Any], batch: int = 0) -> list[Sample]:
        """First answers from the answer sub-agent, for use without a trainer's own generation.

        Raises:
            EngineError: the model could not be sampled.
        """
        asked = [self.agents.answer.messages(_conversation(prompt)) for prompt in prompts]
        requests = [SampleRequest("answer", messages, row, 0, batch) for row, messages in enumerate(asked)]
        return (self._sampler or self.trainer.refine_stage.sampler).sample(requests)

    def _refine(
        self, stage: TrainerStage, prompts: list[list[Message]], first: list[Attempt], mask: list[bool], batch: int
    ) -> list[History]:
        sampler = self._sampler or stage.sampler
        critic = self._critic_sampler or sampler
        rounds = refine_rounds(
            prompts,
            first,
            mask,
            self.options,
            agents=self.agents,
            batch=batch,
            excess=getattr(sampler, "excess", None),
            any_process=stage.any_process,
        )
        return run_rounds(
            rounds,
            lambda ask: (critic if ask.role == "critique" else sampler).sample(ask.requests),
            lambda ask: stage.grade(ask.attempts),
        )

    def _announce(self, stage: TrainerStage, count: int) -> None:
        total = sum(stage.gather([count]))
        if stage.is_main and total:
            options = self.options
            kind = "incorrect sample" if self.rows == "wrong" else "sample"
            self.console(announcement(total, options.use_critique, options.max_rounds, kind=kind) + "\n")

    def _log_rows(
        self, batch: int, prompts: list[list[Message]], first: list[Attempt], solutions: Sequence[Any] | None
    ) -> list[LogRow]:
        histories = {history.row: history for history in self.histories}
        return [
            log_row(
                batch,
                row,
                question_text(prompts[row]),
                attempt,
                histories.get(row),
                solution=None if solutions is None or solutions[row] is None else str(solutions[row]),
            )
            for row, attempt in enumerate(first)
        ]

    def _record(self, stage: TrainerStage, local: list[LogRow]) -> None:
        """Reports and logs the rows of all processes, on the main one."""
        parts = stage.gather([local])
        rows = [replace(row, process=rank) for rank, part in enumerate(parts) for row in part]
        if not (stage.is_main and rows):
            return
        self.console(report_of_rows(rows))
        if self.log is not None:
            self.log.append(rows)
            self.console("\n" + logged_line(len(rows), self.log.path.name))


def _conversation(prompt: Any) -> list[Message]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(message) for message in prompt]


def _truth_values(mask: Any) -> list[bool]:
    values = mask.tolist() if hasattr(mask, "tolist") else list(mask)
    return [bool(value) and value == value for value in values]  # NaN is true, and unequal to itself


def _by_round(histories: Sequence[History]) -> list[RoundResult]:
    results: list[RoundResult] = []
    for history in histories:
        for done in history.rounds:
            if len(results) < done.number:
                results.append(RoundResult(done.number, {}))
            results[done.number - 1].rows[history.row] = done
    return results
