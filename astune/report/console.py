"""What the terminal shows while a run trains: a header, a live table, evaluations, time left.

Rows are plain data (:class:`StepRow`); only :class:`ProgressTable` touches the terminal. Where there is none
(a pipe, a log file, CI) it prints one line every few steps instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from astune.report.metrics import HABITS, Evaluation
from astune.report.refinement import LEGEND, TRANSITION_LABELS, outcome_lines
from astune.report.summary import duration, percent

_VISIBLE_ROWS = 12
#: Short enough for a terminal of 80 columns.
_HABIT_COLUMNS = {"no_print": "no_print", "premature_answer": "premature", "malformed_call": "malformed"}
_SPARKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What a run is, told before it starts. Every field is shown as given."""

    model: str
    parameters: int
    tasks: str
    workflow: str
    judge: str
    sandbox: str
    device: str
    threads: int
    run_folder: str
    seed: int

    def lines(self) -> list[tuple[str, str]]:
        """Label and text, in display order."""
        return [
            ("model", f"{self.model} ({millions(self.parameters)} parameters)"),
            ("tasks", self.tasks),
            ("workflow", self.workflow),
            ("judge", self.judge),
            ("sandbox", self.sandbox),
            ("device", f"{self.device}, {self.threads} thread{'s' * (self.threads != 1)}"),
            ("run folder", self.run_folder),
            ("seed", str(self.seed)),
        ]


@dataclass(frozen=True, slots=True)
class StepRow:
    """One finished training step as the table shows it. Rates in 0..1, times in seconds."""

    step: int
    reward: float
    success: float
    habits: Mapping[str, float]
    tokens_per_second: float
    seconds: float
    #: Accuracy@t2 (ungated, and oracle-gated) and transitions of the batch, where answers are refined.
    refine: Mapping[str, float | None] | None = None

    @classmethod
    def from_metrics(cls, step: int, metrics: Mapping[str, float], seconds: float, tokens: float) -> StepRow:
        """A row from :func:`~astune.report.metrics.step_metrics`; ``tokens`` are those forwarded in ``seconds``."""
        return cls(
            step=step,
            reward=metrics["reward_mean"],
            success=metrics["success_rate"],
            habits={habit: metrics[f"habit/{habit}"] for habit in HABITS},
            tokens_per_second=tokens / seconds if seconds > 0 else 0.0,
            seconds=seconds,
            refine=_refine_cells(metrics),
        )


def _refine_cells(metrics: Mapping[str, float]) -> dict[str, float | None] | None:
    if "refine/rows" not in metrics:
        return None
    last = int(metrics.get("refine/turns", 2))
    names = {f"@t{last}": f"accuracy_t{last}", "oracle": "accuracy_oracle_gated"}
    names |= {label: name for name, label in TRANSITION_LABELS.items()}
    return {label: metrics.get(f"refine/{name}") for label, name in names.items()}


def _refine_text(label: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if "→" in label else percent(value)


def millions(count: int) -> str:
    """``3_214_080`` as ``"3.2 M"``."""
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def sparkline(values: list[float], width: int = 40) -> str:
    """The last ``width`` values as one line of block characters, scaled to their own range."""
    shown = values[-width:]
    if not shown:
        return ""
    low, span = min(shown), max(shown) - min(shown)
    return "".join(_SPARKS[round((value - low) / span * (len(_SPARKS) - 1)) if span else 0] for value in shown)


def evaluation_line(evaluation: Evaluation) -> str:
    """One held-out evaluation in words; with refinement, its outcomes in two more lines."""
    low, high = evaluation.ci95
    habits = "  ".join(f"{habit} {percent(evaluation.habits[habit])}" for habit in HABITS)
    line = f"held-out at step {evaluation.step}, {evaluation.mode}: "
    if evaluation.refine is None:
        line += f"{percent(evaluation.success)} [{100 * low:.1f}, {100 * high:.1f}] of {evaluation.n}  {habits}"
    else:
        line += f"{evaluation.n} problems, every answer refined"
    left_out = [(evaluation.n_failed, "failed"), (evaluation.n_ungradable, "ungradable")]
    line += "".join(f"  {count} {what}" for count, what in left_out if count)
    return line if evaluation.refine is None else "\n  ".join([line, *outcome_lines(evaluation.refine)])


class ProgressTable:
    """Shows the steps of one run; a context manager around the training loop.

    ``done_steps`` is where a resumed run goes on; ``every`` spaces the lines of the plain form.
    """

    def __init__(
        self, header: RunHeader, total_steps: int, done_steps: int = 0, every: int = 1, console: Console | None = None
    ) -> None:
        self._console = console or Console()
        self._header = header
        self._total = total_steps
        self._done = done_steps
        self._every = max(1, every)
        self._rows: deque[StepRow] = deque(maxlen=_VISIBLE_ROWS)
        self._rewards: list[float] = []
        self._recent_seconds: deque[float] = deque(maxlen=20)
        self._phase = ""
        self._explained = False
        self._live: Live | None = None

    def __enter__(self) -> Self:
        for label, text in self._header.lines():
            self._console.print(f"[dim]{label:>10}[/dim]  {escape(text)}", highlight=False, soft_wrap=True)
        if self._done:
            self.note(f"going on after step {self._done} of {self._total}")
        if self._console.is_terminal:
            self._live = Live(self._render(), console=self._console, refresh_per_second=4, transient=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def step(self, row: StepRow) -> None:
        """Shows a finished training step."""
        self._explain(row.refine is not None)
        self._done = row.step
        self._rows.append(row)
        self._rewards.append(row.reward)
        self._recent_seconds.append(row.seconds)
        if self._live is not None:
            self._live.update(self._render())
        elif row.step % self._every == 0 or row.step == self._total:
            self._print(self.plain_line(row))

    def evaluation(self, evaluation: Evaluation) -> None:
        """Shows a held-out evaluation, above the live table."""
        self._explain(evaluation.refine is not None)
        self._console.print(Text(evaluation_line(evaluation), style="bold"), soft_wrap=True)

    def phase(self, text: str) -> None:
        """Says under the bar what is going on ("held-out evaluation, 120 of 240"); nothing without a terminal."""
        self._phase = text
        if self._live is not None:
            self._live.update(self._render())

    def note(self, text: str) -> None:
        """Shows one line of text, as it is."""
        self._print(text)

    @property
    def seconds_left(self) -> float | None:
        """Remaining steps times the mean of the recent ones; None before the first step."""
        if not self._recent_seconds:
            return None
        return (self._total - self._done) * sum(self._recent_seconds) / len(self._recent_seconds)

    def plain_line(self, row: StepRow) -> str:
        """``row`` as one line for a log."""
        habits = "  ".join(f"{habit} {percent(row.habits[habit])}" for habit in HABITS)
        success = "success"
        if row.refine is not None:
            habits = "  ".join(f"{label} {_refine_text(label, value)}" for label, value in row.refine.items())
            success = "@t1"
        return (
            f"step {row.step}/{self._total}  reward {row.reward:+.3f}  {success} {percent(row.success)}  {habits}  "
            f"{row.tokens_per_second:,.0f} tokens/s  {row.seconds:.2f} s/step  {self._time_left()} left"
        )

    def _explain(self, refined: bool) -> None:
        """Says once what the words about refinement mean, before the first of them."""
        if refined and not self._explained:
            self._explained = True
            self._print("\n".join(LEGEND))

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _time_left(self) -> str:
        return "?" if self.seconds_left is None else duration(self.seconds_left)

    def _render(self) -> Group:
        phase = Text(self._phase, style="dim", no_wrap=True, overflow="ellipsis")
        return Group(self._table(), self._footer(), phase) if self._phase else Group(self._table(), self._footer())

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
        refined = next((row.refine for row in self._rows if row.refine is not None), None)
        middle = [_HABIT_COLUMNS[habit] for habit in HABITS] if refined is None else list(refined)
        success = "success" if refined is None else "@t1"
        for name in ("step", "reward", success, *middle, "tokens/s", "s/step"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self._rows:
            table.add_row(
                str(row.step),
                f"{row.reward:+.3f}",
                Text(percent(row.success), style=_shade(row.success)),
                *_middle_cells(row),
                f"{row.tokens_per_second:,.0f}",
                f"{row.seconds:.2f}",
            )
        return table

    def _footer(self) -> Table:
        footer = Table.grid(padding=(0, 1))
        footer.add_row(
            ProgressBar(total=max(1, self._total), completed=self._done, width=28),
            f"{self._done}/{self._total}",
            f"{self._time_left()} left",
            Text(f"reward {sparkline(self._rewards)}", style="dim", no_wrap=True, overflow="ellipsis"),
        )
        return footer


def _middle_cells(row: StepRow) -> list[Text]:
    """What stands between success and speed: the habits, or with refinement its outcomes."""
    if row.refine is None:
        return [Text(percent(row.habits[habit]), style=_shade(1 - 2 * row.habits[habit])) for habit in HABITS]
    return [Text(_refine_text(label, value)) for label, value in row.refine.items()]


def _shade(goodness: float) -> str:
    """A terminal style for a value of which 1 is good."""
    if goodness >= 0.9:
        return "green"
    return "yellow" if goodness >= 0.5 else "red"
