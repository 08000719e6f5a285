"""Which pieces make a block? Rotary positions, modulation, attention, MLPs."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models.config import TransformerConfig

Hidden = Float[Tensor, "B L D"]
Cond = Float[Tensor, "B C"]
Heads = Float[Tensor, "B L H E"]
Angles = tuple[Float[Tensor, "L E2"], Float[Tensor, "L E2"]]
AttentionMask = Bool[Tensor, "B 1 M L"]


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
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    cos, sin = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin)
    return out


def rotate(x: Heads, angles: Angles) -> Heads:
    """Apply rotary position embedding, half-split layout (Su et al., 2021, arXiv:2104.09864)."""
    return _Rotate.apply(x, *angles)  # pyright: ignore[reportReturnType]


def angles(length: int, head_dim: int, base: float, device: torch.device) -> Angles:
    """Return cos and sin of position times frequency, float32."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float64, device=device) / head_dim
    position = torch.arange(length, dtype=torch.float64, device=device)
    angle = position[:, None] * base**-exponent
    return angle.cos().float(), angle.sin().float()


def make_norm(config: TransformerConfig) -> nn.Module:
    """Return the configured normalisation; neither kind has a bias."""
    if config.norm == "rms":
        return nn.RMSNorm(config.hidden, eps=1e-5)
    return nn.LayerNorm(config.hidden, bias=False)


def modulate(x: Hidden, shift: Tensor, scale: Tensor) -> Hidden:
    """Return x (1 + scale) + shift with one shift and scale per row."""
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions and one fused input projection."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.num_kv_heads
        self.head_dim = config.head_dim
        self.qkv = nn.Linear(
            config.hidden, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=False
        )
        self.out = nn.Linear(config.hidden, config.hidden, bias=False)
        self.causal = config.attention == "causal"

    def forward(self, x: Hidden, angles: Angles, mask: AttentionMask | None) -> Hidden:
        """Mix positions; ``mask`` is True where a query may look at a key."""
        qkv = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        rotating = self.heads + self.kv_heads
        rotated = rotate(qkv[:, :, :rotating], angles).transpose(1, 2)
        attended = F.scaled_dot_product_attention(
            rotated[:, : self.heads],
            rotated[:, self.heads :],
            qkv[:, :, rotating:].transpose(1, 2),
            attn_mask=mask,
            is_causal=self.causal and mask is None,
            enable_gqa=self.kv_heads != self.heads,
        )
        return self.out(attended.transpose(1, 2).flatten(2))


class GeluMlp(nn.Module):
    """Two linear maps round a tanh-form GELU."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(hidden, inner), nn.Linear(inner, hidden)

    def forward(self, x: Hidden) -> Hidden:
        """Return the MLP of every position."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class SwiGluMlp(nn.Module):
    """A gated MLP (Shazeer, 2020, arXiv:2002.05202) with one fused input projection."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden, 2 * inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Hidden) -> Hidden:
        """Return the MLP of every position."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


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
        return F.silu(self.mlp(waves.to(next(self.mlp.parameters()).dtype)))


class Block(nn.Module):
    """Attention and MLP, each behind a norm; adaLN modulates and gates both when present."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        inner = int(config.hidden * config.mlp_ratio)
        self.attention_norm, self.mlp_norm = make_norm(config), make_norm(config)
        self.attention = Attention(config)
        self.mlp = {"gelu": GeluMlp, "swiglu": SwiGluMlp}[config.mlp](config.hidden, inner)
        self.dropout = nn.Dropout(config.dropout)
        self.modulation = None
        if config.time == "adaln":
            self.modulation = nn.Linear(config.cond_dim, 6 * config.hidden)
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(
        self, h: Hidden, cond: Cond | None, angles: Angles, mask: AttentionMask | None
    ) -> Hidden:
        """Return the residual stream after this block."""
        if self.modulation is None or cond is None:
            h = h + self.dropout(self.attention(self.attention_norm(h), angles, mask))
            return h + self.dropout(self.mlp(self.mlp_norm(h)))
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(cond).chunk(6, -1)
        x = modulate(self.attention_norm(h), shift_a, scale_a)
        h = torch.addcmul(h, gate_a[:, None], self.dropout(self.attention(x, angles, mask)))
        x = modulate(self.mlp_norm(h), shift_m, scale_m)
        return torch.addcmul(h, gate_m[:, None], self.dropout(self.mlp(x)))
