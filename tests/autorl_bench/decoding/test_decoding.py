"""The decoding process: its completions, and what becomes of an order when the process fails, dies or hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file, save_file

from astune.errors import AstuneError, ModelError
from astune.models.nano_refine import NANO_REFINE_PATH
from astune.tools import landlock
from autorl_bench.decoding import Completion, Completions, Order, Prompt, client, decode
from autorl_bench.decoding.process import confine_to
from autorl_bench.policy import EvaluationFailure, InvalidModel

PROMPTS: tuple[Prompt, ...] = tuple((("user", f"There are {n} eggs. How many are there?"),) for n in range(80))
ORDER = Order(
    weights=str(NANO_REFINE_PATH),
    base=str(NANO_REFINE_PATH),
    prompts=PROMPTS,
    max_tokens=24,
    max_context=None,
    max_batch=16,
    renderer="auto",
    threads=1,
)


def has_landlock() -> bool:
    try:
        return sys.platform == "linux" and landlock.abi_version() >= 4
    except OSError:
        return False


def children() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [one for one in found if "autorl_bench.decoding.process" in " ".join(one.cmdline())]


async def gathered(completions: Completions) -> list[Completion]:
    return await asyncio.gather(*[completions.of(prompt) for prompt in PROMPTS])


def completed(order: Order) -> list[Completion]:
    with closing(decode(order)) as completions:
        return asyncio.run(gathered(completions))


def test_every_prompt_gets_the_same_completion_whatever_the_order_of_the_prompts() -> None:
    forth = completed(ORDER)
    back = completed(replace(ORDER, prompts=PROMPTS[::-1]))
    assert len(set(forth)) > 1
    assert forth == back
    assert all(0 < one.output_tokens <= 24 and one.input_tokens > 10 for one in forth)


def test_one_process_serves_one_order_after_the_other() -> None:
    completed(ORDER)
    [first] = children()
    completed(ORDER)
    assert children() == [first]


@pytest.mark.skipif(not has_landlock(), reason="this kernel's Landlock does not know TCP (ABI 4)")
def test_it_may_write_into_its_own_folder_alone_and_reach_nobody(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as server:
        if (pid := os.fork()) == 0:
            confine_to(str(own))
            (own / "file").write_text(other.read_text())
            refused = 0
            for forbidden in (
                lambda: other.write_text("changed"),
                lambda: subprocess.run(["true"], check=True),
                lambda: socket.create_connection(server.getsockname(), timeout=5),
            ):
                with suppress(OSError):
                    forbidden()
                    continue
                refused += 1
            os._exit(refused)
        _, status = os.waitpid(pid, 0)
    assert (own / "file").read_text() == "kept"
    assert os.waitstatus_to_exitcode(status) == 3
    assert other.read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody but root sees the variables of a process without privileges")
def test_it_has_no_secret_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    with closing(decode(ORDER)):
        [process] = children()
        assert "SOME_API_KEY" not in process.environ()


def test_killed_amid_an_order_it_is_a_failure_and_the_next_order_has_a_new_process() -> None:
    async def meet_the_end(completions: Completions) -> list[Completion | BaseException]:
        await completions.of(PROMPTS[0])
        [process] = children()
        process.send_signal(signal.SIGKILL)
        return await asyncio.gather(*[completions.of(prompt) for prompt in PROMPTS], return_exceptions=True)

    long = replace(ORDER, max_batch=1)
    with closing(decode(long)) as completions:
        outcomes = asyncio.run(meet_the_end(completions))
    assert isinstance(outcomes[0], Completion)  # what it had said stands
    failures = [one for one in outcomes if isinstance(one, EvaluationFailure)]
    assert failures
    assert all(one.reason.code == "engine" and "SIGKILL" in one.reason.message for one in failures)
    assert len(completed(ORDER)) == len(PROMPTS)


def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stop_it(completions: Completions) -> None:
        [process] = children()
        process.send_signal(signal.SIGSTOP)
        await gathered(completions)

    monkeypatch.setattr(client, "SILENCE", 30.0)
    with closing(decode(replace(ORDER, max_batch=1, max_tokens=200))) as completions:
        monkeypatch.setattr(client, "SILENCE", 0.5)
        with pytest.raises(EvaluationFailure, match="said nothing"):
            asyncio.run(stop_it(completions))


def test_an_order_that_is_given_up_ends_its_process() -> None:
    completions = decode(replace(ORDER, max_batch=1))
    [process] = children()
    completions.close()
    assert not process.is_running()


def test_it_ends_when_its_client_dies() -> None:
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        decode(replace(ORDER, max_batch=1))
        os.write(write, str(children()[0].pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    process = psutil.Process(int(os.read(read, 100)))
    os.close(read)
    os.close(write)
    os.waitpid(pid, 0)
    process.wait(timeout=30)


def test_weights_that_are_not_there_are_the_models_fault(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel) as caught:
        decode(replace(ORDER, weights=str(tmp_path)))
    assert caught.value.reason.code == "no_weights"
    assert len(completed(ORDER)) == len(PROMPTS)


def test_logits_that_are_not_finite_are_the_models_fault(tmp_path: Path) -> None:
    tensors = load_file(NANO_REFINE_PATH / "model.safetensors")
    save_file(
        {**tensors, "model.norm.weight": tensors["model.norm.weight"] * float("nan")}, tmp_path / "model.safetensors"
    )
    broken = replace(ORDER, weights=str(tmp_path))
    with closing(decode(broken)) as completions, pytest.raises(InvalidModel) as caught:
        asyncio.run(gathered(completions))
    assert caught.value.reason.code == "not_finite"
    assert len(completed(ORDER)) == len(PROMPTS)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"renderer": "no-such-renderer"}, ModelError, "no-such-renderer"),
        ({"base": "/no/such/base"}, EvaluationFailure, "/no/such/base"),
        ({"max_context": 10**6}, EvaluationFailure, "max_context"),
    ],
)
def test_what_is_wrong_is_told_as_it_is(change: dict[str, object], kind: type[AstuneError], words: str) -> None:
    with pytest.raises(kind, match=words):
        decode(replace(ORDER, **change))  # type: ignore[arg-type]


def test_a_prompt_that_was_not_ordered_is_a_mistake_of_the_caller() -> None:
    with closing(decode(ORDER)) as completions, pytest.raises(KeyError):
        asyncio.run(completions.of((("user", "something else"),)))
