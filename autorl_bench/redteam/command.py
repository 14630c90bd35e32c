"""``autorl-bench redteam``: runs the cheats and the honest agents, and prints the kill matrix."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from astune.errors import AstuneError
from astune.files import atomic_write
from autorl_bench.redteam import matrix
from autorl_bench.redteam.arena import Arena, arena
from autorl_bench.redteam.honest import HONEST
from autorl_bench.redteam.registry import chosen
from autorl_bench.redteam.types import Cheat, Judged, Seen, judge, problems_of

#: Name, sentence, problems.
_HonestResult = tuple[str, str, tuple[str, ...]]


def redteam_command(names: Sequence[str], *, list_only: bool, markdown: Path | None) -> int:
    """Runs cheats (all by default, and then the honest agents, too); 0 when none survives and the honest pass.

    Raises:
        UserError: an unknown name.
    """
    console, cheats = Console(), chosen(names)
    if list_only:
        console.print(matrix.list_table(cheats))
        return 0
    with arena() as place:
        console.print(f"attacked: {place.server}   {place.runner.probe().level} level   {len(cheats)} cheats")
        judged = list(_run(cheats, place, console))
        honest = [] if names else list(_run_honest(place, console))
    console.print(matrix.result_table(judged))
    _write(markdown, judged, honest)
    survivors = [one.cheat.name for one in judged if one.problems]
    failed = [name for name, _, problems in honest if problems]
    verdict = f"{len(judged)} cheats, {len(survivors)} survivors; {len(honest)} honest agents, {len(failed)} refused"
    bad = bool(survivors or failed)
    console.print(
        Text(f"{verdict}{': ' if bad else ''}{', '.join(survivors + failed)}", "bold red" if bad else "green")
    )
    return int(bad)


def _write(path: Path | None, judged: Sequence[Judged], honest: Sequence[_HonestResult]) -> None:
    if path is not None:
        atomic_write(path, matrix.markdown(judged, honest))


def _run(cheats: Iterable[Cheat], place: Arena, console: Console) -> Iterator[Judged]:
    for cheat in cheats:
        began = time.monotonic()
        judged = judge(cheat, attacked(cheat.attack, place))
        word = Text("SURVIVED", "bold red") if judged.problems else Text("stopped")
        console.print(word, Text(f"{time.monotonic() - began:5.1f} s  {cheat.name}: {cheat.sentence}"))
        for problem in judged.problems:
            console.print(Text(f"    {problem}", "red"))
        yield judged


def _run_honest(place: Arena, console: Console) -> Iterator[_HonestResult]:
    for agent in HONEST:
        problems = problems_of(attacked(agent.run, place))
        console.print(
            Text("REFUSED", "bold red") if problems else Text("passed "), Text(f"{agent.name}: {agent.sentence}")
        )
        yield agent.name, agent.sentence, problems


def attacked(attack: Callable[[Arena], Seen], place: Arena) -> Seen:
    """What came of an attack; one that broke down was stopped by nothing."""
    try:
        return attack(place)
    except (AstuneError, OSError, TimeoutError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return Seen(loot=(f"no verdict, because the attack broke down ({type(error).__name__}: {error})",))
