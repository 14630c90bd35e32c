"""How an agent's script begins and ends."""

from __future__ import annotations

import sys
from collections.abc import Callable

from astune.errors import AstuneError, UserError


def run_agent(main: Callable[[], None]) -> None:
    """Runs ``main``; an error of ours becomes one line and a status: 2 for bad input, 1 for anything else."""
    try:
        main()
    except AstuneError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2 if isinstance(error, UserError) else 1)
