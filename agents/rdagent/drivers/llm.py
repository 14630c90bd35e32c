"""The driver that asks a language model: for a hypothesis, and for the complete script that tests it.

Any OpenAI-compatible endpoint will do. An answer that cannot be used is asked for again with the reason; an endpoint
that cannot be reached, a script that crashes or never ends, and a disk that fills become records like any other, and
the next prompt says so.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from agents.common import jsonl
from agents.common.names import reach_by_loopback
from agents.common.task import Deadline, Task
from agents.rdagent.drivers.answers import UnusableAnswer, read_answer
from agents.rdagent.drivers.base import DriverExhausted, Situation
from agents.rdagent.drivers.prompt import again_text, experiment_text, system_text
from agents.rdagent.records import Proposal, Trial
from astune.errors import AstuneError, ConfigError, ContextOverflow, EngineError
from astune.refine.loop_state import Usage
from astune.refine.prompts import Message
from astune.refine.transport import Reply, SampledModel, endpoint_model

#: Answers that are asked for in one round, and rounds in a row that may come to no proposal.
ANSWERS_A_ROUND, FRUITLESS_ROUNDS = 3, 3
#: Of the time that is left, what one experiment may use; below the second number of seconds it may use all.
EXPERIMENT_SHARE, ALL_BELOW = 0.5, 60.0
#: File in the workspace that keeps every answer; ``replay`` reads it.
ANSWERS = "answers.jsonl"


class Model(Protocol):
    """Answers a conversation."""

    def reply(self, messages: Sequence[Message], draw: int, deadline: Deadline) -> Reply:
        """One answer.

        Raises:
            ConfigError: it refuses to be asked at all.
            AstuneError: it could not be asked this time.
        """
        ...


class Endpoint:
    """A :class:`Model` behind HTTP.

    Args:
        model: the endpoint's.
        seconds: one request may take, the client's own retries included.
    """

    def __init__(self, model: SampledModel, seconds: float) -> None:
        self._model = model
        self._seconds = seconds

    def reply(self, messages: Sequence[Message], draw: int, deadline: Deadline) -> Reply:
        """See :class:`Model`. A request that trickles for longer than its time is left to itself."""
        found: list[Reply] = []
        failed: list[AstuneError] = []

        def ask() -> None:
            try:
                found.append(asyncio.run(self._model.reply(messages, draw=draw)))
            except AstuneError as error:
                failed.append(error)

        worker = threading.Thread(target=ask, daemon=True)
        worker.start()
        worker.join(max(0.1, min(self._seconds, deadline.seconds_left)))
        if failed:
            raise failed[0]
        if not found:
            raise EngineError(f"{self._model.name} gave no answer in time")
        return found[0]


def endpoint_from(arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint that the declared variables and the agent's arguments name.

    Raises:
        ConfigError: a variable is missing.
    """
    base_url = environment.get("OPENAI_BASE_URL", "")
    name = str(arguments.get("model") or environment.get("OPENAI_MODEL", ""))
    if not base_url or not name:
        raise ConfigError(
            "the llm driver needs an endpoint: set OPENAI_BASE_URL (http://HOST:PORT/v1), OPENAI_API_KEY (any word, "
            "where the server asks for none) and OPENAI_MODEL, or --set model=NAME"
        )
    reach_by_loopback({urlsplit(base_url).hostname or ""})
    retries = int(arguments.get("request_retries", 2))
    seconds = float(arguments.get("request_seconds", 120.0))
    model = endpoint_model(
        base_url,
        name,
        temperature=float(arguments.get("temperature", 0.7)),
        max_tokens=int(arguments.get("max_tokens", 6000)),
        max_retries=retries,
        timeout=seconds,
    )
    return Endpoint(model, (retries + 1) * (seconds + 10.0))


class LanguageModelDriver:
    """See the module.

    Args:
        model: is asked.
        task: the run.
        report_tokens: is told what each answer cost.
    """

    judged_by_dev = True
    warm = False

    def __init__(self, model: Model, task: Task, report_tokens: Callable[[int], None]) -> None:
        self._model = model
        self._record = task.workspace / ANSWERS
        self._report_tokens = report_tokens
        self._usage = Usage()
        self._fruitless = 0

    def usage(self) -> Usage:
        """What was used since the last call."""
        used, self._usage = self._usage, Usage()
        return used

    def propose(self, situation: Situation) -> list[Proposal]:
        """One experiment; or the record of why there is none."""
        limit = experiment_seconds(situation.deadline)
        messages: list[Message] = [
            {"role": "system", "content": system_text()},
            {"role": "user", "content": experiment_text(situation, limit)},
        ]
        problem = ""
        for attempt in range(ANSWERS_A_ROUND):
            text = ""
            try:
                text = self._ask(messages, ANSWERS_A_ROUND * situation.round + attempt, situation.deadline)
                return [self._proposal(text, situation, limit)]
            except UnusableAnswer as error:
                problem = f"The model's answer could not be used: {error}."
                said: Message = {"role": "assistant", "content": text or "(nothing)"}
                messages = [*messages[:2], said, {"role": "user", "content": again_text(str(error))}]
            except ConfigError as error:
                raise DriverExhausted(str(error)) from error
            except ContextOverflow as error:
                problem = f"The prompt was too long for the model: {error}."
                messages = [messages[0], {"role": "user", "content": experiment_text(situation, limit, short=True)}]
            except AstuneError as error:
                problem = f"The model could not be asked: {error}."
            if situation.deadline.seconds_left < limit / 4:
                break
        self._fruitless += 1
        if self._fruitless >= FRUITLESS_ROUNDS:
            raise DriverExhausted(f"{self._fruitless} rounds without a usable answer; the last: {problem}")
        return [Proposal("(no usable answer)", problem, problem=problem)]

    def reflect(self, situation: Situation, trial: Trial) -> str:
        """What came back, as the next prompt shows it. The model itself thinks about it when it proposes."""
        return trial.outcome.feedback if trial.outcome is not None else ""

    def _ask(self, messages: Sequence[Message], draw: int, deadline: Deadline) -> str:
        reply = self._model.reply(messages, draw, deadline)
        self._usage += reply.usage
        tokens = reply.usage.tokens + reply.usage.prompt_tokens
        jsonl.append(self._record, {"text": reply.text, "tokens": tokens})
        if tokens:
            self._report_tokens(tokens)
        return reply.text

    def _proposal(self, text: str, situation: Situation, limit: float) -> Proposal:
        answer = read_answer(text)
        for trial in situation.trials:
            if trial.proposal.code == answer.code:
                raise UnusableAnswer(f"this very script was experiment {trial.number} already")
        self._fruitless = 0
        return Proposal(
            hypothesis=answer.hypothesis,
            reason=answer.reason,
            recipe={"driver": "llm"},
            code=answer.code,
            parent=situation.best.number if situation.best is not None else 0,
            seconds=min(limit, answer.seconds or limit),
        )


def experiment_seconds(deadline: Deadline) -> float:
    """The most that the next experiment may use."""
    left = deadline.seconds_left
    return left if left < ALL_BELOW else EXPERIMENT_SHARE * left


def record_of(path: Path) -> list[str]:
    """The texts of recorded answers.

    Raises:
        ConfigError: there is no such record, or it holds none.
    """
    texts = [str(row["text"]) for row in jsonl.read(path) if "text" in row]
    if not texts:
        raise ConfigError(f'{path} holds no recorded answers: a line of it is {{"text": "..."}}')
    return texts
