"""How many threads sampling takes: one less than there are, for tools, judges and whoever else wants a core.

A small model samples no slower for it. Where two processes share the cores and each waits at a barrier for a thread
that the other has pushed off, both take several times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def spare_one() -> int:
    """One thread less than torch has now, and at least one."""
    return max(1, torch.get_num_threads() - 1)


@contextmanager
def sampling_threads(threads: int | None = None) -> Iterator[None]:
    """Gives torch so many threads for the block; None: :func:`spare_one`."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or spare_one())
    try:
        yield
    finally:
        torch.set_num_threads(before)
