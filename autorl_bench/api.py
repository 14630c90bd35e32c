"""What the server and its clients say to each other over HTTP, as pydantic models."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from autorl_bench.store.states import QueryState, RunState, Track

_MAX_PATH, _MAX_WORDS = 4096, 100_000
#: A recipe: characters as JSON, and levels.
_MAX_RECIPE, _MAX_DEPTH = 65_536, 20
#: Numbers and ids, which databases keep in 32 bits.
MAX_NUMBER = 2**31 - 1


class Wire(BaseModel):
    """A message; unknown fields of a request are refused."""

    model_config = ConfigDict(extra="forbid")


class ReasonView(Wire):
    """Why something was refused: a stable code, and a sentence that says what to do."""

    code: str
    message: str


class Problem(Wire):
    """The ``detail`` of every answer that is an error."""

    code: str
    message: str
    known: list[str] | None = None


class Refusal(Wire):
    """Every answer that is an error."""

    detail: Problem


class FourFields(Wire):
    """A scenario in four fields: where base model and training data lie, the base's score, what it measures."""

    base_model_path: str
    train_data_path: str
    baseline_score: float
    metric: Literal["accuracy", "pass@1"]


class ScenarioList(Wire):
    """Ids of all scenarios."""

    scenarios: list[str]


class ModelPath(Wire):
    """A model folder in the run's workspace: ``workspace/{run}/output/model``, ``output/model``, or absolute."""

    model_path: str = Field(max_length=_MAX_PATH)


class Feedback(Wire):
    """What a model scored, beside the base model on the same items, both in percent."""

    baseline: float
    score: float


class AskEvaluation(ModelPath):
    """Asks for a score on dev; ``experiment`` is the number of the experiment that it is for."""

    experiment: int | None = Field(None, ge=1, le=MAX_NUMBER)


class EvaluationView(Wire):
    """An answer on dev: the score, its 95 % interval (percent), and nothing of single items."""

    id: int
    state: QueryState
    score: float | None = None
    low: float | None = None
    high: float | None = None
    items: int | None = None
    baseline: float | None = None
    reasons: list[ReasonView] = []


class SubmissionView(Wire):
    """A submission as it was taken in; ``notices`` are findings that change no rank."""

    number: int
    digest: str
    size: int
    final: bool
    notices: list[ReasonView] = []


class Final(Wire):
    """The number of the submission that the test is opened for."""

    submission: int = Field(ge=1, le=MAX_NUMBER)


class RunStatus(Wire):
    """Where a run is and what is left of its budget."""

    id: str
    scenario: str
    agent: str
    track: Track
    seed: int
    state: RunState
    budget: dict[str, Any]
    seconds_left: float
    dev_queries_left: int
    submissions_left: int
    reasons: list[ReasonView] = []


class AskHypothesis(Wire):
    """What an agent believes would help, and why."""

    statement: str = Field(min_length=1, max_length=_MAX_WORDS)
    reason: str = Field("", max_length=_MAX_WORDS)


class HypothesisView(Wire):
    """A hypothesis; ``number`` counts a run's from 1."""

    number: int
    statement: str
    reason: str


class AskExperiment(Wire):
    """How a hypothesis is tried; ``code_path`` is a file or folder in the workspace."""

    hypothesis: int = Field(ge=1, le=MAX_NUMBER)
    recipe: dict[str, Any] = {}
    code_path: str | None = Field(None, max_length=_MAX_PATH)

    @field_validator("recipe")
    @classmethod
    def _is_short(cls, value: dict[str, Any]) -> dict[str, Any]:
        if _depth(value) > _MAX_DEPTH:
            raise ValueError(f"a recipe has at most {_MAX_DEPTH} levels")
        if len(json.dumps(value, allow_nan=False)) > _MAX_RECIPE:
            raise ValueError(f"a recipe has at most {_MAX_RECIPE} characters as JSON")
        return value


class EndExperiment(Wire):
    """How an experiment went, by the agent's own account."""

    state: Literal["succeeded", "failed"]
    feedback: str = Field("", max_length=_MAX_WORDS)
    claimed_score: float | None = Field(None, allow_inf_nan=False)
    log_path: str | None = Field(None, max_length=_MAX_PATH)


class ExperimentView(Wire):
    """An experiment; ``number`` counts a run's from 1."""

    number: int
    hypothesis: int
    state: Literal["running", "succeeded", "failed"]
    recipe: dict[str, Any]
    feedback: str
    claimed_score: float | None


class TokensUsed(Wire):
    """Tokens of the agent's own model since the last report."""

    agent_tokens: int = Field(ge=0, le=2**40)


def _depth(value: Any) -> int:
    """Levels of a JSON value, counted without recursion and no further than one beyond what is allowed."""
    level, depth = [value], 0
    while level and depth <= _MAX_DEPTH:
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level, depth = [each for one in inner for each in one], depth + 1
    return depth
