"""One attacked benchmark for all cheats of a session; another, in this process, for defences that are taken away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from autorl_bench.grader.worker import Grader
from autorl_bench.jobs import LocalJobRunner
from autorl_bench.operate.serving import listen
from autorl_bench.redteam.arena import Arena, arena, make_bench
from autorl_bench.server import make_app


@pytest.fixture(scope="session")
def attacked() -> Iterator[Arena]:
    """The benchmark with its server and grader as processes."""
    with arena() as place:
        yield place


@contextmanager
def _here(folder: Path, runner: LocalJobRunner) -> Iterator[Arena]:
    """The same with server and grader as threads of this process, so that a test can take a defence away."""
    bench = make_bench(folder / "bench")
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(make_app(bench), log_level="warning", access_log=False)
        server, stopping, grader = uvicorn.Server(config), threading.Event(), Grader(bench)

        def grade() -> None:
            while not stopping.is_set():
                if not grader.work_once():
                    stopping.wait(0.1)

        threads = [threading.Thread(target=grade), threading.Thread(target=server.run, kwargs={"sockets": [listener]})]
        for thread in threads:
            thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield Arena(bench, address, address, runner, folder)
        finally:
            server.should_exit = True
            stopping.set()
            for thread in threads:
                thread.join()


@pytest.fixture
def undefended(tmp_path: Path) -> Iterator[Callable[..., Arena]]:
    """Starts a benchmark in this process, after the test has taken a defence away."""
    stack = []

    def start(runner: LocalJobRunner | None = None) -> Arena:
        context = _here(tmp_path, runner or LocalJobRunner())
        place = context.__enter__()
        stack.append(context)
        return place

    yield start
    for context in stack:
        context.__exit__(None, None, None)
