"""Finds a judge by its path, and asks it in the one way that turns its mistakes into clear errors."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Mapping
from typing import Any, cast

from astune.class_path import load_class
from astune.errors import ConfigError, JudgeError, UserError
from astune.task_judge.types import Judge
from astune.trace import Verdict


def resolve_judge(path: str, **arguments: Any) -> Judge:
    """Returns an instance of the judge class that ``path`` names (``package.module->Class``).

    Args:
        path: the class, in this package or anywhere in the user's project.
        arguments: keyword arguments of its constructor.

    Raises:
        ConfigError: no such module or class, it has no ``compute_reward``, or it refuses the arguments.
    """
    judge_class = load_class(path, "judge")
    try:
        inspect.signature(judge_class).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"judge {path!r}: {error}; it takes {inspect.signature(judge_class)}") from error
    try:
        judge = judge_class(**arguments)
    except UserError:
        raise
    except Exception as error:  # a user's constructor may raise anything
        raise ConfigError(f"judge {path!r}: its constructor raised {type(error).__name__}: {error}") from error
    if not callable(getattr(judge, "compute_reward", None)):
        raise ConfigError(f"judge {path!r}: a judge has a method compute_reward(judge_input_dictionary)")
    return cast(Judge, judge)


async def run_judge(judge: Judge, judge_input_dictionary: dict[str, Any]) -> Verdict:
    """Asks ``judge`` for its verdict on one episode.

    A judge whose ``may_block`` is true is asked in a worker thread, so that grading holds up no rollout.

    Raises:
        JudgeError: the judge raised, or returned no finite reward; names the judge and the task.
    """
    subject = f"judge {type(judge).__name__} on task {_task_id(judge_input_dictionary)!r}"
    try:
        if getattr(judge, "may_block", False):
            result: Any = await asyncio.to_thread(judge.compute_reward, judge_input_dictionary)
        else:
            result = judge.compute_reward(judge_input_dictionary)
        if inspect.isawaitable(result):
            result = await result
    except JudgeError:
        raise
    except Exception as error:  # a judge is user code: whatever it raises is reported as the judge's
        raise JudgeError(f"{subject} raised {type(error).__name__}: {error}") from error
    return _verdict(result, subject)


def _verdict(result: Any, subject: str) -> Verdict:
    if not isinstance(result, tuple | list) or len(result) not in (2, 3):
        expected = "(raw_reward, is_success) or (raw_reward, is_success, components)"
        raise JudgeError(f"{subject} returned {_short(result)}; expected {expected}")
    reward = _number(result[0], "raw_reward", subject)
    components = result[2] if len(result) == 3 else {}
    if not isinstance(components, Mapping):
        raise JudgeError(f"{subject} returned {_short(components)} as components; expected names and numbers")
    named = {str(name): _number(value, f"component {name!r}", subject) for name, value in components.items()}
    return Verdict(reward, _success(result[1], subject), named)


def _success(value: Any, subject: str) -> bool | None:
    value = _scalar(value)
    if value is None or isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return None if value is None else bool(value)
    raise JudgeError(f"{subject} returned {_short(value)} as is_success; expected True, False or None (not gradable)")


def _number(value: Any, name: str, subject: str) -> float:
    value = _scalar(value)
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    raise JudgeError(f"{subject} returned {_short(value)} as {name}; expected a finite number")


def _scalar(value: Any) -> Any:
    """Unwraps a numpy or torch scalar; what holds more than one number stays and is refused."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _task_id(judge_input_dictionary: Mapping[str, Any]) -> str:
    task = getattr(judge_input_dictionary.get("workflow_task"), "task", None)
    return str(getattr(task, "task_id", "unknown"))
