"""What was wrong with a configuration, where, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from astune.config.schema import AstuneConfig
from astune.config.yaml_lines import KeyPath

ROOT = "astune"
#: Names under which trainers elsewhere know a setting, where no spelling leads from one to the other.
OTHER_NAMES: dict[str, KeyPath] = {"enable_self_refine": ("refine", "enabled")}


def dotted(path: KeyPath) -> str:
    """`("trainer", "steps")` as `trainer.steps`."""
    return ".".join(str(part) for part in path)


def section_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The section that a key holds, may hold, or holds a list of; None for other values."""
    annotation = model.model_fields[key].annotation
    inner = get_args(annotation) if get_origin(annotation) in (list, UnionType) else (annotation,)
    return next((part for part in inner if isinstance(part, type) and issubclass(part, BaseModel)), None)


def known_keys(model: type[BaseModel] = AstuneConfig, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yields the path of every key of the schema, sections included; places in lists are left out of it."""
    for name in model.model_fields:
        yield (*path, name)
        if (section := section_of(model, name)) is not None:
            yield from known_keys(section, (*path, name))


def explain(
    error: ValidationError,
    origins: Mapping[KeyPath, str],
    source: str,
    *,
    model: type[BaseModel] = AstuneConfig,
    root: str = ROOT,
) -> str:
    """Renders every problem as one line: origin (`file:line`), key, what is wrong, what is near.

    Args:
        error: What pydantic found.
        origins: Where each key was given; the nearest enclosing key's origin stands in for a missing one.
        source: The origin where not even an enclosing key was given.
        model: The schema that was asked for, whose keys are suggested.
        root: What stands before each key in the messages, the file's root key; empty where it has none.
    """
    order = {path: index for index, path in enumerate(origins)}
    details = sorted(error.errors(include_url=False), key=lambda detail: order.get(_given(detail["loc"], origins), -1))
    return "\n".join(f"{origins.get(_given(d['loc'], origins), source)}: {_problem(d, model, root)}" for d in details)


def suggestion(path: KeyPath, model: type[BaseModel] = AstuneConfig, root: str = ROOT) -> str:
    """Names the known key nearest to an unknown one."""
    section, key = tuple(part for part in path[:-1] if isinstance(part, str)), str(path[-1])
    if model is AstuneConfig and key in OTHER_NAMES:
        return f"did you mean '{_named(root, OTHER_NAMES[key])}'?"
    keys = list(known_keys(model))
    siblings = [str(known[-1]) for known in keys if known[:-1] == section]
    if near := difflib.get_close_matches(key, siblings, n=1):
        return f"did you mean '{near[0]}'?"
    if elsewhere := [known for known in keys if known[-1] == key]:
        return f"did you mean '{_named(root, elsewhere[0])}'?"
    by_leaf = {str(known[-1]): known for known in keys}
    if near := difflib.get_close_matches(key, by_leaf, n=1):
        return f"did you mean '{_named(root, by_leaf[near[0]])}'?"
    return f"the keys here are {', '.join(siblings)}"


def _named(root: str, path: KeyPath) -> str:
    return dotted((root, *path) if root else path)


def _given(path: KeyPath, origins: Mapping[KeyPath, str]) -> KeyPath:
    """The longest part of the path that was given; `()` where none was."""
    return next((path[:length] for length in range(len(path), 0, -1) if path[:length] in origins), ())


def _problem(detail: ErrorDetails, model: type[BaseModel], root: str) -> str:
    path, given = detail["loc"], detail["input"]
    name = _named(root, path)
    match detail["type"]:
        case "extra_forbidden":
            return f"unknown key '{name}'; {suggestion(path, model, root)}"
        case "value_error":
            return f"{name}: {detail['ctx']['error']}"
        case "model_type":
            return f"{name} is a section and holds keys of its own, got {given!r}"
        case "string_pattern_mismatch" if "->" in detail["ctx"]["pattern"]:
            return f"{name} should be 'package.module->Class', got {given!r}"
        case "string_type":
            return f"{name} should be text, got {given!r}; put it in quotes if it is meant as text"
        case "literal_error":
            return f"{name} should be {detail['ctx']['expected']}, got {given!r}{_near_choice(detail)}"
        case _:
            wanted = detail["msg"].partition(" should ")[2]  # "Input should be ...", "String should match ..."
            return f"{name} should {wanted}, got {given!r}" if wanted else f"{name}: {detail['msg']}, got {given!r}"


def _near_choice(detail: ErrorDetails) -> str:
    choices = [part.strip(" '") for part in detail["ctx"]["expected"].replace(" or ", ",").split(",")]
    near = difflib.get_close_matches(str(detail["input"]), choices, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
