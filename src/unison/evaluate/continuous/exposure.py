"""Do samplers show a model what it was trained on? Exposure bias, level by level.

In training a denoiser sees x_0 + s noise, in sampling what it and the solver made of the levels
before. How far the two laws are apart at equal levels is the exposure bias (Ning et al., 2023,
arXiv:2301.11706, 2308.15321); zero for exact means and many steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.continuous.api import Solver, State, at, checked, solve
from unison.evaluate.continuous.products import averaged, noised
from unison.exact.distances import directions, sliced_wasserstein
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Estimate, Event, EventDenoiser

BANDS = 8  # of spatial frequency
_RATIO = "of the data's"


class Visited(NamedTuple):
    """Where the rows of a run stood.

    Attributes:
        level: s.
        x: The rows.
    """

    level: float
    x: Event


class Exposure(NamedTuple):
    """How sampled states differ from forward-noised data at one level.

    Attributes:
        level: s.
        shift: Root mean square of the difference of means, in standard deviations of y; what
            finitely many rows add is taken off.
        variance: Variance of sampled states over that of noised data, all numbers together.
        noise: The same for |y - D|^2: how much noise the model sees.
        spectrum: Root mean square over bands of frequency of the quotient of powers, in decibels;
            over principal axes for events that are points.
        distance: Sliced Wasserstein-2 of sampled states to noised data, in standard deviations
            of y.
        floor: The same between two halves of the noised data, as many rows each as were compared:
            what a sampler without bias shows.
        errors: Mean squared difference of the model's mean from a reference's, on sampled states
            and on noised data; ``None`` without a reference.
    """

    level: float
    shift: Estimate
    variance: Estimate
    noise: Estimate
    spectrum: float
    distance: float
    floor: float
    errors: tuple[Estimate, Estimate] | None


def visited(
    solver: Solver, levels: Sequence[float], denoise: EventDenoiser, start: Event, key: Key
) -> tuple[Visited, ...]:
    """Run a solver and return its rows at every level above 0, the first one too."""
    grid, seen = checked(levels, denoise), []

    def watch(number: int, state: State) -> None:
        if grid[number] > 0:
            seen.append(Visited(grid[number], state.x))

    solve(solver, grid, denoise, start, key, watch)
    return tuple(seen)


def exposure(
    denoise: EventDenoiser,
    states: Sequence[Visited],
    clean: Event,
    seed: int,
    reference: EventDenoiser | None = None,
    along: int = 64,
) -> tuple[Exposure, ...]:
    """Compare a run with data at every level it visited.

    Args:
        denoise: The model that was run.
        states: What it was shown (``visited``), R rows.
        clean: Data it did not learn from, 2 R rows: half to compare with, half for the floor.
        seed: Names the noise that is added to data, and the directions.
        reference: A better denoiser, for example the exact one.
        along: Random directions of the sliced distance.

    Raises:
        ValueError: There are fewer than 2 rows, or not twice as many of data.
    """
    rows = len(states[0].x)
    if rows < 2 or len(clean) < 2 * rows:
        raise ValueError(
            f"{rows} sampled rows need at least twice as many events of data, and 2 rows are "
            f"needed at least; got {len(clean)} events."
        )
    key = Key(rng.rows(seed, 0, 2 * rows).to(clean.device))
    ways = directions(Key(rng.rows(seed, 0, along)), clean[0].numel()).to(clean.device)
    found = []
    for number, state in enumerate(states):
        true = noised(clean[: 2 * rows], state.level, Key(key.seed, number)).to(state.x)
        found.append(_compared(denoise, reference, state, true, ways))
    return tuple(found)


def spectrum(x: Event) -> Float[Tensor, " K"]:
    """Return the power of events by band of frequency, a mean over rows and channels.

    Images and waves have an axis of channels first; bands are equally wide in the distance from
    frequency 0, which is the first band's lower end. Points have no frequencies: their powers are
    the eigenvalues of the covariance, rising.
    """
    if x.ndim == 2:
        return torch.linalg.eigvalsh(torch.cov(x.double().T).reshape(x.shape[1], -1))
    axes = tuple(range(2, x.ndim))
    power = torch.fft.fftn(x.double(), dim=axes, norm="ortho").abs().square().mean((0, 1))
    squares = torch.zeros_like(power)
    for axis, size in enumerate(power.shape):
        along = torch.fft.fftfreq(size, dtype=power.dtype, device=power.device).square()
        squares = squares + along.view(*[-1 if i == axis else 1 for i in range(power.ndim)])
    bands = (squares.sqrt() / squares.max().sqrt() * BANDS).long().clamp(max=BANDS - 1).flatten()
    sums = power.new_zeros(BANDS).index_add(0, bands, power.flatten())
    counts = torch.bincount(bands, minlength=BANDS)
    return (sums / counts.clamp(min=1))[counts > 0]


def _compared(
    denoise: EventDenoiser,
    reference: EventDenoiser | None,
    state: Visited,
    true: Event,
    ways: Tensor,
) -> Exposure:
    rows = len(state.x)
    near, far = true[:rows], true[rows:]
    unit = near.double().flatten(1).var(0).mean().sqrt()
    level = at(state.level, state.x)
    with torch.no_grad():
        means = [denoise(x, level) for x in (state.x, near)]
        wanted = None if reference is None else [reference(x, level) for x in (state.x, near)]
    noise = [_squares(x - mean) for x, mean in zip((state.x, near), means, strict=True)]
    errors = None
    if wanted is not None:
        off = [_squares(mean - other) for mean, other in zip(means, wanted, strict=True)]
        errors = (averaged(off[0], "squared"), averaged(off[1], "squared"))
    powers = [spectrum(x) for x in (state.x, near)]
    flat = [x.double().flatten(1) for x in (state.x, near, far)]
    return Exposure(
        state.level,
        _shift(flat[0], flat[1], unit),
        _quotient(*(_squares(x - x.mean(0)) for x in flat[:2])),
        _quotient(*noise),
        (10 * (powers[0] / powers[1]).log10()).square().mean().sqrt().item(),
        (sliced_wasserstein(flat[0], flat[1], ways) / unit).item(),
        (sliced_wasserstein(flat[2], flat[1], ways) / unit).item(),
        errors,
    )


def _shift(sampled: Tensor, true: Tensor, unit: Tensor) -> Estimate:
    """Return the root of the unbiased |difference of means|^2 a number, in units."""
    rows, size = sampled.shape
    off = sampled.mean(0) - true.mean(0)
    expected = (sampled.var(0) + true.var(0)) / rows
    square = ((off.square() - expected).mean() / unit.square()).item()
    root = max(square, 0.0) ** 0.5
    # of a sum of independent squares: 2 v^2 + 4 v off^2 each, v the variance of a mean
    spread = (2 * expected.square() + 4 * expected * (off.square() - expected).clamp(min=0)).sum()
    error = (spread.sqrt() / size / unit.square()).item()
    return Estimate(root, error / (2 * root) if root**2 > error else error**0.5, rows, "s.d. of y")


def _quotient(above: Tensor, below: Tensor) -> Estimate:
    """Return the quotient of the means of two independent sets."""
    one, two = averaged(above, ""), averaged(below, "")
    ratio = one.value / two.value
    error = ((one.stderr / one.value) ** 2 + (two.stderr / two.value) ** 2) ** 0.5
    return Estimate(ratio, abs(ratio) * error, one.n, _RATIO)


def _squares(x: Tensor) -> Float[Tensor, " B"]:
    return x.double().flatten(1).square().mean(1)
