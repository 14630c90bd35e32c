"""One policy update: groups of episodes to advantages, packed micro-batches, gradients, an optimiser step.

GRPO (Shao et al., 2024, arXiv:2402.03300) and its relatives differ in the loss and the advantage
alone; both are looked up by name, and the way from episodes to a step is the same for all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from astune.config.schema import Trainer
from astune.trace import Episode, Group
from astune.trainer.advantages import ADVANTAGES, informative_groups, rewards_tensor
from astune.trainer.batch import LossPart, TrainBatch
from astune.trainer.checkpoint import CheckpointStore, TrainerState
from astune.trainer.losses import (
    LOSSES,
    LossConfig,
    MetricSums,
    TokenBatch,
    add_metrics,
    mean_metrics,
    normaliser,
    sequence_kl,
)
from astune.trainer.optim import adamw, clip_gradients, set_learning_rate
from astune.trainer.packing import PackedBatch, TrainRow, pack, plan, select
from astune.trainer.policy_forward import token_logps, token_logps_and_entropies
from astune.trainer.schedule import learning_rate


@dataclass(slots=True)
class UpdateResult:
    """What one update did. ``tokens_forwarded`` counts the packed stream, each shared token once."""

    metrics: dict[str, float] = field(default_factory=dict)
    tokens_forwarded: int = 0


class PolicyUpdater:
    """Owns the policy's weights and its optimiser.

    Args:
        model: the policy, possibly wrapped by peft; its trainable parameters are updated in place.
        tokenizer: saved with each checkpoint.
        settings: the ``trainer`` section.
        max_tokens: the constant length of Dr. GRPO, tokens.
        temperature: at which episodes are sampled; the trained distribution is the sampled one.
        on_update: called after the weights have changed.
        with_reference: keep the initial policy for a KL term, also where the section's own ``beta`` is 0.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: Trainer,
        *,
        max_tokens: int,
        temperature: float,
        dropout: bool = False,
        on_update: Any = lambda: None,
        with_reference: bool = False,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.dropout = dropout
        self.on_update = on_update
        self.loss = LOSSES[settings.algorithm]
        self.optimizer = adamw(model, settings.learning_rate, settings.weight_decay)
        self._reference = _Reference(model) if settings.beta > 0 or with_reference else None
        self.constants = LossConfig(
            epsilon_low=settings.epsilon_low,
            epsilon_high=settings.epsilon_high,
            delta=settings.delta,
            cispo_max=settings.cispo_max,
            beta=settings.beta,
            kl_bias_correction=settings.kl_bias_correction,
        )

    def update(self, groups: Sequence[Group], step: int) -> UpdateResult:
        """Trains on the episodes of one step (counted from 0).

        Groups whose rewards are all equal carry no gradient and are not forwarded; without any other
        group the weights stay as they are.
        """
        return self.train(self._batch(groups), step)

    def train(self, batch: TrainBatch, step: int) -> UpdateResult:
        """Trains on rows whose advantages are known; without a row the weights stay as they are."""
        rate = self._set_learning_rate(step)
        rows = batch.rows
        result = UpdateResult({"learning_rate": rate, "loss": 0.0, "grad_norm": 0.0, "rows_trained": float(len(rows))})
        if not rows:
            return result
        packed = [self._pack(rows, part) for part in plan(rows, self.settings.micro_batch_tokens)]
        old: list[Tensor | None] = [None] * len(packed)
        sums: MetricSums = {}
        with self._training_mode():
            for _ in range(self.settings.updates_per_batch):
                loss, sums, old = self._accumulate(batch, packed, old)
                result.metrics["loss"] = loss
                result.metrics["grad_norm"] = clip_gradients(self.model.parameters(), self.settings.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                result.tokens_forwarded += sum(len(one.input_ids_N) for one in packed)
        result.metrics |= mean_metrics(sums) | {"tokens_forwarded": float(result.tokens_forwarded)}
        self.on_update()
        return result

    def part(self, name: str, rows: Sequence[TrainRow], beta: float) -> LossPart:
        """A part of a batch under the section's own loss: ``rows`` are all that its mean is over."""
        norm = normaliser([row.trained_tokens for row in rows], self.max_tokens)
        return LossPart(name, self.loss.function, norm, replace(self.constants, beta=beta))

    def save(self, store: CheckpointStore, state: TrainerState) -> None:
        """Writes a checkpoint of weights and optimiser."""
        store.save(state, self.model, self.tokenizer, self.optimizer)

    def restore(self, store: CheckpointStore, step: int) -> None:
        """Takes weights and optimiser from the checkpoint at ``step``."""
        store.load_weights(step, self.model)
        store.load_optimizer(step, self.optimizer)
        self.on_update()

    def _set_learning_rate(self, step: int) -> float:
        settings = self.settings
        rate = learning_rate(step, settings.learning_rate, settings.steps, settings.warmup_steps, settings.schedule)
        set_learning_rate(self.optimizer, rate)
        return rate

    def _batch(self, groups: Sequence[Group]) -> TrainBatch:
        """Trajectories with their episodes' advantages over their group, all averaged together."""
        settings = self.settings
        episodes = [(number, episode) for number, group in enumerate(groups) for episode in group.episodes]
        rewards_N = rewards_tensor([_reward(episode) for _, episode in episodes])
        group_N = torch.tensor([number for number, _ in episodes])
        informative_P = informative_groups(rewards_N, group_N)
        if settings.beta > 0 and self.loss.kl_in == "reward":
            rewards_N = rewards_N - settings.beta * self._episode_kl([episode for _, episode in episodes])
        estimator = self.loss.advantages if settings.advantages == "auto" else settings.advantages
        advantages = ADVANTAGES[estimator](rewards_N, group_N).tolist()
        rows = [
            TrainRow(trajectory, advantage, number)
            for (number, episode), advantage in zip(episodes, advantages, strict=True)
            if _reward(episode) is not None
            for trajectory in episode.trajectories
        ]
        with_kl = settings.beta > 0 and self.loss.kl_in == "loss"
        chosen = select(rows, informative_P, with_kl=with_kl)
        return TrainBatch([rows[index] for index in chosen], (self.part("all", rows, settings.beta),))

    def _pack(self, rows: Sequence[TrainRow], indices: Sequence[int]) -> PackedBatch:
        return pack(rows, indices).to(self.model.device)

    def _accumulate(
        self, batch: TrainBatch, packed: Sequence[PackedBatch], old: Sequence[Tensor | None]
    ) -> tuple[float, MetricSums, list[Tensor | None]]:
        """Gradients of the whole batch. The first pass's log-probs are the old ones of those that follow."""
        kept: list[Tensor | None] = []
        total, sums = 0.0, MetricSums()
        for micro, old_logps_L in zip(packed, old, strict=True):
            logps_L, entropies_L = token_logps_and_entropies(self.model, micro, self.temperature)
            tokens = TokenBatch(
                logps_N=logps_L,
                advantages_N=micro.advantage_L,
                sequence_N=micro.row_L,
                n_sequences=micro.n_rows,
                old_logps_N=old_logps_L,
                ref_logps_N=self._reference_logps(micro) if self._pulls(batch, micro) else None,
                entropies_N=entropies_L,
            )
            loss, metrics = _loss(batch, micro, tokens)
            loss.backward()
            total += loss.item()
            sums = add_metrics(sums, metrics)
            kept.append(logps_L.detach() if old_logps_L is None else old_logps_L)
        return total, sums, kept

    def _pulls(self, batch: TrainBatch, micro: PackedBatch) -> bool:
        """Whether a KL term of the loss reads the micro-batch."""
        return self.loss.kl_in == "loss" and any(batch.parts[number].constants.beta > 0 for number in micro.parts)

    @contextmanager
    def _training_mode(self) -> Iterator[None]:
        """Dropout only where adapters ask for it: sampled and trained distribution are one."""
        self.model.train(self.dropout)
        try:
            yield
        finally:
            self.model.eval()

    def _reference_logps(self, batch: PackedBatch) -> Tensor:
        if self._reference is None:
            raise ValueError("the KL term needs a reference, which beta 0 does not keep")
        with torch.no_grad(), self._reference.weights() as reference:
            return token_logps(reference, batch, self.temperature)

    def _episode_kl(self, episodes: Sequence[Episode]) -> Tensor:
        """Summed log-ratio of each episode's sampled tokens to the reference, NaN for those without reward."""
        kl_N = torch.full((len(episodes),), float("nan"))
        for number, episode in enumerate(episodes):
            if _reward(episode) is None:
                continue
            rows = [TrainRow(trajectory, 0.0, 0) for trajectory in episode.trajectories if any(trajectory.loss_mask)]
            batch = self._pack(rows, range(len(rows)))
            reference_L = self._reference_logps(batch)
            kl_N[number] = sequence_kl(batch.old_logps_L, reference_L, batch.row_L, batch.n_rows).sum().cpu()
        return kl_N


def _loss(batch: TrainBatch, micro: PackedBatch, tokens: TokenBatch) -> tuple[Tensor, MetricSums]:
    """Sum of the losses of a micro-batch's parts; where there are several, metrics stand under their names, too."""
    losses: list[Tensor] = []
    sums: MetricSums = {}
    for part, own in batch.by_part(micro, tokens):
        loss, metrics = part.function(own, part.norm, part.constants)
        losses.append(loss)
        sums = add_metrics(sums, metrics)
        if len(batch.parts) > 1:
            sums = add_metrics(sums, {f"{name}/{part.name}": value for name, value in metrics.items()})
    return sum(losses[1:], start=losses[0]), sums


class _Reference:
    """The initial policy: a frozen copy, or for adapters the same model without them."""

    def __init__(self, model: Any) -> None:
        self._adapted = model if hasattr(model, "disable_adapter") else None
        self._copy: nn.Module | None = None if self._adapted is not None else copy.deepcopy(model)
        if self._copy is not None:
            self._copy.requires_grad_(False)

    @contextmanager
    def weights(self) -> Iterator[nn.Module]:
        """The model to forward for reference log-probs."""
        if self._copy is not None:
            yield self._copy
        else:
            with self._adapted.disable_adapter():  # type: ignore[union-attr]
                yield self._adapted  # type: ignore[misc]


def _reward(episode: Episode) -> float | None:
    """What trains: the raw reward of an episode that ran to its end and could be graded."""
    if not episode.trainable or episode.verdict is None or episode.verdict.is_success is None:
        return None
    return episode.verdict.raw_reward
