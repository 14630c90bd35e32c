"""Log-probabilities of the sampled tokens under the current policy, with gradients.

Two implementations of one thing. Models that :class:`~astune.models.decoder.FastDecoder` supports run over
the packed stream, every shared prefix once; any other causal LM runs its own forward pass over the
rows, padded only to the longest of a bucket of similar lengths. Both compute logits only where a loss
reads them. The model runs in whatever mode it is in: without dropout, put it in ``eval()``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from astune.models.decoder import FastDecoder, unwrap
from astune.trainer.attention import TreeAttention
from astune.trainer.packing import PackedBatch

#: Logits held at once, in elements (float32: 4 bytes each); above it they are computed again in the backward pass.
LOGITS_KEPT = 1 << 24
#: Rows of one padded forward pass may differ in length by this factor.
BUCKET_RATIO = 1.25


def token_logps(model: nn.Module, batch: PackedBatch, temperature: float = 1.0, fast: bool | None = None) -> Tensor:
    """Log-prob of each token that a loss reads.

    Args:
        model: a transformers causal LM, possibly wrapped by peft.
        batch: a micro-batch on the model's device.
        temperature: what logits are divided by, as when sampling.
        fast: True or False insists on the packed or the general implementation; None takes what fits.

    Returns:
        ``[L]``, float32, in the order of ``batch.target_L``.

    Raises:
        ValueError: ``fast=True`` for a model outside the fast path.
    """
    return _forward(model, batch, temperature, fast, with_entropy=False)[0]


def token_logps_and_entropies(
    model: nn.Module, batch: PackedBatch, temperature: float = 1.0, fast: bool | None = None
) -> tuple[Tensor, Tensor]:
    """As :func:`token_logps`, and the entropy in nats of each distribution (``[L]``, no gradient)."""
    return _forward(model, batch, temperature, fast, with_entropy=True)


def _forward(
    model: nn.Module, batch: PackedBatch, temperature: float, fast: bool | None, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    if FastDecoder.supports(model) if fast is None else fast:
        return _packed_forward(model, batch, temperature, with_entropy)
    return _padded_forward(model, batch, temperature, with_entropy)


def _packed_forward(
    model: nn.Module, batch: PackedBatch, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """One pass over the unique tokens; see :class:`TreeAttention`."""
    decoder = FastDecoder(model)
    attend = TreeAttention(batch, decoder.scaling)
    hidden_ND = decoder.hidden(batch.input_ids_N[None], batch.position_ids_N[None], attend)[0]
    hidden_LD = hidden_ND.index_select(0, batch.hidden_L)
    return _chunked_logps(decoder.logits, hidden_LD, batch.target_L, temperature, with_entropy)


def _chunked_logps(
    head: Callable[[Tensor], Tensor], hidden_LD: Tensor, target_L: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Logits in pieces of bounded size. Where one piece is not enough, the backward pass computes them again."""
    vocabulary = head(hidden_LD[:0]).shape[-1]
    size = max(LOGITS_KEPT // vocabulary, 1)

    def piece(hidden_CD: Tensor, target_C: Tensor) -> tuple[Tensor, Tensor]:
        return _score(head(hidden_CD), target_C, temperature, with_entropy)

    if len(target_L) <= size:
        return piece(hidden_LD, target_L)
    pairs = zip(hidden_LD.split(size), target_L.split(size), strict=True)
    scores = [checkpoint(piece, hidden_CD, target_C, use_reentrant=False) for hidden_CD, target_C in pairs]
    return torch.cat([logp for logp, _ in scores]), torch.cat([entropy for _, entropy in scores])


def _padded_forward(
    model: nn.Module, batch: PackedBatch, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """The model's own forward pass on rows padded at the right, which a causal model never sees."""
    logps, entropies, order = [], [], []
    for rows in _buckets(batch):
        logits_CV, tokens_C = _bucket_logits(model, batch, rows)
        logp_C, entropy_C = _score(logits_CV, batch.target_L[tokens_C], temperature, with_entropy)
        logps.append(logp_C)
        entropies.append(entropy_C)
        order.append(tokens_C)
    back_L = torch.cat(order).argsort()
    return torch.cat(logps)[back_L], torch.cat(entropies)[back_L]


def _buckets(batch: PackedBatch) -> Iterator[list[int]]:
    """Rows in groups of similar length, longest first."""
    lengths = [_row_length(batch, row) for row in range(batch.n_rows)]
    bucket: list[int] = []
    for row in sorted(range(batch.n_rows), key=lambda row: -lengths[row]):
        if bucket and lengths[bucket[0]] > BUCKET_RATIO * lengths[row]:
            yield bucket
            bucket = []
        bucket.append(row)
    yield bucket


def _row_length(batch: PackedBatch, row: int) -> int:
    leaf = batch.segments[batch.leaves[row]]
    return leaf.position + leaf.length


def _bucket_logits(model: nn.Module, batch: PackedBatch, rows: list[int]) -> tuple[Tensor, Tensor]:
    """Logits ``[C, V]`` of a bucket's tokens, and where those stand in ``L``."""
    device = batch.input_ids_N.device
    ids_BT = torch.zeros(len(rows), _row_length(batch, rows[0]), dtype=torch.long, device=device)
    mask_BT = torch.zeros_like(ids_BT)
    place = torch.full((batch.n_rows,), -1, device=device)
    for number, row in enumerate(rows):
        ids = batch.input_ids_N[batch.row_stream(row)]
        ids_BT[number, : len(ids)] = ids
        mask_BT[number, : len(ids)] = 1
        place[row] = number
    tokens_C = (place[batch.row_L] >= 0).nonzero()[:, 0]
    # Logits at the union of the positions that the rows need, where the model can be told so.
    positions_K, column_C = batch.position_L[tokens_C].unique(return_inverse=True)
    arguments: dict[str, Any] = {"input_ids": ids_BT, "attention_mask": mask_BT, "use_cache": False}
    if "logits_to_keep" in inspect.signature(unwrap(model).forward).parameters:
        logits = model(**arguments, logits_to_keep=positions_K).logits
    else:
        logits = model(**arguments).logits[:, positions_K]
    return logits[place[batch.row_L[tokens_C]], column_C], tokens_C


def _score(logits_CV: Tensor, target_C: Tensor, temperature: float, with_entropy: bool) -> tuple[Tensor, Tensor]:
    """Log-probs of the targets and, without gradient, entropies (zeros where nobody asked)."""
    logits_CV = logits_CV.float() if temperature == 1.0 else logits_CV.float() / temperature
    logp_C: Tensor = _LogProb.apply(logits_CV, target_C)  # type: ignore[no-untyped-call]
    return logp_C, _entropy(logits_CV.detach()) if with_entropy else torch.zeros_like(logp_C, requires_grad=False)


def _entropy(logits_CV: Tensor) -> Tensor:
    expected_C: Tensor = torch.linalg.vecdot(logits_CV.softmax(-1), logits_CV)
    return logits_CV.logsumexp(-1) - expected_C


class _LogProb(torch.autograd.Function):
    """log softmax(logits)[target], reading and writing the logits as few times as possible."""

    @staticmethod
    def forward(ctx: Any, logits_CV: Tensor, target_C: Tensor) -> Tensor:
        normaliser_C = logits_CV.logsumexp(-1)
        ctx.save_for_backward(logits_CV, target_C, normaliser_C)
        return logits_CV.gather(-1, target_C[:, None])[:, 0] - normaliser_C

    @staticmethod
    def backward(ctx: Any, gradient_C: Tensor) -> tuple[Tensor, None]:
        logits_CV, target_C, normaliser_C = ctx.saved_tensors
        # d logp / d logits = onehot - softmax
        result_CV = (logits_CV - normaliser_C[:, None]).exp_().mul_(-gradient_C[:, None])
        result_CV.scatter_add_(1, target_C[:, None], gradient_C[:, None])
        return result_CV, None
