"""From trajectories to packed micro-batches in which no token is computed twice.

Rows that begin alike share that beginning: the prompt of a task is computed once for all its
samples, the system prompt and tools preamble once for all tasks. The sharing is a tree of
:class:`Segment` objects laid one after another in a flat stream of tokens ``N``; a row is the path
from the root to its leaf. Nothing is padded, and tokens after a row's last trained one are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from astune.trace import Trajectory

#: Shared beginnings shorter than this are computed once a row: cheaper than one more attention call.
MIN_SHARED = 16


@dataclass(frozen=True, slots=True)
class TrainRow:
    """A trajectory with its advantage.

    ``group`` numbers its task (rows of a group should stay together); ``part`` says with which rows it is averaged.
    """

    trajectory: Trajectory
    advantage: float
    group: int
    part: int = 0

    @property
    def trained_tokens(self) -> int:
        """How many of its tokens were sampled."""
        return sum(self.trajectory.loss_mask)

    @property
    def inputs(self) -> list[int]:
        """The ids that must be forwarded: those before the last trained token (which is only a target)."""
        mask = self.trajectory.loss_mask
        if not mask or mask[0]:
            raise ValueError("a trajectory must begin with at least one token that was not sampled")
        last = max((index for index, trained in enumerate(mask) if trained), default=0)
        return self.trajectory.ids[:last]


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens ``start:stop`` of the stream, which see their parents' tokens and, causally, each other.

    ``parent`` is the number of a segment that stands earlier, or None; ``position`` that of the first token
    in its rows.
    """

    start: int
    stop: int
    parent: int | None
    position: int

    @property
    def length(self) -> int:
        """Its own tokens."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A micro-batch: a stream of ``N`` tokens, ``R`` rows, and ``L`` (row, token) pairs that a loss reads.

    Attributes:
        input_ids_N, position_ids_N: the stream.
        segments: the tree, parents first; together they cover the stream.
        leaves: the last segment of each row.
        hidden_L: stream index whose hidden state predicts the token (several rows may read one).
        target_L: the sampled token.
        row_L: its row in this micro-batch.
        position_L: position in that row of the hidden state.
        old_logps_L: log-probs recorded when it was sampled.
        advantage_R: advantage of each row.
        indices: each row's place in the list that was packed.
        parts: each row's part.
    """

    input_ids_N: Tensor
    position_ids_N: Tensor
    segments: tuple[Segment, ...]
    leaves: tuple[int, ...]
    hidden_L: Tensor
    target_L: Tensor
    row_L: Tensor
    position_L: Tensor
    old_logps_L: Tensor
    advantage_R: Tensor
    indices: tuple[int, ...]
    parts: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Rows, which are the sequences of the losses."""
        return len(self.leaves)

    @property
    def advantage_L(self) -> Tensor:
        """Advantage of each token that a loss reads."""
        return self.advantage_R[self.row_L]

    def tokens_of(self, part: int) -> Tensor:
        """Which of the ``L`` tokens are of rows of that part, in order."""
        mine_R = torch.tensor([other == part for other in self.parts], device=self.row_L.device)
        return mine_R[self.row_L].nonzero()[:, 0]

    def row_stream(self, row: int) -> Tensor:
        """Where the tokens of a row stand in the stream, in order."""
        return _path(self.segments, self.leaves[row]).to(self.input_ids_N.device)

    def to(self, device: torch.device | str) -> PackedBatch:
        """A copy with every tensor on ``device``."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if torch.is_tensor(value):
                moved[field.name] = value.to(device)
        return replace(self, **moved)


def select(rows: Sequence[TrainRow], informative_P: Tensor, with_kl: bool = False) -> list[int]:
    """Numbers of the rows that move the policy: of an informative group, with a trained token and an advantage.

    ``with_kl`` keeps rows without advantage, which a KL term still pulls on.
    """
    informative = informative_P.tolist()
    return [
        index
        for index, row in enumerate(rows)
        if informative[row.group] and row.trained_tokens and (with_kl or row.advantage != 0)
    ]


def plan(rows: Sequence[TrainRow], budget: int) -> list[list[int]]:
    """Deals rows out to micro-batches of at most ``budget`` tokens after sharing, the same way every time.

    Groups stay whole and in order where they fit. A group above the budget is split, and a single row
    above it stands alone.

    Returns:
        For each micro-batch the numbers of its rows.
    """
    inputs = [row.inputs for row in rows]
    groups: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.group, []).append(index)
    batches: list[list[int]] = []
    for members in groups.values():
        whole = _size([inputs[index] for index in members]) <= budget
        for unit in [members] if whole else [[index] for index in members]:
            if batches and _size([inputs[index] for index in batches[-1] + unit]) <= budget:
                batches[-1] += unit
            else:
                batches.append(list(unit))
    return batches


def pack(rows: Sequence[TrainRow], indices: Sequence[int] | None = None) -> PackedBatch:
    """Packs the rows named by ``indices`` (all of them by default) into one micro-batch on the CPU.

    Raises:
        ValueError: no row, a row without a trained token, or one whose first token is trained.
    """
    chosen = list(range(len(rows)) if indices is None else indices)
    inputs = [rows[index].inputs for index in chosen]
    if not inputs or not all(inputs):
        raise ValueError("every row of a micro-batch, and there must be one, needs a trained token")
    tree = _Tree(inputs)
    segments, leaves = tuple(tree.segments), tuple(tree.leaves)
    positions_N = torch.cat([torch.arange(s.length) + s.position for s in segments])
    hidden, target, row_of, position, old = [], [], [], [], []
    for number, index in enumerate(chosen):
        trajectory = rows[index].trajectory
        trained = torch.tensor(trajectory.loss_mask).nonzero()[:, 0]
        hidden.append(_path(segments, leaves[number])[trained - 1])
        target.append(torch.tensor(trajectory.ids)[trained])
        old.append(torch.tensor(trajectory.logprobs, dtype=torch.float32)[trained])
        row_of.append(torch.full_like(trained, number))
        position.append(trained - 1)
    return PackedBatch(
        input_ids_N=torch.tensor(tree.ids),
        position_ids_N=positions_N,
        segments=segments,
        leaves=leaves,
        hidden_L=torch.cat(hidden),
        target_L=torch.cat(target),
        row_L=torch.cat(row_of),
        position_L=torch.cat(position),
        old_logps_L=torch.cat(old),
        advantage_R=torch.tensor([rows[index].advantage for index in chosen], dtype=torch.float32),
        indices=tuple(chosen),
        parts=tuple(rows[index].part for index in chosen),
    )


class _Tree:
    """The prefix tree of some rows, laid out depth first in the order in which rows came."""

    def __init__(self, rows: Sequence[list[int]]) -> None:
        self.rows = rows
        self.ids: list[int] = []
        self.segments: list[Segment] = []
        self.leaves = [-1] * len(rows)
        self._branch(list(range(len(rows))), start=0, depth=0, parent=None)

    def _branch(self, members: list[int], start: int, depth: int, parent: int | None) -> None:
        """Places the tokens from ``start`` on of rows that agree up to ``depth`` (at least ``start``)."""
        if len(members) == 1:
            self._leaf(members[0], start, parent)
            return
        depth = _common_prefix([self.rows[member] for member in members], depth)
        if depth - start >= MIN_SHARED:
            parent = self._add(self.rows[members[0]][start:depth], parent, start)
            start = depth
        branches: dict[int, list[int]] = {}
        for member in members:
            if len(self.rows[member]) == depth + 1:
                self._leaf(member, start, parent)
            else:
                branches.setdefault(self.rows[member][depth], []).append(member)
        for branch in branches.values():
            self._branch(branch, start, depth, parent)

    def _leaf(self, member: int, start: int, parent: int | None) -> None:
        self.leaves[member] = self._add(self.rows[member][start:], parent, start)

    def _add(self, ids: list[int], parent: int | None, position: int) -> int:
        first = len(self.ids)
        self.ids += ids
        self.segments.append(Segment(first, len(self.ids), parent, position))
        return len(self.segments) - 1


def _size(rows: Sequence[list[int]]) -> int:
    """Tokens of the stream that the rows make."""
    return len(_Tree(rows).ids)


def _common_prefix(rows: Sequence[list[int]], known: int) -> int:
    """Length of the longest common prefix, short of the end of every row (each keeps a token of its own)."""
    # What the lexicographically first and last row share, all rows share.
    first, last = min(rows), max(rows)
    limit = min(len(row) for row in rows) - 1
    pairs = zip(first[known:limit], last[known:limit], strict=False)
    return known + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _path(segments: Sequence[Segment], leaf: int) -> Tensor:
    """Stream indices from the root to the end of a leaf."""
    parts = []
    number: int | None = leaf
    while number is not None:
        parts.append(torch.arange(segments[number].start, segments[number].stop))
        number = segments[number].parent
    return torch.cat(parts[::-1])
