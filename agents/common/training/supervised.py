"""A stage of supervised training on the worked solutions of the training data, for a base model that knows nothing yet.

Some records are set apart; the score of a stage is how likely the model finds a token of their solutions
(the geometric mean, so 1 is certainty). It rises with what the benchmark measures and costs no question to it.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .settings import Settings
    from .stages import Stage, StageOutcome

#: Records that are set apart for the score.
_HELD_OUT = 128
_SCORED_EVERY = 50
_CLOSING_SECONDS = 1.0
_WARM_UP_STEPS = 10


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of prompt and solution; the loss reads the ids from ``prompt_length`` on."""

    ids: tuple[int, ...]
    prompt_length: int


def train_supervised(stage: Stage, model: Path, folder: Path, settings: Settings) -> StageOutcome:
    """Trains ``stage["steps"]`` steps, or as many as the time allows.

    Settings: ``learning_rate``; ``optimizer`` (``adamw``, or ``muon`` for the layers' matrices); ``batch``;
    ``decay`` (share of the training, at the end, over which the learning rate falls to 0; where the time is short, it
    falls with the time); ``start`` (steps of earlier stages, so that this one reads the data in another order);
    ``system`` and ``user`` (the scenario's prompt).
    """
    import torch

    from astune.models.load import load_policy

    from .stages import StageOutcome

    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    policy, tokenizer = load_policy(model)
    examples = read_examples(settings.train_data, tokenizer, stage)
    held_out, examples = examples[:_HELD_OUT], examples[_HELD_OUT:]
    optimizers = _optimizers(policy, stage)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    history: list[float] = []
    order = f"{settings.seed}:{stage.get('start', 0)}"
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    started, steps = time.monotonic(), 0
    policy.train()
    for batch in itertools.islice(batches(examples, stage.get("batch", 32), order), stage["steps"]):
        if stopped.is_set() or settings.seconds_left < _CLOSING_SECONDS:
            break
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * _scale(steps, _progress(steps, started, stage, settings), stage)
        loss = _loss(policy, batch, tokenizer)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        steps += 1
        if steps % _SCORED_EVERY == 0:
            history.append(_score(policy, held_out, tokenizer))
            print(f"step {steps} loss {loss.item():.4f} score {history[-1]:.4f}", flush=True)
    seconds = (time.monotonic() - started) / max(steps, 1)
    score = _score(policy, held_out, tokenizer)
    policy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return StageOutcome(dict(stage) | {"steps": steps}, folder, [*history, score], score, seconds)


def read_examples(path: Path, tokenizer: PreTrainedTokenizerBase, stage: Stage) -> list[Example]:
    """All records of the training data, each as a conversation in the model's own chat format."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [_example(record, tokenizer, stage) for record in records]


def _example(record: dict[str, Any], tokenizer: PreTrainedTokenizerBase, stage: Stage) -> Example:
    system = [{"role": "system", "content": stage["system"]}] if stage.get("system") else []
    question = str(stage.get("user", "{question}")).replace("{question}", record["question"])
    messages = [*system, {"role": "user", "content": question}]
    opening = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    prompt = tokenizer(opening, add_special_tokens=False)["input_ids"]
    solution = tokenizer(record["answer"], add_special_tokens=False)["input_ids"]
    return Example((*prompt, *solution, tokenizer.eos_token_id), len(prompt))


def batches(examples: Sequence[Example], size: int, order: str) -> Iterator[list[Example]]:
    """Batches without end; each pass is in an order of its own, which ``order`` names."""
    for epoch in itertools.count():
        shuffled = list(examples)
        random.Random(f"{order}:{epoch}").shuffle(shuffled)
        for start in range(0, max(1, len(shuffled) - size + 1), size):
            yield shuffled[start : start + size]


def _optimizers(policy: PreTrainedModel, stage: Stage) -> list[torch.optim.Optimizer]:
    import torch

    rate = float(stage["learning_rate"])
    named = [(name, weight) for name, weight in policy.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in named if weight.ndim == 2 and "embed" not in name and "lm_head" not in name]
    if stage.get("optimizer", "adamw") == "adamw":
        return [torch.optim.AdamW([weight for _, weight in named], lr=rate, betas=(0.9, 0.95), weight_decay=0.01)]
    ours = {id(weight) for weight in matrices}
    others = [weight for _, weight in named if id(weight) not in ours]
    muon = torch.optim.Muon(matrices, lr=rate, momentum=0.95, weight_decay=0.01)
    return [muon, torch.optim.AdamW(others, lr=0.15 * rate, betas=(0.9, 0.95), weight_decay=0.0)]


def _progress(step: int, started: float, stage: Stage, settings: Settings) -> float:
    """Share of the training that is over, by its steps or by its time, whichever is further."""
    elapsed = time.monotonic() - started
    return float(max(step / stage["steps"], elapsed / max(1e-9, elapsed + settings.seconds_left - _CLOSING_SECONDS)))


def _scale(step: int, progress: float, stage: Stage) -> float:
    """Linear warm-up, constant, and a linear fall over the last ``decay`` of the training."""
    decay = stage.get("decay", 0.0)
    falling = (1.0 - progress) / decay if decay else 1.0
    return float(max(0.0, min(1.0, (step + 1) / _WARM_UP_STEPS, falling)))


def _padded(batch: Sequence[Example], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ``ids_BT`` and ``wanted_BT`` (True at the ids that the loss reads)."""
    import torch

    length = max(len(example.ids) for example in batch)
    ids_BT = torch.full((len(batch), length), pad_id)
    wanted_BT = torch.zeros((len(batch), length), dtype=torch.bool)
    for row, example in enumerate(batch):
        ids_BT[row, : len(example.ids)] = torch.tensor(example.ids)
        wanted_BT[row, example.prompt_length : len(example.ids)] = True
    return ids_BT, wanted_BT


def _loss(policy: PreTrainedModel, batch: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Mean cross-entropy of the solutions' tokens. Right padding needs no attention mask under causality."""
    import torch

    ids_BT, wanted_BT = _padded(batch, tokenizer.pad_token_id or 0)
    hidden_BTD = policy.get_decoder()(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
    wanted = wanted_BT[:, 1:]
    head: Any = policy.get_output_embeddings()
    return torch.nn.functional.cross_entropy(head(hidden_BTD[wanted]), ids_BT[:, 1:][wanted])


def _score(policy: PreTrainedModel, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> float:
    import torch

    policy.eval()
    with torch.no_grad():
        loss = _loss(policy, examples, tokenizer).item()
    policy.train()
    return math.exp(-loss) if math.isfinite(loss) else 0.0
