from collections.abc import Iterator

import pytest

from astune.tools.sandbox import Sandbox
from astune.tools.types import SandboxLevel


@pytest.fixture(scope="module")
def kernel() -> Iterator[Sandbox]:
    """A sandbox at the kernel level; machines that have no such thing skip, and say why."""
    with Sandbox() as sandbox:
        probe = sandbox.start()
        if probe.reason.startswith("no "):
            pytest.skip(probe.reason)
        assert probe.level == SandboxLevel.KERNEL, probe.reason  # a hole in the confinement is no reason to skip
        yield sandbox


@pytest.fixture(scope="module")
def process() -> Iterator[Sandbox]:
    """A sandbox without kernel confinement: the control, where an attack must get through."""
    with Sandbox(at_most="process") as sandbox:
        yield sandbox
