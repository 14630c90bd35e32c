"""Which scenarios there are, and how one is read: a YAML's file name is its id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from astune.config.explain import explain
from astune.config.yaml_lines import read_mapping
from astune.errors import ConfigError
from autorl_bench.registry import Registry, UnknownId
from autorl_bench.scenarios.schema import Scenario

BUNDLED_FOLDER = Path(__file__).parent
#: Keys that may hold ``file.py->Class``, looked for beside the YAML.
_CLASS_KEYS = (("checker",), ("source", "generator"), ("episode", "workflow"))


class UnknownScenario(UnknownId):
    """No scenario has this id."""

    kind = "scenario"


class ScenarioRegistry(Registry[Scenario]):
    """The bundled scenarios and those of further folders.

    Raises:
        ConfigError: a folder does not exist, a file's name is no id, or two files have the same id.
    """

    def __init__(self, extra_folders: Sequence[Path] = ()) -> None:
        super().__init__(load_scenario, UnknownScenario)
        for folder in (BUNDLED_FOLDER, *extra_folders):
            if not folder.is_dir():
                raise ConfigError(f"scenario folder {folder} does not exist")
            for file in sorted(folder.glob("*.y*ml")):
                self._add(file.stem, file)


def load_scenario(file: Path) -> Scenario:
    """Reads a scenario's YAML.

    Raises:
        ConfigError: one line for each problem, with file and line.
    """
    data, lines = read_mapping(file, "the scenario", "a scenario", "title, base_model_path")
    if "id" in data:
        raise ConfigError(f"{file}:{lines[('id',)]}: the id is the file's name, {file.stem!r}; remove this key")
    _look_beside(data, file.parent)
    origins = {path: f"{file}:{line}" for path, line in lines.items()}
    try:
        return Scenario.model_validate({"id": file.stem} | data)
    except ValidationError as error:
        raise ConfigError(explain(error, origins, str(file), model=Scenario, root="")) from error


def _look_beside(data: dict[str, Any], folder: Path) -> None:
    """Makes each ``file.py->Class`` a path from ``folder``."""
    for *sections, key in _CLASS_KEYS:
        holder: Any = data
        for section in sections:
            holder = holder.get(section) if isinstance(holder, dict) else None
        value = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(value, str) and value.partition("->")[0].endswith(".py"):
            holder[key] = str(folder.absolute() / value)
