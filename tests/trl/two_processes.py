"""A training on two processes of which the first has nothing wrong. Started by torchrun; writes what each rank saw."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from datasets import Dataset

from astune.trl import GRPOTrainer
from tests.trl.conftest import config, nano, text_rows


def wrong_on_the_second(completions: list[Any], **_: Any) -> list[float]:
    """The first process is always right; on the second, a refined attempt is right where its length is even."""
    rank = dist.get_rank()
    return [1.0 if rank == 0 else 0.5 - 0.5 * (len(completion[-1]["content"]) % 2) for completion in completions]


def main(folder: Path, model_is_shared: bool) -> None:
    args = config(folder, per_device_train_batch_size=2, num_generations=8, max_completion_length=8)
    trainer = GRPOTrainer(
        **nano(),
        reward_funcs=wrong_on_the_second,
        args=args,
        train_dataset=Dataset.from_list(text_rows()),
        eval_dataset=Dataset.from_list(text_rows(1)),
        enable_self_refine=True,
        max_refine_rounds=2,
        correctness_threshold=0.6,
    )
    # As with a model that is spread over the processes: then they sample in lockstep, too.
    trainer.refine_stage.peers.model_is_shared |= model_is_shared
    seen = watch(trainer)
    trainer.train()
    trainer.evaluate()
    weights = torch.cat([value.flatten() for value in trainer.model.state_dict().values()])
    report = {
        "world": dist.get_world_size(),
        "weights": [weights.double().sum().item(), weights.double().norm().item()],
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
        "refined": len(trainer.refine_agent.histories),
        **seen,
    }
    (folder / f"rank{dist.get_rank()}.json").write_text(json.dumps(report))


def watch(trainer: Any) -> dict[str, list[Any]]:
    """Notes how many rows each generation had, and what each batch ended with."""
    seen: dict[str, list[Any]] = {"generated": [], "advantages": [], "rewards": [], "items": []}
    generate, scored = trainer._generate_single_turn, trainer._generate_and_score_completions

    def generation(prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        seen["generated"].append(len(prompt_ids))
        return generate(prompt_ids, *args, **kwargs)

    def batch(inputs: Any) -> Any:
        result = scored(inputs)
        histories = {history.row: history for history in trainer.refine_agent.histories}
        first = [attempt.grade.reward for attempt in trainer.refine_stage.first]
        seen["rewards"].append(
            [
                [one.grade.reward for one in histories[row].attempts] if row in histories else [reward]
                for row, reward in enumerate(first)
            ]
        )
        seen["advantages"].append(result["advantages"].tolist())
        seen["items"].append([int(result["completion_mask"].sum()), int(result["num_items_in_batch"])])
        return result

    trainer._generate_single_turn, trainer._generate_and_score_completions = generation, batch
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "shared")
