"""Submits the base model as it is."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agents.common.script import run_agent
from agents.common.task import Task
from agents.common.training.publish import publish_model


def main() -> None:
    """Copies the base model to ``output/model``."""
    task = Task.from_environment()
    publish_model(task.base_model, task.output_model)


if __name__ == "__main__":
    run_agent(main)
