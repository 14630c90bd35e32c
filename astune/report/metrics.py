"""The vocabulary of metrics: what one training step, or one held-out evaluation, is reduced to.

Everything here is a pure function of recorded episodes and holds no wall-clock value, so two runs of
one seed give the same numbers to the bit. One definition of success serves training and evaluation:
solved episodes over all episodes. An episode that failed, or whose answer could not be graded, was not
solved; how many of each there were stands beside the rate.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, pstdev
from typing import Any

from astune.report.statistics import wilson_interval
from astune.trace import Episode, Group, SplitReason, StopReason

#: The three failures that training must visibly remove, in the order in which they are shown.
HABITS = ("no_print", "premature_answer", "malformed_call")
#: How the habits are called in front of people.
HABIT_LABELS = {
    "no_print": "forgot to print",
    "premature_answer": "answered before the tool",
    "malformed_call": "malformed tool call",
}


def is_solved(episode: Episode) -> bool:
    """Whether the episode ended by itself and the judge called it a success."""
    return episode.trainable and episode.verdict is not None and episode.verdict.is_success is True


def is_ungradable(episode: Episode) -> bool:
    """Whether the judge looked at the episode and could not grade it."""
    return episode.verdict is not None and episode.verdict.is_success is None


def habit_rates(episodes: Sequence[Episode]) -> dict[str, float]:
    """Share of episodes that showed each habit at least once, keyed by :data:`HABITS`."""
    return {habit: _share([bool(episode.habits.get(habit)) for episode in episodes]) for habit in HABITS}


def step_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """One row of ``metrics.jsonl`` (without ``step`` and what the trainer adds: loss, learning rate, norms).

    Rewards are those of gradable episodes that finished; rates are shares of all episodes; token and
    failure numbers are counts over the step; ``groups_informative`` is the share of groups whose
    rewards differ, the only ones that carry a gradient.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    rewards = [reward for group in groups for reward in _rewards(group.episodes)]
    row = {
        "reward_mean": fmean(rewards) if rewards else 0.0,
        "reward_std": pstdev(rewards) if rewards else 0.0,
        "success_rate": _share([is_solved(episode) for episode in episodes]),
        "ungradable_rate": _share([is_ungradable(episode) for episode in episodes]),
        **{f"habit/{habit}": rate for habit, rate in habit_rates(episodes).items()},
        "groups_informative": _share([len(set(_rewards(group.episodes))) > 1 for group in groups]),
    }
    return row | _failure_counts(episodes) | _turn_counts(episodes) | _reward_components(episodes)


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def _rewards(episodes: Sequence[Episode]) -> list[float]:
    return [
        episode.verdict.raw_reward
        for episode in episodes
        if episode.trainable and episode.verdict is not None and not is_ungradable(episode)
    ]


def _failure_counts(episodes: Sequence[Episode]) -> dict[str, float]:
    kinds = Counter(episode.stop_reason for episode in episodes if episode.error is not None)
    by_kind = {f"episodes_failed/{kind}": float(count) for kind, count in sorted(kinds.items())}
    return {"episodes": float(len(episodes)), "episodes_failed": float(kinds.total()), **by_kind}


def _turn_counts(episodes: Sequence[Episode]) -> dict[str, float]:
    turns = [turn for episode in episodes for turn in episode.turns]
    splits = sum((episode.split_reasons for episode in episodes), Counter[str]())
    calls = [call for episode in episodes for call in episode.tool_calls]
    truncated = [any(turn.stop_reason is StopReason.LENGTH for turn in episode.turns) for episode in episodes]
    return {
        "turns_per_episode": len(turns) / len(episodes) if episodes else 0.0,
        "prompt_tokens": float(sum(len(turn.prompt_ids) for turn in turns)),
        "cached_tokens": float(sum(turn.cached_tokens for turn in turns)),
        "completion_tokens": float(sum(len(turn.completion_ids) for turn in turns)),
        "truncated_rate": _share(truncated),
        "tool_calls": float(len(calls)),
        "tool_calls_failed": float(sum(call.returncode != 0 for call in calls)),
        "trajectories": float(sum(len(episode.trajectories) for episode in episodes)),
        **{f"split/{reason}": float(splits[reason]) for reason in SplitReason},
    }


def _reward_components(episodes: Sequence[Episode]) -> dict[str, float]:
    verdicts = [episode.verdict for episode in episodes if episode.verdict is not None]
    names = sorted({name for verdict in verdicts for name in verdict.components})
    return {f"reward/{name}": fmean(verdict.components.get(name, 0.0) for verdict in verdicts) for name in names}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One pass over the held-out tasks. ``mode`` is ``"sampled"`` (temperature 1) or ``"greedy"``."""

    step: int
    mode: str
    n: int
    n_solved: int
    n_ungradable: int
    n_failed: int
    reward_mean: float
    habits: dict[str, float]
    #: Outcomes of refining every answer (``RefineOutcomes.to_row`` and the gated accuracy); None without refinement.
    refine: dict[str, Any] | None = None

    @property
    def success(self) -> float:
        """Solved over all held-out episodes."""
        return self.n_solved / self.n if self.n else 0.0

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson 95 % interval of :attr:`success`."""
        return wilson_interval(self.n_solved, self.n)

    def to_row(self) -> dict[str, Any]:
        """The evaluation as a JSON object, rate and interval included."""
        return asdict(self) | {"success": self.success, "ci95": list(self.ci95)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Evaluation:
        """Reads what :meth:`to_row` wrote."""
        # Rows that were written before there was a refine stage have no key for it.
        return cls(**({"refine": None} | {name: row[name] for name in cls.__slots__ if name in row}))


def evaluate(episodes: Sequence[Episode], step: int, mode: str, *, refine: dict[str, Any] | None = None) -> Evaluation:
    """Reduces the first answers of one held-out pass, made after ``step`` training steps."""
    rewards = _rewards(episodes)
    return Evaluation(
        step=step,
        mode=mode,
        n=len(episodes),
        n_solved=sum(map(is_solved, episodes)),
        n_ungradable=sum(map(is_ungradable, episodes)),
        n_failed=sum(episode.error is not None for episode in episodes),
        reward_mean=fmean(rewards) if rewards else 0.0,
        habits=habit_rates(episodes),
        refine=refine,
    )


def answers(episodes: Sequence[Episode]) -> list[Episode]:
    """The first answers among episodes of all roles."""
    return [episode for episode in episodes if episode.role == "answer"]


def sampled_tokens(metrics: Mapping[str, float]) -> float:
    """Prompt and completion tokens of one step, refinement included."""
    kinds = ("prompt_tokens", "completion_tokens", "refine/prompt_tokens", "refine/completion_tokens")
    return sum(metrics.get(kind, 0.0) for kind in kinds)


def heldout_metrics(evaluation: Evaluation) -> dict[str, float]:
    """An evaluation as a tracker logs it."""
    rates = {"success": evaluation.success}
    if evaluation.refine is not None:
        names = ("accuracy_t2", "accuracy_oracle_gated", "accuracy_gated")
        rates |= {name: evaluation.refine[name] for name in names if evaluation.refine[name] is not None}
    return {f"heldout/{evaluation.mode}/{name}": rate for name, rate in rates.items()}


def best_score(evaluation: Evaluation, earlier: Sequence[Evaluation], floor: float) -> float | None:
    """By what the best checkpoint is chosen: solved problems, and with refinement those solved in the end.

    The difference between attempts is no measure: it grows when first attempts fail on purpose. The last attempt's
    accuracy counts, ungated, and a model whose first attempts fell by more than ``floor`` below those of
    the earliest evaluation in the same mode is out of the question (None).
    """
    if evaluation.refine is None:
        return evaluation.success
    before = next((other for other in earlier if other.mode == evaluation.mode), evaluation)
    return None if evaluation.success < before.success - floor else last_accuracy(evaluation.refine)


def last_turn(refine: Mapping[str, Any]) -> int:
    """How many attempts an outcomes row is about."""
    return max(int(name[10:]) for name in refine if re.fullmatch(r"accuracy_t\d+", name))


def last_accuracy(refine: Mapping[str, Any]) -> float | None:
    """Accuracy of the last attempt when every answer is refined, from the row of an evaluation's outcomes."""
    accuracy: float | None = refine[f"accuracy_t{last_turn(refine)}"]
    return accuracy
