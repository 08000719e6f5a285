"""Which linear part fits a model? The statistics of DPM-Solver-v3, from its own trajectories.

Zheng et al. (2023, arXiv:2310.13268), in the frame y = x_t / alpha: l is the mean diagonal of
1 - dD/dy, which minimises E|dN/dy|^2; s and b are the regression, element by element, of the
slope of N along the flow on N.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unison.decode.continuous.api import Levels, Past, at, checked
from unison.decode.continuous.dpm_solver_v3 import Values
from unison.decode.continuous.exponential import advanced
from unison.files import write_tensors
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser

SITE_PROBE = 0x7FFFFF18

GAUSSIAN = (-2.0, 0.0)  # where s lies for any Gaussian data; noise basis -1, data basis 0
_NAMES = ("lam", "linear", "scale", "bias")


@dataclass(frozen=True, eq=False)
class Table:
    """Coefficients at known levels, interpolated between them.

    Attributes:
        lam: -log s, rising, [N].
        linear: l, [N, *E].
        scale: s.
        bias: b.
    """

    lam: Tensor
    linear: Tensor
    scale: Tensor
    bias: Tensor

    def __post_init__(self) -> None:
        shape = (len(self.lam), *self.linear.shape[1:])
        if not self.linear.shape == self.scale.shape == self.bias.shape == shape:
            raise ValueError(
                f"the coefficients of {len(self.lam)} levels must be alike, got "
                f"{tuple(self.linear.shape)}, {tuple(self.scale.shape)}, {tuple(self.bias.shape)}."
            )
        if len(self.lam) < 2 or not bool((self.lam.diff() > 0).all()):
            raise ValueError("the levels of a table must fall, and be two at least.")

    def at(self, points: Tensor, x: Event) -> Values:
        """Return the coefficients at points, linear between levels, constant beyond the ends.

        Raises:
            ValueError: They are of other events.
        """
        if x.shape[1:] != self.linear.shape[1:]:
            raise ValueError(
                f"these statistics are of events {tuple(self.linear.shape[1:])}, the events are "
                f"{tuple(x.shape[1:])}."
            )
        points = points.to(self.lam)
        right = torch.searchsorted(self.lam, points).clamp(1, len(self.lam) - 1)
        low, high = self.lam[right - 1], self.lam[right]
        share = ((points - low) / (high - low)).clamp(0, 1).view(-1, *[1] * (x.ndim - 1))
        parts = (self.linear, self.scale, self.bias)
        return Values(*(part[right - 1].lerp(part[right], share).to(x) for part in parts))


def statistics(
    denoise: EventDenoiser,
    starts: Event,
    levels: Levels,
    key: Key,
    probes: int = 1,
    bounds: tuple[float, float] = GAUSSIAN,
) -> Table:
    """Measure l, s and b of a model along its flow.

    The flow is followed with two evaluations in the noise basis and slopes are differences
    between levels, so the levels must be dense: a hundred or more. Each costs one evaluation, and
    one product with its Jacobian for each probe.

    Args:
        denoise: The model, differentiable.
        starts: Events at the first level; their number is what averages are over.
        levels: Falling, all above 0.
        key: One random stream per row: directions of the derivatives, the same at every level so
            that what noise there is in l is smooth.
        probes: Random directions a row.
        bounds: Between which s is kept; b is then the best for that s. Differs: the published
            regression has none. A positive s carries N on exponentially: where symmetry makes N
            tiny at high levels it grows as a high power of 1 / s, and a prediction through the
            levels where that growth ends overshoots by orders of magnitude.

    Raises:
        ValueError: There are fewer than three levels, or the last is 0.
    """
    grid = checked(levels, denoise)
    if grid[-1] == 0 or len(grid) < 3:
        raise ValueError(f"three levels above 0 are needed at least, got {grid}.")
    directions = _directions(starts, key, probes)
    lam = -torch.tensor(grid, dtype=torch.float64, device=starts.device).log()
    x, past, window, linears, parts = starts, (), [], [], []
    for i, level in enumerate(grid):
        mean, linear = _measured(denoise, x, level, directions)
        linears.append(linear)
        window = [*window, (1 - linear) * x - mean][-3:]
        if i >= 2:
            slopes = torch.gradient(
                torch.stack(window), spacing=(lam[i - 2 : i + 1].to(x),), dim=0, edge_order=2
            )[0]
            ends = (i == 2, True, i == len(grid) - 1)
            parts += [
                _regressed(f, slope, bounds)
                for f, slope, wanted in zip(window, slopes, ends, strict=True)
                if wanted
            ]
        past = (Past(level, x, mean), *past)[:2]
        if i + 1 < len(grid):
            x = advanced(x, (level, grid[i + 1]), past, "noise")
    scales, biases = (torch.stack(part) for part in zip(*parts, strict=True))
    return Table(lam, torch.stack(linears), scales, biases)


def save(table: Table, path: Path) -> None:
    """Write a table to one safetensors file."""
    write_tensors(path, {name: getattr(table, name) for name in _NAMES})


def load(path: Path) -> Table:
    """Read what ``save`` wrote.

    Raises:
        ValueError: The file holds something else.
    """
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}).") from error
    missing = [name for name in _NAMES if name not in tensors]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: it holds no coefficients.")
    return Table(*(tensors[name] for name in _NAMES))


def _directions(starts: Event, key: Key, probes: int) -> list[Event]:
    draws = [rng.uniform(key.at(n), SITE_PROBE, starts[0].numel()) for n in range(probes)]
    return [torch.where(u < 0.5, -1.0, 1.0).to(starts).view_as(starts) for u in draws]


def _measured(
    denoise: EventDenoiser, x: Event, level: float, directions: list[Event]
) -> tuple[Event, Tensor]:
    """Return the answer, and l: 1 minus the diagonal of its Jacobian in the mean over rows."""
    shown = x.detach().requires_grad_()
    with torch.enable_grad():
        mean = denoise(shown, at(level, x)).to(x.dtype)
    diagonal = torch.zeros_like(x)
    for n, one in enumerate(directions):
        more = n + 1 < len(directions)
        turned = torch.autograd.grad(mean, shown, one, retain_graph=more)[0]
        diagonal = diagonal + one * turned / len(directions)
    return mean.detach(), 1 - diagonal.mean(0)


def _regressed(f: Event, slope: Event, bounds: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return s and b of slope = s f + b over rows, with s between bounds."""
    middle, drift = f.mean(0), slope.mean(0)
    spread = (f - middle).square().mean(0)
    joint = ((f - middle) * (slope - drift)).mean(0)
    # where N hardly varies from row to row nothing can be regressed on it: its mean slope is b
    flat = spread <= 1e-6 * f.square().mean(0)
    scale = torch.where(flat, 0.0, joint / torch.where(flat, 1.0, spread)).clamp(*bounds)
    return scale, drift - scale * middle
