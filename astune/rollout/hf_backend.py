"""The running batch of any transformers causal LM, through its own forward pass and its own cache.

Correct before fast. Rows are kept in cohorts whose sequences have one length and advance together, so no
row is ever padded: positions, sliding windows and recurrent states are right without any mask. Rows of one
prompt are prefilled once; prefixes and earlier turns are not kept.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from astune.models.decoder import unwrap
from astune.rollout.backend import Admission, Admitted, Departure, refill

#: Tokens in one prefill pass, which may hold logits for every one of them.
MAX_PREFILL_TOKENS = 4096


@dataclass(eq=False, slots=True)
class _Cohort:
    """Rows of equal length. ``fed_BN`` is kept only for models that have no cache."""

    members: list[_Row]
    cache: Any
    fed_BN: Tensor


@dataclass(eq=False, slots=True)
class _Row:
    cohort: _Cohort | None = None


class HFBackend:
    """See :class:`~astune.rollout.backend.Backend`.

    Args:
        model: any model whose ``forward`` takes ``input_ids`` and returns ``logits``.
        share_prefill: prefill equal prompts once.
    """

    def __init__(self, model: nn.Module, *, share_prefill: bool = True) -> None:
        self._model = model
        self._share = share_prefill
        self._device = next(model.parameters()).device
        parameters = inspect.signature(unwrap(model).forward).parameters
        self._cache_name = next((name for name in ("past_key_values", "cache_params") if name in parameters), None)
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._rows: list[_Row] = []
        self._cohorts: list[_Cohort] = []

    def clear(self) -> None:
        """Nothing outlives the rows. The batch must be empty."""
        if self._rows:
            raise RuntimeError("weights changed while rows are running: their cached states would mix two models")

    def close_session(self, session: str) -> None:
        """Nothing is kept for sessions."""

    @torch.inference_mode()
    def admit(self, admissions: Sequence[Admission]) -> list[Admitted]:
        """Adds rows. See :meth:`Backend.admit`."""
        rows = [_Row() for _ in admissions]
        prompts: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for index, admission in enumerate(admissions):
            prompts[(tuple(admission.prompt_ids), None if self._share else index)].append(index)
        by_length: dict[int, list[list[int]]] = defaultdict(list)
        for indices in prompts.values():
            by_length[len(admissions[indices[0]].prompt_ids)].append(indices)
        for length, groups in by_length.items():
            size = max(1, MAX_PREFILL_TOKENS // length)
            for start in range(0, len(groups), size):
                self._start_cohort(admissions, rows, groups[start : start + size])
        self._rows += rows
        charged = {indices[0] for indices in prompts.values()}
        lengths = [len(admission.prompt_ids) - 1 for admission in admissions]
        return [Admitted(0, n) if i in charged else Admitted(n, 0) for i, n in enumerate(lengths)]

    def _start_cohort(self, admissions: Sequence[Admission], rows: list[_Row], groups: list[list[int]]) -> None:
        """Prefills one prompt a group and spreads the result over the group's rows."""
        fed = torch.tensor([admissions[group[0]].prompt_ids[:-1] for group in groups], device=self._device).long()
        cohort = _Cohort([], None, fed)
        if fed.shape[1]:
            self._forward(cohort, fed)
        self._select(cohort, [number for number, group in enumerate(groups) for _ in group])
        cohort.members = [rows[index] for group in groups for index in group]
        for row in cohort.members:
            row.cohort = cohort
        self._cohorts.append(cohort)

    @torch.inference_mode()
    def step(self, tokens_R: NDArray[np.int64]) -> Tensor:
        """Feeds one token a row. See :meth:`Backend.step`."""
        place = {id(row): index for index, row in enumerate(self._rows)}
        ids = torch.from_numpy(tokens_R).to(self._device)
        order, parts = [], []
        for cohort in self._cohorts:
            indices = [place[id(row)] for row in cohort.members]
            new = ids[indices].unsqueeze(1)
            cohort.fed_BN = torch.cat((cohort.fed_BN, new), dim=1)
            parts.append(self._forward(cohort, new if self._cache_name else cohort.fed_BN))
            order += indices
        back = torch.empty(len(order), dtype=torch.long)
        back[order] = torch.arange(len(order))
        return torch.cat(parts)[back.to(self._device)]

    @torch.inference_mode()
    def remove(self, departures: Sequence[Departure]) -> None:
        """Removes rows. See :meth:`Backend.remove`."""
        leaving = {id(self._rows[departure.row]) for departure in departures}
        for cohort in self._cohorts:
            keep = [index for index, row in enumerate(cohort.members) if id(row) not in leaving]
            if 0 < len(keep) < len(cohort.members):
                self._select(cohort, keep)
            cohort.members = [cohort.members[index] for index in keep]
        self._cohorts = [cohort for cohort in self._cohorts if cohort.members]
        for source, target in refill(len(self._rows), [departure.row for departure in departures]):
            self._rows[target] = self._rows[source]
        del self._rows[len(self._rows) - len(departures) :]

    def _forward(self, cohort: _Cohort, ids_BT: Tensor) -> Tensor:
        """Logits ``[B, V]`` after the last of ``ids_BT``; advances the cohort's cache."""
        if self._cache_name is None:
            return cast(Tensor, self._model(input_ids=ids_BT, **self._last_only).logits[:, -1])
        cache = {} if cohort.cache is None else {self._cache_name: cohort.cache}
        output = self._model(input_ids=ids_BT, use_cache=True, **cache, **self._last_only)
        cohort.cache = output[self._cache_name]
        return cast(Tensor, output.logits[:, -1])

    def _select(self, cohort: _Cohort, rows: list[int]) -> None:
        """Keeps or repeats rows of a cohort."""
        index = torch.tensor(rows, device=self._device)
        cohort.fed_BN = cohort.fed_BN[index]
        if cohort.cache is not None:
            # What beam search calls reordering is a selection with repeats, and every kind of cache has it.
            cohort.cache.reorder_cache(index)
