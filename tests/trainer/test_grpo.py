"""One policy update: what it trains on, what it leaves alone, and that every kind of model takes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from astune.config.schema import Lora, Trainer
from astune.trace import Episode, Group, StopReason, Trajectory, Turn, Verdict
from astune.trainer.grpo import PolicyUpdater
from astune.trainer.lora import add_lora

VOCABULARY = 40
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
MODELS: dict[str, Callable[[], Any]] = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=8)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=128)),
}
ALGORITHMS = ("grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo")


def model(name: str = "qwen2", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return MODELS[name]().eval()


def episode(task: int, sample: int, reward: float, success: bool | None = True) -> Episode:
    """Two turns on one prompt: sampled, tool answer (not trained), sampled."""
    prompt, first, tool, second = [1, 2, 3 + task], [10 + sample, 11], [20, 21], [12 + sample, 13]
    ids = prompt + first + tool + second
    mask = [0] * 3 + [1] * 2 + [0] * 2 + [1] * 2
    turns = [
        Turn(prompt, first, [-1.0] * 2, StopReason.TOOL_CALL),
        Turn(prompt + first + tool, second, [-1.0] * 2, StopReason.EOS),
    ]
    trajectory = Trajectory(ids, mask, [-1.0 if trained else 0.0 for trained in mask], turns)
    return Episode(f"t{task}", sample, [trajectory], verdict=Verdict(reward, success))


def groups(rewards: list[list[float]]) -> list[Group]:
    return [Group(f"t{n}", [episode(n, k, r) for k, r in enumerate(row)]) for n, row in enumerate(rewards)]


def updater(policy: Any, **settings: Any) -> PolicyUpdater:
    defaults = {"learning_rate": 1e-2, "steps": 10}
    return PolicyUpdater(policy, None, Trainer(**(defaults | settings)), max_tokens=8, temperature=1.0)


def logp(policy: Any, one: Episode) -> float:
    """Log-prob of an episode's sampled tokens by a plain forward pass."""
    ids, mask = torch.tensor(one.trajectories[0].ids), torch.tensor(one.trajectories[0].loss_mask).bool()
    with torch.no_grad():
        scores = policy(input_ids=ids[None]).logits[0, :-1].float().log_softmax(-1)
    return float(scores.gather(-1, ids[1:, None])[:, 0][mask[1:]].sum())


def weights(policy: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().float().flatten() for parameter in policy.parameters()])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_update_makes_the_better_episode_likelier_than_the_worse(name: str, algorithm: str) -> None:
    policy, batch = model(name), groups([[1.0, 0.0]])
    good, bad = batch[0].episodes
    before = logp(policy, good) - logp(policy, bad)
    updater(policy, algorithm=algorithm).update(batch, 0)
    assert logp(policy, good) - logp(policy, bad) > before


def test_groups_whose_rewards_are_equal_leave_the_weights_alone() -> None:
    policy = model()
    before = weights(policy)
    result = updater(policy).update(groups([[1.0, 1.0], [0.0, 0.0]]), 0)
    assert torch.equal(weights(policy), before)
    assert result.tokens_forwarded == 0


def test_failed_and_ungradable_episodes_train_nothing_and_enter_no_baseline() -> None:
    sound = groups([[1.0, 0.0]])
    spoilt = groups([[1.0, 0.0]])
    failed = episode(0, 2, 5.0)
    failed.error, failed.stop_reason = "took too long", "timeout"
    spoilt[0].episodes += [failed, episode(0, 3, 0.0, success=None)]
    outcomes = []
    for batch in (sound, spoilt):
        policy = model()
        updater(policy).update(batch, 0)
        outcomes.append(weights(policy))
    assert torch.equal(*outcomes)


def test_micro_batches_add_up_to_the_batch() -> None:
    outcomes = []
    for budget in (10_000, 1):
        policy = model()
        # Gradient descent with the clipped norm: AdamW would blow rounding up where gradients are near zero.
        update = updater(policy, micro_batch_tokens=budget)
        update.optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
        update.update(groups([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]), 0)
        outcomes.append(weights(policy))
    torch.testing.assert_close(*outcomes, rtol=1e-4, atol=1e-6)


def test_the_second_update_of_a_batch_is_clipped_against_the_first() -> None:
    policy = model()
    result = updater(policy, updates_per_batch=4, learning_rate=0.05).update(groups([[1.0, 0.0]]), 0)
    assert result.metrics["clip_high"] + result.metrics["clip_low"] > 0


def test_kl_pulls_towards_the_initial_policy() -> None:
    distances = []
    for beta in (0.0, 5.0):
        policy = model()
        start = weights(policy)
        update = updater(policy, beta=beta, learning_rate=3e-3)
        for step in range(6):
            update.update(groups([[1.0, 0.0]]), step)
        distances.append(float((weights(policy) - start).norm()))
    assert distances[1] < distances[0]


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_kl_is_measured_and_starts_at_zero(algorithm: str) -> None:
    policy = model()
    result = updater(policy, beta=0.1, algorithm=algorithm).update(groups([[1.0, 0.0]]), 0)
    if algorithm == "grpo":
        assert result.metrics["kl"] == pytest.approx(0.0, abs=1e-6)
    assert result.metrics["grad_norm"] > 0


def test_lora_trains_adapters_and_nothing_else() -> None:
    policy = add_lora(model(), Lora(enabled=True, r=2, target_modules=["q_proj", "v_proj"]))
    frozen = {name: value.clone() for name, value in policy.named_parameters() if not value.requires_grad}
    adapters = {name: value.clone() for name, value in policy.named_parameters() if value.requires_grad}
    updater(policy, beta=0.1).update(groups([[1.0, 0.0]]), 0)
    after = dict(policy.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in frozen.items())
    assert any(not torch.equal(after[name], value) for name, value in adapters.items())


def test_bfloat16_trains() -> None:
    policy = model().to(torch.bfloat16)
    before = weights(policy)
    updater(policy).update(groups([[1.0, 0.0]]), 0)
    assert not torch.equal(weights(policy), before)
    assert weights(policy).isfinite().all()


def test_the_learning_rate_follows_its_schedule() -> None:
    update = updater(model(), schedule="linear", steps=4, learning_rate=1.0)
    rates = [update.update(groups([[1.0, 1.0]]), step).metrics["learning_rate"] for step in range(4)]
    assert rates == [1.0, 0.75, 0.5, 0.25]
