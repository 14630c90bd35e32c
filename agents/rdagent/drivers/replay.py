"""The driver of recorded answers: what a language model said once is said again, in the same order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from agents.common import jsonl
from agents.common.task import Deadline, Task
from agents.rdagent.drivers.llm import ANSWERS, LanguageModelDriver, record_of
from astune.errors import ConfigError
from astune.refine.loop_state import Usage
from astune.refine.prompts import Message
from astune.refine.transport import Reply

_AGENT = Path(__file__).resolve().parents[1]


class RecordedModel:
    """Answers with the texts of a record; one that was started again goes on after those that it has given."""

    def __init__(self, texts: Sequence[str], given: int) -> None:
        self._texts = texts
        self._given = given

    def reply(self, messages: Sequence[Message], draw: int, deadline: Deadline) -> Reply:
        """The next text.

        Raises:
            ConfigError: there is none left.
        """
        if self._given >= len(self._texts):
            raise ConfigError(f"all {len(self._texts)} recorded answers were given")
        self._given += 1
        return Reply(self._texts[self._given - 1], Usage())


def replay_driver(task: Task, report_tokens: Callable[[int], None]) -> LanguageModelDriver:
    """A driver on the record that ``arguments.record`` names, in the agent's folder or by an absolute path.

    Raises:
        ConfigError: there is no such record.
    """
    name = task.arguments.get("record")
    if not name:
        raise ConfigError("the replay driver needs a record: --set record=recorded/nano_gsm.jsonl")
    texts = record_of(_AGENT / str(name))
    given = len(jsonl.read(task.workspace / ANSWERS))
    return LanguageModelDriver(RecordedModel(texts, given), task, report_tokens)
