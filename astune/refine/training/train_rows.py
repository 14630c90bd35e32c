"""From a refined batch to what one optimiser step trains on: rows with their credit, in one part a turn and role.

The loss is a sum over turns of lambda_turn times that turn's mean, with a KL coefficient a turn. Context inside a
refine or critique prompt is prompt: it is never trained, and old log-probs are under the prompt that was sampled from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from astune.config.refine import Refine
from astune.refine.training.credit import Chain, Credit, expert, joint
from astune.refine.training.credit import replace as replace_credit
from astune.refine.training.refined_row import RefinedRow
from astune.refine.training.schedule import Stage, stage_at
from astune.trace import Episode, Trajectory
from astune.trainer.batch import LossPart, TrainBatch
from astune.trainer.expert import expert_loss
from astune.trainer.packing import TrainRow

#: Makes a part of a batch under the run's own loss, see ``PolicyUpdater.part``.
PartOf = Callable[[str, Sequence[TrainRow], float], LossPart]


def credits_of(chains: Sequence[Chain], config: Refine) -> list[Credit]:
    """What each segment is worth, by ``refine.credit``."""
    if config.credit == "replace":
        return replace_credit(chains)
    if config.credit == "expert":
        return expert(chains, per_task=config.expert.per_task)
    return joint(
        chains,
        attempts=1 + config.max_refine_rounds,
        alpha=config.alpha,
        gamma=config.gamma,
        critique=config.critique_worth,
    )


def stage_of(config: Refine, beta: float, step: int) -> Stage:
    """Weights and KL coefficients of the turns at ``step`` (from 0); ``beta`` where the section names none."""

    def kl(given: list[float] | None) -> tuple[float, ...]:
        return (beta,) if given is None else tuple(given)

    if not config.stages:
        return Stage(0, tuple(config.turn_weights), kl(config.turn_kl))
    return stage_at([Stage(s.start, tuple(s.turn_weights), kl(s.turn_kl)) for s in config.stages], step)


def needs_reference(config: Refine, beta: float) -> bool:
    """Whether any turn of any stage has a KL term."""
    steps = [stage.start for stage in config.stages] or [0]
    return any(max(stage_of(config, beta, step).kl) > 0 for step in steps)


def train_batch(rows: Sequence[RefinedRow], config: Refine, stage: Stage, part_of: PartOf) -> TrainBatch:
    """The rows to forward: those with an advantage, and under a KL term all of its turn.

    Each part's mean is over all its credited segments, those included that are not forwarded.
    """
    credits = credits_of([row.chain for row in rows], config)
    members: dict[str, list[tuple[Credit, TrainRow]]] = {}
    for credit in credits:
        for trajectory in _trajectories(rows[credit.chain], credit):
            advantage = credit.advantage * _weight(credit, stage, config)
            row = TrainRow(trajectory, advantage, rows[credit.chain].task)
            members.setdefault(_name(credit), []).append((credit, row))
    tasks = 1 + max((row.task for row in rows), default=0)
    chosen: list[TrainRow] = []
    parts: list[LossPart] = []
    for number, (name, found) in enumerate(members.items()):
        credit = found[0][0]
        part = _part(name, credit, [row for _, row in found], config, stage, part_of)
        kept = [row for _, row in found if row.trained_tokens and (row.advantage != 0 or part.constants.beta > 0)]
        # A group of the packing is what begins alike: a part's rows of one task.
        chosen += [TrainRow(row.trajectory, row.advantage, number * tasks + row.group, number) for row in kept]
        parts.append(part)
    return TrainBatch(chosen, tuple(parts))


def _part(
    name: str, credit: Credit, rows: Sequence[TrainRow], config: Refine, stage: Stage, part_of: PartOf
) -> LossPart:
    if credit.role != "expert":
        return part_of(name, rows, stage.kl_weight(credit))
    own = part_of(name, rows, 0.0)  # a KL estimate needs tokens that the policy sampled from this context
    function = expert_loss(config.expert.weight, config.expert.tis_max)
    return LossPart(name, function, own.norm, own.constants, off_policy=True)


def _name(credit: Credit) -> str:
    if credit.role == "expert":
        return "expert"
    return f"critique_{credit.turn}" if credit.role == "critique" else f"turn_{credit.turn}"


def _weight(credit: Credit, stage: Stage, config: Refine) -> float:
    return stage.loss_weight(credit) * (config.critique_weight if credit.role == "critique" else 1.0)


def _trajectories(row: RefinedRow, credit: Credit) -> list[Trajectory]:
    """The tokens that a credit trains."""
    if credit.role == "critique":
        critique = row.critiques[credit.turn - 1]
        return [] if critique.error is not None else critique.trajectories
    attempt = row.attempts[credit.turn - 1]
    return _after_first_prompt(row.first, attempt) if credit.role == "expert" else attempt.trajectories


def _after_first_prompt(first: Episode, attempt: Episode) -> list[Trajectory]:
    """What an attempt sampled, behind the prompt of the first answer instead of its own."""
    if not first.trajectories or not attempt.trajectories:
        return []
    source = attempt.trajectories[0]
    start = source.first_prompt_length
    prompt = first.trajectories[0].turns[0].prompt_ids
    given = len(prompt)
    return [
        Trajectory(
            ids=prompt + source.ids[start:],
            loss_mask=[0] * given + source.loss_mask[start:],
            logprobs=[0.0] * given + source.logprobs[start:],
            turns=[],
        )
    ]
