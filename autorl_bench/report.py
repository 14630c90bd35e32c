"""The boards of a scenario as text: for a terminal, a pipe, a log file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console, ConsoleOptions
from rich.markup import escape
from rich.table import Table

from autorl_bench.leaderboard import Cost, Estimate, Row
from autorl_bench.store import Store, Track
from autorl_bench.web.boards import Board, is_tied, read_boards
from autorl_bench.web.results import Results
from autorl_bench.web.text import clean, duration, plural, size

_Cell = Callable[[Row, Sequence[Row]], str]
_RUNS = "runs*"
#: Heading, cell, and how soon a terminal that is too narrow does without it (0: never).
_COLUMNS: tuple[tuple[str, _Cell, int], ...] = (
    ("rank", lambda row, rows: _rank(row, rows), 0),
    ("agent", lambda row, _: row.agent, 0),
    ("score", lambda row, _: _number(row.score), 0),
    ("baseline", lambda row, _: _number(row.baseline), 2),
    ("improvement [95 %]", lambda row, _: _estimate(row.improvement, "+.1f"), 0),
    ("normalised [95 %]", lambda row, _: _estimate(row.normalised, ".2f"), 3),
    ("area", lambda row, _: "-" if row.curve is None else f"{row.curve.area:+.1f}", 4),
    ("cost a run", lambda row, _: _cost(row.cost), 5),
    ("isolation", lambda row, _: str(row.isolation or "-"), 6),
    (_RUNS, lambda row, _: f"{row.scored} / {row.invalid} / {row.infrastructure} / {row.flagged}", 1),
)
_MOST_WORTHLESS = max(worth for _, _, worth in _COLUMNS)


def print_board(store: Store, scenario: str, console: Console, *, flagged: bool = False) -> int:
    """Prints the boards of a scenario, that with the newest run first; returns how many there were.

    ``flagged`` uses the scores of flagged runs, too. A terminal that is too narrow is shown fewer columns, a pipe or a
    file all of them: a line an agent, never broken.
    """
    boards = read_boards(Results(store), scenario)
    if not boards:
        console.print(f"{_text(scenario)}: no runs yet", markup=False, highlight=False)
    for one in boards:
        _print(one, console, flagged)
    return len(boards)


def _print(one: Board, console: Console, flagged: bool) -> None:
    rows = one.complete if flagged else one.clean
    say = _speaker(console)
    say(f"{one.scenario}, {_track(one)}, {duration(one.wall_seconds)}: {plural(len(one.entries), 'run')}")
    if not rows:
        say("  no run has ended yet")
        return
    width = console.width
    table, left_out = _fitting(rows, console)
    try:
        if not console.is_terminal:
            console.width = max(width, console.measure(table, options=_unbounded(console)).maximum)
        console.print(table, crop=False)
    finally:
        console.width = width
    say("  * scored / invalid / failed for a reason of ours / flagged")
    for row in rows:
        if row.why_unranked:
            say(f"  {row.agent} has no rank: {row.why_unranked}")
    if any(is_tied(row, rows) for row in rows):
        say("  = tied: the data cannot tell them apart at 95 %")
    if one.has_flagged:
        say(f"  {'with' if flagged else 'without'} the scores of flagged runs")
    if left_out:
        say(f"  a wider terminal also shows: {', '.join(left_out)}")
    say("")


def _speaker(console: Console) -> Callable[[str], None]:
    def say(line: str) -> None:
        console.print(_encodable(_text(line), console), markup=False, highlight=False, soft_wrap=True)

    return say


def _fitting(rows: Sequence[Row], console: Console) -> tuple[Table, list[str]]:
    """The table with as many columns as a terminal has room for, and the headings of the others."""
    for keep in range(_MOST_WORTHLESS, -1, -1):
        table = _table(rows, keep, console)
        if not console.is_terminal or console.measure(table, options=_unbounded(console)).maximum <= console.width:
            break
    return table, [name for name, _, worth in _COLUMNS if worth > keep]


def _table(rows: Sequence[Row], keep: int, console: Console) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), safe_box=True)
    chosen = [(name, cell) for name, cell, worth in _COLUMNS if worth <= keep]
    for name, _ in chosen:
        words = name in ("agent", "cost a run", "isolation")
        table.add_column(escape(name), justify="left" if words else "right", no_wrap=True)
    for row in rows:
        style = "dim" if row.rank is None else "bold" if row.rank == 1 else ""
        table.add_row(*(escape(_encodable(_text(cell(row, rows)), console)) for _, cell in chosen), style=style)
    return table


def _unbounded(console: Console) -> ConsoleOptions:
    return console.options.update(width=10_000)


def _text(text: str) -> str:
    return clean(text).replace("\n", " ")


def _encodable(text: str, console: Console) -> str:
    """What the console's encoding can't say becomes a question mark, rather than an error."""
    return text.encode(console.encoding, "replace").decode(console.encoding)


def _track(one: Board) -> str:
    return "replayed training code" if one.setting.track == Track.REPLAY else "submitted weights"


def _rank(row: Row, rows: Sequence[Row]) -> str:
    return "-" if row.rank is None else f"{'=' * is_tied(row, rows)}{row.rank}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _estimate(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return "-"
    low, mean, high = (f"{value:{form}}" for value in (estimate.low, estimate.mean, estimate.high))
    return f"{mean} [{low}, {high}]"


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return "-"
    parts = [
        duration(cost.wall_seconds),
        f"{duration(cost.cpu_seconds)} CPU",
        *([size(cost.peak_memory)] if cost.peak_memory else []),
    ]
    return ", ".join(parts + ([f"{cost.tokens:,} tokens"] if cost.tokens else []))
