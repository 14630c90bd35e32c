"""Causal attention over a prefix tree: each segment sees its ancestors and, causally, itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from astune.trainer.packing import PackedBatch, Segment


class TreeAttention:
    """``attend`` of :class:`~astune.models.decoder.FastDecoder` for the stream of one :class:`PackedBatch`.

    One call of torch's attention for each segment, on keys and values of its path: exact, without padding, without
    a mask of N x N, and its cost is that of the tokens that exist. No dropout.
    """

    def __init__(self, batch: PackedBatch, scaling: float) -> None:
        """``scaling`` multiplies the scores."""
        self._segments = batch.segments
        self._lengths = [segment.length for segment in batch.segments]
        self._parents = {segment.parent for segment in batch.segments if segment.parent is not None}
        self._scaling = scaling
        self._masks: dict[tuple[int, int], Tensor] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attends.

        Args:
            layer: not read.
            q: ``[1, N, heads, head_dim]``.
            k, v: ``[1, N, kv_heads, head_dim]``.

        Returns:
            ``[1, N, heads, head_dim]``.
        """
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        # One split node instead of one slice a segment: the backward pass writes each gradient once.
        queries, keys, values = (x.split(self._lengths, dim=2) for x in (q, k, v))
        paths: dict[int, tuple[Tensor, Tensor]] = {}
        outputs = []
        for number, segment in enumerate(self._segments):
            key, value = keys[number], values[number]
            if segment.parent is not None:
                parent_key, parent_value = paths[segment.parent]
                key, value = torch.cat((parent_key, key), dim=2), torch.cat((parent_value, value), dim=2)
            if number in self._parents:
                paths[number] = key, value
            outputs.append(self._attend(segment, queries[number], key, value))
        return torch.cat(outputs, dim=2).transpose(1, 2)

    def _attend(self, segment: Segment, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.device.type != "cpu" and q.shape[1] != k.shape[1]:
            # With a mask and grouped heads CUDA would fall back to the unfused kernel.
            repeats = q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
        grouped = q.shape[1] != k.shape[1]
        if segment.parent is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self._scaling, enable_gqa=grouped)
        mask = self._mask(segment, q)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self._scaling, enable_gqa=grouped)

    def _mask(self, segment: Segment, q: Tensor) -> Tensor:
        """Additive mask ``[T, position + T]``, kept for the other layers and for segments of the same shape."""
        shape = segment.length, segment.position
        if shape not in self._masks:
            length, before = shape
            hidden = torch.ones(length, before + length, dtype=torch.bool, device=q.device).triu(before + 1)
            self._masks[shape] = torch.zeros_like(hidden, dtype=q.dtype).masked_fill_(hidden, float("-inf"))
        return self._masks[shape]
