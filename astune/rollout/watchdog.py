"""Says where an event loop is stuck.

A tool that blocks without awaiting stops every episode and every timeout with it: nothing in the loop
can report that. A thread beside it can.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger("astune.rollout")
_KEPT_FRAMES = 12


@contextmanager
def watch_loop(seconds: float | None) -> Iterator[None]:
    """While open, logs an error with the stack of the running event loop's thread when the loop stands still.

    Args:
        seconds: how long that may last; None watches nothing.
    """
    if seconds is None:
        yield
        return
    stop = threading.Event()
    watched = asyncio.get_running_loop(), threading.get_ident()
    thread = threading.Thread(target=_watch, args=(*watched, seconds, stop), name="astune-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()


def _watch(loop: asyncio.AbstractEventLoop, thread_id: int, seconds: float, stop: threading.Event) -> None:
    while not stop.wait(seconds):
        alive = threading.Event()
        try:
            loop.call_soon_threadsafe(alive.set)
        except RuntimeError:  # the loop was closed
            return
        if not alive.wait(seconds) and not stop.is_set():
            frame = sys._current_frames().get(thread_id)
            stack = "".join(traceback.format_stack(frame)[-_KEPT_FRAMES:]) if frame else ""
            _log.error(
                "The event loop has been blocked for %g s, and all episodes with it: a workflow or tool waits without "
                "awaiting. Make it async, run it in asyncio.to_thread, or give it a timeout. It stands at:\n%s",
                seconds,
                stack,
            )
