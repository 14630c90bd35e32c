"""Evaluates a model on the items of a split, through Inspect: one task, one log, one result an item.

The log is written beside its place and moved there when it is complete, so that ``inspect view`` on the log folder
shows whole evaluations only, and an evaluation that died is simply started again.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Score, Scorer, Target, accuracy, scorer
from inspect_ai.solver import Solver, TaskState

from astune.errors import EngineError, SandboxError
from astune.rollout.threads import sampling_threads, spare_one
from autorl_bench.decoding import Order, decode
from autorl_bench.inspect_ahead import PROVIDER as AHEAD
from autorl_bench.inspect_ahead import AheadAPI, completion_solver, prompt_of
from autorl_bench.inspect_engine import PROVIDER as ENGINE
from autorl_bench.inspect_engine import LocalEngineAPI
from autorl_bench.inspect_workflow import WorkflowEpisodes, workflow_solver
from autorl_bench.policy import EvaluationFailure, FirstError, InvalidModel, not_finite
from autorl_bench.scenarios.schema import Episode, Generation
from autorl_bench.types import Checker, Evaluation, Item, ItemResult

_MESSAGES: dict[str, type[ChatMessageSystem] | type[ChatMessageUser] | type[ChatMessageAssistant]] = {
    "system": ChatMessageSystem,
    "user": ChatMessageUser,
    "assistant": ChatMessageAssistant,
}
_CODES = ((EngineError, "engine"), (SandboxError, "sandbox"))
_VALUES = {True: CORRECT, False: INCORRECT, None: NOANSWER}


def evaluate(
    model_folder: Path,
    base_folder: Path,
    items: Sequence[Item],
    checker: Checker,
    generation: Generation,
    *,
    log_dir: Path,
    episode: Episode | None = None,
    renderer: str = "auto",
    name: str = "evaluation",
    seed: int = 0,
    max_batch: int = 64,
) -> Evaluation:
    """Evaluates the weights in ``model_folder``, greedily; equal weights and items give equal results.

    Runs an event loop of its own (Inspect's), and one evaluation a process at a time. Checkers and workflows find
    the sandbox with :func:`~astune.tools.python_tool.current_sandbox`.

    Args:
        model_folder: safetensors; nothing else of it is read.
        base_folder: the base model: architecture, tokenizer, chat template.
        items: the problems; their ids are distinct.
        checker: grades completions.
        generation: limits of a completion.
        log_dir: where Inspect's log goes.
        episode: how a model is asked; default: one completion.
        renderer: chat renderer.
        name: what the log calls the task.
        seed: noted in the log; names the random streams that greedy decoding does not use.
        max_batch: rows that the engine runs at once.

    Raises:
        InvalidModel: the model cannot be loaded, or its logits are not finite.
        EvaluationFailure: engine, sandbox, checker, workflow or disk failed, or the evaluation was interrupted.
        ConfigError: the scenario's workflow does not exist.
        ValueError: no items, or two with one id.
    """
    if not items or len({item.id for item in items}) != len(items):
        raise ValueError(f"{len(items)} items: an evaluation needs items with distinct ids")
    samples = [_sample(item) for item in items]
    with _asked(model_folder, base_folder, samples, generation, episode, renderer, max_batch) as model:
        first_error = cast(AheadAPI | LocalEngineAPI, model.api).first_error
        grading = Grading(items, checker, first_error)
        task = Task(
            dataset=MemoryDataset(samples, name=name),
            solver=_solver(model, items, generation, episode, seed),
            scorer=grading.scorer(),
            config=GenerateConfig(
                max_tokens=generation.max_tokens, temperature=0.0, seed=seed, max_connections=len(items)
            ),
            name=name,
        )
        with _whole_log(log_dir) as scratch, _few_collections(), sampling_threads():
            log = _run(task, model, len(items), scratch)
            if log.status != "success" or first_error.error is not None:
                raise _failure(log, first_error.error)
            results = grading.results()
    return Evaluation(results, log_dir / Path(log.location).name)


class Grading:
    """Asks the checker, and keeps each item's result."""

    def __init__(self, items: Sequence[Item], checker: Checker, first_error: FirstError) -> None:
        self._first_error = first_error
        self._items = {item.id: item for item in items}
        self._checker = checker
        self._results: dict[str, ItemResult] = {}

    async def grade(self, item_id: str, output: ModelOutput) -> bool | None:
        """The checker's verdict on what the model said; kept as the item's result."""
        completion = output.completion
        if self._first_error.error is not None:
            return None
        correct: bool | None = None
        with self._first_error.noted():
            correct = await self._checker.grade(self._items[item_id], completion)
        usage = output.usage
        self._results[item_id] = ItemResult(
            item_id,
            correct,
            completion,
            tokens=usage.output_tokens if usage else 0,
            truncated=output.stop_reason in ("max_tokens", "model_length"),
        )
        return correct

    def results(self) -> tuple[ItemResult, ...]:
        """One result an item, in the order of the items.

        Raises:
            EvaluationFailure: an item has none.
        """
        if missing := [item_id for item_id in self._items if item_id not in self._results]:
            raise EvaluationFailure("incomplete", f"{len(missing)} of {len(self._items)} items were not graded")
        return tuple(self._results[item_id] for item_id in self._items)

    def scorer(self) -> Scorer:
        """Inspect's view of the same: C, I or N (could not be graded; counts as not solved)."""

        @scorer(metrics=[accuracy()], name="checker")
        def checked() -> Scorer:
            async def score(state: TaskState, target: Target) -> Score:
                correct = await self.grade(str(state.sample_id), state.output)
                return Score(value=_VALUES[correct])

            return score

        return checked()


@contextmanager
def _asked(
    model_folder: Path,
    base_folder: Path,
    samples: Sequence[Sample],
    generation: Generation,
    episode: Episode | None,
    renderer: str,
    max_batch: int,
) -> Iterator[Model]:
    """The model as Inspect asks it. It is loaded by now: what is wrong with it is told as it is, not as a sample's.

    Single completions are decoded ahead, in a process of their own; a workflow has the engine in this one.
    """
    if episode is not None and episode.workflow is not None:
        yield get_model(
            f"{ENGINE}/{model_folder.name}",
            memoize=False,
            weights=str(model_folder),
            base=str(base_folder),
            renderer=renderer,
            max_context=generation.max_context,
            max_batch=max_batch,
        )
        return
    prompts = dict.fromkeys(prompt_of(cast(list[ChatMessage], sample.input)) for sample in samples)
    order = Order(
        weights=str(model_folder.absolute()),
        base=str(base_folder.absolute()),
        prompts=tuple(prompts),
        max_tokens=generation.max_tokens,
        max_context=generation.max_context,
        max_batch=max_batch,
        renderer=renderer,
        threads=spare_one(),
    )
    with closing(decode(order)) as completions:
        yield get_model(f"{AHEAD}/{model_folder.name}", memoize=False, completions=completions)


def _solver(model: Model, items: Sequence[Item], generation: Generation, episode: Episode | None, seed: int) -> Solver:
    if episode is None or episode.workflow is None:
        return completion_solver(cast(AheadAPI, model.api))
    api = cast(LocalEngineAPI, model.api)
    episodes = WorkflowEpisodes(
        api, items, episode.workflow, max_turns=episode.max_turns, max_tokens=generation.max_tokens, seed=seed
    )
    return workflow_solver(episodes)


def _sample(item: Item) -> Sample:
    messages: list[ChatMessage] = [_MESSAGES[m["role"]](content=m["content"]) for m in item.messages]
    return Sample(id=item.id, input=messages, target=item.target, metadata=dict(item.metadata))


def _run(task: Task, model: Model, n: int, log_dir: Path) -> EvalLog:
    """One evaluation by Inspect: no display, no servers, no database of its own beside the log."""
    try:
        [log] = inspect_eval(
            task,
            model=model,
            log_dir=str(log_dir),
            log_format="eval",
            log_level="error",
            log_realtime=False,
            display="none",
            score_display=False,
            ctl_server=False,
            acp_server=False,
            max_samples=n,
            fail_on_error=True,
        )
    except Exception as error:  # Inspect's own failures, and the operating system's: none of them is a score
        raise EvaluationFailure("inspect", f"the evaluation could not be run: {error}") from error
    return log


def _failure(log: EvalLog, error: Exception | None) -> InvalidModel | EvaluationFailure:
    """Whose fault it was that the evaluation did not end."""
    failure: InvalidModel | EvaluationFailure
    if isinstance(error, InvalidModel | EvaluationFailure):
        return error
    if error is None:
        failure = EvaluationFailure(log.status, f"the evaluation ended as {log.status}: {_first_line(log)}")
    elif (blamed := not_finite(error)) is not None:
        failure = blamed
    else:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "checker")
        failure = EvaluationFailure(code, f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _first_line(log: EvalLog) -> str:
    return log.error.message.partition("\n")[0] if log.error else "no reason given"


@contextmanager
def _whole_log(log_dir: Path) -> Iterator[Path]:
    """Yields a scratch folder whose logs are moved into ``log_dir`` when the block ends, and vanish if it fails."""
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=log_dir))
    except OSError as error:
        raise EvaluationFailure("log_folder", f"the log folder {log_dir} cannot be written: {error}") from error
    try:
        yield scratch
        for log in scratch.glob("*.eval"):
            log.replace(log_dir / log.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Makes Python's cycle collector rare for a while.

    Inspect makes a few hundred objects a sample that all live to the end. Looking through them for cycles again and
    again takes a third of its time.
    """
    before = gc.get_threshold()
    gc.set_threshold(200_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
