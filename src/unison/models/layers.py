"""Which pieces make a block? Rotary positions, modulation, attention, MLPs."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models import rope
from unison.models.config import TransformerConfig
from unison.models.mlp import GeluMlp, SwiGluMlp
from unison.models.moe import Mixture

Hidden = Float[Tensor, "B L D"]
Cond = Float[Tensor, "B C"]
Heads = Float[Tensor, "B L H E"]
Split = Float[Tensor, "B H L E"]
Narrow = Float[Tensor, "B G L E"]
Past = Float[Tensor, "B G N E"]
Angles = tuple[Float[Tensor, "*P E2"], Float[Tensor, "*P E2"]]
AttentionMask = Bool[Tensor, "#B 1 L N"]


@runtime_checkable
class Attending(Protocol):
    """A way to attend that knows by itself who may look at whom (``unison.models.flex``)."""

    def __call__(
        self, queries: Float[Tensor, "B H L E"], keys: Tensor, values: Tensor
    ) -> Float[Tensor, "B H L E"]:
        """Return what every query finds among the values."""
        ...


Seen = AttentionMask | Attending | None
Map = Callable[[Tensor], Tensor]
Parts = tuple[Tensor, ...]

_ROWS, _ENOUGH = 4, 12  # matrix kernels give a row the same bits in so many rows, and from so many
_WIDE = 256  # a wider network reads its weights from main memory: a second row would cost time


class LayerMemory(NamedTuple):
    """One layer's keys and values of the whole canvas; the layer overwrites what it computes.

    Attributes:
        keys: Room for every position.
        values: The same.
        compute: Positions that are computed; ``None`` for all.
    """

    keys: Float[Tensor, "B H N E"]
    values: Float[Tensor, "B H N E"]
    compute: Int[Tensor, "B L"] | None


class _Rotate(torch.autograd.Function):
    """Rotate half-split pairs by position; its adjoint is the rotation by the negative angle.

    Hand-written because the composed form makes six passes over the heads where two suffice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(grads[0], cos, -sin), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1]
    first, second = x[..., :half], x[..., half : 2 * half]
    cos, sin = cos.unsqueeze(-2).to(x.dtype), sin.unsqueeze(-2).to(x.dtype)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half : 2 * half]).addcmul_(first, sin)
    if 2 * half < x.shape[-1]:
        out[..., 2 * half :] = x[..., 2 * half :]
    return out


def _composed(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return the same rotation in plain operations, which a compiler fuses by itself."""
    half = cos.shape[-1]
    cos, sin = cos.unsqueeze(-2).to(x.dtype), sin.unsqueeze(-2).to(x.dtype)
    first, second, others = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
    turned = (first * cos - second * sin, second * cos + first * sin, others)
    return torch.cat(turned if others.shape[-1] else turned[:2], dim=-1)


def rotate(x: Heads, angles: Angles) -> Heads:
    """Apply rotary position embedding, half-split layout (Su et al., 2021, arXiv:2104.09864).

    Where there are fewer angles than pairs, the leading entries of each head rotate among
    themselves and the others stay.
    """
    if torch.compiler.is_compiling():
        return _composed(x, *angles)
    return _Rotate.apply(x, *angles)  # pyright: ignore[reportReturnType]


def angles(place: Int[Tensor, "*P"], config: TransformerConfig) -> Angles:
    """Return cos and sin of place times frequency, float32, stretched as configured."""
    rates, factor = rope.frequencies(config, place.device)
    angle = place[..., None].double() * rates
    return (angle.cos() * factor).float(), (angle.sin() * factor).float()


def make_norm(config: TransformerConfig) -> nn.Module:
    """Return the configured normalisation of the residual stream."""
    if config.norm == "rms":
        return nn.RMSNorm(config.hidden, eps=config.norm_eps)
    return nn.LayerNorm(config.hidden, eps=config.norm_eps, bias=config.norm_bias)


def modulate(x: Hidden, shift: Tensor, scale: Tensor) -> Hidden:
    """Return x (1 + scale) + shift with one shift and scale per row, or per position."""
    if shift.ndim == 2:
        shift, scale = shift[:, None], scale[:, None]
    return torch.addcmul(shift, x, 1 + scale)


def steady(function: Map, x: Float[Tensor, "*P D"]) -> Tensor:
    """Apply a map of single vectors so that a vector's answer is the same beside others.

    On a CPU matrix kernels round a row otherwise where there are few; those are filled up with
    zeros. A single vector of a wide network is left alone: the kernel for one is much faster. So
    is what gradients flow through: nobody compares it with what it would be beside others.
    """
    rows, width = x.numel() // x.shape[-1], x.shape[-1]
    enough = rows >= _ENOUGH or rows % _ROWS == 0 or (rows == 1 and width > _WIDE)
    if enough or x.is_cuda or torch.is_grad_enabled():
        return function(x)
    filled = F.pad(x.reshape(1, rows, width), (0, 0, 0, -rows % _ROWS))
    return function(filled)[0, :rows].unflatten(0, x.shape[:-1])


def _slow_backward(heads: Tensor) -> bool:
    """Return whether float32 attends faster: the bfloat16 gradient on a CPU takes thrice."""
    learning = heads.requires_grad and torch.is_grad_enabled()
    return heads.is_cpu and heads.dtype == torch.bfloat16 and learning


class Attention(nn.Module):
    """Grouped-query self-attention with one fused input projection."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.num_kv_heads
        self.head_dim = config.head_dim
        width = self.heads * self.head_dim
        into = width + 2 * self.kv_heads * self.head_dim
        self.qkv = nn.Linear(config.hidden, into, bias=config.qkv_bias)
        self.out = nn.Linear(width, config.hidden, bias=config.out_bias)
        self.q_norm = self.k_norm = None
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(self.head_dim, eps=config.norm_eps)
            self.k_norm = nn.RMSNorm(self.head_dim, eps=config.norm_eps)
        self.causal = config.attention == "causal"

    def forward(
        self,
        x: Hidden,
        angles: Angles | None,
        mask: Seen,
        memory: LayerMemory | None = None,
    ) -> Hidden:
        """Mix positions; ``mask`` is True where a query may look at a key."""
        queries, keys, values = self.projected(x, angles)
        if memory is not None:
            keys, values = recalled(memory, keys, values)
        return steady(self.out, self.attended(queries, keys, values, mask))

    def projected(self, x: Hidden, angles: Angles | None) -> tuple[Split, Narrow, Narrow]:
        """Return queries, keys and values of every position, placed."""
        qkv = steady(self.qkv, x).unflatten(-1, (-1, self.head_dim))
        rotating = self.heads + self.kv_heads
        heads = self._placed(qkv[:, :, :rotating], angles).transpose(1, 2)
        return heads[:, : self.heads], heads[:, self.heads :], qkv[:, :, rotating:].transpose(1, 2)

    def attended(self, queries: Split, keys: Past, values: Past, mask: Seen) -> Hidden:
        """Return what every query finds among the values, before the output projection."""
        width = queries.dtype
        if _slow_backward(queries):
            queries, keys, values = queries.float(), keys.float(), values.float()
        with torch.autocast(queries.device.type, enabled=False):  # casts nothing that was chosen
            found = self._found(queries, keys, values, mask)
        return found.to(width).transpose(1, 2).flatten(2)

    def _found(self, queries: Split, keys: Past, values: Past, mask: Seen) -> Split:
        if mask is not None and not isinstance(mask, Tensor):
            return mask(queries, keys, values)
        return F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            is_causal=self.causal and mask is None,
            enable_gqa=self.kv_heads != self.heads,
        )

    def _placed(self, heads: Heads, angles: Angles | None) -> Heads:
        """Return queries and keys, normalised and rotated where the model does so."""
        if self.q_norm is not None and self.k_norm is not None:
            queries, keys = heads.split([self.heads, self.kv_heads], dim=2)
            heads = torch.cat([self.q_norm(queries), self.k_norm(keys)], dim=2)
        return heads if angles is None else rotate(heads, angles)


class TimeEmbedding(nn.Module):
    """Sinusoids of the noise level sigma, through a small MLP (as in DiT, arXiv:2212.09748)."""

    def __init__(self, cond_dim: int, frequencies: int = 128) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(
            nn.Linear(2 * frequencies, cond_dim), nn.SiLU(), nn.Linear(cond_dim, cond_dim)
        )

    def forward(self, sigma: Float[Tensor, " B"]) -> Cond:
        """Embed sigma = -log(alpha)."""
        k = torch.arange(self.frequencies, device=sigma.device) / self.frequencies
        angle = sigma.float()[:, None] * torch.exp(-math.log(10_000.0) * k)
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1)
        waves = waves.to(next(self.mlp.parameters()).dtype)
        return steady(lambda some: F.silu(self.mlp(some)), waves)


class ScalarHead(nn.Module):
    """The mean of a row's hidden states through a small MLP to one number; 0 at first."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        nn.init.zeros_(self.mlp[2].weight)  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(self.mlp[2].bias)  # pyright: ignore[reportArgumentType]

    def forward(self, h: Hidden, valid: Bool[Tensor, "B L"] | None) -> Float[Tensor, " B"]:
        """Return one number per row; padding takes no part."""
        if valid is None:
            return self.mlp(h.mean(1))[:, 0]
        real = valid[..., None].to(h.dtype)
        return self.mlp((h * real).sum(1) / real.sum(1).clamp(min=1))[:, 0]


def make_mlp(config: TransformerConfig, layer: int) -> nn.Module:
    """Return the MLP of one layer, or the mixture of experts in its place."""
    if config.mixture is not None and layer >= config.mixture.dense:
        return Mixture(config.hidden, config.mixture)
    kind = {"gelu": GeluMlp, "swiglu": SwiGluMlp}[config.mlp]
    return kind(config.hidden, config.mlp_width)


class Block(nn.Module):
    """Attention and MLP, each behind a norm; adaLN modulates and gates both when present."""

    def __init__(self, config: TransformerConfig, layer: int = 0) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = make_norm(config), make_norm(config)
        self.attention = Attention(config)
        self.mlp = make_mlp(config, layer)
        self.dropout = nn.Dropout(config.dropout)
        self.modulation = None
        if config.time == "adaln":
            self.modulation = nn.Linear(config.cond_dim, 6 * config.hidden)
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        h: Hidden,
        cond: Cond | None,
        angles: Angles | None,
        mask: Seen,
        memory: LayerMemory | None = None,
    ) -> Hidden:
        """Return the residual stream after this block."""
        parts = None
        if self.modulation is not None and cond is not None:
            parts = tuple(steady(self.modulation, cond)[:, None].chunk(6, -1))
        return around(self, h, parts, lambda x: self.attention(x, angles, mask, memory))


def around(block: Any, h: Hidden, parts: Parts | None, attention: Map) -> Hidden:
    """Return the residual stream after a block whose attention is given.

    Args:
        block: A ``Block``, or what has its parts.
        h: The stream before it.
        parts: Shift, scale and gate of the attention, then of the MLP, one per row or position.
        attention: From normed positions to what is added.
    """
    if parts is None:
        h = h + block.dropout(attention(block.attention_norm(h)))
        return h + block.dropout(_fed(block.mlp, block.mlp_norm(h)))
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
    x = modulate(block.attention_norm(h), shift_a, scale_a)
    h = torch.addcmul(h, gate_a, block.dropout(attention(x)))
    x = modulate(block.mlp_norm(h), shift_m, scale_m)
    return torch.addcmul(h, gate_m, block.dropout(_fed(block.mlp, x)))


def _fed(mlp: Map, x: Hidden) -> Hidden:
    """Return the MLP's answer; experts see what is there and nothing else."""
    return mlp(x) if isinstance(mlp, Mixture) else steady(mlp, x)


def recalled(memory: LayerMemory, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Write fresh keys and values into the memory; return all of it."""
    for room, fresh in ((memory.keys, keys), (memory.values, values)):
        if memory.compute is None:
            room.copy_(fresh)
        else:
            where = memory.compute[:, None, :, None].expand(fresh.shape)
            room.scatter_(2, where, fresh.to(room.dtype))
    return memory.keys.to(keys.dtype), memory.values.to(values.dtype)
