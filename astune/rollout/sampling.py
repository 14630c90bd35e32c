"""Vectorised sampling with one counter-based random stream a request.

The draw for token ``i`` of a request is a hash of ``(seed, i)`` and of nothing else: no generator has a
state that other rows could advance, and a request draws the same numbers whatever batch it runs in.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea, Flood 2014): a bijection that scatters all 64 bits."""
    z = (state ^ (state >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def stream_key(seed: int) -> np.uint64:
    """The key of a seed's stream. Hashed once, so that neighbouring seeds do not share shifted streams."""
    return np.uint64(_splitmix64(np.array([seed % 2**64], dtype=np.uint64) + _GOLDEN)[0])


def uniforms(keys_R: NDArray[np.uint64], counters_R: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number in [0, 1) a row, with 53 random bits, from the stream's key and the token's index."""
    bits = _splitmix64(keys_R + (counters_R.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sample(
    logits_RV: Tensor,
    temperature_R: NDArray[np.float32],
    top_p_R: NDArray[np.float32],
    uniforms_R: NDArray[np.float64],
) -> tuple[Tensor, Tensor]:
    """Draws one token a row.

    Args:
        logits_RV: next-token logits, any float dtype; computed with in float32.
        temperature_R: 0 takes the most likely token.
        top_p_R: nucleus sampling (arXiv:1904.09751): the smallest set of tokens that holds this mass.
        uniforms_R: one number in [0, 1) a row.

    Returns:
        Token ids (int64) and log-probabilities (float32) ``[R]`` on the logits' device: those of the
        distribution that was sampled from, after temperature and truncation. A greedy row gets its
        token's log-probability at temperature 1 (under its own distribution it would always be 0).
    """
    scaled = logits_RV.float()
    greedy = temperature_R == 0
    if (temperature_R != 1).any():
        scaled = scaled / _column(np.where(greedy, np.float32(1), temperature_R), scaled)
    probs = torch.softmax(scaled, dim=-1)
    if greedy.all():
        tokens = scaled.argmax(-1)
        return tokens, _picked(probs, tokens).log()
    truncated = np.flatnonzero((top_p_R < 1) & ~greedy)
    if truncated.size:
        rows = torch.from_numpy(truncated).to(probs.device)
        probs[rows] = nucleus(probs[rows], _column(top_p_R[truncated], probs))
    tokens = inverse_cdf(probs, torch.from_numpy(uniforms_R).to(probs.device))
    if greedy.any():
        tokens = torch.where(torch.from_numpy(greedy).to(tokens.device), scaled.argmax(-1), tokens)
    return tokens, _picked(probs, tokens).log()


def nucleus(probs_RV: Tensor, top_p_R1: Tensor) -> Tensor:
    """Zeroes what lies outside each row's nucleus and renormalises; the most likely token always stays."""
    ordered, order = probs_RV.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.where(before < top_p_R1, ordered, 0.0)
    kept[:, 0] = ordered[:, 0]
    return torch.zeros_like(probs_RV).scatter_(-1, order, kept / kept.sum(-1, keepdim=True))


def inverse_cdf(probs_RV: Tensor, uniforms_R: Tensor) -> Tensor:
    """The first token at which the running sum passes ``u``; never one of probability 0."""
    cdf = probs_RV.cumsum(-1)
    total = cdf[:, -1:]
    target = (uniforms_R[:, None] * total).to(cdf.dtype)
    # Rounding may lift u * total onto total itself, past the last token that has any probability.
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    # The clamp only matters for probabilities that are NaN: the caller sees a NaN log-probability.
    return torch.searchsorted(cdf, target, right=True).squeeze(-1).clamp_(max=cdf.shape[-1] - 1)


def _picked(probs_RV: Tensor, tokens_R: Tensor) -> Tensor:
    return probs_RV.gather(-1, tokens_R[:, None]).squeeze(-1)


def _column(values_R: NDArray[np.float32], like: Tensor) -> Tensor:
    return torch.from_numpy(values_R).to(like.device)[:, None]
