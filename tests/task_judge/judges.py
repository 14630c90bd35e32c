"""Judges as a user may write them, good and bad."""

from __future__ import annotations

from typing import Any


class Fixed:
    """Returns what it was given, from a plain method."""

    def __init__(self, result: Any = (1.0, True)) -> None:
        self.result = result

    def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> Any:
        return self.result


class FixedAsync(Fixed):
    """As Fixed, from a coroutine."""

    async def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> Any:
        return self.result


class Raising:
    """Fails on every episode."""

    def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> Any:
        raise KeyError("final_answer")


class RaisingConstructor(Fixed):
    """Cannot be made."""

    def __init__(self) -> None:
        raise OSError("no rubric file")


class NoJudge:
    """Has no compute_reward."""
