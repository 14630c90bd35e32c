"""What the engine samples, against transformers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from astune.errors import ContextOverflow, EngineError
from astune.rollout import fast_backend
from astune.rollout.engine import LocalEngine
from astune.rollout.types import Sampling
from astune.trace import StopReason, Turn
from tests.rollout.engine_models import (
    BUILDERS,
    build,
    greedy,
    plain_logprobs,
    prompts_of_a_run,
    random_ids,
    together,
)


def hf_greedy(model: Any, prompt: list[int], max_tokens: int) -> list[int]:
    out = model.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=max_tokens, eos_token_id=None, pad_token_id=0
    )
    return out[0, len(prompt) :].tolist()


def engine_for(name: str, **options: Any) -> LocalEngine:
    return LocalEngine(build(name), **{"max_context": 256, **options})


@pytest.mark.parametrize("name", BUILDERS)
def test_greedy_equals_generate(name: str) -> None:
    engine = engine_for(name)
    prompts = [*prompts_of_a_run(), *prompts_of_a_run(), random_ids(3, 7), random_ids(1, 8), random_ids(60, 9)]
    turns = together(*(engine.generate(p, greedy(6 + i)) for i, p in enumerate(prompts)))
    expected = [hf_greedy(build(name), p, 6 + i) for i, p in enumerate(prompts)]
    assert [turn.completion_ids for turn in turns] == expected


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_equal_a_plain_forward_pass(name: str, temperature: float) -> None:
    engine = engine_for(name)
    prompts = prompts_of_a_run() * 2
    turns = together(*(engine.generate(p, Sampling(12, temperature, seed=i)) for i, p in enumerate(prompts)))
    model = build(name)
    expected = [plain_logprobs(model, turn, temperature) for turn in turns]
    torch.testing.assert_close([t.logprobs for t in turns], expected, atol=1e-4, rtol=1e-4)


def test_logprobs_of_a_lora_policy_include_the_adapter() -> None:
    model: Any = get_peft_model(build("qwen2"), LoraConfig(target_modules="all-linear", init_lora_weights=False))
    engine = LocalEngine(model, max_context=256)
    turn = together(engine.generate(random_ids(40, 1), Sampling(12, seed=3)))[0]
    assert turn.logprobs == pytest.approx(plain_logprobs(model, turn), abs=1e-4)


def test_a_model_without_a_cache_is_recomputed_each_step() -> None:
    prompts = [*prompts_of_a_run(), *prompts_of_a_run()]
    engine: Any = engine_for("gpt2")
    engine._backend._cache_name = None
    turns = together(*(engine.generate(p, greedy(6)) for p in prompts))
    assert [turn.completion_ids for turn in turns] == [hf_greedy(build("gpt2"), p, 6) for p in prompts]


def test_chunked_prefill_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [*prompts_of_a_run(), random_ids(90, 5)]
    whole = together(*(engine_for_each(prompts)))
    monkeypatch.setattr(fast_backend, "MAX_SCORES", 4 * 100 * 7)
    chunked = together(*(engine_for_each(prompts)))
    assert [t.completion_ids for t in chunked] == [t.completion_ids for t in whole]


def engine_for_each(prompts: list[list[int]]) -> list[Any]:
    engine = engine_for("qwen3")
    return [engine.generate(p, greedy(8)) for p in prompts]


async def two_turns(engine: LocalEngine, number: int, session: str | None, edit: bool = False) -> tuple[Turn, Turn]:
    """A turn, an observation of a length of its own, and a second turn."""
    first = await engine.generate(prompts_of_a_run()[number % 3], Sampling(4 + number % 5, seed=number), session)
    history = first.prompt_ids + first.completion_ids
    if edit:
        history = [*history[:-2], 1]
    prompt = history + random_ids(2 + number % 4, 50 + number)
    return first, await engine.generate(prompt, Sampling(7, seed=100 + number), session)


def run_sessions(engine: LocalEngine, count: int = 9, edit: bool = False) -> list[tuple[Turn, Turn]]:
    async def episode(number: int, session: Any) -> tuple[Turn, Turn]:
        with session as name:
            return await two_turns(engine, number, name, edit)

    async def main() -> list[tuple[Turn, Turn]]:
        sessions = [engine.session((number,)) for number in range(count)]
        return await asyncio.gather(*(episode(number, s) for number, s in enumerate(sessions)))

    return asyncio.run(main())


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
@pytest.mark.parametrize("switches", [(True, False), (False, True), (False, False)])
def test_sharing_and_reuse_do_not_change_what_is_sampled(name: str, switches: tuple[bool, bool]) -> None:
    share, reuse = switches
    plain = run_sessions(engine_for(name))
    other = run_sessions(engine_for(name, share_prefill=share, reuse_cache=reuse))
    assert [t.completion_ids for pair in other for t in pair] == [t.completion_ids for pair in plain for t in pair]


@pytest.mark.parametrize("edit", [False, True])
def test_second_turns_have_the_logprobs_of_a_plain_forward_pass(edit: bool) -> None:
    engine = engine_for("qwen3")
    turns = [turn for pair in run_sessions(engine, edit=edit) for turn in pair]
    expected = [plain_logprobs(build("qwen3"), turn) for turn in turns]
    torch.testing.assert_close([t.logprobs for t in turns], expected, atol=1e-4, rtol=1e-4)


def test_a_second_turn_forwards_only_what_is_new() -> None:
    first, second = run_sessions(engine_for("qwen2"), count=1)[0]
    # The last sampled token was never fed; it and the observation are new.
    assert second.cached_tokens == len(first.prompt_ids) + len(first.completion_ids) - 1


def test_a_prompt_is_computed_once_for_its_group() -> None:
    engine = engine_for("qwen2")
    prompt = random_ids(40, 1)
    turns = together(*(engine.generate(prompt, Sampling(2, seed=i)) for i in range(4)))
    assert [turn.cached_tokens for turn in turns] == [0, 39, 39, 39]


def test_a_common_beginning_is_computed_once() -> None:
    engine = engine_for("qwen2")
    prompts = [[*random_ids(30, 0), number, 5] for number in range(3)]
    together(*(engine.generate(p, greedy(2)) for p in prompts))
    assert engine.stats()["prefill_tokens"] == 30 + 3


def critiques(questions: int = 3, answers: int = 4) -> list[list[int]]:
    """30 tokens that all have, then 25 that those of one question have, then 4 of each one's own."""
    return [
        random_ids(30, 0) + random_ids(25, 200 + question) + [1 + question, 1 + answer, 2, 3]
        for question in range(questions)
        for answer in range(answers)
    ]


def test_beginnings_within_beginnings_are_computed_once_each() -> None:
    engine = engine_for("qwen2")
    turns = together(*(engine.generate(prompt, greedy(2)) for prompt in critiques()))
    own = 2  # the last token is fed by the first step, and the number of the question is its beginning's last
    assert engine.stats()["prefill_tokens"] == 30 + 3 * 26 + 12 * own
    assert [turn.cached_tokens for turn in turns] == [0, 56, 56, 56, 30, 56, 56, 56, 30, 56, 56, 56]


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_beginnings_within_beginnings_do_not_change_what_is_sampled(name: str) -> None:
    engine = engine_for(name)
    prompts = [*critiques(), random_ids(30, 0) + random_ids(9, 7), *critiques(4, 3)]
    turns = [
        turn
        for part in (prompts[:13], prompts[13:])  # the second part grows on what the first left behind
        for turn in together(*(engine.generate(prompt, greedy(6)) for prompt in part))
    ]
    assert [turn.completion_ids for turn in turns] == [hf_greedy(build(name), p, 6) for p in prompts]
    expected = [plain_logprobs(build(name), turn) for turn in turns]
    torch.testing.assert_close([turn.logprobs for turn in turns], expected, atol=1e-4, rtol=1e-4)


def test_a_common_beginning_outlives_its_batch() -> None:
    engine = engine_for("qwen2")
    prompts = [[*random_ids(30, 0), number, 5] for number in range(3)]
    together(*(engine.generate(p, greedy(2)) for p in prompts[:2]))
    turn = together(engine.generate(prompts[2], greedy(2)))[0]
    assert turn.cached_tokens == 30


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_prompt_tokens_are_cached_forwarded_or_the_first_step(name: str) -> None:
    engine = engine_for(name)
    run_sessions(engine)
    stats = engine.stats()
    assert stats["prompt_tokens"] == stats["cached_tokens"] + stats["prefill_tokens"] + stats["requests"]


def test_new_weights_forget_old_keys() -> None:
    engine = engine_for("qwen2")
    prompt = random_ids(40, 1)
    together(engine.generate(prompt, greedy(4)))
    with torch.no_grad():
        for parameter in engine._model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
    engine.weights_updated()
    turn = together(engine.generate(prompt, Sampling(8)))[0]
    assert turn.logprobs == pytest.approx(plain_logprobs(engine._model, turn), abs=1e-4)


def test_a_stop_token_ends_the_completion_and_is_part_of_it() -> None:
    engine = engine_for("qwen2")
    prompt = random_ids(20, 1)
    free = together(engine.generate(prompt, greedy(10)))[0]
    stop = free.completion_ids[4]
    turn = together(engine.generate(prompt, greedy(10, stop_token_ids=(stop, 0))))[0]
    cut = free.completion_ids.index(stop) + 1
    assert (turn.completion_ids, turn.stop_reason) == (free.completion_ids[:cut], StopReason.EOS)


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_max_tokens_is_clipped_to_the_context(name: str) -> None:
    engine = engine_for(name, max_context=32)
    turn = together(engine.generate(random_ids(27, 1), greedy(100)))[0]
    assert (len(turn.completion_ids), turn.stop_reason) == (5, StopReason.LENGTH)


def test_a_prompt_that_fills_the_context_is_refused_with_the_numbers() -> None:
    engine = engine_for("qwen2", max_context=32)
    with pytest.raises(ContextOverflow, match=r"32 tokens.*context of 32"):
        together(engine.generate(random_ids(32, 1), greedy(1)))


def test_a_context_beyond_the_models_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="256 positions"):
        engine_for("qwen2", max_context=257)


@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(1, -1.0), Sampling(1, top_p=0.0)])
def test_sampling_out_of_range_is_refused(sampling: Sampling) -> None:
    with pytest.raises(ValueError, match="need max_tokens"):
        together(engine_for("qwen2").generate([1], sampling))


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_bfloat16_agrees_with_its_own_forward_pass(name: str) -> None:
    model: Any = build(name).to(torch.bfloat16)
    engine = LocalEngine(model, max_context=256)
    turns = together(*(engine.generate(p, Sampling(8, seed=i)) for i, p in enumerate(prompts_of_a_run() * 2)))
    expected = torch.tensor([plain_logprobs(model, turn) for turn in turns])
    # bfloat16 has 8 bits: compare the mean difference, not each token's.
    assert (torch.tensor([t.logprobs for t in turns]) - expected).abs().mean() < 0.15


def test_diverged_weights_are_an_error_and_not_a_sample() -> None:
    engine = engine_for("qwen2")
    with torch.no_grad():
        next(engine._model.parameters()).fill_(float("nan"))
    with pytest.raises(EngineError, match="not finite"):
        together(engine.generate([1, 2, 3], greedy(4)))
