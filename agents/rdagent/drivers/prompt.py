"""Fills the prompts of ``prompts/`` with what a driver knows."""

from __future__ import annotations

import json
from pathlib import Path

from agents.common.space import space_of
from agents.rdagent.drivers.base import Situation
from agents.rdagent.records import Trial

_FOLDER = Path(__file__).resolve().parents[1] / "prompts"
_HISTORY, _HISTORY_SHORT = 12, 4
_CODE, _LOG, _WORDS = 12_000, 2_000, 400


def system_text() -> str:
    """The system message."""
    return _read("system")


def again_text(problem: str) -> str:
    """What is said to an answer that could not be used."""
    return _read("again").format(problem=problem)


def experiment_text(situation: Situation, limit: float, *, short: bool = False) -> str:
    """The message that asks for the next experiment; ``short`` leaves out code and old trials."""
    trials = situation.trials[-(_HISTORY_SHORT if short else _HISTORY) :]
    replayed = situation.task.track == "replay"
    return _read("experiment").format(
        details=json.dumps(situation.details, indent=1),
        start="here always the base model" if replayed else "the base model before the first success",
        toolbox=_toolbox(situation),
        seconds_left=situation.deadline.seconds_left,
        limit=limit,
        queries_left=situation.queries_left,
        history="\n".join(map(_line, trials)) or "Nothing yet.",
        lessons="\n".join(f"- {lesson.text[:_WORDS]}" for lesson in situation.lessons) or "None yet.",
        best=_shown(situation.best, short) if situation.best is not None else "The base model.",
        last=_shown(situation.trials[-1], short) if situation.trials else "There was none.",
    )


def _line(trial: Trial) -> str:
    outcome = trial.outcome
    score = "failed" if outcome is None or outcome.score is None else f"score {outcome.score:.3f}"
    told = "" if outcome is None else (outcome.feedback or outcome.error or "")
    return f"{trial.number}. {score}: {trial.proposal.hypothesis[:_WORDS]} -> {' '.join(told.split())[:_WORDS]}"


def _shown(trial: Trial, short: bool) -> str:
    code = (trial.proposal.code or "")[:_CODE]
    log = trial.outcome.log[-_LOG:] if trial.outcome is not None else ""
    parts = [_line(trial)]
    if code and not short:
        parts.append(f"```python\n{code}```")
    if log:
        parts.append(f"The end of what it printed:\n{log}")
    return "\n".join(parts)


def _toolbox(situation: Situation) -> str:
    details = situation.details
    if space_of(details).resumes:
        workflow = details["episode"]["workflow"] or "astune.workflow.direct->DirectAnswer"
        return _read("toolbox_rl").format(workflow=workflow)
    return _read("toolbox_supervised").format(**details["prompt"])


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.txt").read_text(encoding="utf-8")
