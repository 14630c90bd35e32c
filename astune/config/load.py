"""From a YAML file and `section.key=value` overrides to one checked configuration, and back to YAML."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from astune.config.explain import ROOT, dotted, explain
from astune.config.schema import AstuneConfig, Sources
from astune.config.yaml_lines import KeyPath, parse_value, read_with_lines
from astune.errors import ConfigError

#: The sections that choose one of several sources by their `type`.
_SOURCE_SECTIONS: tuple[KeyPath, ...] = (("task_reader",), ("task_reader", "heldout"))


def load_config(path: Path, overrides: Sequence[str] = ()) -> AstuneConfig:
    """Reads a configuration file and applies overrides in their order.

    Args:
        path: A YAML file whose root key is `astune`.
        overrides: `section.key=value`, the value in YAML; a leading `astune.` is allowed.

    Raises:
        ConfigError: one line for each problem, with file and line or the override that caused it.
    """
    data, origins = _read_file(path)
    given = [_parse_override(text) for text in overrides]
    for key, value, origin in given:
        _assign(data, origins, key, value, origin)
    data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem).lstrip(".-") or "run")
    try:
        config = AstuneConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, origins, str(path))) from error
    _refuse_unused_sources(config, given)
    return config


def dump_yaml(config: AstuneConfig) -> str:
    """The whole configuration as YAML, every default written out; `load_config` reads it back unchanged."""
    return yaml.safe_dump({ROOT: config.model_dump(mode="json")}, sort_keys=False, allow_unicode=True)


def _read_file(path: Path) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """Returns what stands under the root key, and where each key stands."""
    document, lines = read_with_lines(_read_text(path), str(path))
    if not isinstance(document, dict) or list(document) != [ROOT]:
        _refuse_root(document, lines, path)
    data = document[ROOT]
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:{lines[(ROOT,)]}: '{ROOT}' holds sections, got {data!r}")
    return data, {key[1:]: f"{path}:{line}" for key, line in lines.items() if len(key) > 1}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        siblings = [item.name for item in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1) or sorted(siblings)[:1]
        hint = f"; did you mean {path.parent / near[0]}?" if near else "; give the path of a YAML file"
        raise ConfigError(f"{path}: there is no such configuration file{hint}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text"
        raise ConfigError(f"{path}: the configuration file can't be read: {reason}") from error


def _refuse_root(document: Any, lines: dict[KeyPath, int], path: Path) -> None:
    """Raises for a document whose only root key is not `astune`."""
    if document is None:
        raise ConfigError(f"{path}:1: the file is empty; it should hold the root key '{ROOT}:'")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}:1: the file should be a mapping with the root key '{ROOT}:'")
    if not document:
        raise ConfigError(f"{path}:1: the root key '{ROOT}:' is missing")
    wrong = next(key for key in document if key != ROOT)
    line = lines.get((str(wrong),), 1)
    if ROOT in document:
        raise ConfigError(f"{path}:{line}: '{wrong}' stands beside the root key '{ROOT}:'; indent it to stand below")
    raise ConfigError(f"{path}:{line}: the root key should be '{ROOT}:', found '{wrong}'")


def _parse_override(text: str) -> tuple[tuple[str, ...], Any, str]:
    """Splits `section.key=value` into path, parsed value and origin."""
    origin = f"command line, {text}"
    key, equals, raw = text.partition("=")
    path = tuple(key.strip().removeprefix(f"{ROOT}.").split("."))
    if not equals or not all(path):
        raise ConfigError(f"{origin}: not an override; write section.key=value, for example trainer.steps=20")
    try:
        return path, parse_value(raw), origin
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: the value is not valid YAML; put text in quotes") from error


def _assign(data: dict[str, Any], origins: dict[KeyPath, str], path: tuple[str, ...], value: Any, origin: str) -> None:
    """Sets one key, making the sections above it, and forgets where what it replaces was given."""
    for depth, part in enumerate(path[:-1], start=1):
        if data.get(part) is None:
            data[part] = {}
            origins[path[:depth]] = origin
        if not isinstance(data[part], dict):
            raise ConfigError(f"{origin}: '{dotted(path[:depth])}' is a value, not a section")
        data = data[part]
    data[path[-1]] = value
    for replaced in [key for key in origins if key[: len(path)] == path]:
        del origins[replaced]
    origins[path] = origin


def _refuse_unused_sources(config: AstuneConfig, given: list[tuple[tuple[str, ...], Any, str]]) -> None:
    """Raises for an override of a source that is not the chosen one: it would change nothing."""
    kinds = set(Sources.model_fields) - {"type"}
    chosen = {_SOURCE_SECTIONS[0]: config.task_reader.type, _SOURCE_SECTIONS[1]: config.task_reader.heldout.type}
    for path, _, origin in given:
        for section, kind in chosen.items():
            named = path[len(section)] if path[: len(section)] == section and len(path) > len(section) else None
            if named in kinds and named != kind:
                raise ConfigError(
                    f"{origin}: changes nothing while {dotted(section)}.type is {kind}; "
                    f"add {dotted(section)}.type={named}"
                )


def schema() -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors."""
    inner = AstuneConfig.model_json_schema()
    definitions = inner.pop("$defs")
    definitions["AstuneConfig"] = inner
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {ROOT: {"$ref": "#/$defs/AstuneConfig"}},
        "required": [ROOT],
        "additionalProperties": False,
        "$defs": definitions,
    }
