"""``summary.json``: what training changed, in numbers, and the same in words for the command's last lines."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from astune.errors import CheckpointError
from astune.files import atomic_write
from astune.report.environment import environment
from astune.report.metrics import HABIT_LABELS, HABITS, Evaluation, is_solved
from astune.report.records import plain
from astune.report.refinement import summary_lines
from astune.report.run_folder import RunFolder
from astune.report.statistics import paired_difference
from astune.trace import Episode


def peak_rss_bytes() -> int:
    """Peak resident memory of this process plus that of its largest child that has ended.

    An upper bound, since the two peaks need not coincide. Children that still run are not counted:
    call it after the sandbox is closed.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(kind).ru_maxrss for kind in kinds) * unit


def summarise(
    sampled: tuple[Evaluation, Evaluation],
    greedy: tuple[Evaluation, Evaluation],
    *,
    train_seconds: float,
    steps: int,
    seed: int,
    peak_rss: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of ``summary.json`` from the evaluations (before, after) in both modes.

    ``success_*``, ``ci95_*`` and ``habits_*`` are those of sampling at temperature 1. ``extra`` adds what the
    caller knows (model, sandbox level, versions).

    Raises:
        ValueError: before and after were not measured on equally many problems.
    """
    (before, after), (greedy_before, greedy_after) = sampled, greedy
    if before.n != after.n:
        raise ValueError(f"{before.n} held-out problems before training and {after.n} after")
    return {
        "success_before": before.success,
        "success_after": after.success,
        "greedy_before": greedy_before.success,
        "greedy_after": greedy_after.success,
        "n_heldout": before.n,
        "ci95_before": list(before.ci95),
        "ci95_after": list(after.ci95),
        "greedy_ci95_before": list(greedy_before.ci95),
        "greedy_ci95_after": list(greedy_after.ci95),
        "habits_before": _habits(before),
        "habits_after": _habits(after),
        "ungradable_before": before.n_ungradable,
        "ungradable_after": after.n_ungradable,
        "failed_before": before.n_failed,
        "failed_after": after.n_failed,
        "train_seconds": train_seconds,
        "steps": steps,
        "peak_rss_bytes": peak_rss_bytes() if peak_rss is None else peak_rss,
        "seed": seed,
        "environment": environment(),
        **(extra or {}),
    }


def _habits(evaluation: Evaluation) -> dict[str, float]:
    return {habit: evaluation.habits[habit] for habit in HABITS}


def paired_summary(before: Sequence[Episode], after: Sequence[Episode]) -> dict[str, Any]:
    """Change of success on the problems that both passes share: difference, its interval, McNemar's p."""
    solved_after = {(episode.task_id, episode.sample_index): is_solved(episode) for episode in after}
    shared = [episode for episode in before if (episode.task_id, episode.sample_index) in solved_after]
    if not shared:
        return {}
    outcome = paired_difference(
        [is_solved(episode) for episode in shared],
        [solved_after[episode.task_id, episode.sample_index] for episode in shared],
    )
    return {
        "success_difference": outcome.difference,
        "ci95_difference": list(outcome.ci95),
        "mcnemar_p": outcome.p_value,
    }


def write_summary(folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """Writes ``summary.json``."""
    atomic_write(folder.summary, json.dumps(plain(summary), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_summary(folder: RunFolder) -> dict[str, Any] | None:
    """Reads ``summary.json``; None while the run has not ended.

    Raises:
        CheckpointError: the file is no JSON object.
    """
    if not folder.summary.exists():
        return None
    try:
        summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{folder.summary} is not JSON ({error}); delete it and start the run again") from error
    if not isinstance(summary, dict):
        raise CheckpointError(f"{folder.summary} is no JSON object; delete it and start the run again")
    return summary


def summary_in_words(summary: Mapping[str, Any]) -> str:
    """The last lines of a run, from the content of ``summary.json``."""
    habits = ", ".join(
        f"{HABIT_LABELS[habit]} {percent(summary['habits_before'][habit])} -> {percent(summary['habits_after'][habit])}"
        for habit in HABITS
    )
    sampled, greedy = (
        f"{_rate(summary, rate, interval, 'before')}  ->  {_rate(summary, rate, interval, 'after')}"
        for rate, interval in (("success", "ci95"), ("greedy", "greedy_ci95"))
    )
    cost = (
        f"{summary['steps']} steps, {duration(summary['train_seconds'])} of training, "
        f"peak memory {summary['peak_rss_bytes'] / 2**30:.2f} GiB, seed {summary['seed']}."
    )
    how = ", by the first answer" if "refine" in summary else ""
    return "\n".join(
        [
            f"Held-out problems solved{how}, of {summary['n_heldout']} (95 % interval):",
            f"  sampled at temperature 1   {sampled}",
            f"  greedy                     {greedy}",
            *([] if "refine" in summary else [f"Bad habits, share of sampled episodes: {habits}."]),
            *summary_lines(summary),
            cost,
        ]
    )


def percent(rate: float) -> str:
    """``0.4123`` as ``"41.2 %"``."""
    return f"{100 * rate:.1f} %"


def duration(seconds: float) -> str:
    """``252.4`` as ``"4 min 12 s"``."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _rate(summary: Mapping[str, Any], rate: str, interval: str, when: str) -> str:
    text = percent(summary[f"{rate}_{when}"])
    bounds = summary.get(f"{interval}_{when}")
    return text if bounds is None else f"{text} [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"
