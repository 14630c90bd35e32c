"""YAML read together with the line of every key, so that an error can name it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from astune.errors import ConfigError

#: A key's place in the document: mapping keys and list indices from the root.
KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also reads `1e-4` as the number it is."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def parse_value(text: str) -> Any:
    """Parses one YAML value, as given on a command line.

    Raises:
        yaml.YAMLError: the text is not YAML.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def read_mapping(file: Path, whole: str, kind: str, keys: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Reads a file that holds one mapping, with the line (from 1) of each key.

    ``whole``, ``kind`` and ``keys`` are the words of the messages: "the campaign", "a campaign", "agents, budget".

    Raises:
        ConfigError: it cannot be read, is not YAML, or holds something else; names file and line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text"
        raise ConfigError(f"{file}: {whole} can't be read: {reason}") from error
    data, lines = read_with_lines(text, str(file))
    if not isinstance(data, dict):
        raise ConfigError(f"{file}:1: {kind} is a mapping of keys ({keys}, ...), got {data!r}")
    return data, lines


def read_with_lines(text: str, source: str) -> tuple[Any, dict[KeyPath, int]]:
    """Parses a document and returns it with the line (from 1) of each key.

    Raises:
        ConfigError: the text is not YAML, or a mapping holds a key twice.
    """
    loader = _Loader(text)
    lines: dict[KeyPath, int] = {}
    try:
        node = loader.get_single_node()
        if node is None:
            return None, lines
        _collect(node, (), lines, source, open_nodes=set())
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{source}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    finally:
        loader.dispose()


def _collect(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], source: str, open_nodes: set[int]) -> None:
    """Records the line of every key below `node`."""
    if id(node) in open_nodes:
        raise ConfigError(f"{source}:{node.start_mark.line + 1}: an alias refers to the mapping that holds it")
    open_nodes.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            child, line = (*path, str(key_node.value)), key_node.start_mark.line + 1
            if child in lines:
                raise ConfigError(
                    f"{source}:{line}: the key '{key_node.value}' is given twice; the first is in line {lines[child]}"
                )
            lines[child] = line
            _collect(value_node, child, lines, source, open_nodes)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect(item, (*path, index), lines, source, open_nodes)
    open_nodes.remove(id(node))
