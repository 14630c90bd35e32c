"""The measured part of the refining policy's card: tables made from ``measured.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astune.models.nano.card import BEGIN, END, percent, replace_measured

#: Names and meanings of the rates of the turns without tools.
_CHAIN_ROWS = {
    "answer": "direct answer right: Acc@t1",
    "refined": "refined answer right, with the policy's own critique, every row refined: Acc@t2",
    "refined_a": "a: refined right, of those wrong at first",
    "refined_b": "b: refined wrong, of those right at first",
    "refined_alone": "refined answer right, without a critique",
    "refined_alone_a": "a without a critique",
    "refined_alone_b": "b without a critique",
    "critique_calculates": "the critique calculates",
    "calculation_right": "its result is right, where it calculates",
    "wrong_called_wrong": "wrong attempt called wrong",
    "right_called_right": "right attempt called right",
}


def _chains(report: Mapping[str, Any]) -> list[str]:
    sampled, greedy = (report[decoding]["chains"] for decoding in ("sampled", "greedy"))
    lines = ["| rate | n | sampled | n | greedy |", "|---" * 5 + "|"]
    for name, meaning in _CHAIN_ROWS.items():
        cells = [meaning, *(text for of in (sampled, greedy) for text in (str(of[name]["n"]), percent(of[name])))]
        lines.append("| " + " | ".join(cells) + " |")
    for name, meaning in (("refined", "fixed point a / (a + b)"), ("refined_alone", "fixed point without a critique")):
        cells = [meaning, *(text for of in (sampled, greedy) for text in ("", _fixed_point(of, name)))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _fixed_point(rates: Mapping[str, Any], name: str) -> str:
    a, b = rates[f"{name}_a"]["rate"], rates[f"{name}_b"]["rate"]
    return f"{100 * a / (a + b):.1f}" if a + b else "none"


def _families(report: Mapping[str, Any]) -> list[str]:
    names = ("answer", "refined", "calculation_right")
    lines = ["| family | n | " + " | ".join(names) + " | greedy answer | greedy refined |", "|---" * 7 + "|"]
    for family, sampled in report["sampled"]["families"].items():
        greedy = report["greedy"]["families"][family]
        shown = [sampled[name] for name in names] + [greedy["answer"], greedy["refined"]]
        cells = [family, str(sampled["answer"]["n"]), *(f"{100 * one['rate']:.0f}" for one in shown)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _episodes(report: Mapping[str, Any]) -> list[str]:
    names = list(report["sampled"]["episodes"])
    lines = ["| decoding | n | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for decoding in ("sampled", "greedy"):
        rates = report[decoding]["episodes"]
        cells = [decoding, str(rates["success"]["n"]), *(percent(rates[name]) for name in names)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def measured_section(report: Mapping[str, Any]) -> str:
    """The card's tables, in percent, with 95 % Wilson intervals in parentheses."""
    sections = [
        [BEGIN],
        [f"Held-out problems (test split, seed {report['seed']}), percent, 95 % Wilson intervals in parentheses."],
        ["Chained on the four families to refine: the policy answers, criticises its answer, and refines it."],
        _chains(report),
        ["By family, sampled at temperature 1:"],
        _families(report),
        ["Episodes with a tool, as `nano`'s card measures them:"],
        _episodes(report),
        [END],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections)


def with_measured(card: str, report: Mapping[str, Any]) -> str:
    """The card with its measured section replaced.

    Raises:
        ValueError: the card lacks the markers.
    """
    return replace_measured(card, measured_section(report))
