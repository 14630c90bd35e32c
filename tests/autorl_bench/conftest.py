"""One small benchmark behind real HTTP, shared by the tests of a worker: each test makes runs of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autorl_bench.operate.serving import options_of, served
from tests.autorl_bench.small_bench import Served, SmallBench


@pytest.fixture
def small_bench(tmp_path: Path) -> SmallBench:
    """A benchmark folder of the test's own; nobody serves it."""
    return SmallBench.make(tmp_path)


@pytest.fixture(scope="session")
def served_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server process and its grader process."""
    small = SmallBench.make(tmp_path_factory.mktemp("served"))
    with served(options_of(small.home.root, [small.scenarios]), 0) as addresses:
        yield Served(small, addresses.agents, addresses.pages)
