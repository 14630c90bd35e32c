"""A refinement on the terminal: each attempt, its critique and score as they come, and the answer at the end."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from astune.refine.loop import Result
from astune.refine.loop_state import Round, Score, State

_VERDICTS = {True: "[green]says correct[/]", False: "[red]says wrong[/]", None: "[yellow]gives no verdict[/]"}
_NEXT = {"generate": "scoring", "evaluate": "thinking", "reflect": "thinking", "rescore": "choosing"}


class LiveView:
    """Prints to the terminal; where there is none, the same lines without colours. Use as a context manager.

    Args:
        title: what runs on what.
        question: shown once.
        console: where to; standard output by default.
    """

    def __init__(self, title: str, question: str, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.console.print(f"[bold]{escape(title)}[/]\n{escape(question)}", soft_wrap=True)
        self._status: Status = self.console.status("thinking")

    def __enter__(self) -> LiveView:
        if self.console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def watch(self, phase: str, state: State[str, str]) -> None:
        """Shows what a phase brought; for the loop's ``watch``."""
        now = state.rounds[-1]
        if phase == "generate":
            self._rule(now)
            for attempt in now.attempts:
                self._text(f"attempt {attempt.number}", attempt.candidate, attempt.usage.tokens)
        elif phase == "evaluate":
            self._scores(now, state)
        elif phase == "reflect" and now.reflection is not None:
            self._reflection(now, state)
        self._status.update(_NEXT[phase])

    def finish(self, result: Result[str, str], about: dict[str, Any]) -> None:
        """Shows the answer and what it cost. ``about`` was shown at the start."""
        self._status.stop()
        used = result.state.usage
        if result.error is not None:
            self.console.print(f"\n[red]{escape(result.error)}[/]; the best so far stands", soft_wrap=True)
        self.console.print(f"\n[bold]answer[/] (attempt {result.chosen.number}; ended: {escape(result.stopped)})")
        self.console.print(escape(result.chosen.candidate.strip()), soft_wrap=True)
        cost = f", cost {used.cost:.4g}" if used.cost else ""
        self.console.print(
            f"[dim]{used.tokens} tokens sampled, {used.prompt_tokens} read, {result.state.seconds:.1f} s{cost}[/]"
        )

    def _rule(self, now: Round[str, str]) -> None:
        self.console.print(f"\n[bold]round {now.number}[/]")

    def _text(self, label: str, text: str, tokens: int) -> None:
        self.console.print(f"  [cyan]{label}[/] [dim]({tokens} tokens)[/]")
        for line in text.strip().splitlines() or ["(empty)"]:
            self.console.print(f"    {escape(line)}", soft_wrap=True)

    def _scores(self, now: Round[str, str], state: State[str, str]) -> None:
        for attempt in now.attempts:
            score = attempt.score
            if score.feedback:
                self._text("critique", score.feedback, score.usage.tokens)
            if self._says_something(score, state):
                self.console.print(f"  score {_value(score)}")
        if state.best is not None and self._says_something(state.best.score, state):
            self.console.print(f"  best so far: attempt {state.best.number}, score {_value(state.best.score)}")

    def _reflection(self, now: Round[str, str], state: State[str, str]) -> None:
        said = now.reflection
        assert said is not None
        if now.best is None or said.value != now.best.score.feedback:
            self._text("critique", said.value, said.usage.tokens)
            self.console.print(f"  the critic {_VERDICTS[said.verdict]}")

    def _says_something(self, score: Score, state: State[Any, Any]) -> bool:
        """A strategy without a scorer gives every attempt the same number: not worth a line."""
        return (
            not score.valid
            or any(attempt.score.value for attempt in state.attempts if attempt.score.valid)
            or (score.verdict is not None)
        )


def _value(score: Score) -> str:
    return f"{score.value:.2f}" if score.valid else f"none: {escape(str(score.reason))}"
