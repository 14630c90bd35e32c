"""Builds the bundled policy from nothing: ``python -m astune.models.nano.build --out FOLDER``.

The same seed, thread count and library versions on the same kind of processor give the same weights, bit
for bit. Not guaranteed: equal weights across processors, thread counts or versions of torch, whose kernels
add floats in another order; their measured rates agree within the noise of sampling.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from astune.models.nano.recipe import ChatText, Sample, Segment, conversations, tokenise
from astune.models.nano.tokenizer import MAX_CONTEXT, train_tokenizer

#: Draws conversations: the chat's text, how many, a seed.
Source = Callable[[ChatText, int, int], Iterable[list[Segment]]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Sizes and schedule of the build. ``tokens`` counts every token that passes through the model."""

    seed: int = 0
    layers: int = 4
    hidden: int = 192
    heads: int = 6
    kv_heads: int = 2
    intermediate: int = 512
    vocab_size: int = 1536
    tokenizer_conversations: int = 6000
    tokens: int = 5_000_000
    batch: int = 32
    chunk: int = 2048
    matrix_lr: float = 0.02
    other_lr: float = 3e-3
    warmup: float = 0.02


#: A smaller model for a few steps, to test the script.
SMOKE = Recipe(
    layers=1,
    hidden=64,
    heads=2,
    kv_heads=1,
    intermediate=96,
    tokenizer_conversations=300,
    tokens=20_000,
    batch=8,
    chunk=64,
)


def build_tokenizer(recipe: Recipe) -> Qwen2Tokenizer:
    """Trains the tokenizer on the recipe's conversations."""
    template_only = train_tokenizer([], 400)  # renders prompts before there is a vocabulary
    chats = conversations(ChatText(template_only), recipe.tokenizer_conversations, recipe.seed)
    return train_tokenizer(("".join(segment.text for segment in chat) for chat in chats), recipe.vocab_size)


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Qwen2ForCausalLM:
    """The untrained model."""
    torch.manual_seed(recipe.seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=MAX_CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
    )
    return model


def batches(
    tokenizer: PreTrainedTokenizerBase, recipe: Recipe, source: Source = conversations
) -> Iterator[list[Sample]]:
    """Batches of fresh conversations without end, each of samples of similar length."""
    chat = ChatText(tokenizer)
    for chunk in count(1):
        samples = tokenise(tokenizer, source(chat, recipe.chunk, recipe.seed * 1_000_003 + chunk))
        samples.sort(key=lambda sample: len(sample.ids))
        groups = [samples[i : i + recipe.batch] for i in range(0, len(samples), recipe.batch)]
        Random(f"batches:{recipe.seed}:{chunk}").shuffle(groups)
        yield from groups


def pad(samples: list[Sample], pad_id: int) -> tuple[Tensor, Tensor]:
    """Right-padded ``ids_BT`` and ``mask_BT`` (bool, True where the loss reads a target)."""
    length = max(len(sample.ids) for sample in samples)
    ids = torch.full((len(samples), length), pad_id)
    mask = torch.zeros((len(samples), length), dtype=torch.bool)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        mask[row, : len(sample.ids)] = torch.tensor(sample.loss_mask, dtype=torch.bool)
    return ids, mask


def sampled_loss(model: Qwen2ForCausalLM, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean cross-entropy of the masked targets. Right padding needs no attention mask under causality."""
    hidden_BTD = model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
    wanted = mask_BT[:, 1:]
    return F.cross_entropy(model.lm_head(hidden_BTD[wanted]), ids_BT[:, 1:][wanted])


def optimisers_of(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, norms and biases."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named if not (p.ndim == 2 and "embed" not in name)]
    muon = torch.optim.Muon(matrices, lr=recipe.matrix_lr, momentum=0.95, weight_decay=0.01)
    adam = torch.optim.AdamW(others, lr=recipe.other_lr, betas=(0.9, 0.95), weight_decay=0.0)
    return [muon, adam]


def train(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, recipe: Recipe) -> None:
    """Trains for ``recipe.tokens`` tokens: linear warm-up, then a cosine to zero."""
    optimisers = optimisers_of(model, recipe)
    peaks = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    seen, losses, started = 0, [], time.monotonic()
    model.train()
    for step, samples in enumerate(batches(tokenizer, recipe)):
        done = seen / recipe.tokens
        if done >= 1:
            break
        scale = min(1.0, (done + 1e-4) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * done))
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            optimiser.param_groups[0]["lr"] = peak * scale
        loss = sampled_loss(model, *pad(samples, tokenizer.pad_token_id))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        seen += sum(len(sample.ids) for sample in samples)
        losses.append(loss.item())
        if step % 50 == 0:
            rate = seen / (time.monotonic() - started)
            print(f"step {step} tokens {seen} loss {sum(losses) / len(losses):.4f} {rate:.0f} tokens/s", flush=True)
            losses.clear()
    model.eval()


def save(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Writes weights, tokenizer, chat template and configuration."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Builds tokenizer and weights and writes them to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, tokenizer and configuration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=None, help="training tokens (default: the recipe's)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads; part of what makes a build repeatable")
    parser.add_argument("--smoke", action="store_true", help="a few steps of a smaller model, to test the script")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    fields = {"seed": arguments.seed} | ({"tokens": arguments.tokens} if arguments.tokens else {})
    base = SMOKE if arguments.smoke else Recipe()
    recipe = Recipe(**({name: getattr(base, name) for name in Recipe.__slots__} | fields))
    tokenizer = build_tokenizer(recipe)
    model = build_model(recipe, tokenizer)
    print(f"{len(tokenizer)} tokens in the vocabulary, {model.num_parameters():,} parameters", flush=True)
    train(model, tokenizer, recipe)
    save(model, tokenizer, arguments.out)


if __name__ == "__main__":
    main()
