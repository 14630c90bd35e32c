"""Who shares a step: determinism, joining and leaving, cancellation, failure."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.errors import EngineError
from astune.rollout.engine import LocalEngine
from astune.rollout.types import Sampling
from astune.trace import Turn
from tests.rollout.engine_models import build, greedy, plain_logprobs, prompts_of_a_run, random_ids, together

Tool = Callable[[], Any]
EPISODES = 12


def tool_of_random_speed(seed: int) -> Tool:
    chance = random.Random(seed)

    async def tool() -> None:
        await asyncio.sleep(chance.choice([0, 0.001, 0.004, 0.02]))

    return tool


async def episodes(engine: LocalEngine, tool: Tool, *, turns: int = 3) -> list[list[Turn]]:
    """Sessions of up to ``turns`` turns with a tool between them; some end early."""

    async def episode(number: int, session: str) -> list[Turn]:
        done: list[Turn] = []
        ids = prompts_of_a_run()[number % 3]
        for turn in range(1 + number % turns):
            done.append(await engine.generate(ids, Sampling(3 + (number * 5 + turn) % 9, seed=number), session))
            await tool()
            ids = done[-1].prompt_ids + done[-1].completion_ids + random_ids(1 + number % 4, number)
        return done

    async def opened(number: int, session: Any) -> list[Turn]:
        with session as name:
            return await episode(number, name)

    sessions = [engine.session((number,)) for number in range(EPISODES)]
    return await asyncio.gather(*(opened(number, session) for number, session in enumerate(sessions)))


def records(rollout: list[list[Turn]]) -> list[tuple[list[int], list[float], int]]:
    return [(t.completion_ids, t.logprobs, t.cached_tokens) for turns in rollout for t in turns]


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
@pytest.mark.parametrize("max_batch", [64, 5])
def test_tool_speed_does_not_change_a_bit(name: str, max_batch: int) -> None:
    def run(seed: int) -> Any:
        engine = LocalEngine(build(name), max_batch=max_batch, rejoin_steps=3)
        return records(asyncio.run(episodes(engine, tool_of_random_speed(seed))))

    first = run(0)
    assert all(run(seed) == first for seed in (1, 2))


def test_a_second_run_of_one_engine_equals_the_first() -> None:
    engine = LocalEngine(build("qwen2"))
    runs = []
    for seed in range(2):
        engine.weights_updated()
        runs.append(records(asyncio.run(episodes(engine, tool_of_random_speed(seed)))))
    assert runs[0] == runs[1]


def test_no_session_is_late_when_all_open_before_the_first_step() -> None:
    engine = LocalEngine(build("qwen2"))
    asyncio.run(episodes(engine, tool_of_random_speed(0)))
    assert engine.stats()["late"] == 0


def test_without_determinism_the_same_tokens_are_sampled() -> None:
    fixed = asyncio.run(episodes(LocalEngine(build("qwen2")), tool_of_random_speed(0)))
    free = asyncio.run(episodes(LocalEngine(build("qwen2"), deterministic=False), tool_of_random_speed(1)))
    assert [t.completion_ids for ts in free for t in ts] == [t.completion_ids for ts in fixed for t in ts]


schedule = st.lists(
    st.tuples(
        st.integers(0, 6),  # loop turns before it asks
        st.integers(0, 3),  # which prompt
        st.integers(1, 9),  # most tokens
        st.one_of(st.none(), st.integers(0, 8)),  # loop turns until it gives up
    ),
    min_size=1,
    max_size=14,
)


@functools.cache
def busy_engine() -> LocalEngine:
    """One engine for all examples: what earlier schedules left in its caches is part of the test."""
    return LocalEngine(build("qwen3"), deterministic=False, max_batch=4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(schedule)
def test_rows_that_join_and_leave_at_random_do_not_disturb_each_other(calls: list[Any]) -> None:
    prompts = [*prompts_of_a_run(), random_ids(3, 9)]
    engine = busy_engine()

    async def wait(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def caller(number: int, delay: int, prompt: int, tokens: int, patience: int | None) -> Turn | None:
        await wait(delay)
        task = asyncio.ensure_future(engine.generate(prompts[prompt], Sampling(tokens, seed=number)))
        if patience is not None:
            await wait(patience)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            return await task
        return None

    turns = together(*(caller(number, *call) for number, call in enumerate(calls)))
    model = engine._model
    for (_, _, tokens, _), turn in zip(calls, turns, strict=True):
        if turn is not None:
            assert len(turn.completion_ids) == tokens
            torch.testing.assert_close(turn.logprobs, plain_logprobs(model, turn), atol=1e-4, rtol=1e-4)


def test_a_request_draws_the_same_alone_and_in_company() -> None:
    prompt = random_ids(20, 1)
    alone = together(LocalEngine(build("qwen2")).generate(prompt, Sampling(12, seed=5)))[0]
    engine = LocalEngine(build("qwen2"))
    crowd = together(*(engine.generate(random_ids(9 + n, n), Sampling(3 + n, seed=n)) for n in range(5)),
                     engine.generate(prompt, Sampling(12, seed=5)))  # fmt: skip
    assert crowd[-1].completion_ids == alone.completion_ids


def test_more_requests_than_rows_wait_for_their_turn() -> None:
    engine = LocalEngine(build("qwen2"), max_batch=3)
    turns = together(*(engine.generate(random_ids(5, n), greedy(4)) for n in range(10)))
    assert [len(turn.completion_ids) for turn in turns] == [4] * 10


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_a_cancelled_call_leaves_the_batch_and_the_rest_goes_on(name: str) -> None:
    engine = LocalEngine(build(name), max_context=256)

    async def main() -> Turn:
        doomed = asyncio.ensure_future(engine.generate(random_ids(5, 1), greedy(200)))
        other = asyncio.ensure_future(engine.generate(random_ids(6, 2), greedy(10)))
        await asyncio.sleep(0)
        doomed.cancel()
        return await other

    turn = asyncio.run(main())
    assert len(turn.completion_ids) == 10
    assert engine.stats()["steps"] <= 11


def test_a_session_that_closes_is_not_waited_for() -> None:
    engine = LocalEngine(build("qwen2"), rejoin_steps=2)

    async def episode(session: Any, turns: int) -> None:
        with session as name:
            for _ in range(turns):
                await engine.generate([1, 2, 3], greedy(2), name)
            raise ValueError("the workflow failed")

    async def main() -> None:
        sessions = [engine.session((number,)) for number in range(3)]
        calls = (episode(session, 1 + number) for number, session in enumerate(sessions))
        await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)

    asyncio.run(main())
    assert engine.stats()["requests"] == 1 + 2 + 3


def test_a_session_that_never_asks_is_given_up_and_counted() -> None:
    engine = LocalEngine(build("qwen2"), straggler_seconds=0.05)

    async def main() -> Turn:
        with engine.session((0,)), engine.session((1,)) as busy:
            return await engine.generate([1, 2, 3], greedy(2), busy)

    asyncio.run(asyncio.wait_for(main(), 30))
    assert engine.stats()["late"] == 1


def test_a_failure_reaches_everyone_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine(build("qwen2"), max_batch=2)

    def fail(*_: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(engine._backend, "step", fail)

    async def main() -> list[Any]:
        calls = (engine.generate(random_ids(4, n), greedy(4)) for n in range(5))
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)

    errors = asyncio.run(main())
    assert all(isinstance(error, EngineError) and "no room" in str(error) for error in errors)


def test_an_engine_works_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine(build("qwen2"))
    with monkeypatch.context() as patch:
        patch.setattr(engine._backend, "admit", lambda _: 1 / 0)
        with pytest.raises(EngineError, match="division by zero"):
            together(engine.generate([1, 2, 3], greedy(4)))
    assert len(together(engine.generate([1, 2, 3], greedy(4)))[0].completion_ids) == 4


def test_new_weights_while_rows_run_are_refused() -> None:
    engine = LocalEngine(build("qwen2"))

    async def main() -> None:
        call = asyncio.ensure_future(engine.generate([1, 2, 3], greedy(200)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            engine.weights_updated()
        finally:
            call.cancel()

    with pytest.raises(RuntimeError, match="while rows are running"):
        asyncio.run(main())


def test_closed_sessions_leave_nothing_behind() -> None:
    engine: Any = LocalEngine(build("qwen2"))
    asyncio.run(episodes(engine, tool_of_random_speed(0)))
    assert not engine._backend._parked
    assert all(stem.users == 0 for stem in engine._backend._prefixes._stems.values())
