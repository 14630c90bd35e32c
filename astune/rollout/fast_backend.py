"""The running batch of a Llama or Qwen model: shared prefixes, static caches, rows that join and leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from astune.rollout.backend import Admission, Admitted, Departure, refill
from astune.rollout.kv_cache import KV, CacheShape, RowCache, SharedLevel, attend_parts
from astune.rollout.lean_decoder import decoder_for
from astune.rollout.prefix_cache import PrefixCache, Root, Stem, Tokens, common_length

#: Attention scores that one forward pass may hold (float32: 32 MiB, a few times over).
MAX_SCORES = 2**23


@dataclass(slots=True)
class _Row:
    """A running sequence: its stem, then ``length`` private tokens in its slot."""

    stem: Stem | None
    length: int = 0

    @property
    def root(self) -> Root | None:
        return self.stem.root if self.stem else None

    @property
    def offset(self) -> int:
        """Position of its first private token."""
        return len(self.stem.tokens) if self.stem else 0


@dataclass(frozen=True, slots=True)
class _Parked:
    """What a session left behind: the ids fed so far, and the keys and values past its stem."""

    stem: Stem | None
    kv: KV
    fed_ids: list[int]


class _Levels:
    """The shared levels of a set of rows, and which of their keys each row must not see."""

    def __init__(self, rows: Sequence[_Row], shape: CacheShape, old: _Levels | None = None) -> None:
        self._empty: KV = old._empty if old else KV(shape.zeros(1, 0)[:, 0], shape.zeros(1, 0)[:, 0])
        roots = [row.root.kv if row.root else None for row in rows]
        stems = [row.stem.kv if row.stem else None for row in rows]
        self._packs: list[tuple[list[KV], SharedLevel] | None] = [
            self._pack(parts, shape, old._packs[index] if old else None) for index, parts in enumerate((roots, stems))
        ]
        self.levels = [pack[1] for pack in self._packs if pack is not None]
        self.hidden_RN = self._hidden((roots, stems), shape.device)

    def _pack(
        self, parts: Sequence[KV | None], shape: CacheShape, old: tuple[list[KV], SharedLevel] | None
    ) -> tuple[list[KV], SharedLevel] | None:
        """One level, or None if no row has such a part. Keeps the old tensors while most of them is used."""
        if not any(part is not None and part.length for part in parts):
            return None
        distinct = list({id(part): part for part in (p or self._empty for p in parts)}.values())
        if old is not None and len(distinct) * 2 > len(old[0]) and {id(p) for p in distinct} <= {id(p) for p in old[0]}:
            distinct, level = old
            level.assign(self._slots(parts, distinct))
            return distinct, level
        return distinct, SharedLevel(distinct, self._slots(parts, distinct), shape)

    def _slots(self, parts: Sequence[KV | None], distinct: Sequence[KV]) -> list[int]:
        slot = {id(part): index for index, part in enumerate(distinct)}
        return [slot[id(part or self._empty)] for part in parts]

    def _hidden(self, parts: Sequence[Sequence[KV | None]], device: torch.device) -> Tensor:
        """``[R, N]``: true at the padding of shared parts."""
        columns = [torch.zeros(len(parts[0]), 0, dtype=torch.bool, device=device)]
        for pack, of_rows in zip(self._packs, parts, strict=True):
            if pack is not None:
                lengths = torch.tensor([part.length if part else 0 for part in of_rows], device=device)
                columns.append(torch.arange(pack[1].length, device=device) >= lengths[:, None])
        return torch.cat(columns, dim=1)


class FastBackend:
    """The batch of a model that :class:`~astune.models.decoder.FastDecoder` supports.

    Args:
        model: the live model. After a change of its weights or modules call ``clear``.
        share_prefill: compute common prefixes once; false computes every prompt alone.
        reuse_cache: continue a session from the keys and values of its earlier turns.
        keep_tokens: tokens of unused prompts whose keys and values are kept for later requests.
    """

    def __init__(
        self, model: nn.Module, *, share_prefill: bool = True, reuse_cache: bool = True, keep_tokens: int = 16384
    ) -> None:
        self._model = model
        self._decoder = decoder_for(model)
        self._share, self._reuse = share_prefill, reuse_cache
        weight = next(model.parameters())
        self._shape = CacheShape(
            self._decoder.n_layers, self._decoder.n_kv_heads, self._decoder.head_dim, weight.dtype, weight.device
        )
        self._prefixes = PrefixCache(keep_tokens)
        self._parked: dict[str, _Parked] = {}
        self._rows: list[_Row] = []
        self.clear()

    def clear(self) -> None:
        """Forgets everything computed with the old weights. The batch must be empty."""
        if self._rows:
            raise RuntimeError("weights changed while rows are running: their cached keys would mix two models")
        self._decoder = decoder_for(self._model)
        self._prefixes.clear()
        self._parked.clear()
        self._cache = RowCache(self._shape)
        self._levels: _Levels | None = None
        self._stale = True

    def close_session(self, session: str) -> None:
        """Frees what was kept for a session."""
        parked = self._parked.pop(session, None)
        if parked is not None and parked.stem is not None:
            parked.stem.users -= 1

    @torch.inference_mode()
    def admit(self, admissions: Sequence[Admission]) -> list[Admitted]:
        """Adds rows, computing what no cache holds. See :meth:`Backend.admit`."""
        resumed = [self._resume(admission) for admission in admissions]
        stems = [
            tuple(a.prompt_ids[:-1]) if parked is None else () for a, parked in zip(admissions, resumed, strict=True)
        ]
        found, costs = self._stems(stems)
        first = len(self._rows)
        self._cache.reserve(first + len(admissions), max((p[1] for p in resumed if p), default=1))
        new_tokens: list[list[int]] = []
        for admission, parked, stem in zip(admissions, resumed, found, strict=True):
            row = _Row(stem) if parked is None else _Row(parked[0].stem, parked[1])
            if parked is not None:
                self._cache.load(len(self._rows), parked[0].kv, parked[1])
            if row.stem is not None:
                row.stem.users += 1
            self._rows.append(row)
            new_tokens.append(admission.prompt_ids[row.offset + row.length : -1])
        self._extend(self._cache, self._rows[first:], first, new_tokens)
        self._stale = True
        self._prefixes.trim()
        computed = [cost + len(tokens) for cost, tokens in zip(costs, new_tokens, strict=True)]
        return [Admitted(len(a.prompt_ids) - 1 - c, c) for a, c in zip(admissions, computed, strict=True)]

    @torch.inference_mode()
    def step(self, tokens_R: NDArray[np.int64]) -> Tensor:
        """Feeds one token a row. See :meth:`Backend.step`."""
        if self._stale or self._levels is None:
            self._levels = _Levels(self._rows, self._shape, self._levels)
            self._stale = False
        ids = torch.from_numpy(tokens_R).to(self._shape.device).unsqueeze(1)
        hidden = self._forward(self._cache, self._rows, 0, ids, self._levels)
        for row in self._rows:
            row.length += 1
        return self._decoder.logits(hidden[:, 0])

    @torch.inference_mode()
    def remove(self, departures: Sequence[Departure]) -> None:
        """Removes rows, keeping what their sessions may continue. See :meth:`Backend.remove`."""
        for departure in departures:
            row = self._rows[departure.row]
            if self._reuse and departure.session is not None:
                self.close_session(departure.session)
                kv = self._cache.save(departure.row, row.length)
                self._parked[departure.session] = _Parked(row.stem, kv, departure.fed_ids)
            elif row.stem is not None:
                row.stem.users -= 1
        moves = refill(len(self._rows), [d.row for d in departures])
        if moves:
            sources, targets = zip(*moves, strict=True)
            self._cache.move(sources, targets, max(self._rows[source].length for source in sources))
        for source, target in moves:
            self._rows[target] = self._rows[source]
        del self._rows[len(self._rows) - len(departures) :]
        self._stale = True

    def _resume(self, admission: Admission) -> tuple[_Parked, int] | None:
        """The session's earlier turn and how many of its private tokens the prompt repeats, or None."""
        if admission.session is None or admission.session not in self._parked:
            return None
        parked = self._parked[admission.session]
        self.close_session(admission.session)
        offset = len(parked.stem.tokens) if parked.stem else 0
        common = common_length(parked.fed_ids, admission.prompt_ids[:-1])
        return (parked, common - offset) if common >= offset else None

    def _stems(self, wanted: Sequence[Tokens]) -> tuple[list[Stem | None], list[int]]:
        """A computed stem for each non-empty token sequence, and the tokens that were forwarded for it."""
        if not self._share:
            own = [Stem(tokens) if tokens else None for tokens in wanted]
            self._compute_stems([stem for stem in own if stem])
            return list(own), [len(tokens) for tokens in wanted]
        known = {tokens: self._prefixes.get(tokens) for tokens in wanted if tokens}
        new = self._prefixes.add(tokens for tokens, stem in known.items() if stem is None)
        new_roots = [root for root in self._prefixes.roots if root.kv is None]
        self._compute_roots(new_roots)
        self._compute_stems(new)
        known.update((stem.tokens, stem) for stem in new)
        cost = {stem.tokens: len(stem.rest) for stem in new}
        for root in new_roots:
            cost[next(s.tokens for s in new if s.tokens[: len(root.tokens)] == root.tokens)] += len(root.rest)
        return [known.get(tokens) for tokens in wanted], [cost.pop(tokens, 0) for tokens in wanted]

    def _compute_roots(self, roots: Sequence[Root]) -> None:
        """Parents before children, all roots of one depth together."""
        while roots:
            ready = [root for root in roots if root.parent is None or root.parent.kv is not None]
            rests = self._prefill([root.rest for root in ready], [root.parent for root in ready])
            for root, rest in zip(ready, rests, strict=True):
                root.kv = rest if root.parent is None or root.parent.kv is None else root.parent.kv.followed_by(rest)
            roots = [root for root in roots if root.kv is None]

    def _compute_stems(self, stems: Sequence[Stem]) -> None:
        for stem, kv in zip(stems, self._prefill([s.rest for s in stems], [s.root for s in stems]), strict=True):
            stem.kv = kv

    def _prefill(self, sequences: Sequence[Tokens], roots: Sequence[Root | None]) -> list[KV]:
        """Keys and values of sequences that start after their roots."""
        if not sequences:
            return []
        rows = [_Row(Stem(root.tokens, root) if root else None) for root in roots]
        cache = RowCache(self._shape)
        # Neighbours of like length share a forward pass with little padding.
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        cache.reserve(len(rows), max(map(len, sequences)))
        self._extend(cache, [rows[i] for i in order], 0, [list(sequences[i]) for i in order])
        kvs = {index: cache.save(slot, rows[index].length) for slot, index in enumerate(order)}
        return [kvs[index] for index in range(len(sequences))]

    def _extend(self, cache: RowCache, rows: Sequence[_Row], first: int, new: Sequence[list[int]]) -> None:
        """Feeds ``new[i]`` to ``rows[i]``, which lives in slot ``first + i``, within the memory limit."""
        for start, stop in self._batches(rows, new):
            batch, tokens = rows[start:stop], new[start:stop]
            levels = _Levels(batch, self._shape)
            longest = max(map(len, tokens))
            width = max(1, self._budget(batch, longest) // len(batch))
            for begin in range(0, longest, width):
                self._feed(cache, batch, first + start, [t[begin : begin + width] for t in tokens], levels)

    def _feed(
        self, cache: RowCache, rows: Sequence[_Row], first: int, tokens: Sequence[list[int]], levels: _Levels
    ) -> None:
        """One forward pass over ragged new tokens, padded on the right."""
        longest = max(map(len, tokens))
        padded = torch.tensor([t + [0] * (longest - len(t)) for t in tokens], device=self._shape.device)
        self._forward(cache, rows, first, padded, levels)
        for row, own in zip(rows, tokens, strict=True):
            row.length += len(own)

    def _batches(self, rows: Sequence[_Row], new: Sequence[list[int]]) -> Iterator[tuple[int, int]]:
        """Ranges of neighbouring rows whose padded tokens fit one forward pass; rows with nothing new are left out."""
        start = 0
        while start < len(rows):
            stop, longest = start, 0
            while stop < len(rows) and new[stop]:
                longest = max(longest, len(new[stop]))
                if stop > start and longest * (stop + 1 - start) > self._budget(rows[start : stop + 1], longest):
                    break
                stop += 1
            if stop > start:
                yield start, stop
            start = max(stop, start + 1)

    def _budget(self, rows: Sequence[_Row], longest: int) -> int:
        """Tokens that one forward pass over these rows may take."""
        context = max(row.offset + row.length for row in rows) + longest
        return max(1, MAX_SCORES // (self._decoder.n_heads * context))

    def _forward(self, cache: RowCache, rows: Sequence[_Row], first: int, ids_RT: Tensor, levels: _Levels) -> Tensor:
        """Runs the model over new tokens of rows in slots ``first ..``, writing their keys and values.

        Returns:
            Hidden states ``[R, T, D]``. What lies past a row's own tokens is never looked at: its next
            tokens overwrite it, and no query sees keys after its own position.
        """
        R, T = ids_RT.shape
        K, E = self._shape.kv_heads, self._shape.head_dim
        device = self._shape.device
        before = np.array([[row.length, row.offset] for row in rows], dtype=np.int64)
        used = int(before[:, 0].max()) + T
        cache.reserve(first + R, used)
        capacity = cache.k.shape[3]
        place_RT = torch.from_numpy(before[:, :1] + np.arange(T)).to(device)
        positions_RT = place_RT + torch.from_numpy(before[:, 1:]).to(device)
        heads = torch.arange(first * K, (first + R) * K, device=device).view(R, 1, K)
        where = (heads * capacity + place_RT.unsqueeze(-1)).flatten()
        unseen_RTN = torch.arange(used, device=device) > place_RT.unsqueeze(-1)
        shared_RTN = levels.hidden_RN.unsqueeze(1).expand(R, T, -1)
        hidden_RTN = torch.cat((shared_RTN, unseen_RTN), dim=-1)
        G = self._decoder.n_heads // K
        hidden_RXN = hidden_RTN if T == 1 else hidden_RTN.repeat_interleave(G, dim=1)
        bias_RXN = torch.zeros(hidden_RXN.shape, device=device).masked_fill_(hidden_RXN, float("-inf"))

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = cache.k[layer], cache.v[layer]
            keys.view(-1, E).index_copy_(0, where, k.reshape(-1, E).to(keys.dtype))
            values.view(-1, E).index_copy_(0, where, v.reshape(-1, E).to(values.dtype))
            q_RKXE = (q * self._decoder.scaling).view(R, T, K, G, E).transpose(1, 2).reshape(R, K, T * G, E)
            own = slice(first, first + R)
            out = attend_parts(q_RKXE, levels.levels, layer, keys[own, :, :used], values[own, :, :used], bias_RXN)
            return out.view(R, K, T, G, E).transpose(1, 2).reshape(R, T, K * G * E)

        return self._decoder.hidden(ids_RT, positions_RT, attend)
