"""When a cheat counts as stopped, and how the matrix says so."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from astune.errors import UserError
from autorl_bench.redteam.command import attacked, redteam_command
from autorl_bench.redteam.matrix import markdown, result_table
from autorl_bench.redteam.registry import cheats, chosen
from autorl_bench.redteam.types import Cheat, Defence, Judged, Means, Seen, judge, problems_of

CHEAT = Cheat(
    "copy", "A copy.", Means.MODEL, Defence.PROVENANCE, frozenset({"identical_to_base"}), lambda arena: Seen()
)
NAMED = Seen(codes=("identical_to_base",))


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (replace(NAMED, loot=("the key",)), "it got the key"),
        (replace(NAMED, score=50.0, baseline=40.0), "no flag binds"),
        (replace(NAMED, score=50.0, baseline=None), "no flag binds"),
        (Seen(codes=("link",)), "nothing named it as identical_to_base; what was said: link"),
        (Seen(), "what was said: nothing"),
    ],
)
def test_a_cheat_survives_with_loot_a_ranked_gain_or_no_name(seen: Seen, problem: str) -> None:
    assert any(problem in one for one in judge(CHEAT, seen).problems)


@pytest.mark.parametrize(
    "seen",
    [
        NAMED,
        replace(NAMED, score=40.0, baseline=40.0),
        replace(NAMED, score=10.0, baseline=40.0),
        replace(NAMED, score=99.0, baseline=40.0, apart=True),
    ],
)
def test_a_named_cheat_without_a_ranked_gain_is_stopped(seen: Seen) -> None:
    assert judge(CHEAT, seen).problems == ()


def test_an_honest_agent_needs_a_score_and_no_code() -> None:
    assert problems_of(Seen(score=50.0)) == ()
    assert len(problems_of(Seen(codes=("near_copy_of_base",)))) == 2
    assert problems_of(Seen(score=50.0, apart=True, codes=("test_twin_gap",)))[0] == "it is ranked apart"


def test_an_attack_that_breaks_down_is_a_survivor() -> None:
    def broken(arena: object) -> Seen:
        raise TimeoutError("no answer")

    seen = attacked(broken, None)  # type: ignore[arg-type]  # it is not asked for anything
    assert "broke down" in judge(CHEAT, seen).problems[0]


def _judged() -> list[Judged]:
    apart = Seen(codes=("identical_to_base", "test_twin_gap"), score=90.0, baseline=10.0, apart=True)
    other = replace(CHEAT, name="pipe|d", defence=Defence.TWIN, codes=frozenset({"x"}))
    return [judge(CHEAT, apart), judge(other, replace(NAMED, loot=("[red]",)))]


def test_the_markdown_marks_who_spoke_and_who_survived() -> None:
    text = markdown(_judged(), [("honest", "Trains.", ())])
    assert "2 cheats, 1 survivors" in text
    assert "| copy | ● | ○ | `identical_to_base` | 90.0 %, ranked apart |" in text
    assert "| pipe|d | ○ |  | **survived** | no score |" in text
    assert "| honest | Trains. | passed |" in text


def test_the_console_shows_a_survivor_in_red_with_what_it_got() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    console.print(result_table(_judged()))
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # it is the buffer
    assert "SURVIVED: it got [red]" in shown and "\x1b[1;31m" in shown


def test_names_are_distinct_sentences_end_and_codes_are_given() -> None:
    for name, cheat in cheats().items():
        assert cheat.name == name and cheat.codes and cheat.sentence.endswith("."), name
    assert {cheat.defence for cheat in cheats().values()} == set(Defence)


def test_an_unknown_cheat_is_bad_input() -> None:
    with pytest.raises(UserError, match="there is no cheat 'nothing'"):
        chosen(["nothing"])


def test_the_list_names_every_cheat_and_attacks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert redteam_command(["forged_token", "fork_bomb"], list_only=True, markdown=None) == 0
    shown = capsys.readouterr().out
    assert "forged_token" in shown and "fork_bomb" in shown
