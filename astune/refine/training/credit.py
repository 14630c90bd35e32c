"""Which refined sample gets which advantage: pure functions from chains of rewards to per-segment credits.

A chain is one first answer and what was made of it: answer y1, critique c1, refinement y2, critique c2, ...
Each of these is a segment j, sampled in its own context h_j, and the gradient is

    sum_j  grad log pi(j | h_j) * (G_j - b_j)

whose mean is the gradient of the expected return as long as b_j depends on the context and on other chains,
never on j nor on anything generated from j. Segments are therefore compared with the *other* segments of their
task, turn and role (leave-one-out mean, undivided). A refinement or critique without any other is compared with what
its own context already says: the reward of the attempt that it started from. Whatever could not be graded (None or
NaN) takes no part: no credit, and no share in a baseline.

Plain Python on numbers, so that configurations can be checked without torch.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from astune.errors import ConfigError

CreditRole = Literal["answer", "critique", "refine", "expert"]
CritiqueCredit = Literal["none", "outcome", "verdict", "both"]
Rows = Literal["all", "wrong", "mixture"]

#: gamma * alpha above which shaping is warned of, and at which it is refused.
SHAPING_WARNING, SHAPING_LIMIT = 0.5, 1.0


@dataclass(frozen=True, slots=True)
class Chain:
    """The attempts at one row of a batch, graded.

    Args:
        task: rows of the same task are compared with each other.
        rewards: r_1 .. r_K of the attempts that were made; None or NaN where one could not be graded.
            A single reward is a first answer that was not refined.
        verdicts: the critic's verdict on attempt k, one a critique: True "it is correct", False "it is wrong", None
            where it said neither. Empty without critiques; a last one without a refinement after it ended the chain.
        correct: the judge's word on each attempt. Empty means: correct where the reward is above 0.5.

    Raises:
        ValueError: lengths that do not fit, or an infinite reward.
    """

    task: int
    rewards: tuple[float | None, ...]
    verdicts: tuple[bool | None, ...] = ()
    correct: tuple[bool | None, ...] = ()

    def __post_init__(self) -> None:
        made = len(self.rewards)
        if made == 0:
            raise ValueError("a chain needs the reward of its first attempt")
        if len(self.verdicts) not in {0, made - 1, made}:
            raise ValueError(f"{len(self.verdicts)} verdicts on {made} attempts; there is one for each critique")
        if len(self.correct) not in {0, made}:
            raise ValueError(f"{len(self.correct)} words on the correctness of {made} attempts")
        if any(reward is not None and math.isinf(reward) for reward in self.rewards):
            raise ValueError(f"rewards must be finite, None or NaN, got {self.rewards}")
        rewards = tuple(None if reward is None or math.isnan(reward) else float(reward) for reward in self.rewards)
        object.__setattr__(self, "rewards", rewards)
        if not self.correct:
            object.__setattr__(self, "correct", tuple(None if r is None else r > 0.5 for r in rewards))


@dataclass(frozen=True, slots=True)
class Credit:
    """What one segment of chain number ``chain`` is trained with.

    Turn 1 is the first answer, turn k attempt k; a critique of attempt k has turn k. An ``expert`` credit of turn k
    trains attempt k's tokens after the prompt of turn 1.
    """

    chain: int
    role: CreditRole
    turn: int
    advantage: float


def joint(
    chains: Sequence[Chain],
    *,
    attempts: int = 2,
    alpha: float = 0.0,
    gamma: float = 0.0,
    critique: CritiqueCredit = "none",
) -> list[Credit]:
    """Credits of all first answers, critiques and refinements (SCoRe's shaping, Kumar et al., 2024, arXiv:2409.12917).

    R_1 = r_1, R_k = r_k + alpha (r_k - r_{k-1}), G_k = R_k + gamma G_{k+1}. An attempt that was not refined stands: it
    keeps its reward in the turns that were left, so that refining some rows only does not change what they are
    compared by. Critique k is worth r_{k+1} - r_k (``outcome``), 1 if its verdict on attempt k is the judge's and else
    0 (``verdict``), or the sum of the two (``both``).

    Args:
        chains: rows of any tasks, refined or not.
        attempts: the most attempts that a chain can have, 1 + rounds; only ``gamma`` asks.
        alpha: bonus for improving on the attempt before.
        gamma: share of later turns in a turn's return.
        critique: what critiques are worth; ``none`` leaves them untrained.

    Returns:
        Credits in the order of the chains, and of the segments in each.

    Raises:
        ConfigError: shaping that rewards failing first (:func:`check_shaping`).
        ValueError: a chain with more than ``attempts`` attempts.
    """
    check_shaping(alpha, gamma)
    segments: list[_Segment] = []
    for number, chain in enumerate(chains):
        if len(chain.rewards) > attempts:
            raise ValueError(f"chain {number} has {len(chain.rewards)} attempts; attempts is {attempts}")
        returns = _returns(chain, attempts, alpha, gamma)
        for turn, value in enumerate(returns, start=1):
            before = chain.rewards[turn - 2] if turn > 1 else None
            segments.append(_Segment(number, chain.task, "answer" if turn == 1 else "refine", turn, value, before))
            if critique != "none" and turn <= len(chain.verdicts):
                worth = _critique_worth(chain, turn, critique)
                alone = 0.0 if critique == "outcome" else 0.5
                segments.append(_Segment(number, chain.task, "critique", turn, worth, alone))
    return _compare(segments)


def replace(chains: Sequence[Chain]) -> list[Credit]:
    """Each row's last attempt only: the refined sample where there is one, else the first answer.

    Nothing is sampled again. Two groups a task (one a turn): an attempt is compared with all attempts of its turn,
    those included that were replaced afterwards. They came from the same distribution, and without them
    the first answers left over are all correct, hence equal, and teach nothing.
    """
    longest = max((len(chain.rewards) for chain in chains), default=1)
    return [credit for credit in joint(chains, attempts=longest) if credit.turn == len(chains[credit.chain].rewards)]


def expert(chains: Sequence[Chain], *, per_task: int = 1) -> list[Credit]:
    """First answers on-policy, and correct refinements of wrong ones as experts for the *original* prompt.

    As in Critique-GRPO (Zhang et al., 2025, arXiv:2506.03106), but the baseline is the mean reward of the on-policy
    answers alone: an expert in it would punish the answers that it came from. The loss of an expert's
    tokens is :func:`astune.refine.training.expert_loss.expert_surrogate`.

    Args:
        chains: rows of any tasks.
        per_task: at most so many experts a task, the first in order; each is its chain's first correct attempt.
    """
    firsts = [Chain(chain.task, chain.rewards[:1]) for chain in chains]
    rewards_of: dict[int, list[float]] = {}
    for chain in firsts:
        if chain.rewards[0] is not None:
            rewards_of.setdefault(chain.task, []).append(chain.rewards[0])
    credits, chosen = joint(firsts), dict.fromkeys(rewards_of, 0)
    for number, chain in enumerate(chains):
        turn = _first_correction(chain)
        if turn is None or chosen[chain.task] == per_task:
            continue
        chosen[chain.task] += 1
        on_policy = rewards_of[chain.task]
        reward = chain.rewards[turn - 1]
        assert reward is not None
        credits.append(Credit(number, "expert", turn, reward - math.fsum(on_policy) / len(on_policy)))
    return credits


def rows_to_refine(
    correct: Sequence[bool | None], rows: Rows = "all", *, correct_share: float = 0.5, seed: int = 0
) -> list[int]:
    """Indices of the first answers that are refined, in order.

    ``all`` takes every graded row, ``wrong`` the incorrect ones, ``mixture`` those and each correct one with
    probability ``correct_share``. Rows that could not be graded (None) are left alone. Every row has its own draw from
    ``seed``, whatever the others are.

    Raises:
        ConfigError: a share outside [0, 1].
    """
    if not 0 <= correct_share <= 1:
        raise ConfigError(f"refine.correct_share must be between 0 and 1, got {correct_share}")
    share = {"all": 1.0, "wrong": 0.0, "mixture": correct_share}[rows]
    generator = random.Random(seed)
    draws = [generator.random() for _ in correct]
    return [row for row, good in enumerate(correct) if good is False or (good and draws[row] < share)]


def check_shaping(alpha: float, gamma: float) -> None:
    """Refuses shaping under which failing first pays, and warns on the way there.

    With two attempts G_1 = (1 - gamma alpha) r_1 + gamma (1 + alpha) r_2; with more, r_1 has the same
    coefficient. At gamma * alpha = 1 a correct first answer is worth nothing, beyond that less than a wrong one.

    Raises:
        ConfigError: gamma * alpha of 1 or more, a negative alpha, or a gamma outside [0, 1].
    """
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise ConfigError(f"refine.alpha must be 0 or more, got {alpha}")
    if not 0 <= gamma <= 1:
        raise ConfigError(f"refine.gamma must be between 0 and 1, got {gamma}")
    if gamma * alpha >= SHAPING_LIMIT:
        raise ConfigError(
            f"refine.gamma * refine.alpha is {gamma * alpha:g}: from 1 on, failing first and correcting pays more than "
            "being right at once; lower refine.gamma (0 is the default) or refine.alpha"
        )
    if gamma * alpha > SHAPING_WARNING:
        warnings.warn(
            f"refine.gamma * refine.alpha is {gamma * alpha:g}: the first answer's own reward counts only "
            f"{1 - gamma * alpha:g}; watch Accuracy@t1",
            stacklevel=3,
        )


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment with its return; ``alone`` is the baseline where there is no other to compare it with."""

    chain: int
    task: int
    role: CreditRole
    turn: int
    value: float | None
    alone: float | None


def _returns(chain: Chain, attempts: int, alpha: float, gamma: float) -> list[float | None]:
    """G_1 .. G_K; None where a reward is missing that the return needs."""
    rewards = chain.rewards
    left = attempts - len(rewards)
    last = rewards[-1]
    later = None if last is None else last * math.fsum(gamma**k for k in range(left))
    returns: list[float | None] = []
    for turn in range(len(rewards), 0, -1):
        value = rewards[turn - 1]
        if turn > 1 and alpha:
            before = rewards[turn - 2]
            value = None if value is None or before is None else value + alpha * (value - before)
        if gamma:
            value = None if value is None or later is None else value + gamma * later
        returns.append(value)
        later = value
    return returns[::-1]


def _critique_worth(chain: Chain, turn: int, critique: CritiqueCredit) -> float | None:
    """Worth of the critique of attempt ``turn``; one that ended the chain changed nothing."""
    worth = 0.0
    if critique in ("outcome", "both") and turn < len(chain.rewards):
        before, after = chain.rewards[turn - 1], chain.rewards[turn]
        if before is None or after is None:
            return None
        worth += after - before
    if critique in ("verdict", "both"):
        truth = chain.correct[turn - 1]
        if truth is None:
            return None
        worth += float(chain.verdicts[turn - 1] is truth)
    return worth


def _first_correction(chain: Chain) -> int | None:
    """Turn of the first correct attempt of a chain that began wrong."""
    if chain.correct[0] is not False or chain.rewards[0] is None:
        return None
    turns = range(2, len(chain.rewards) + 1)
    return next((turn for turn in turns if chain.correct[turn - 1] and chain.rewards[turn - 1] is not None), None)


def _compare(segments: Iterable[_Segment]) -> list[Credit]:
    """Advantages within (task, turn, role): value minus the mean of the others."""
    graded = [(segment, segment.value) for segment in segments if segment.value is not None]
    groups: dict[tuple[int, int, CreditRole], list[float]] = {}
    for segment, value in graded:
        groups.setdefault((segment.task, segment.turn, segment.role), []).append(value)
    sums = {key: (math.fsum(values), min(values) == max(values)) for key, values in groups.items()}
    credits: list[Credit] = []
    for segment, value in graded:
        key = (segment.task, segment.turn, segment.role)
        (total, equal), others = sums[key], len(groups[key]) - 1
        if others == 0:
            advantage = 0.0 if segment.alone is None else value - segment.alone
        else:
            # Equal values differ by exactly nothing; a rounding error here would train on noise.
            advantage = 0.0 if equal else value - (total - value) / others
        credits.append(Credit(segment.chain, segment.role, segment.turn, advantage))
    return credits
