from __future__ import annotations

import pytest

from astune.report.run_folder import RunFolder
from tests.report.demo import make_run


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run folder; tests only read it."""
    return make_run(tmp_path_factory.mktemp("demo"), steps=20, heldout=40)
