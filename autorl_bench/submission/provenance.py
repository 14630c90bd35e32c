"""Where weights come from: how far they are from the base model, and whether they are another model's.

Everything is computed over pieces of a tensor, one piece of each model at a time; besides those, one sketch of
64 x 64 numbers a matrix is in memory, whatever the size of the model.

Not defended: a model whose neurons are permuted or rescaled so that it computes the same with other weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import torch

from autorl_bench.submission.findings import Finding, Findings, FlagCode
from autorl_bench.submission.tensors import FLOATING, Tensor, Tensors

#: A change smaller than this share of the weights' norm is called a copy: an optimizer's steps are larger by far.
NEAR_COPY = 1e-5
#: A change that points from the base to another model more than this (cosine) was not found by training.
TOWARDS_SIBLING = 0.9
_SKETCH = 64
_SHARED = 0.1
# Unit roundoff of the types: what storing a number may change it by, relative to its size.
_ROUNDOFF = {"F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}


@dataclass(frozen=True, slots=True)
class TensorChange:
    """How one tensor differs from the base's.

    ``relative`` is ||submitted - base|| / ||base|| (Frobenius; None where the base is zero and the change is not).
    ``rank`` is the numerical rank of a matrix's difference: the directions that stand out from rounding, counted up
    to 64 (then "64 or more"); None for vectors. Both are taken after rounding the base to the submitted type, so that
    saving in bfloat16 is no change.
    """

    name: str
    elements: int
    relative: float | None
    rank: int | None


@dataclass(frozen=True, slots=True)
class SiblingDistance:
    """How a submission lies between its base and another model, over the tensors that all three share.

    ``nearer`` is ||submitted - sibling|| / ||submitted - base|| (below 1: nearer to the sibling);
    ``cosine`` is that of submitted - base with sibling - base (1: the change points at the sibling).
    """

    model: str
    shared_elements: int
    nearer: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is known of a submission's origin."""

    identical: bool
    relative: float | None
    changed_tensors: int
    tensors: tuple[TensorChange, ...]
    siblings: tuple[SiblingDistance, ...]

    def to_json(self) -> dict[str, object]:
        """As kept in the store."""
        return asdict(self)

    @property
    def findings(self) -> Findings:
        """What follows from the numbers."""
        return Findings((*self._of_base(), *self._of_siblings()))

    def _of_base(self) -> Iterator[Finding]:
        if self.identical:
            yield Finding(
                FlagCode.IDENTICAL_TO_BASE,
                "The weights are the base model's: the score is the baseline, not an improvement.",
                {"tensors": len(self.tensors)},
            )
        elif self.relative is not None and self.relative < NEAR_COPY:
            yield Finding(
                FlagCode.NEAR_COPY_OF_BASE,
                f"The weights differ from the base model's by {self.relative:.1e} of their size: practically a copy.",
                {"relative_change": self.relative, "threshold": NEAR_COPY},
            )

    def _of_siblings(self) -> Iterator[Finding]:
        for sibling in self.siblings:
            if sibling.nearer < 1 or sibling.cosine > TOWARDS_SIBLING:
                yield Finding(
                    FlagCode.SIBLING_MODEL,
                    f"The weights are {sibling.model}'s or mixed with them, not the result of training the base model.",
                    {"nearer": sibling.nearer, "cosine": sibling.cosine, "shared_elements": sibling.shared_elements},
                )


def compare(submitted: Tensors, base: Tensors, siblings: Mapping[str, Tensors] | None = None) -> Provenance:
    """Measures a submission against its base and against the other registered models, by name.

    Args:
        submitted: checked tensors (:func:`~autorl_bench.submission.safety.check_folder`): the base's names and shapes.
        base: the base model's.
        siblings: tensors of the other models; those with no tenth of the weights in common are left out.
    """
    names = [name for name in base if base[name].dtype in FLOATING]
    measured = [_change(name, submitted[name], base[name]) for name in names]
    others = [name for name in base if name not in names]
    identical = all(norms[0] == 0 for _, norms in measured) and all(
        _same_bytes(submitted[name], base[name]) for name in others
    )
    total = math.sqrt(sum(norms[0] for _, norms in measured))
    size = math.sqrt(sum(norms[1] for _, norms in measured))
    distances = [_distance(model, submitted, base, tensors) for model, tensors in (siblings or {}).items()]
    return Provenance(
        identical=identical,
        relative=_ratio(total, size),
        changed_tensors=sum(norms[0] > 0 for _, norms in measured),
        tensors=tuple(change for change, _ in measured),
        siblings=tuple(distance for distance in distances if distance is not None),
    )


def _same_bytes(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors without floating values (masks, position ids) hold the same."""
    return all(a == b for a, b in zip(left.blocks(), right.blocks(), strict=True))


def _change(name: str, submitted: Tensor, base: Tensor) -> tuple[TensorChange, tuple[float, float]]:
    """The change of one tensor, and the squared norms of difference and base."""
    sketch = _Sketch(base.shape) if len(base.shape) == 2 and min(base.shape) > 1 else None
    piece = sketch.piece if sketch else 2**20
    squared_change = squared_base = 0.0
    for new, old in zip(submitted.pieces(piece), base.pieces(piece), strict=True):
        rounded = _rounded(old, new)
        difference = new.double() - rounded
        squared_change += float(difference.square().sum())
        squared_base += float(rounded.square().sum())
        if sketch and squared_change:
            sketch.add(difference)
    norm = math.sqrt(squared_base)
    rank = sketch.rank(_ROUNDOFF[submitted.dtype] * norm) if sketch else None
    change = TensorChange(name, base.elements, _ratio(math.sqrt(squared_change), norm), rank)
    return change, (squared_change, squared_base)


def _rounded(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What ``values`` would be if they were saved in the type of ``like`` (its largest number where they exceed it)."""
    return values.to(like.dtype).nan_to_num().double()


def _ratio(part: float, whole: float) -> float | None:
    if part == 0:
        return 0.0
    return part / whole if whole else None


class _Sketch:
    """The rank of a matrix from whole rows seen one group after another.

    A random projection of the rows to k columns keeps the rank up to k with probability one (Halko, Martinsson and
    Tropp, 2011); the Gram matrix of what is projected has its squared singular values and is all that is kept.
    """

    def __init__(self, shape: tuple[int, ...]):
        rows, columns = shape
        self._columns = columns
        self._k = min(_SKETCH, rows, columns)
        generator = torch.Generator().manual_seed(0)
        self._projection = torch.randn(columns, self._k, dtype=torch.float64, generator=generator)
        self._gram = torch.zeros(self._k, self._k, dtype=torch.float64)
        self.piece = columns * max(1, 2**20 // columns)

    def add(self, values: torch.Tensor) -> None:
        """Takes whole rows, flattened."""
        projected = values.view(-1, self._columns) @ self._projection
        self._gram += projected.T @ projected

    def rank(self, noise: float) -> int:
        """Number of singular values above ``noise``, the norm of what rounding alone can have changed."""
        values = torch.linalg.eigvalsh(self._gram).clamp(min=0).sqrt()
        floor = max(noise, 1e-6 * float(values[-1]))
        return int((values > floor).sum())


def _distance(model: str, submitted: Tensors, base: Tensors, sibling: Tensors) -> SiblingDistance | None:
    shared = [
        name
        for name, tensor in base.items()
        if name in sibling
        and sibling[name].shape == tensor.shape
        and {tensor.dtype, sibling[name].dtype} <= set(FLOATING)
    ]
    elements = sum(base[name].elements for name in shared)
    if elements < _SHARED * sum(tensor.elements for tensor in base.values()):
        return None
    to_sibling = to_base = between = product = 0.0
    for name in shared:
        for new, old, other in zip(submitted[name].pieces(), base[name].pieces(), sibling[name].pieces(), strict=True):
            rounded = _rounded(old, new)
            change, direction = new.double() - rounded, _rounded(other, new) - rounded
            to_base += float(change.square().sum())
            between += float(direction.square().sum())
            product += float(change @ direction)
            to_sibling += float((change - direction).square().sum())
    if between == 0 or to_base == 0:
        return None  # the same model under another name, or the base itself: no direction to speak of
    cosine = product / math.sqrt(to_base * between)
    return SiblingDistance(model, elements, math.sqrt(to_sibling / to_base), cosine)
