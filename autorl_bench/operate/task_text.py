"""The README that an agent finds in its workspace: what it is asked to do, with what, and how it is judged."""

from __future__ import annotations

import json

from autorl_bench.scenarios import Scenario, details
from autorl_bench.store import Track
from autorl_bench.store.records import Run

_TEXT = """\
# {title}

Make the base model better at this task by training it, on your own, before the budget is spent.

- Base model: the folder in `AUTORL_BASE_MODEL`. Training data: the JSONL file in `AUTORL_TRAIN_DATA`
  (fields `id`, `question`, `answer`).
- {deliver}
- What counts is the {metric} on hidden problems of the same kind, decoded greedily, once, at the end.
  The base model scores about {baseline:.1f} %.
- Budget: {wall:g} seconds of wall clock from your start ({cpu:g} processor seconds, {memory:g} GiB of memory,
  {disk:g} GiB of disk), {queries} questions for a score on the development split.

## Questions

Ask for the score of a model folder in your workspace (safetensors and config.json, real files, no links):

    curl -s -X POST "$AUTORL_SERVER/evaluate" -H "Authorization: Bearer $AUTORL_TOKEN" \\
         -H "Content-Type: application/json" -d '{{"model_path": "output/model"}}'

or in Python:

    from autorl_bench.client import BenchClient
    client = BenchClient.from_environment()
    answer = client.evaluate("output/model")     # answer.score, answer.low, answer.high, answer.baseline
    client.status()                              # seconds, questions and submissions left
    client.propose("a smaller step helps", "the reward fell after step 20")   # your notebook, shown on the run's page

All of the interface: `GET $AUTORL_SERVER/openapi.json`.

## Rules

Your processes see this folder, the base model, the training data and a Python with its packages, and no network but the
server (and services that your configuration declares). What outlives the budget is ended. The tokenizer, the chat
template and the generation settings are the base model's whatever you submit. Weights that are another model's, hidden
problems in your files, and a score on the test that its twin does not bear out are found and ranked apart.

## The task in full

```json
{details}
```
"""

_WEIGHTS = """Leave the trained model in `output/model/`. Save it early and often: what lies there when you end, or when
  the budget is spent, is evaluated, unless you have declared a submission final."""
_REPLAY = """Leave the training code in `code/train.py`; `code/` holds plain files, 1 MiB at most. After your end it
  runs once more, in a fresh place without network, from the base model, with this budget and a fixed seed: it gets
  `AUTORL_BASE_MODEL`, `AUTORL_TRAIN_DATA`, `AUTORL_SEED`, `AUTORL_SECONDS_LEFT`, and writes its model to
  `AUTORL_OUTPUT`. That model is evaluated."""


def task_text(run: Run, scenario: Scenario) -> str:
    """The README of a run's workspace (Markdown)."""
    budget = scenario.budget
    return _TEXT.format(
        title=scenario.title,
        deliver=_REPLAY if run.track == Track.REPLAY else _WEIGHTS,
        metric=scenario.metric,
        baseline=scenario.baseline_score,
        wall=budget.wall_seconds,
        cpu=budget.cpu_seconds,
        memory=budget.memory_gib,
        disk=budget.disk_gib,
        queries=budget.dev_queries,
        details=json.dumps(details(scenario), indent=2),
    )
