"""A fake trainer's stage: answers by a script, rewards by a function, results as plain lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from astune.refine.types import Attempt, Grade, GradeRequest, History, Sample, SampleRequest

Say = Callable[[SampleRequest], str]


class FakeScriptedSampler:
    """Says what ``say`` returns for a request; keeps every call."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.calls: list[list[SampleRequest]] = []

    def sample(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        self.calls.append(list(requests))
        return [sampled(self.say(request)) for request in requests]

    @property
    def requests(self) -> list[SampleRequest]:
        return [request for call in self.calls for request in call]


def sampled(text: str) -> Sample:
    """A sample with one id a word."""
    return Sample(text, [1, 2, 3], list(range(len(text.split()))))


def attempt(text: str, correct: bool | None) -> Attempt:
    return Attempt(sampled(text), Grade(None if correct is None else float(correct), correct))


def prompts_of(count: int) -> list[list[dict[str, Any]]]:
    return [[{"role": "user", "content": f"Question {row}?"}] for row in range(count)]


class FakeStage:
    """One process; the result of a batch is the list of its texts, and an answer with ``right`` in it is correct."""

    is_main = True

    def __init__(self, texts: Sequence[str], say: Say, grade: Callable[[str], Grade] | None = None) -> None:
        self.sampler = FakeScriptedSampler(say)
        self.texts = list(texts)
        self.graded: list[GradeRequest] = []
        self._grade = grade or (lambda text: Grade(float("right" in text), "right" in text))

    @property
    def first(self) -> list[Attempt]:
        return [Attempt(sampled(text), self._grade(text)) for text in self.texts]

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        self.graded += requests
        return [self._grade(request.sample.text) for request in requests]

    def merge(self, result: list[str], histories: Sequence[History]) -> list[str] | None:
        refined = {history.row: history.final.sample.text for history in histories if history.kept > 0}
        return [refined.get(row, text) for row, text in enumerate(result)] if refined else None

    def any_process(self, flag: bool) -> bool:
        return flag

    def gather(self, rows: list[Any]) -> list[Any]:
        return rows

    @property
    def trainer(self) -> Any:
        return SimpleNamespace(refine_stage=self)

    @property
    def mask(self) -> list[bool]:
        return [bool(one.grade.correct) for one in self.first]

    def batch(self) -> dict[str, Any]:
        """The arguments of ``refine_batch``."""
        rows = len(self.texts)
        return {
            "inputs": [{} for _ in range(rows)],
            "original_result": list(self.texts),
            "original_prompts": prompts_of(rows),
            "answers": list(self.texts),
            "solutions": [f"secret {row}" for row in range(rows)],
            "correctness_mask": self.mask,
        }
