"""The decoder for sampling alone: FastDecoder's numbers from fewer and larger operations.

A decoding step of a small model is many small operations, and a good part of its time goes into calling
modules and into temporaries. Here the layers are written out over the live weights, and queries, keys and
values come from one matrix product, for which their weights are copied side by side. No graph is recorded
and no hook runs: where a module is more than its plain self (an adapter, a hook, a quantised layer), or
computes below float32, where the order of roundings shows, :class:`~astune.models.decoder.FastDecoder`
calls the modules themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.models.llama import modeling_llama as llama
from transformers.models.qwen2 import modeling_qwen2 as qwen2
from transformers.models.qwen3 import modeling_qwen3 as qwen3

from astune.models.decoder import Attend, FastDecoder

# By exact type: a subclass or a parametrised module may compute anything.
_PLAIN = frozenset(
    {nn.Linear, nn.Embedding, nn.ModuleList, type(ACT2FN["silu"])}
    | {llama.LlamaForCausalLM, llama.LlamaModel, llama.LlamaDecoderLayer, llama.LlamaAttention}
    | {llama.LlamaMLP, llama.LlamaRMSNorm, llama.LlamaRotaryEmbedding}
    | {qwen2.Qwen2ForCausalLM, qwen2.Qwen2Model, qwen2.Qwen2DecoderLayer, qwen2.Qwen2Attention}
    | {qwen2.Qwen2MLP, qwen2.Qwen2RMSNorm, qwen2.Qwen2RotaryEmbedding}
    | {qwen3.Qwen3ForCausalLM, qwen3.Qwen3Model, qwen3.Qwen3DecoderLayer, qwen3.Qwen3Attention}
    | {qwen3.Qwen3MLP, qwen3.Qwen3RMSNorm, qwen3.Qwen3RotaryEmbedding}
)


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class _Norm:
    """RMSNorm (arXiv:1910.07467) over the last dimension."""

    weight: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One decoder layer's weights."""

    before_attention: _Norm
    qkv: _Linear
    qk_norms: tuple[_Norm, _Norm] | None
    o: _Linear
    before_mlp: _Norm
    gate: _Linear
    up: _Linear
    down: _Linear


def decoder_for(model: nn.Module) -> FastDecoder:
    """The fastest decoder that computes what ``model`` computes.

    Raises:
        ValueError: ``FastDecoder.supports(model)`` is false.
    """
    return LeanDecoder(model) if LeanDecoder.supports(model) else FastDecoder(model)


class LeanDecoder(FastDecoder):
    """FastDecoder for inference on plain float32 modules. It is good for one version of the weights."""

    @staticmethod
    def supports(model: nn.Module) -> bool:
        """Whether every module of ``model`` is one that this class computes exactly."""
        if not FastDecoder.supports(model):
            return False
        plain = all(_is_plain(module) for module in model.modules())
        return plain and all(parameter.dtype == torch.float32 for parameter in model.parameters())

    def __init__(self, model: nn.Module) -> None:
        """Wraps ``model``; the copies are made at the first use.

        Raises:
            ValueError: ``supports(model)`` is false.
        """
        if not self.supports(model):
            raise ValueError("a module of the model is more than its plain self: ask LeanDecoder.supports first")
        super().__init__(model)

    def hidden(self, input_ids: Tensor, position_ids: Tensor, attend: Attend) -> Tensor:
        """Hidden states ``[..., T, D]``; see :meth:`FastDecoder.hidden`. No gradient flows."""
        shape = input_ids.shape
        x = self._embed(input_ids).flatten(0, -2)
        cos, sin = self._signed_rotary(position_ids)
        for index, layer in enumerate(self._layers):
            heads = self._heads(layer, layer.before_attention(x), cos, sin)
            q, k, v = (t.view(*shape, *t.shape[1:]) for t in heads)
            out = attend(index, q, k, v)
            x = x + layer.o(out.reshape(x.shape[0], -1))
            normed = layer.before_mlp(x)
            x += layer.down(F.silu(layer.gate(normed)).mul_(layer.up(normed)))
        return self._last_norm(x).view(*shape, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits ``[..., V]`` of hidden states ``[..., D]``."""
        return self._head(hidden)

    def _heads(self, layer: _Layer, x: Tensor, cos: Tensor, signed_sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys, and values: ``[T, heads, head_dim]`` each."""
        both = self.n_heads + self.n_kv_heads
        qkv = layer.qkv(x).view(x.shape[0], -1, self.head_dim)
        qk = qkv[:, :both]
        if layer.qk_norms is not None:
            q_norm, k_norm = layer.qk_norms
            qk = torch.cat((q_norm(qk[:, : self.n_heads]), k_norm(qk[:, self.n_heads :])), dim=1)
        # rotate() in three operations: the minus of the half that is turned is in the sine.
        rotated = (qk * cos).addcmul_(qk.roll(self.head_dim // 2, -1), signed_sin)
        return rotated[:, : self.n_heads], rotated[:, self.n_heads :], qkv[:, both:]

    def _signed_rotary(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """cos, and sin with the sign of :func:`~astune.models.decoder.rotate`: ``[T, 1, head_dim]`` each.

        The rope types of the fast path have fixed frequencies, so this is all that the model's module does.
        """
        rope = self._body.rotary_emb
        angles = position_ids.reshape(-1, 1, 1) * rope.inv_freq
        cos, sin = angles.cos() * rope.attention_scaling, angles.sin() * rope.attention_scaling
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)

    @cached_property
    def _layers(self) -> list[_Layer]:
        return [_layer(module) for module in self._body.layers[: self.n_layers]]

    @cached_property
    def _last_norm(self) -> _Norm:
        return _norm(self._body.norm)

    @cached_property
    def _head(self) -> _Linear:
        return _linear(self._base.lm_head)

    def _embed(self, input_ids: Tensor) -> Tensor:
        return F.embedding(input_ids, self._body.embed_tokens.weight.detach())


def _is_plain(module: nn.Module) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module) in _PLAIN and not hooked


def _linear(*modules: Any) -> _Linear:
    """One map to the outputs of all ``modules`` (which have biases together or not at all), side by side."""
    weights, biases = [m.weight.detach() for m in modules], [m.bias.detach() for m in modules if m.bias is not None]
    if len(modules) == 1:
        return _Linear(weights[0], biases[0] if biases else None)
    return _Linear(torch.cat(weights), torch.cat(biases) if biases else None)


def _norm(module: Any) -> _Norm:
    return _Norm(module.weight.detach(), module.variance_epsilon)


def _layer(module: Any) -> _Layer:
    attention, mlp = module.self_attn, module.mlp
    has_norms = hasattr(attention, "q_norm")
    return _Layer(
        before_attention=_norm(module.input_layernorm),
        qkv=_linear(attention.q_proj, attention.k_proj, attention.v_proj),
        qk_norms=(_norm(attention.q_norm), _norm(attention.k_norm)) if has_norms else None,
        o=_linear(attention.o_proj),
        before_mlp=_norm(module.post_attention_layernorm),
        gate=_linear(mlp.gate_proj),
        up=_linear(mlp.up_proj),
        down=_linear(mlp.down_proj),
    )
