"""The benchmark's server, for agents that go on working where a note of theirs cannot be delivered."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agents.common.task import Deadline
from autorl_bench.api import EvaluationView
from autorl_bench.client import BenchClient, BenchError

#: Codes after which asking again is useless.
_SPENT = frozenset({"limit_reached", "budget_spent", "not_running"})
#: A server that is gone for longer than this must not hold up the work.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class DevScore:
    """What a model scored on dev, in percent, with its 95 % interval."""

    score: float
    low: float
    high: float
    baseline: float


@dataclass(slots=True)
class Bench:
    """Asks for scores and keeps the run's notebook. Trouble is printed and never raised.

    Attributes:
        client: of the run.
        seconds_of_an_answer: how long the last question to dev took; a guess before the first.
        queries_left: questions to dev that are left, as far as is known here.
    """

    client: BenchClient
    seconds_of_an_answer: float = 8.0
    queries_left: int = 0
    _asked: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, dev_queries: int) -> Bench:
        """The run that this process is the agent of; how many questions are left is asked of the server."""
        variables = (os.environ.get(name, "") for name in ("AUTORL_SERVER", "AUTORL_TOKEN", "AUTORL_RUN"))
        client = BenchClient(*variables, patience=_PATIENCE)
        bench = cls(client, queries_left=dev_queries)
        try:
            bench.queries_left = client.status().dev_queries_left
        except BenchError as error:
            _say("the run's status", error)
        return bench

    def details(self, scenario: str) -> dict[str, Any]:
        """All that may be known of the scenario. Raises BenchError."""
        return self.client.details(scenario)

    def evaluate(self, model: str, deadline: Deadline, *, experiment: int | None = None) -> DevScore | None:
        """The score of a model on dev; None where there is none in time, or none at all."""
        if self.queries_left <= 0 or deadline.seconds_left <= 0:
            return None
        begun = deadline.clock()
        try:
            self._ask(model, experiment)
            answer = self.client.evaluate(model, experiment=experiment, timeout=max(0.1, deadline.seconds_left))
        except BenchError as error:
            self._note_refusal(error)
            return None
        self.seconds_of_an_answer = deadline.clock() - begun
        return _score(answer)

    def ask(self, model: str, *, experiment: int | None = None) -> None:
        """Asks for a score without waiting for it; ``answer`` brings it."""
        if self.queries_left > 0:
            try:
                self._ask(model, experiment)
            except BenchError as error:
                self._note_refusal(error)

    def answer(self, model: str) -> DevScore | None:
        """The answer to an earlier question, if it has come."""
        if model not in self._asked:
            return None
        try:
            answer = self.client.answer(self._asked[model])
        except BenchError as error:
            _say("an answer", error)
            return None
        if str(answer.state) != "open":
            del self._asked[model]
        return _score(answer)

    def _ask(self, model: str, experiment: int | None) -> None:
        answer = self.client.ask(model, experiment=experiment)
        self._asked[model] = answer.id
        self.queries_left -= 1

    def _note_refusal(self, error: BenchError) -> None:
        _say("a question to dev", error)
        if error.code in _SPENT or error.status == 429:
            self.queries_left = 0

    def propose(self, statement: str, reason: str) -> int | None:
        """Notes a hypothesis; its number, if it could be delivered."""
        try:
            return self.client.propose(statement, reason).number
        except BenchError as error:
            _say("a hypothesis", error)
            return None

    def begin(self, hypothesis: int | None, recipe: Mapping[str, Any], code_path: str | None) -> int | None:
        """Notes an experiment; its number, if it could be delivered."""
        if hypothesis is None:
            return None
        try:
            return self.client.begin(hypothesis, recipe, code_path=code_path).number
        except BenchError as error:
            _say("an experiment", error)
            return None

    def end(
        self,
        experiment: int | None,
        state: Literal["succeeded", "failed"],
        feedback: str,
        claimed_score: float | None,
        log_path: str | None,
    ) -> None:
        """Notes how an experiment went."""
        if experiment is None:
            return
        try:
            self.client.end(experiment, state, feedback=feedback, claimed_score=claimed_score, log_path=log_path)
        except BenchError as error:
            _say("the end of an experiment", error)

    def report_tokens(self, tokens: int) -> None:
        """Reports what the agent's own model used."""
        try:
            self.client.report_tokens(tokens)
        except BenchError as error:
            _say("tokens", error)


def _score(answer: EvaluationView) -> DevScore | None:
    if answer.score is None:
        return None
    low, high = (answer.score if bound is None else bound for bound in (answer.low, answer.high))
    return DevScore(answer.score, low, high, answer.baseline or 0.0)


def _say(what: str, error: BenchError) -> None:
    print(f"{what} could not be delivered: {error}", file=sys.stderr, flush=True)
