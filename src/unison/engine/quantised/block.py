"""How does a block read a few tokens after what it remembers, with little between its products?"""

import ctypes
import functools
import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from unison.engine.quantised import kernel
from unison.engine.quantised.linear import QuantisedLinear
from unison.engine.quantised.packed import LANES
from unison.models import layers
from unison.models.layers import Angles, AttentionMask, Cond, Hidden, LayerMemory
from unison.models.mlp import SwiGluMlp

_FEW = 64  # tokens; torch's own attention is the faster one for many


class QuantisedBlock(nn.Module):
    """A block whose layers are quantised: a ``layers.Block`` by its parts and its answers.

    A few tokens beside a memory, on a CPU with numba, take the short way of ``loops``; anything
    else goes the block's own.
    """

    attention_norm: nn.RMSNorm
    mlp_norm: nn.RMSNorm
    attention: Any  # a layers.Attention with quantised maps
    mlp: Any  # a SwiGluMlp with quantised maps
    dropout: nn.Module

    def __init__(self, block: layers.Block) -> None:
        super().__init__()
        for name, part in block.named_children():
            self.register_module(name, part)
        self.modulation = None

    def forward(
        self,
        h: Hidden,
        cond: Cond | None,
        angles: Angles | None,
        mask: AttentionMask | None,
        memory: LayerMemory | None = None,
    ) -> Hidden:
        """Return the residual stream after this block."""
        if (
            angles is None
            or mask is None
            or memory is None
            or memory.compute is None
            or self.training
            or not _lean(h, memory)
        ):
            return layers.Block.forward(self, h, cond, angles, mask, memory)  # pyright: ignore
        rows, tokens, _ = h.shape
        flat = h.reshape(rows * tokens, -1)
        heads = self.attention.qkv.product(self._normed(flat, self.attention_norm))
        attended = _attended(self.attention, heads, angles, mask, memory)
        flat = self.attention.out.product(attended).add_(flat)
        into = self.mlp.gate_up.product(self._normed(flat, self.mlp_norm))
        return self.mlp.down.product(self._gated(into)).add_(flat).view(h.shape)

    def _normed(self, x: Tensor, norm: nn.RMSNorm) -> Tensor:
        y = torch.empty_like(x)
        told = (x.data_ptr(), norm.weight.data_ptr(), y.data_ptr())
        _loops().norm(*told, *x.shape, norm.eps)
        return y

    def _gated(self, x: Tensor) -> Tensor:
        y = x.new_empty(len(x), x.shape[1] // 2)
        _loops().gate(x.data_ptr(), y.data_ptr(), *y.shape)
        return y


def shortens(block: nn.Module) -> bool:
    """Return whether a block has a short way: RMS norms, rotary places and a gated MLP."""
    return (
        isinstance(block, layers.Block)
        and block.modulation is None
        and isinstance(block.attention_norm, nn.RMSNorm)
        and block.attention.q_norm is None
        and isinstance(block.mlp, SwiGluMlp)
        and isinstance(block.mlp.down, QuantisedLinear)
    )


def _lean(h: Hidden, memory: LayerMemory) -> bool:
    keys, values = memory.keys, memory.values
    return (
        h.is_cpu
        and h.dtype == keys.dtype == torch.float32
        and h.shape[0] * h.shape[1] <= _FEW
        and keys.stride() == values.stride()
        and keys.stride()[2:] == (keys.shape[3], 1)
        and not (h.requires_grad and torch.is_grad_enabled())
        and _able()
    )


@functools.cache
def _able() -> bool:
    return kernel.available() and importlib.util.find_spec("numba") is not None


@functools.cache
def _loops() -> Any:
    return importlib.import_module("unison.engine.quantised.loops").compiled()


def _attended(
    attention: layers.Attention,
    heads: Tensor,
    angles: Angles,
    mask: AttentionMask,
    memory: LayerMemory,
) -> Tensor:
    """Return every query's answer; overwrites the heads and the memory at what is computed."""
    keys, values, slots = memory
    rows, tokens = slots.shape  # pyright: ignore[reportOptionalMemberAccess]
    cos, sin = (part.expand(rows, tokens, -1).contiguous() for part in angles)
    slots = slots.contiguous()  # pyright: ignore[reportOptionalMemberAccess]
    mask = mask if mask.stride(3) == 1 else mask.contiguous()
    few, seen, width = keys.shape[1:]
    group = attention.heads // few
    shape = (rows, tokens, few, group, width, seen, cos.shape[-1])
    apart = (*keys.stride()[:2], 0 if len(mask) == 1 else mask.stride(0), mask.stride(2))
    out = heads.new_empty(rows * tokens, attention.heads * width)
    work = heads.new_empty(group * (seen + LANES))
    _loops().attend(
        *(one.data_ptr() for one in (heads, cos, sin, keys, values, slots, mask, out, work)),
        (ctypes.c_int64 * 11)(*shape, *apart),
    )
    return out
