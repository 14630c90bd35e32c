"""Which agents there are, and how one is read: a folder with a ``config.yaml``; the folder's name is the agent's id."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from astune.config.explain import explain
from astune.config.section import Section
from astune.config.yaml_lines import parse_value, read_mapping
from astune.errors import ConfigError
from autorl_bench.jobs.types import Endpoint
from autorl_bench.registry import ID_PATTERN, Registry, UnknownId

CONFIG_FILE = "config.yaml"
#: The agents that come with a checkout of the project; an installed package has none.
BUNDLED_FOLDER = Path(__file__).resolve().parents[1] / "agents"

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
FolderName = Annotated[str, Field(pattern=rf"^{ID_PATTERN}$")]
_DEFAULT_PORTS = {"http": 80, "https": 443}


class UnknownAgent(UnknownId):
    """No agent has this id."""

    kind = "agent"


class EndpointConfig(Section):
    """A TCP service that the agent may reach: ``host`` and ``port``, or the variable that holds its address."""

    host: str | None = Field(None, min_length=1)
    port: int | None = Field(None, gt=0, lt=65536)
    address_in: VariableName | None = Field(
        None, description="A variable of `environment` that holds the service's URL; where it is unset, there is none."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        fixed = self.host is not None and self.port is not None
        partly = (self.host is None) != (self.port is None)
        if partly or fixed == (self.address_in is not None):
            raise ValueError("give `host` and `port`, or `address_in` (a variable that holds the URL), one of the two")
        return self

    def resolve(self, environment: Mapping[str, str]) -> Endpoint | None:
        """Host and port; None where the variable is unset.

        Raises:
            ConfigError: the variable holds no address.
        """
        if self.host is not None and self.port is not None:
            return Endpoint(self.host, self.port)
        name = self.address_in or ""
        if not (address := environment.get(name, "")):
            return None
        try:
            parts = urlsplit(address)
            port = parts.port or _DEFAULT_PORTS[parts.scheme]
            if not parts.hostname:
                raise ValueError(address)
        except (ValueError, KeyError) as error:
            raise ConfigError(f"the variable {name} should hold an address like http://HOST:PORT/v1") from error
        return Endpoint(parts.hostname, port)


class AgentConfig(Section):
    """All that an agent's ``config.yaml`` may hold."""

    description: str = Field(min_length=1, description="One line.")
    command: list[str] = Field(
        description="Start command. `python` is this interpreter, a relative *.py is in the agent's folder."
    )
    environment: list[VariableName] = Field(
        [], description="Variables passed on from the operator, where they are set."
    )
    endpoints: list[EndpointConfig] = Field([], description="Services that it may reach, besides the benchmark's own.")
    arguments: dict[str, Any] = Field({}, description="Its own settings with their defaults; given as JSON.")
    restarts: int = Field(2, ge=0, description="How often a killed agent is started again within its budget.")
    told_recipes: bool = Field(
        False, description="Whether it is told the scenario's reference recipes, as AUTORL_RECIPES: for baselines."
    )
    shared: list[FolderName] = Field([], description="Folders beside the agent's that it may read, too.")
    readable: list[str] = Field([], description="Absolute paths that it may read, too: a programme that it starts.")

    @field_validator("command")
    @classmethod
    def _starts_something(cls, value: list[str]) -> list[str]:
        if not value or not value[0].strip():
            raise ValueError("the agent has no start command; give a list like [python, agent.py]")
        if any("\0" in part for part in value):
            raise ValueError("the start command holds a NUL character")
        return value

    @field_validator("environment")
    @classmethod
    def _leaves_ours_alone(cls, value: list[str]) -> list[str]:
        if taken := [name for name in value if name.startswith(("AUTORL_", "ASTUNE_"))]:
            raise ValueError(f"{', '.join(taken)} is set by the benchmark; declare other variables only")
        return value

    @field_validator("readable")
    @classmethod
    def _is_absolute(cls, value: list[str]) -> list[str]:
        for path in value:
            if not PurePosixPath(path).is_absolute() and not path.startswith("~/"):
                raise ValueError(f"{path!r} should be an absolute path, or begin with ~/")
        return value

    @model_validator(mode="after")
    def _addresses_are_passed_on(self) -> Self:
        for endpoint in self.endpoints:
            if endpoint.address_in is not None and endpoint.address_in not in self.environment:
                raise ValueError(f"endpoints name the variable {endpoint.address_in}: list it in `environment`, too")
        return self


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent: its id, its folder, and what its configuration says."""

    id: str
    folder: Path
    config: AgentConfig

    def command(self, python: str) -> tuple[str, ...]:
        """The start command, with the interpreter and the paths of the agent's own scripts filled in."""
        return tuple(python if part == "python" else self._located(part) for part in self.config.command)

    def _located(self, part: str) -> str:
        beside = self.folder / part
        return str(beside) if part.endswith(".py") and not part.startswith("-") and beside.is_file() else part

    @property
    def readable(self) -> tuple[Path, ...]:
        """What the agent may read of its own: its folder, shared ones, declared paths."""
        parent = self.folder.parent
        package = parent / "__init__.py"
        return (
            self.folder,
            *(parent / name for name in self.config.shared),
            *([package] if package.is_file() else []),
            *(Path(path).expanduser() for path in self.config.readable),
        )

    def environment(self, operator: Mapping[str, str]) -> dict[str, str]:
        """The declared variables that the operator has set."""
        return {name: operator[name] for name in self.config.environment if name in operator}

    def endpoints(self, operator: Mapping[str, str]) -> tuple[Endpoint, ...]:
        """The declared services.

        Raises:
            ConfigError: a variable that should hold an address holds none.
        """
        found = (endpoint.resolve(operator) for endpoint in self.config.endpoints)
        return tuple(dict.fromkeys(endpoint for endpoint in found if endpoint is not None))

    def with_arguments(self, overrides: Sequence[str]) -> Agent:
        """The agent with ``key=value`` in place of its arguments' defaults; values are YAML.

        Raises:
            ConfigError: not of that form, or the agent declares no such argument.
        """
        arguments = dict(self.config.arguments)
        for override in overrides:
            key, equals, text = override.partition("=")
            if not equals or not key:
                raise ConfigError(f"{override!r} should be key=value, an argument of agent {self.id}")
            if key not in arguments:
                near = difflib.get_close_matches(key, arguments, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(arguments) or 'none'}"
                raise ConfigError(f"agent {self.id} has no argument {key!r}; {hint}")
            try:
                arguments[key] = parse_value(text)
            except yaml.YAMLError as error:
                raise ConfigError(f"{override!r}: the value is not YAML; put it in quotes") from error
        return replace(self, config=self.config.model_copy(update={"arguments": arguments}))


class AgentRegistry(Registry[Agent]):
    """The bundled agents and those of further folders, each a folder of agent folders.

    Raises:
        ConfigError: a folder does not exist, a folder's name is no id, or two agents have the same id.
    """

    def __init__(self, extra_folders: Sequence[Path] = ()) -> None:
        super().__init__(load_agent, UnknownAgent)
        for folder in extra_folders:
            if not folder.is_dir():
                raise ConfigError(f"agent folder {folder} does not exist")
        for folder in (BUNDLED_FOLDER, *extra_folders):
            for file in sorted(folder.glob(f"*/{CONFIG_FILE}")):
                self._add(file.parent.name, file.parent.resolve())


def load_agent(folder: Path) -> Agent:
    """Reads an agent's folder.

    Raises:
        ConfigError: one line for each problem, with file and line.
    """
    file = folder / CONFIG_FILE
    data, lines = read_mapping(file, "the agent's configuration", "a configuration", "description, command")
    origins = {path: f"{file}:{line}" for path, line in lines.items()}
    if "command" not in data:
        raise ConfigError(f"{file}: the agent has no start command; add a line like command: [python, agent.py]")
    try:
        config = AgentConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, origins, str(file), model=AgentConfig, root="")) from error
    agent = Agent(folder.name, folder.resolve(), config)
    _check_folders(agent, file, lines)
    return agent


def _check_folders(agent: Agent, file: Path, lines: Mapping[tuple[str | int, ...], int]) -> None:
    """Refuses a script or a shared folder that is not there, before a run begins."""
    for index, part in enumerate(agent.config.command):
        path = PurePosixPath(part)
        is_script = path.suffix == ".py" and not path.is_absolute() and not part.startswith("-")
        if is_script and index <= 1 and not (agent.folder / part).is_file():
            line = lines.get(("command", index), lines[("command",)])
            raise ConfigError(f"{file}:{line}: command starts {part}, which is not in {agent.folder}")
    for name in agent.config.shared:
        if not (agent.folder.parent / name).is_dir():
            raise ConfigError(f"{file}:{lines[('shared',)]}: there is no folder {agent.folder.parent / name}")
