"""What the agent proposes, what came of it, and the journal that keeps both.

The journal is the whole state of the agent: one that was killed reads it, goes through its rounds again without running
anything twice, and continues where the other one was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from agents.common import jsonl

#: An experiment that has been begun this often and never ended takes the agent down with it, and is left alone.
MAX_BEGINNINGS = 2


@dataclass(frozen=True, slots=True)
class Proposal:
    """A hypothesis and the experiment that tests it.

    Attributes:
        hypothesis: what is believed to help.
        reason: why.
        recipe: the typed recipe, or whatever else describes the experiment.
        stages: the chain of stages that is trained; empty where ``code`` is given.
        code: a complete ``train.py``; None where ``stages`` say it all.
        parent: number of the attempt that this one goes on from; 0 is the base model.
        seconds: the experiment may take.
        problem: why there is nothing to run; the record of a driver that found no experiment.
        round_seconds: all experiments of its round together may take; those that do not fit any more are left out.
    """

    hypothesis: str
    reason: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[Mapping[str, Any]] = ()
    code: str | None = None
    parent: int = 0
    seconds: float = 600.0
    problem: str | None = None
    round_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an experiment.

    Attributes:
        score: what the loop goes by, in 0..1; None where the experiment failed.
        feedback: what happened, in words, for the next proposal.
        model: folder of its model; None without one.
        stages: what was trained; chains that were cut by time say so in their steps.
        history: the training score after each step.
        seconds: it took.
        seconds_per_step: None where no step ended.
        dev: percent on dev; None where it was not asked for.
        error: why it failed.
        diverged: it was stopped because it unlearned what the model could do.
        base_first: ``history`` begins with the score of the base model.
        log: the end of what the script printed.
    """

    score: float | None
    feedback: str
    model: str | None = None
    stages: Sequence[Mapping[str, Any]] = ()
    history: Sequence[float] = ()
    seconds: float = 0.0
    seconds_per_step: float | None = None
    dev: float | None = None
    error: str | None = None
    diverged: bool = False
    base_first: bool = False
    log: str = ""


@dataclass(slots=True)
class Trial:
    """A proposal in its place: ``number`` counts from 1 over the run, ``round`` from 1."""

    number: int
    round: int
    proposal: Proposal
    outcome: Outcome | None = None

    @property
    def score(self) -> float | None:
        """The outcome's, once there is one."""
        return None if self.outcome is None else self.outcome.score


class Journal:
    """``journal.jsonl`` in the workspace. Each event is on the disk before what follows from it is done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: list[Trial] = []
        self.reflections: dict[int, Any] = {}
        self._beginnings: dict[int, int] = {}
        self.started = False
        for event in jsonl.read(path):
            self._apply(event)

    def proposals(self, round_number: int) -> list[Trial]:
        """The trials of a round; empty where it has not been proposed yet."""
        return [trial for trial in self.trials if trial.round == round_number]

    def propose(self, round_number: int, proposals: Sequence[Proposal]) -> list[Trial]:
        """Keeps a round's proposals."""
        first = len(self.trials) + 1
        rows = [asdict(proposal) for proposal in proposals]
        self._keep({"event": "proposed", "round": round_number, "first": first, "proposals": rows})
        return self.proposals(round_number)

    def begin(self, trial: Trial) -> bool:
        """Keeps that an experiment begins; False where it has ended the agent before and must not begin again."""
        if self._beginnings.get(trial.number, 0) >= MAX_BEGINNINGS:
            return False
        self._keep({"event": "began", "trial": trial.number})
        return True

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Keeps what came of an experiment."""
        self._keep({"event": "ended", "trial": trial.number, "outcome": asdict(outcome)})

    def scored(self, trial: Trial, dev: float) -> None:
        """Keeps a score on dev that came later."""
        self._keep({"event": "scored", "trial": trial.number, "dev": dev})

    def reflect(self, round_number: int, words: Any) -> None:
        """Keeps what was made of a round."""
        self._keep({"event": "reflected", "round": round_number, "reflection": words})

    def note(self, event: str, **facts: Any) -> None:
        """Keeps anything else that is worth knowing afterwards (a call of a model, a stop)."""
        self._keep({"event": event, **facts})

    def _keep(self, event: dict[str, Any]) -> None:
        jsonl.append(self.path, event)
        self._apply(event)

    def _apply(self, event: Mapping[str, Any]) -> None:
        self.started = True
        match event.get("event"):
            case "proposed":
                for number, row in enumerate(event["proposals"], start=event["first"]):
                    self.trials.append(Trial(number, event["round"], Proposal(**row)))
            case "began":
                self._beginnings[event["trial"]] = self._beginnings.get(event["trial"], 0) + 1
            case "ended":
                self.trials[event["trial"] - 1].outcome = Outcome(**event["outcome"])
            case "scored":
                trial = self.trials[event["trial"] - 1]
                if trial.outcome is not None:
                    trial.outcome = replace(trial.outcome, dev=event["dev"])
            case "reflected":
                self.reflections[event["round"]] = event["reflection"]
