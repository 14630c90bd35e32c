"""What refinement did, for people: outcomes in words, and chains from the question to the last attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from astune.refine.verdict import read_verdict
from astune.report.metrics import Evaluation, is_solved, last_turn
from astune.rollout.messages import spoken
from astune.task_reader.types import Task
from astune.trace import Episode

#: How transitions are called in front of people.
TRANSITION_LABELS = {"ic": "i→c", "ii": "i→i", "cc": "c→c", "ci": "c→i"}
#: What the words of a run with refinement mean, for who reads them first on the terminal.
LEGEND = (
    "How to read what follows: @t1 is the first answer to a problem, @t2 the refined one (@t3, ... with more rounds).",
    "  ungated       every answer is refined, right ones too",
    "  oracle-gated  right first answers are kept: that takes the reference answers, so it is a bound and no result",
    "  i→c, c→i      answers that went from incorrect to correct, and from correct to incorrect",
    "  P(c|i)        share of the incorrect answers that became correct; P(i|c): of the correct ones that were spoiled",
    "  fixed point   the accuracy to which more rounds would lead, if these two shares stayed as they are",
)
_VERDICTS = {True: "calls the answer correct", False: "calls the answer wrong", None: "takes no side"}
#: Kinds of chains, in the order in which they are shown: solved at first, solved in the end, title.
_KINDS = (
    (False, True, "Wrong at first, right in the end"),
    (True, False, "Right at first, wrong in the end"),
    (False, False, "Wrong both times"),
    (True, True, "Right both times"),
)


@dataclass(frozen=True, slots=True)
class ShownChain:
    """One problem from the first answer to the last attempt."""

    title: str
    task: Task
    episodes: Sequence[Episode]

    def label(self, episode: Episode) -> str:
        """What an episode of the chain is."""
        if episode.role == "answer":
            return "First answer"
        if episode.role == "critique":
            return f"Critique, {_VERDICTS[read_verdict(said(episode))]}"
        return "Refined answer" if episode.round == 1 else f"Refined answer {episode.round}"


def choose_chains(tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[ShownChain]:
    """The first chain, in the order of ``tasks``, of each kind that occurs."""
    by_task: dict[str, list[Episode]] = {}
    for episode in episodes:
        if episode.sample_index == 0:
            by_task.setdefault(episode.task_id, []).append(episode)
    chosen = []
    for first, last, title in _KINDS:
        for task in tasks:
            attempts = [episode for episode in by_task.get(task.task_id, []) if episode.role != "critique"]
            if len(attempts) > 1 and (is_solved(attempts[0]), is_solved(attempts[-1])) == (first, last):
                chain = sorted(by_task[task.task_id], key=lambda episode: (episode.round, episode.role != "critique"))
                chosen.append(ShownChain(title, task, chain))
                break
    return chosen


def chain_lines(chain: ShownChain) -> list[str]:
    """A chain as text: the question, then what was said at each point."""
    lines = [f"{chain.title}. Question: {chain.task.main_query}"]
    for episode in chain.episodes:
        graded = "" if episode.role == "critique" else f" ({'right' if is_solved(episode) else 'wrong'})"
        text = said(episode).replace("\n", "\n    ") or episode.error or ""
        lines.append(f"  {chain.label(episode)}{graded}:\n    {text}")
    return lines


def said(episode: Episode) -> str:
    """What an episode's model said last."""
    return spoken(episode.turns[-1].message) if episode.turns else ""


def outcome_lines(refine: Mapping[str, Any]) -> list[str]:
    """An evaluation's outcomes in words: accuracies with their intervals, then what changed and where it leads."""
    last = last_turn(refine)
    gates = [f"oracle-gated {rate(refine, 'accuracy_oracle_gated')}"]
    if refine["accuracy_gated"] != refine[f"accuracy_t{last}"]:
        gates.append(f"gated {rate(refine, 'accuracy_gated')}")
    transitions = "  ".join(f"{label} {refine[name]}" for name, label in TRANSITION_LABELS.items())
    rates = "  ".join(
        f"{name} {rate(refine, key)}" for name, key in (("P(c|i)", "p_c_given_i"), ("P(i|c)", "p_i_given_c"))
    )
    limit = refine["fixed_point"]
    leads = "" if limit is None else f"  fixed point {100 * limit:.1f} %"
    which = "" if last == 2 else "last round "
    return [
        f"Accuracy@t1 {rate(refine, 'accuracy_t1')}  @t{last} ungated {rate(refine, f'accuracy_t{last}')}, "
        f"{', '.join(gates)}",
        f"change {_change(refine)} points  {transitions}  {which}{rates}{leads}",
    ]


#: Headings of :func:`outcome_cells`.
OUTCOME_COLUMNS = (
    "Accuracy@t1", "last attempt, ungated", "oracle-gated", "gated", "change, points", *TRANSITION_LABELS.values(),
    "a = P(c|i)", "b = P(i|c)", "fixed point",
)  # fmt: skip


def outcome_cells(refine: Mapping[str, Any], last: int | None = None) -> list[str]:
    """An outcomes row, of an evaluation or a batch, as a line of a table; ``-`` for what is not known.

    Args:
        refine: the outcomes; names may be missing.
        last: the number of attempts; None reads it from the names.
    """
    accuracies = ("accuracy_t1", f"accuracy_t{last or last_turn(refine)}", "accuracy_oracle_gated", "accuracy_gated")
    counts = [f"{refine[name]:.0f}" if name in refine else "-" for name in TRANSITION_LABELS]
    rates = [rate(refine, name) for name in ("p_c_given_i", "p_i_given_c", "fixed_point")]
    cells = [*(rate(refine, name) for name in accuracies), _change(refine), *counts, *rates]
    return [cell.replace("unknown", "-") for cell in cells]


def batch_outcomes(metrics: Mapping[str, Any]) -> list[str] | None:
    """:func:`outcome_cells` of a training step's row of ``metrics.jsonl``; None where nothing was refined."""
    if "refine/rows" not in metrics:
        return None
    found = {name.removeprefix("refine/"): value for name, value in metrics.items() if name.startswith("refine/")}
    return outcome_cells(found, int(found.get("turns", 2)))


def _change(row: Mapping[str, Any]) -> str:
    """Accuracy of the last attempt less that of the first, in points, with its interval."""
    delta, low, high = (row.get(name) for name in ("delta", "delta_low", "delta_high"))
    if delta is None or low is None or high is None:
        return "unknown"
    return f"{100 * delta:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def rate(row: Mapping[str, Any], name: str) -> str:
    """A rate of an outcomes row with its interval: ``"41.2 % [34.6, 48.1]"``; ``"unknown"`` where it is not known."""
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "unknown"
    return (
        f"{100 * value:.1f} %"
        if low is None or high is None
        else f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    )


def summary_part(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """``refine`` of summary.json: the first and last outcomes of each mode, as ``before`` and ``after``; or nothing."""
    found: dict[str, list[dict[str, Any]]] = {}
    for evaluation in evaluations:
        if evaluation.refine is not None:
            found.setdefault(evaluation.mode, []).append(evaluation.refine)
    modes = {mode: {"before": rows[0], "after": rows[-1]} for mode, rows in found.items()}
    return {"refine": modes} if modes else {}


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """What the last lines of a run say about refinement; nothing where there was none."""
    lines = []
    found = summary.get("refine", {})
    for mode in (mode for mode in ("sampled", "greedy") if mode in found):
        before, after = found[mode]["before"], found[mode]["after"]
        last = last_turn(after)
        when = "" if last == 2 else " (last round)"
        rates = (
            ("Accuracy@t1", "accuracy_t1"),
            (f"Accuracy@t{last}, ungated", f"accuracy_t{last}"),
            (f"Accuracy@t{last}, oracle-gated", "accuracy_oracle_gated"),
            (f"P(c|i), wrong made right{when}", "p_c_given_i"),
            (f"P(i|c), right made wrong{when}", "p_i_given_c"),
            ("fixed point", "fixed_point"),
        )
        pairs = [(f"@t{last} ungated - @t1, points", _change(before), _change(after))]
        pairs += [(label, rate(before, name), rate(after, name)) for label, name in rates]
        width = max(len(label) for label, _, _ in pairs) + 1
        lines.append(f"Every answer refined, {mode}, before -> after training (95 % interval):")
        lines += [f"  {label:<{width}} {was}  ->  {became}" for label, was, became in pairs]
    return lines
