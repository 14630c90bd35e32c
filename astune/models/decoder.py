"""The Llama, Qwen2 and Qwen3 decoders, with attention left to the caller.

The weights stay in the live ``transformers`` model and its modules are called as modules, so LoRA
adapters apply, hooks run and gradients flow. What the caller brings is ``attend``: the sampler attends
over its caches, the trainer over packed sequences, and neither pays for masks that it has no use for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

#: ``attend(layer, q, k, v)``: q ``[..., T, heads, head_dim]``, k and v ``[..., T, kv_heads, head_dim]``,
#: q and k already rotated. Returns ``[..., T, heads, head_dim]`` or ``[..., T, heads * head_dim]``.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]

_FAMILIES = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
# "dynamic" and "longrope" change their frequencies with the longest sequence seen: keys that were cached
# or packed earlier would no longer fit.
_ROPE_TYPES = frozenset({"default", "linear", "yarn", "llama3"})


def unwrap(model: nn.Module) -> nn.Module:
    """The transformers model inside a peft wrapper (whose adapters live in the modules), or ``model``."""
    get_base = getattr(model, "get_base_model", None)
    return cast(nn.Module, get_base()) if get_base is not None else model


def _changes_forward(model: nn.Module) -> bool:
    """Whether a peft wrapper works through ``forward`` (prompt and prefix tuning), not through modules."""
    config = getattr(model, "active_peft_config", None)
    return bool(getattr(config, "is_prompt_learning", False))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (RoFormer, arXiv:2104.09864) in the half-split layout of Llama.

    Args:
        x: ``[..., T, heads, head_dim]``.
        cos, sin: ``[..., T, 1, head_dim]``.
    """
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


class FastDecoder:
    """Runs the layers of a supported model around a caller's attention.

    Attributes:
        n_layers, n_heads, n_kv_heads, head_dim: the model's own numbers.
        scaling: what attention scores are multiplied with.

    Attention dropout is not applied: it belongs to ``attend``.
    """

    @staticmethod
    def supports(model: nn.Module) -> bool:
        """Whether ``model`` (possibly wrapped by peft) is one that this class computes exactly."""
        base: Any = unwrap(model)
        if type(base) not in _FAMILIES or _changes_forward(model):
            return False
        config = base.config
        full = set(getattr(config, "layer_types", None) or ()) <= {"full_attention"}
        return full and base.model.rotary_emb.rope_type in _ROPE_TYPES

    def __init__(self, model: nn.Module) -> None:
        """Wraps ``model`` without copying anything.

        Raises:
            ValueError: ``supports(model)`` is false.
        """
        if not self.supports(model):
            raise ValueError(f"{type(unwrap(model)).__name__} is outside the fast path: ask FastDecoder.supports first")
        base: Any = unwrap(model)
        self._body = base.model
        self._base = base
        attention = self._body.layers[0].self_attn
        self.n_layers: int = base.config.num_hidden_layers
        self.n_heads: int = base.config.num_attention_heads
        self.n_kv_heads: int = base.config.num_key_value_heads
        self.head_dim: int = attention.head_dim
        self.scaling: float = attention.scaling

    def hidden(self, input_ids: Tensor, position_ids: Tensor, attend: Attend) -> Tensor:
        """Hidden states after the final norm.

        Args:
            input_ids: token ids ``[..., T]``.
            position_ids: each token's position in its own sequence ``[..., T]`` (any order, any packing).
            attend: the attention over the rotated queries and keys; see :data:`Attend`.

        Returns:
            ``[..., T, D]``.
        """
        x = self._body.embed_tokens(input_ids)
        cos, sin = self._rotary(x, position_ids)
        for index, layer in enumerate(self._body.layers[: self.n_layers]):
            x = x + self._attention(index, layer.self_attn, layer.input_layernorm(x), cos, sin, attend)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return cast(Tensor, self._body.norm(x))

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits ``[..., V]`` of hidden states ``[..., D]``, in the model's dtype."""
        return cast(Tensor, self._base.lm_head(hidden))

    def _rotary(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, each ``[..., T, 1, head_dim]``, from the model's own module (its scaling included)."""
        cos, sin = self._body.rotary_emb(x, position_ids)
        return cos.unsqueeze(-2), sin.unsqueeze(-2)

    def _attention(self, index: int, module: Any, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """Projections, q/k norm where the family has one, rotation, ``attend``, output projection."""
        shape = (*x.shape[:-1], -1, self.head_dim)
        q = module.q_proj(x).view(shape)
        k = module.k_proj(x).view(shape)
        v = module.v_proj(x).view(shape)
        if hasattr(module, "q_norm"):
            q, k = module.q_norm(q), module.k_norm(k)
        o = attend(index, rotate(q, cos, sin), rotate(k, cos, sin), v)
        return cast(Tensor, module.o_proj(o.reshape(*x.shape[:-1], -1)))
