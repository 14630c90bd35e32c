"""The loss of expert tokens: a refinement, sampled after a critique, that is trained under the original prompt.

Such tokens are off-policy by construction. Let p be the policy's probability of a token after the original
prompt and mu the one with which it was sampled after the refine prompt. What is maximised is the advantage times a
surrogate of each token, and the kinds differ in the factor w that the gradient puts on grad log p:

| kind   | surrogate                     | w                            | a token with p near 0         |
|--------|-------------------------------|------------------------------|-------------------------------|
| shaped | p / (p + c), c = 0.1          | c p / (p + c)^2, at most 1/4 | w goes to p / c: hardly lifted |
| tis    | min(p / mu, C) (fixed) * log p | min(p / mu, C)               | w goes to p / mu: hardly lifted |
| logp   | log p                         | 1                            | lifted like any other         |

``shaped`` is differentiated through p (f'(p) grad p = f'(p) p grad log p), as in Critique-GRPO (Zhang et al., 2025,
arXiv:2506.03106), whose shaping comes from LUFFY (Yan et al., 2025, arXiv:2504.14945). Holding
p / (p + c) fixed as a weight on log p would be another objective, with w of almost 1 for likely tokens, where
this w falls off again. ``tis`` is truncated importance sampling (Ionides, 2008, J. Comput. Graph. Stat. 17(2)): the
weight is held fixed, so a capped token still learns, with weight C. ``logp`` is weighted imitation.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

ExpertWeight = Literal["shaped", "tis", "logp"]

#: c of ``shaped`` and C of ``tis``.
SHAPING_CONSTANT, TIS_CAP = 0.1, 2.0
#: Tokens less likely than this are reported: ``shaped`` and ``tis`` can't lift them.
RARE = 0.01


def expert_surrogate(
    logps_N: Tensor,
    kind: ExpertWeight,
    sampled_logps_N: Tensor | None = None,
    *,
    shaping: float = SHAPING_CONSTANT,
    cap: float = TIS_CAP,
) -> Tensor:
    """What an expert's tokens maximise, before the advantage: ``[N]``; the loss is minus the advantage times it.

    Args:
        logps_N: log p of each token under the policy after the original prompt; carries the gradient.
        kind: which surrogate.
        sampled_logps_N: log mu of each token, under the prompt that it was sampled from; needed by ``tis``.
        shaping: c of ``shaped``.
        cap: C of ``tis``.

    Raises:
        ValueError: an unknown kind, or ``tis`` without ``sampled_logps_N``.
    """
    if kind == "logp":
        return logps_N
    if kind == "shaped":
        # p / (p + c) as a sigmoid: no overflow, and a gradient wherever p is representable as a logarithm.
        return torch.sigmoid(logps_N - math.log(shaping))
    return expert_factor(logps_N.detach(), kind, sampled_logps_N, cap=cap) * logps_N


def expert_factor(
    logps_N: Tensor,
    kind: ExpertWeight,
    sampled_logps_N: Tensor | None = None,
    *,
    shaping: float = SHAPING_CONSTANT,
    cap: float = TIS_CAP,
) -> Tensor:
    """The factor w on grad log p of each token, ``[N]``: what :func:`expert_surrogate`'s gradient is made of.

    Arguments and errors as there.
    """
    if kind == "logp":
        return torch.ones_like(logps_N)
    if kind == "shaped":
        p_N = logps_N.exp()
        return shaping * p_N / (p_N + shaping) ** 2
    if kind != "tis":
        raise ValueError(f"unknown expert weight {kind!r}: shaped, tis or logp")
    if sampled_logps_N is None:
        raise ValueError("the expert weight tis needs the log-probs that the tokens were sampled with")
    return (logps_N - sampled_logps_N).exp().clamp(max=cap)
