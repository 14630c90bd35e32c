"""``agent_type``: from a name, or ``module->Class``, to a sampling agent."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

from astune.class_path import load_class
from astune.errors import ConfigError

AgentClass = TypeVar("AgentClass", bound=type)


class SamplingAgent(Protocol):
    """What a trainer calls once a batch. The class is made with ``(trainer, **kwargs)``."""

    def refine_batch(
        self,
        inputs: Any,
        original_result: Any,
        original_prompts: Sequence[Any],
        answers: Sequence[str],
        solutions: Sequence[Any],
        correctness_mask: Any,
        batch_counter: int = 0,
    ) -> Any | None:
        """The refined result in the form of ``original_result``; None where nothing was to be done."""
        ...


_registered: dict[str, type] = {}


def register_agent(name: str) -> Callable[[AgentClass], AgentClass]:
    """Class decorator: makes a sampling agent known as ``agent_type=name``. The last registration of a name counts.

    Raises:
        ConfigError: the class has no ``refine_batch``, or the name could be taken for a class path.
    """
    if not name or "->" in name:
        raise ConfigError(f"agent_type {name!r} cannot be registered: use a plain name")

    def register(agent_class: AgentClass) -> AgentClass:
        _registered[name] = _checked(agent_class, f"agent_type {name!r}")
        return agent_class

    return register


def registered_agents() -> list[str]:
    """The names that ``agent_type`` knows, sorted."""
    import astune.refine.self_refine_agent  # noqa: F401  # registers "self_refine"

    return sorted(_registered)


def resolve_agent(agent_type: str) -> type:
    """The class that ``agent_type`` names: registered, or ``package.module->Class`` (or ``file.py->Class``).

    Raises:
        ConfigError: no such name, module or class, or it is no sampling agent. Names what there is.
    """
    known = registered_agents()
    if "->" in agent_type:
        return _checked(load_class(agent_type, "agent_type"), f"agent_type {agent_type!r}")
    if agent_type not in known:
        near = difflib.get_close_matches(agent_type, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(
            f"agent_type {agent_type!r} is not known{hint}: there is {', '.join(map(repr, known))}; register yours "
            "with @register_agent(name), or give 'package.module->Class'"
        )
    return _registered[agent_type]


def make_agent(agent_type: str, trainer: Any, **arguments: Any) -> SamplingAgent:
    """An agent for ``trainer``; ``arguments`` go to its constructor.

    Raises:
        ConfigError: see :func:`resolve_agent`, or its constructor does not take the arguments.
    """
    agent_class = resolve_agent(agent_type)
    try:
        inspect.signature(agent_class).bind(trainer, **arguments)
    except TypeError as error:
        raise ConfigError(
            f"agent_type {agent_type!r}: {error}; a sampling agent is made with (trainer, **kwargs), "
            f"{agent_class.__name__} takes {inspect.signature(agent_class)}"
        ) from error
    return cast(SamplingAgent, agent_class(trainer, **arguments))


def _checked(agent_class: AgentClass, subject: str) -> AgentClass:
    if not callable(getattr(agent_class, "refine_batch", None)):
        raise ConfigError(f"{subject}: {agent_class.__name__} has no method refine_batch(inputs, original_result, ...)")
    return agent_class
