"""What the project's commands have in common: how they begin, and what an error ends with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def prepare_process() -> None:
    """Sets what libraries read when they are loaded, and makes the user's own classes importable."""
    # How long torch's threads spin at a barrier before they sleep. Without a limit they take the cores away from
    # whatever else runs; with none at all, small matrix products wait for sleeping threads.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # Workflows, judges and checkers are named `module->Class` and may live anywhere in the user's project; at the
    # end of the path, the working directory shadows nothing that is installed.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def exit_status(command: Callable[[], int], *, traceback: bool) -> int:
    """Runs a command: its own status, or 1 (failed), 2 (bad input), 130 (stopped by Ctrl-C), with the error printed.

    Args:
        command: what to run.
        traceback: raise the error instead, to show where in the code it came from.
    """
    from astune.errors import AstuneError, UserError

    try:
        return command()
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except AstuneError as error:
        if traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
