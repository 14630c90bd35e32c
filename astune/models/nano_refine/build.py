"""Builds the refining policy from nothing: ``python -m astune.models.nano_refine.build --out FOLDER``.

The same seed, workers, thread count and library versions on the same kind of processor give the same weights,
bit for bit. Not guaranteed: equal weights across processors, counts or versions of torch, whose kernels add
floats in another order; their measured rates agree within the noise of sampling.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2ForCausalLM, Qwen2Tokenizer

from astune.models.nano import build as nano
from astune.models.nano.build import Recipe, batches, build_model, optimisers_of, pad
from astune.models.nano.recipe import ChatText
from astune.models.nano_refine.recipe import conversations
from astune.models.nano_refine.tokenizer import train_tokenizer

#: As ``nano``, for more tokens.
RECIPE = Recipe(tokens=8_000_000)
#: A smaller model for a few steps, to test the script.
SMOKE = nano.SMOKE


def build_tokenizer(recipe: Recipe) -> Qwen2Tokenizer:
    """Trains the tokenizer on the recipe's conversations."""
    template_only = train_tokenizer([], 400)  # renders prompts before there is a vocabulary
    chats = conversations(ChatText(template_only), recipe.tokenizer_conversations, recipe.seed)
    return train_tokenizer(("".join(segment.text for segment in chat) for chat in chats), recipe.vocab_size)


def summed_loss(model: Qwen2ForCausalLM, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Summed cross-entropy of the masked targets. Right padding needs no attention mask under causality."""
    hidden_BTD = model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
    wanted = mask_BT[:, 1:]
    return F.cross_entropy(model.lm_head(hidden_BTD[wanted]), ids_BT[:, 1:][wanted], reduction="sum")


def add_gradients(model: nn.Module) -> None:
    """Adds the gradients of all workers, in one message."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


def train(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, rank: int = 0, workers: int = 1
) -> None:
    """Trains for ``recipe.tokens`` tokens: linear warm-up, then a cosine to zero.

    With several ``workers``, each takes its share of every batch: two processes of one thread finish sooner
    than one process of two.
    """
    optimisers = optimisers_of(model, recipe)
    peaks = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    seen, losses, started = 0, [], time.monotonic()
    model.train()
    for step, samples in enumerate(batches(tokenizer, recipe, conversations)):
        done = seen / recipe.tokens
        if done >= 1:
            break
        scale = min(1.0, (done + 1e-4) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * done))
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            optimiser.param_groups[0]["lr"] = peak * scale
        targets = sum(sum(sample.loss_mask[1:]) for sample in samples)
        loss = summed_loss(model, *pad(samples[rank::workers], tokenizer.pad_token_id)) / targets
        loss.backward()
        if workers > 1:
            add_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        seen += sum(len(sample.ids) for sample in samples)
        losses.append(loss.item() * workers)
        if step % 50 == 0 and rank == 0:
            rate = seen / (time.monotonic() - started)
            print(f"step {step} tokens {seen} loss {sum(losses) / len(losses):.4f} {rate:.0f} tokens/s", flush=True)
            losses.clear()
    model.eval()


def _work(rank: int, workers: int, threads: int, recipe: Recipe, folder: Path, meeting: str) -> None:
    """One worker: builds and trains its copy of the model; the first one saves it."""
    torch.set_num_threads(threads)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = build_model(recipe, tokenizer)
    if rank == 0:
        print(f"{len(tokenizer)} tokens in the vocabulary, {model.num_parameters():,} parameters", flush=True)
    train(model, tokenizer, recipe, rank, workers)
    if rank == 0:
        model.save_pretrained(folder)
    dist.destroy_process_group()


def main() -> None:
    """Builds tokenizer and weights and writes them to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, tokenizer and configuration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=None, help="training tokens (default: the recipe's)")
    parser.add_argument("--workers", type=int, default=2, help="processes; part of what makes a build repeatable")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of a worker; the same holds for them")
    parser.add_argument("--smoke", action="store_true", help="a few steps of a smaller model, to test the script")
    arguments = parser.parse_args()
    recipe = replace(SMOKE if arguments.smoke else RECIPE, seed=arguments.seed)
    recipe = replace(recipe, tokens=arguments.tokens or recipe.tokens)
    build_tokenizer(recipe).save_pretrained(arguments.out)
    with TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
            given = (arguments.workers, arguments.threads, recipe, arguments.out, meeting)
            working = [pool.submit(_work, rank, *given) for rank in range(arguments.workers)]
            for work in working:
                work.result()


if __name__ == "__main__":
    main()
