"""A blocked event loop is reported with the place where it stands."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from astune.rollout.watchdog import watch_loop


def a_tool_that_blocks(until: list[logging.LogRecord]) -> None:
    deadline = time.monotonic() + 20
    while not until and time.monotonic() < deadline:
        time.sleep(0.01)


async def test_a_blocking_tool_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with watch_loop(0.02):
        a_tool_that_blocks(caplog.records)
    assert "a_tool_that_blocks" in caplog.text
    assert "asyncio.to_thread" in caplog.text


async def test_a_loop_that_moves_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with watch_loop(5.0):
        await asyncio.sleep(0)
    assert not caplog.records


async def test_no_limit_watches_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with watch_loop(None):
        await asyncio.sleep(0)
    assert not caplog.records
