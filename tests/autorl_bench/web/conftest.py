from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.autorl_bench.web.demo import Demo, make_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A populated benchmark folder; tests only read it."""
    made = make_demo(tmp_path_factory.mktemp("bench"))
    yield made
    made.store.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Demo]:
    """A benchmark folder without runs, to be filled."""
    made = Demo(tmp_path)
    yield made
    made.store.close()
