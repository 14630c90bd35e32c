"""Where keys and values live, and attention over them.

A row's context is a chain of three parts: a *root* shared by all rows (the system and tools preamble), a
*stem* shared by the rows of one prompt, and its own *private* tokens. The shared parts are held once.
Scores against a shared part are one matrix product for all rows that share it, so its keys and values are
read from memory once a step and not once a row (the idea of Hydragen, arXiv:2402.05099); one softmax then
runs over the parts together.

Shape letters: L layers, S slots, R rows, M rows of a slot, T new tokens a row, K key/value heads,
G query heads a key/value head, N keys, E head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a cache of one model is made of."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    def zeros(self, slots: int, length: int) -> Tensor:
        """``[L, S, K, N, E]``. Zeros and not garbage: a masked score times a NaN would still be NaN."""
        size = (self.layers, slots, self.kv_heads, length, self.head_dim)
        return torch.zeros(size, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, slots=True)
class KV:
    """Keys and values of a run of tokens: ``[L, K, N, E]`` each."""

    k: Tensor
    v: Tensor

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.k.shape[2]

    def followed_by(self, rest: KV) -> KV:
        """A copy of this and what comes after it, as one."""
        return KV(torch.cat((self.k, rest.k), dim=2), torch.cat((self.v, rest.v), dim=2))


class RowCache:
    """Growing storage with one slot a row: ``k`` and ``v`` are ``[L, S, K, N, E]``."""

    def __init__(self, shape: CacheShape) -> None:
        self._shape = shape
        self.k = shape.zeros(0, 0)
        self.v = shape.zeros(0, 0)

    def reserve(self, slots: int, length: int) -> None:
        """Makes room for ``slots`` rows of ``length`` tokens, keeping what is there; grows by doubling."""
        have_slots, have_length = self.k.shape[1], self.k.shape[3]
        if slots <= have_slots and length <= have_length:
            return
        slots = have_slots if slots <= have_slots else max(slots, 2 * have_slots)
        length = have_length if length <= have_length else max(length, 2 * have_length, 64)
        self.k, self.v = self._grown(self.k, slots, length), self._grown(self.v, slots, length)

    def _grown(self, old: Tensor, slots: int, length: int) -> Tensor:
        new = self._shape.zeros(slots, length)
        new[:, : old.shape[1], :, : old.shape[3]] = old
        return new

    def load(self, slot: int, kv: KV, length: int) -> None:
        """Copies the first ``length`` tokens of ``kv`` into a slot."""
        self.k[:, slot, :, :length] = kv.k[:, :, :length]
        self.v[:, slot, :, :length] = kv.v[:, :, :length]

    def save(self, slot: int, length: int) -> KV:
        """A copy of a slot's first ``length`` tokens."""
        return KV(self.k[:, slot, :, :length].clone(), self.v[:, slot, :, :length].clone())

    def move(self, source: Sequence[int], target: Sequence[int], length: int) -> None:
        """Copies the first ``length`` tokens of slots ``source`` over slots ``target``."""
        self.k[:, list(target), :, :length] = self.k[:, list(source), :, :length]
        self.v[:, list(target), :, :length] = self.v[:, list(source), :, :length]


class SharedLevel:
    """One shared part (roots, or stems) of all running rows, padded into one tensor a layer.

    Rows take turns in slots: slot s serves the rows that share part s, padded to the largest group.
    """

    def __init__(self, parts: Sequence[KV], slot_of_row: Sequence[int], shape: CacheShape) -> None:
        """``parts`` are the distinct shared parts; ``slot_of_row[r]`` is the part that row r uses."""
        self.length = max(part.length for part in parts)
        self.slots = len(parts)
        self._pack(parts, shape)
        self.assign(slot_of_row)

    def assign(self, slot_of_row: Sequence[int]) -> None:
        """Says anew which row uses which part."""
        self._take: Tensor | None = None
        self._back: Tensor | None = None
        self.group = len(slot_of_row)
        if self.slots > 1:
            members: list[list[int]] = [[] for _ in range(self.slots)]
            for row, slot in enumerate(slot_of_row):
                members[slot].append(row)
            self.group = max(len(rows) for rows in members)
            take = [rows + [0] * (self.group - len(rows)) for rows in members]
            place = [0] * len(slot_of_row)
            for slot, rows in enumerate(members):
                for index, row in enumerate(rows):
                    place[row] = slot * self.group + index
            self._take = torch.tensor(take, device=self.k[0].device).flatten()
            self._back = torch.tensor(place, device=self.k[0].device)

    def _pack(self, parts: Sequence[KV], shape: CacheShape) -> None:
        if len(parts) == 1:
            k, v = parts[0].k, parts[0].v
        else:
            k, v = (shape.zeros(len(parts), self.length) for _ in range(2))
            for slot, part in enumerate(parts):
                k[:, slot, :, : part.length] = part.k
                v[:, slot, :, : part.length] = part.v
            k, v = k.flatten(1, 2), v.flatten(1, 2)
        self.k: tuple[Tensor, ...] = k.unbind(0)  # L x [S*K, N, E]
        self.v: tuple[Tensor, ...] = v.unbind(0)

    def gather(self, x_RKXE: Tensor) -> Tensor:
        """Rows to slots: ``[R, K, X, E]`` to ``[S*K, M*X, E]``."""
        if self._take is not None:
            x_RKXE = x_RKXE.index_select(0, self._take)
        _, heads, width, depth = x_RKXE.shape
        grouped = x_RKXE.reshape(self.slots, self.group, heads, width, depth).transpose(1, 2)
        return grouped.reshape(self.slots * heads, self.group * width, depth)

    def scatter(self, x: Tensor, heads: int) -> Tensor:
        """Slots back to rows: ``[S*K, M*X, E]`` to ``[R, K, X, E]``."""
        split = x.view(self.slots, heads, self.group, -1, x.shape[-1]).transpose(1, 2)
        rows = split.reshape(self.slots * self.group, heads, -1, x.shape[-1])
        return rows if self._back is None else rows.index_select(0, self._back)


def attend_parts(
    q_RKXE: Tensor, levels: Sequence[SharedLevel], layer: int, k_RKNE: Tensor, v_RKNE: Tensor, bias_RXN: Tensor
) -> Tensor:
    """Attention of each row's queries over its shared parts and its private keys, with one softmax.

    Args:
        q_RKXE: scaled queries, X = T * G of a key/value head.
        levels: shared parts, outermost first.
        layer: whose keys to take from the levels.
        k_RKNE, v_RKNE: private keys and values.
        bias_RXN: float32, -inf where a query must not see a key, else 0; N runs over all parts in order.
            (Added and not masked: a broadcast ``masked_fill`` costs four times as much on a CPU.)

    Returns:
        ``[R, K, X, E]``.
    """
    rows, heads, width, depth = q_RKXE.shape
    parts = [level.scatter(torch.bmm(level.gather(q_RKXE), level.k[layer].transpose(1, 2)), heads) for level in levels]
    private = torch.bmm(q_RKXE.reshape(rows * heads, width, depth), k_RKNE.flatten(0, 1).transpose(1, 2))
    scores = torch.cat([*parts, private.view(rows, heads, width, -1)], dim=-1).float()
    scores += bias_RXN.unsqueeze(1)
    weights = torch.softmax(scores, dim=-1).to(q_RKXE.dtype)
    *shared, own = weights.split([level.length for level in levels] + [k_RKNE.shape[2]], dim=-1)
    out = torch.bmm(own.reshape(rows * heads, width, -1), v_RKNE.flatten(0, 1)).view(rows, heads, width, depth)
    for level, part in zip(levels, shared, strict=True):
        out = out + level.scatter(torch.bmm(level.gather(part), level.v[layer]), heads)
    return out
