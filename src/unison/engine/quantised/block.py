"""How does a block read a few tokens after what it remembers, with little between its products?"""

import array
import functools
import importlib
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unison.engine.quantised import kernel
from unison.engine.quantised.grid import Bits
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
        self._known: _Known | None = None

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
        if self._known is None:
            self._known = _known(self)
        return _read(self._known, h, angles, mask, memory)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._known = None  # what moves or changes its dtype may be another tensor afterwards
        return super()._apply(fn, recurse)


class _Known(NamedTuple):
    """What the layers of a block hold: a module looks its parts up by name, which takes longer.

    Attributes:
        vectors: Weights of both norms, biases of the first two maps.
        eps: Of both norms.
        maps: Packed weights of the four maps, in the order in which they are read.
        bits: Of each.
        heads: Of queries.
        widths: Numbers a token has after a norm, the first map, the attention, the second map, the
            third, and the gate.
    """

    vectors: tuple[Tensor | None, ...]
    eps: tuple[float, float]
    maps: tuple[Tensor, ...]
    bits: tuple[Bits, ...]
    heads: int
    widths: tuple[int, ...]


def _known(block: QuantisedBlock) -> _Known:
    attention, mlp, norms = block.attention, block.mlp, (block.attention_norm, block.mlp_norm)
    maps = (attention.qkv, attention.out, mlp.gate_up, mlp.down)
    ways = [(one.in_features, one.out_features) for one in maps]
    return _Known(
        (norms[0].weight, norms[1].weight, attention.qkv.bias, attention.out.bias),
        (norms[0].eps, norms[1].eps),  # pyright: ignore[reportArgumentType]
        tuple(one.weights for one in maps),
        tuple(one.bits for one in maps),
        attention.heads,
        (*ways[0], *ways[1], ways[2][1], ways[3][0]),
    )


def _read(
    known: _Known, h: Hidden, angles: Angles, mask: AttentionMask, memory: LayerMemory
) -> Hidden:
    """Return the stream after the block; overwrites the memory at what is computed."""
    keys, values, slots = memory
    rows, tokens, wide = h.shape
    few, seen, width = keys.shape[1:]
    group, length = known.heads // few, rows * tokens
    cos, sin = (_spread(part, rows, tokens) for part in angles)
    x, slots = h.contiguous(), slots.contiguous()  # pyright: ignore[reportOptionalMemberAccess]
    mask = mask if mask.stride(3) == 1 else mask.contiguous()
    y = torch.empty_like(x)
    rooms = [4 * length * one for one in known.widths]
    scratch = x.new_empty(sum(rooms) // 4 + group * (seen + LANES))
    normed, heads, attended, middle, into, gated, shares = accumulate(
        rooms, initial=scratch.data_ptr()
    )
    end = y.data_ptr()
    steps = ((normed, heads), (attended, middle), (normed, into), (gated, end))
    jobs: list[int] = []
    for (source, goal), weights, bits in zip(steps, known.maps, known.bits, strict=True):
        jobs += kernel.jobs(source, weights, bits, goal, length)
    told = array.array("q", (
        rows, tokens, few, group, width, seen, cos.shape[2],
        *keys.stride()[:2], 0 if mask.shape[0] == 1 else mask.stride(0), mask.stride(2),
        wide, known.widths[-1],
        x.data_ptr(), normed, heads, attended, middle, into, gated, end,
        *[0 if one is None else one.data_ptr() for one in known.vectors],
        cos.data_ptr(), sin.data_ptr(), keys.data_ptr(), values.data_ptr(), slots.data_ptr(),
        mask.data_ptr(), shares,
        kernel.runs(), 8 * kernel.JOB, len(jobs) // (4 * kernel.JOB), *jobs,
    ))  # fmt: skip
    _loops()(told.buffer_info()[0], *known.eps)
    return y


def _spread(angles: Tensor, rows: int, tokens: int) -> Tensor:
    """Return a cosine or sine of every token, side by side; several rows may share one."""
    if angles.shape[:-1] == (rows, tokens) and angles.is_contiguous():
        return angles
    return angles.expand(rows, tokens, -1).contiguous()


def shortens(block: nn.Module) -> bool:
    """Return whether a block has a short way: RMS norms, rotary places and a gated MLP."""
    return (
        isinstance(block, layers.Block)
        and block.modulation is None
        and isinstance(block.attention_norm, nn.RMSNorm)
        and block.attention.q_norm is None
        and isinstance(block.mlp, SwiGluMlp)
        and isinstance(block.mlp.down, QuantisedLinear)
        and block.attention.qkv.out_features % LANES == 0
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


def _able() -> bool:
    return kernel.able()


@functools.cache
def _loops() -> Any:
    return importlib.import_module("unison.engine.quantised.loops").compiled()
