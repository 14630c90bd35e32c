"""The measured part of the model card: tables made from ``measured.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astune.models.nano.habits import MODAL_HABIT, Habit

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

_COLUMNS = ("success", Habit.NO_PRINT.value, Habit.PREMATURE.value, Habit.MALFORMED.value, "success_without_bad_habit")


def percent(measured: Mapping[str, Any]) -> str:
    """A rate in percent with its interval."""
    low, high = measured["ci95"]
    return f"{100 * measured['rate']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _overall(report: Mapping[str, Any]) -> list[str]:
    lines = ["| decoding | episodes | " + " | ".join(_COLUMNS) + " |", "|---" * (len(_COLUMNS) + 2) + "|"]
    for decoding in ("sampled", "greedy"):
        for scope, title in (("all", ""), ("agentscope_tools", ", two tools"), ("plain_tool", ", one tool")):
            rates = report[decoding][scope]
            cells = [f"{decoding}{title}", str(rates["success"]["n"]), *(percent(rates[name]) for name in _COLUMNS)]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _without_tools(report: Mapping[str, Any]) -> list[str]:
    names = list(report["sampled"]["without_tools"])
    lines = ["| decoding | n | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for decoding in ("sampled", "greedy"):
        rates = report[decoding]["without_tools"]
        lines.append(
            "| " + " | ".join([decoding, str(rates[names[0]]["n"]), *(percent(rates[n]) for n in names)]) + " |"
        )
    return lines


def _families(report: Mapping[str, Any]) -> list[str]:
    habits = [habit.value for habit in Habit if habit is not Habit.GOOD]
    lines = ["| family | most likely habit | n | success | " + " | ".join(habits) + " | greedy success |"]
    lines.append("|---" * (len(habits) + 5) + "|")
    for family, sampled in report["sampled"]["families"].items():
        greedy = report["greedy"]["families"][family]["success"]
        rates = [f"{100 * sampled[habit]['rate']:.0f}" for habit in habits]
        cells = [family, MODAL_HABIT[family].value, str(sampled["success"]["n"]), percent(sampled["success"]), *rates]
        lines.append("| " + " | ".join([*cells, f"{100 * greedy['rate']:.0f}"]) + " |")
    return lines


def measured_section(report: Mapping[str, Any]) -> str:
    """The card's tables, in percent, with 95 % Wilson intervals in parentheses."""
    sections = [
        [BEGIN],
        [f"Held-out problems (test split, seed {report['seed']}), percent, 95 % Wilson intervals in parentheses."],
        _overall(report),
        ["Without tools, one turn each; `refine` reads the policy's own critique of a wrong answer:"],
        _without_tools(report),
        ["By family, sampled at temperature 1:"],
        _families(report),
        [END],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections)


def replace_measured(card: str, section: str) -> str:
    """The card with ``section`` in the place of its measured one.

    Raises:
        ValueError: the card lacks the markers.
    """
    before, _, rest = card.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise ValueError(f"the card has no {BEGIN} ... {END} section")
    return before + section + after


def with_measured(card: str, report: Mapping[str, Any]) -> str:
    """The card with its measured section made from ``report``.

    Raises:
        ValueError: the card lacks the markers.
    """
    return replace_measured(card, measured_section(report))
