"""Which scenarios there are, and how one is read: a YAML's file name is its id."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from astune.config.explain import explain
from astune.config.yaml_lines import read_mapping
from astune.errors import ConfigError, UserError
from autorl_bench.scenarios.schema import ID_PATTERN, Scenario

BUNDLED_FOLDER = Path(__file__).parent
#: Keys that may hold ``file.py->Class``, looked for beside the YAML.
_CLASS_KEYS = (("checker",), ("source", "generator"), ("episode", "workflow"))


class UnknownScenario(UserError):
    """No scenario has this id; ``known`` lists those that there are."""

    def __init__(self, scenario_id: str, known: Sequence[str]) -> None:
        near = difflib.get_close_matches(scenario_id, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"there is no scenario {scenario_id!r}; known are {', '.join(known)}{hint}")
        self.known = tuple(known)


class ScenarioRegistry:
    """The bundled scenarios and those of further folders.

    Raises:
        ConfigError: a folder does not exist, a file's name is no id, or two files have the same id.
    """

    def __init__(self, extra_folders: Sequence[Path] = ()) -> None:
        self._files: dict[str, Path] = {}
        for folder in (BUNDLED_FOLDER, *extra_folders):
            if not folder.is_dir():
                raise ConfigError(f"scenario folder {folder} does not exist")
            for file in sorted(folder.glob("*.y*ml")):
                self._add(file)

    def _add(self, file: Path) -> None:
        if not re.fullmatch(ID_PATTERN, file.stem):
            raise ConfigError(f"{file}: {file.stem!r} is no scenario id; use small letters, digits, '_' and '-'")
        if (other := self._files.setdefault(file.stem, file)) is not file:
            raise ConfigError(f"{file}: there is a scenario {file.stem!r} already, {other}; rename one")

    @property
    def ids(self) -> tuple[str, ...]:
        """Known ids, in alphabetical order."""
        return tuple(sorted(self._files))

    def get(self, scenario_id: str) -> Scenario:
        """Reads one scenario.

        Raises:
            UnknownScenario: there is none of this id.
            ConfigError: its YAML cannot be used; names file and line.
        """
        if scenario_id not in self._files:
            raise UnknownScenario(scenario_id, self.ids)
        return load_scenario(self._files[scenario_id])


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
