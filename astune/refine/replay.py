"""The record of a loop as JSON, and its replay: the same decisions again, without asking any model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from astune.errors import UserError
from astune.files import atomic_write
from astune.refine.loop import Ask, Evaluate, Generate, Reflect, Rescore, Result, Watch, loop_steps
from astune.refine.loop_state import Attempt, Metered, RecordedError, Reflection, Round, Score, Usage
from astune.refine.select import Selector, keep_best
from astune.refine.stop import StopCondition

FORMAT, VERSION = "astune.refine.record", 1

Codec = Callable[[Any], Any]


class RecordError(UserError):
    """A record file that cannot be read or replayed."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a loop was told, round by round, and what it decided.

    Attributes:
        rounds: as in the loop's state.
        rescored: the independent scores; None where none were asked for. Empty with ``rescore_error``.
        stopped: why it ended.
        chosen: number of the attempt that it chose.
        evaluates: whether its candidates were scored.
        reflects: whether it reflected.
        rescore_error: why scoring anew failed.
        about: what the caller wants to keep beside it (the question, the strategy's name).
    """

    rounds: list[Round[Any, Any]]
    stopped: str
    chosen: int
    evaluates: bool = True
    reflects: bool = True
    rescored: list[Score] | None = None
    rescore_error: str | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, result: Result[Any, Any], *, rescores: bool = False, about: dict[str, Any] | None = None) -> Record:
        """The record of a finished loop. ``rescores`` says whether it had an independent scorer."""
        rounds = result.state.rounds
        scored = any("evaluate" in done.seconds for done in rounds)
        reflected = any("reflect" in done.seconds for done in rounds)
        error = result.error if rescores and not result.rescored else None
        rescored = list(result.rescored) if rescores else None
        return cls(rounds, result.stopped, result.chosen.number, scored, reflected, rescored, error, about or {})

    def save(self, path: Path, encode: Codec = lambda value: value) -> None:
        """Writes JSON. ``encode`` makes a candidate or a reflection something that JSON can hold.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        atomic_write(path, json.dumps(self.document(encode), indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def document(self, encode: Codec = lambda value: value) -> dict[str, Any]:
        """The record as JSON values. A masked score is null, and its reason says why."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "about": self.about,
            "stopped": self.stopped,
            "chosen": self.chosen,
            "evaluates": self.evaluates,
            "reflects": self.reflects,
            "rounds": [_round_out(done, encode) for done in self.rounds],
            "rescored": None if self.rescored is None else [_score_out(score) for score in self.rescored],
            "rescore_error": self.rescore_error,
        }

    @classmethod
    def load(cls, path: Path, decode: Codec = lambda value: value) -> Record:
        """Reads what ``save`` wrote.

        Raises:
            RecordError: there is no such file, it is no record, or it is one of another version.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RecordError(f"record {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise RecordError(f"{path} is no record of a refinement: it is not JSON ({error})") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise RecordError(f"{path} is no record of a refinement: write one with --record FILE")
        if document.get("version") != VERSION:
            raise RecordError(
                f"{path} is a record of version {document.get('version')}, this release reads version {VERSION}: "
                "replay it with the release that wrote it"
            )
        try:
            return cls._read(document, decode)
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"{path} is damaged: {type(error).__name__} {error} while it was read") from error

    @classmethod
    def _read(cls, document: dict[str, Any], decode: Codec) -> Record:
        counter = iter(range(1, sum(len(done["attempts"]) for done in document["rounds"]) + 1))
        rescored = document["rescored"]
        return cls(
            [_round_in(one, decode, counter) for one in document["rounds"]],
            document["stopped"],
            document["chosen"],
            document["evaluates"],
            document["reflects"],
            None if rescored is None else [_score_in(score) for score in rescored],
            document["rescore_error"],
            document["about"],
        )


def replay(
    record: Record, *, stop: StopCondition, select: Selector = keep_best, watch: Watch | None = None
) -> Result[Any, Any]:
    """Runs the loop again on recorded answers, times included; the same ``stop`` and ``select`` decide the same.

    Another condition or selector shows what it would have decided, as long as it does not ask for more than the
    record holds.

    Raises:
        RecordError: the loop asks for what the record does not hold.
    """
    clock = _RecordedClock()
    steps = loop_steps(
        stop=stop,
        evaluates=record.evaluates,
        reflects=record.reflects,
        rescores=record.rescored is not None,
        select=select,
        failures=(RecordedError,),
        clock=clock,
        watch=watch,
    )
    return _drive(steps, record, clock)


def _drive(
    steps: Generator[Ask[Any, Any], Any, Result[Any, Any]], record: Record, clock: _RecordedClock
) -> Result[Any, Any]:
    try:
        ask = next(steps)
        while True:
            try:
                answer = _recorded(ask, record, clock)
            except RecordedError as error:
                ask = steps.throw(error)
            else:
                ask = steps.send(answer)
    except StopIteration as end:
        result: Result[Any, Any] = end.value
        return result


@dataclass(slots=True)
class _RecordedClock:
    """Seconds of the recorded phase that is being measured: 0 when it begins, its length when it ends."""

    length: float = 0.0
    ticks: int = 0

    def __call__(self) -> float:
        self.ticks += 1
        return 0.0 if self.ticks % 2 else self.length


def _recorded(ask: Ask[Any, Any], record: Record, clock: _RecordedClock) -> Any:
    """The recorded answer to an ask.

    Raises:
        RecordedError: the recorded answer was an exception.
        RecordError: there is none.
    """
    if isinstance(ask, Rescore):
        if record.rescore_error is not None:
            raise RecordedError(record.rescore_error)
        return record.rescored
    phase = {Generate: "generate", Evaluate: "evaluate", Reflect: "reflect"}[type(ask)]
    number = len(ask.state.rounds)
    done = record.rounds[number - 1] if number <= len(record.rounds) else None
    if done is None or phase not in done.seconds:
        raise RecordError(f"the record ends before {phase} of round {number}: nothing can be replayed beyond it")
    clock.length = done.seconds[phase]
    if done.failed == phase:
        raise RecordedError(done.error)
    match ask:
        case Generate():
            return [Metered(attempt.candidate, attempt.usage) for attempt in done.attempts]
        case Evaluate():
            return [attempt.score for attempt in done.attempts]
        case _:
            return done.reflection


# --- JSON -------------------------------------------------------------------------------------------------------


def _round_out(done: Round[Any, Any], encode: Codec) -> dict[str, Any]:
    said = done.reflection
    return {
        "number": done.number,
        "attempts": [
            {
                "number": attempt.number,
                "candidate": encode(attempt.candidate),
                "usage": asdict(attempt.usage),
                "score": _score_out(attempt.score),
            }
            for attempt in done.attempts
        ],
        "reflection": None
        if said is None
        else {"value": encode(said.value), "verdict": said.verdict, "usage": asdict(said.usage)},
        "seconds": done.seconds,
        "error": done.error,
        "failed": done.failed,
    }


def _round_in(one: dict[str, Any], decode: Codec, numbers: Iterator[int]) -> Round[Any, Any]:
    attempts = [
        Attempt(
            next(numbers),
            one["number"],
            decode(attempt["candidate"]),
            _score_in(attempt["score"]),
            Usage(**attempt["usage"]),
        )
        for attempt in one["attempts"]
    ]
    said = one["reflection"]
    reflection = None if said is None else Reflection(decode(said["value"]), said["verdict"], Usage(**said["usage"]))
    return Round(one["number"], attempts, reflection, dict(one["seconds"]), one["error"], one["failed"])


def _score_out(score: Score) -> dict[str, Any]:
    value: float | str | None = score.value if score.valid else None
    return asdict(score) | {"value": "inf" if value == math.inf else value}


def _score_in(score: dict[str, Any]) -> Score:
    value = -math.inf if score["value"] is None else float(score["value"])
    return Score(**score | {"value": value, "usage": Usage(**score["usage"])})
