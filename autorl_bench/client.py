"""The benchmark as an agent sees it: a typed client of its HTTP interface, with the run's token.

    client = BenchClient.from_environment()
    answer = client.evaluate("output/model")
    print(answer.score, answer.low, answer.high)

Only what is imported here is needed beside httpx and pydantic; an agent may as well speak HTTP itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
from pydantic import BaseModel

from astune.errors import AstuneError, ConfigError
from autorl_bench.api import (
    AskEvaluation,
    AskExperiment,
    AskHypothesis,
    EndExperiment,
    EvaluationView,
    ExperimentView,
    Feedback,
    Final,
    FourFields,
    HypothesisView,
    ModelPath,
    RunStatus,
    ScenarioList,
    SubmissionView,
    TokensUsed,
)
from autorl_bench.store.states import QueryState

Answer = TypeVar("Answer", bound=BaseModel)
#: How long the server may be gone (it is restarted when it dies) before a request gives up, in seconds.
PATIENCE = 120.0
#: Longest time that one request waits for an answer, in seconds; the client asks again after it.
_WAIT = 20.0
#: A request that ends after so long, in seconds, had reached a server that was at work on it.
_AT_WORK = 10.0
_ANEW = 20
#: ``POST /evaluate`` answers when the grader has: an hour at most, then it is asked again.
_EVALUATE_TIMEOUT = httpx.Timeout(_WAIT + 40, read=3700.0)
_RETRIED = {502, 503, 504}


class BenchError(AstuneError):
    """A refusal: ``code`` is stable, ``status`` the HTTP status (0: the server could not be reached)."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.status = status


class BenchClient:
    """One run's view of the server. A server that cannot be reached is tried again for ``patience`` seconds.

    A question or a submission that is repeated is the same one; a note of the notebook may then stand there twice.

    Args:
        server: ``http://127.0.0.1:8321``.
        token: the run's token; None for what anybody may read.
        run_id: the run; by default the token's own.
        patience: seconds that the server may be unreachable.
    """

    def __init__(self, server: str, token: str | None = None, run_id: str | None = None, *, patience: float = PATIENCE):
        self.run_id = run_id or (token or "").partition(":")[0]
        self._patience = patience
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # trust_env: a proxy of the machine's has no business between an agent and loopback.
        self._http = httpx.Client(base_url=server, headers=headers, timeout=_WAIT + 40, trust_env=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The client of the run that this process is the agent of.

        Raises:
            ConfigError: the variables of a run are not set.
        """
        variables = os.environ if environment is None else environment
        try:
            return cls(variables["AUTORL_SERVER"], variables["AUTORL_TOKEN"], variables["AUTORL_RUN"])
        except KeyError as error:
            raise ConfigError(
                f"{error.args[0]} is not set: start the agent with `autorl-bench run`, "
                "or take its variables from `autorl-bench start`"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()

    # --- scenarios and the run ----------------------------------------------------------------------------------

    def scenarios(self) -> list[str]:
        """Ids of all scenarios."""
        return self._get("/scenarios", ScenarioList).scenarios

    def scenario(self, scenario_id: str) -> FourFields:
        """A scenario's four fields."""
        return self._get(f"/scenarios/{scenario_id}", FourFields)

    def details(self, scenario_id: str) -> dict[str, Any]:
        """All that an agent may know of a scenario."""
        return dict(self._send("GET", f"/scenarios/{scenario_id}/details").json())

    def status(self) -> RunStatus:
        """Where the run is and what is left of its budget."""
        return self._get(self._run(""), RunStatus)

    # --- scores -------------------------------------------------------------------------------------------------

    def feedback(self, model_path: str | Path) -> Feedback:
        """``POST /evaluate``: baseline and score on dev, when the grader has answered."""
        return self._post("/evaluate", ModelPath(model_path=str(model_path)), Feedback, timeout=_EVALUATE_TIMEOUT)

    def ask(self, model_path: str | Path, *, experiment: int | None = None) -> EvaluationView:
        """Asks for a score on dev and returns at once; the same model again is the same question."""
        body = AskEvaluation(model_path=str(model_path), experiment=experiment)
        return self._post(self._run("/evaluations"), body, EvaluationView)

    def answer(self, evaluation_id: int, *, wait: float = 0.0) -> EvaluationView:
        """The answer to a question, or what has become of it after ``wait`` seconds."""
        return self._get(self._run(f"/evaluations/{evaluation_id}"), EvaluationView, params={"wait": wait})

    def evaluate(
        self, model_path: str | Path, *, experiment: int | None = None, timeout: float | None = None
    ) -> EvaluationView:
        """Asks for a score on dev and waits for it.

        Args:
            model_path: a model folder in the workspace.
            experiment: number of the experiment that it is asked for.
            timeout: seconds; None waits for as long as the run has.

        Raises:
            BenchError: the submission was refused (422), the budget is spent (``limit_reached``), there is no answer in
                time (``timeout``), or the evaluation failed for a reason of the benchmark's (``infrastructure``).
        """
        asked = self.ask(model_path, experiment=experiment)
        deadline = time.monotonic() + (timeout if timeout is not None else max(self.status().seconds_left, _WAIT))
        while asked.state == QueryState.OPEN:
            left = deadline - time.monotonic()
            if left <= 0:
                raise BenchError("timeout", f"no answer to evaluation {asked.id} in time; ask for it again later", 0)
            asked = self.answer(asked.id, wait=min(_WAIT, left))
        if asked.state != QueryState.ANSWERED:
            reason = asked.reasons[0] if asked.reasons else None
            raise BenchError(asked.state, reason.message if reason else "the evaluation has no score", 422)
        return asked

    def submit(self, model_path: str | Path) -> SubmissionView:
        """Hands a model in; the same model again is the same submission."""
        return self._post(self._run("/submissions"), ModelPath(model_path=str(model_path)), SubmissionView)

    def declare_final(self, number: int) -> RunStatus:
        """Chooses the submission that the test is opened for. Nothing can be asked or submitted after it."""
        return self._post(self._run("/final"), Final(submission=number), RunStatus)

    # --- the notebook -------------------------------------------------------------------------------------------

    def propose(self, statement: str, reason: str = "") -> HypothesisView:
        """Notes a hypothesis."""
        return self._post(self._run("/hypotheses"), AskHypothesis(statement=statement, reason=reason), HypothesisView)

    def begin(self, hypothesis: int, recipe: Mapping[str, Any], *, code_path: str | None = None) -> ExperimentView:
        """Notes an experiment on a hypothesis (its number)."""
        body = AskExperiment(hypothesis=hypothesis, recipe=dict(recipe), code_path=code_path)
        return self._post(self._run("/experiments"), body, ExperimentView)

    def end(
        self,
        experiment: int,
        state: Literal["succeeded", "failed"],
        *,
        feedback: str = "",
        claimed_score: float | None = None,
        log_path: str | None = None,
    ) -> ExperimentView:
        """Notes how an experiment (its number) went."""
        body = EndExperiment(state=state, feedback=feedback, claimed_score=claimed_score, log_path=log_path)
        return self._post(self._run(f"/experiments/{experiment}/end"), body, ExperimentView)

    def report_tokens(self, agent_tokens: int) -> RunStatus:
        """Adds tokens of the agent's own model to what the run used."""
        return self._post(self._run("/usage"), TokensUsed(agent_tokens=agent_tokens), RunStatus)

    # --- transport ----------------------------------------------------------------------------------------------

    def _run(self, path: str) -> str:
        return f"/runs/{self.run_id}{path}"

    def _get(self, path: str, answer: type[Answer], **options: Any) -> Answer:
        return answer.model_validate_json(self._send("GET", path, **options).content)

    def _post(self, path: str, body: BaseModel, answer: type[Answer], **options: Any) -> Answer:
        response = self._send("POST", path, json=body.model_dump(mode="json"), **options)
        return answer.model_validate_json(response.content)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = _patiently(lambda: self._http.request(method, path, **options), self._patience)
        if response.is_success:
            return response
        raise _refusal(response)


def _patiently(send: Callable[[], httpx.Response], patience: float) -> httpx.Response:
    """Sends until there is an answer from a server that is at work; waits a little longer each time.

    The patience is that with a server that is gone: it starts anew after a request that the server was at work on,
    a few times.
    """
    deadline, pause, again = 0.0, 0.1, _ANEW
    while True:
        sent, response, problem = time.monotonic(), None, ""
        try:
            response = send()
            if response.status_code not in _RETRIED and not _is_too_many(response):
                return response
        except httpx.TransportError as error:
            problem = f"the server cannot be reached: {error or type(error).__name__}"
        now = time.monotonic()
        if not deadline or (now - sent > _AT_WORK and again > 0):
            deadline, pause, again = now + patience, 0.1, again - 1
        if now + pause > deadline:
            if response is None:
                raise BenchError("unreachable", problem, 0)
            return response
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


def _is_too_many(response: httpx.Response) -> bool:
    """Whether the run has too many requests under way, rather than a budget that is spent."""
    return response.status_code == httpx.codes.TOO_MANY_REQUESTS and "retry-after" in response.headers


def _refusal(response: httpx.Response) -> BenchError:
    try:
        detail = response.json()["detail"]
        return BenchError(detail["code"], detail["message"], response.status_code)
    except (ValueError, KeyError, TypeError):
        return BenchError("http", f"{response.request.url.path}: {response.text[:300]}", response.status_code)
