"""Which token is drawn? Exact inverse-CDF draws from categorical laws given by log-weights."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.prob import kernels, truncation
from unison.prob.tiles import tiled

_BLOCK = 64  # tokens summed together by the first stage


def sample(logp: Float[Tensor, "*N V"], u: Float[Tensor, "*N"]) -> Int[Tensor, "*N"]:
    """Invert the CDF at ``u``: one float64 uniform per draw instead of V Gumbels.

    Float32 Gumbel noise cannot exceed 16.7, which truncates the tail and acts as a hidden
    temperature (Zheng et al., 2024, arXiv:2409.02908). Here the weights carry the precision of
    ``logp`` and everything after them (sums, uniform, comparison) is float64. Two stages draw
    the block first and the token within it second, from the same uniform. On a GPU one program
    does all of it (``kernels/draw.py``).

    Args:
        logp: Log-weights; need not be normalised. ``-inf`` is never drawn.
        u: Uniforms on (0, 1), float64, one per draw.
    """
    if kernels.fits(logp):
        from unison.prob.kernels.draw import draw  # needs Triton

        return draw(logp, u)
    return tiled(_inverse, logp, u)


def sample_tempered(
    logp: Float[Tensor, "*N V"],
    u: Float[Tensor, "*N"],
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Int[Tensor, "*N"]:
    """Draw at a temperature and from a nucleus, as ``sample`` does from what is left.

    On a GPU one program tempers, truncates and draws, and no law is written to memory.

    Args:
        logp: Log-probabilities.
        u: Uniforms on (0, 1), float64, one per draw.
        temperature: 0 for the first of the likeliest.
        top_p: Mass of the nucleus, in (0, 1].
    """
    if kernels.fits(logp):
        from unison.prob.kernels.draw import draw  # needs Triton

        return draw(logp, u, temperature, top_p)
    return sample(truncation.top_p(truncation.temper(logp, temperature), top_p), u)


def _inverse(logp: Float[Tensor, "*N V"], u: Float[Tensor, "*N"]) -> Int[Tensor, "*N"]:
    weights = logp.softmax(-1)  # not exp: on a CPU that is slow where it underflows
    size = weights.shape[-1]
    whole = size - size % _BLOCK
    sums = weights[..., :whole].unflatten(-1, (-1, _BLOCK)).sum(-1, dtype=torch.float64)
    if whole < size:
        rest = weights[..., whole:].sum(-1, keepdim=True, dtype=torch.float64)
        sums = torch.cat([sums, rest], dim=-1)
    target = u * sums.sum(-1)
    block, below = _locate(sums, target)
    ids = block[..., None] * _BLOCK + torch.arange(_BLOCK, device=logp.device)
    inside = weights.gather(-1, ids.clamp(max=size - 1)).double().where(ids < size, 0.0)
    offset, _ = _locate(inside, target - below)
    return block * _BLOCK + offset


def sample_where(
    logp: Float[Tensor, "*N V"], u: Float[Tensor, "*N"], wanted: Bool[Tensor, "*N"]
) -> Int[Tensor, "*N"]:
    """Draw only where ``wanted``; other entries are 0. Equal, draw for draw, to ``sample``.

    On a CPU the unwanted rows cost nothing, nor do they in a program of a GPU; without one
    compacting would need a host sync there, so the whole tensor is drawn.
    """
    if kernels.fits(logp):
        from unison.prob.kernels.draw import draw  # needs Triton

        return draw(logp, u, wanted=wanted)
    if logp.device.type != "cpu":
        return sample(logp, u).where(wanted, 0)
    drawn = torch.zeros_like(wanted, dtype=torch.int64)
    if wanted.any():
        drawn[wanted] = sample(logp[wanted], u[wanted])
    return drawn


def _locate(
    weights: Float[Tensor, "*N J"], target: Float[Tensor, "*N"]
) -> tuple[Int[Tensor, "*N"], Float[Tensor, "*N"]]:
    """Return the first index whose running sum exceeds ``target``, and the sum before it.

    Sums taken in different orders round differently; clamping the target inside [0, total)
    keeps the answer on an entry of positive weight.
    """
    running = weights.cumsum(-1)
    zero = torch.zeros_like(target)
    target = torch.minimum(target.clamp(min=0), torch.nextafter(running[..., -1], zero))
    index = torch.searchsorted(running, target[..., None], right=True)
    before = (running.gather(-1, index) - weights.gather(-1, index))[..., 0]
    return index[..., 0], before
