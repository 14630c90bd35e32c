"""The kill matrix, cheat by defence: for the console and as Markdown. Pure: it is given what was judged."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from autorl_bench.redteam.types import Cheat, Defence, Judged, Seen

#: Codes that tell which defence spoke, whatever the cheat was meant to run into.
_SPEAKERS = {
    "identical_to_base": Defence.PROVENANCE,
    "near_copy_of_base": Defence.PROVENANCE,
    "sibling_model": Defence.PROVENANCE,
    "replaced_files": Defence.BASE_FILES,
    "test_items_in_workspace": Defence.CONTAMINATION,
    "test_ngrams_in_workspace": Defence.CONTAMINATION,
    "canary_in_workspace": Defence.CONTAMINATION,
    "test_twin_gap": Defence.TWIN,
    "replay_differs": Defence.REPLAY,
    "token": Defence.TOKEN,
    "limit_reached": Defence.RULES,
}
_INTENDED, _TOO = "●", "○"


def speakers(judged: Judged) -> set[Defence]:
    """The defences that named a cheat: the intended one, if it did, and others."""
    others = {_SPEAKERS[code] for code in judged.seen.codes if code in _SPEAKERS}
    return others | ({judged.cheat.defence} if judged.named else set())


def outcome(seen: Seen) -> str:
    """What a cheat scored, in words."""
    if seen.score is None:
        return "no score"
    ranked = "ranked apart" if seen.apart else "as the base" if seen.score <= (seen.baseline or 0.0) else "ranked"
    return f"{seen.score:.1f} %, {ranked}"


def list_table(cheats: Sequence[Cheat]) -> Table:
    """The cheats, their means and what is to stop them."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("cheat", "means", "defence", "what it tries"):
        table.add_column(heading, overflow="fold")
    for cheat in cheats:
        table.add_row(Text(cheat.name), Text(cheat.means), Text(cheat.defence), Text(cheat.sentence))
    return table


def result_table(judged: Sequence[Judged]) -> Table:
    """A line a cheat; survivors in red with what they got."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("cheat", "stopped by", "named", "score"):
        table.add_column(heading, overflow="fold")
    for one in judged:
        style = "bold red" if one.problems else ""
        named = f"SURVIVED: {'; '.join(one.problems)}" if one.problems else ", ".join(one.named)
        cells = (one.cheat.name, "-" if one.problems else one.cheat.defence, named, outcome(one.seen))
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def markdown(judged: Sequence[Judged], honest: Sequence[tuple[str, str, tuple[str, ...]]]) -> str:
    """The whole matrix with its legend, and the honest agents (name, sentence, problems)."""
    used = [defence for defence in Defence if any(defence in speakers(one) for one in judged)]
    survivors = sum(bool(one.problems) for one in judged)
    lines = [
        "# Kill matrix",
        "",
        "Written by `autorl-bench redteam --markdown docs/autorl_bench/kill_matrix.md`; do not edit. "
        "What the defences are and what they do not stop: [threat_model.md](threat_model.md).",
        "",
        f"{len(judged)} cheats, {survivors} survivors. {_INTENDED}: the defence that is to stop it, and named it; "
        f"{_TOO}: another one that named it, too.",
        "",
        *(f"{number}. {defence.value}" for number, defence in enumerate(used, start=1)),
        "",
        f"| cheat | {' | '.join(str(number) for number in range(1, len(used) + 1))} | named | score |",
        f"|---|{':-:|' * len(used)}---|---|",
        *(_matrix_row(one, used) for one in judged),
        "",
        "## What each one tries",
        "",
        "| cheat | means | what it tries |",
        "|---|---|---|",
        *(f"| {one.cheat.name} | {one.cheat.means.value} | {_cell(one.cheat.sentence)} |" for one in judged),
        "",
        "## Honest agents",
        "",
        "| agent | what it does | verdict |",
        "|---|---|---|",
        *(f"| {name} | {_cell(words)} | {_cell('; '.join(bad)) or 'passed'} |" for name, words, bad in honest),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _matrix_row(one: Judged, used: Sequence[Defence]) -> str:
    found = speakers(one)
    marks = [(_INTENDED if d == one.cheat.defence else _TOO) if d in found else "" for d in used]
    named = "**survived**" if one.problems else ", ".join(f"`{code}`" for code in one.named)
    return f"| {one.cheat.name} | {' | '.join(marks)} | {named} | {outcome(one.seen)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
