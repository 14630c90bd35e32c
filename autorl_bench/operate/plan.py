"""What a campaign runs: agents, seeds, scenario, budget; from a file, from the command line, or both."""

from __future__ import annotations

import argparse
import json
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator

from astune.config.explain import explain
from astune.config.section import Section
from astune.config.yaml_lines import KeyPath, read_mapping
from astune.errors import ConfigError, UserError
from autorl_bench.durations import LONGEST, seconds_of


class Plan(Section):
    """Every key that a campaign's file may hold."""

    agents: list[str] = Field(min_length=1, description="Ids of agents; each runs with every seed.")
    scenario: str = Field("nano_gsm", description="Id of the scenario.")
    budget: float | None = Field(None, gt=0, le=LONGEST, description="Wall time of a run: 90, 90s, 10m, 12h.")
    seeds: int = Field(1, ge=1, description="Runs an agent, seeds first_seed to first_seed + seeds - 1.")
    first_seed: int = Field(0, ge=0, description="The first seed.")
    track: Literal["weights", "replay"] = Field("weights", description="What is evaluated.")
    runner: str = Field("local", description="Where agents run: local, docker, ray.")
    arguments: dict[str, dict[str, Any]] = Field({}, description="Arguments of each agent, by its id.")

    @field_validator("budget", mode="before")
    @classmethod
    def _time(cls, value: Any) -> Any:
        return seconds_of(value) if isinstance(value, str) else value

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """From ``--conf FILE`` and the other options, which override it.

        Raises:
            ConfigError: the file cannot be used; names file and line.
            UserError: no agent is named.
        """
        data: dict[str, Any] = {}
        lines: dict[KeyPath, int] = {}
        if options.conf is not None:
            data, lines = read_mapping(options.conf, "the campaign", "a campaign", "agents, scenario, budget")
        names = ("scenario", "budget", "seeds", "first_seed", "track", "runner")
        given: dict[str, Any] = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        if options.agent:
            given["agents"] = list(dict.fromkeys(options.agent))
        if not given.get("agents") and "agents" not in data:
            raise UserError(
                "name an agent with --agent, or a campaign's file with --conf; `autorl-bench agents` lists them"
            )
        origins = {path: f"{options.conf}:{line}" for path, line in lines.items() if path[0] not in given}
        try:
            return cls.model_validate({**data, **given})
        except ValidationError as error:
            where = str(options.conf) if options.conf is not None else "command line"
            raise ConfigError(explain(error, origins, where, model=cls, root="")) from error

    def overrides(self, agent: str, common: list[str]) -> list[str]:
        """An agent's arguments as ``key=value``: the file's, then those of the command line."""
        return [*(f"{key}={_yaml(value)}" for key, value in self.arguments.get(agent, {}).items()), *common]


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
