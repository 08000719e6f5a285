"""How is one set of samples carried to another? By an interpolant's ODE, or any of its SDEs.

With b the velocity, s the score and any epsilon(t) >= 0, both of

    dx = (b + epsilon s) dt + sqrt(2 epsilon) dw,   t rising
    dx = (b - epsilon s) dt + sqrt(2 epsilon) dw,   t falling

have the interpolant's marginals at every t (Albergo, Boffi and Vanden-Eijnden, 2023,
arXiv:2303.08797, corollary 2.18); epsilon = 0 is the ODE. Noise makes errors of the velocity be
forgotten, as far as the score is right.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch

from unison.decode.continuous.api import at
from unison.decode.continuous.noise import noise_like
from unison.prob.rng import Key
from unison.process.continuous.interpolant import Interpolant
from unison.types import Event, Level

SITE_TRANSPORT = 0x7FFFFD13

Epsilon = Callable[[float], float]


@runtime_checkable
class Field(Protocol):
    """A trained interpolant as its sampler sees it."""

    def __call__(self, x: Event, t: Level) -> tuple[Event, Event]:
        """Return the velocity b and E[z | x_t] of every row."""
        ...


def transport(
    interpolant: Interpolant,
    field: Field,
    times: Sequence[float],
    start: Event,
    key: Key,
    epsilon: Epsilon | None = None,
) -> Event:
    """Carry the rows from the first time to the last, by Heun steps of two evaluations.

    Args:
        interpolant: What the field was trained on.
        field: The model.
        times: Rising from the first set to the second, or falling back; inside [0, 1].
        start: The rows at ``times[0]``.
        key: One random stream per row.
        epsilon: How much noise at a time; ``None`` for none.

    Raises:
        ValueError: The times are not monotone or leave [0, 1]; epsilon is below 0, or above 0
            where the interpolant has no noise and therefore no score.
    """
    _check_times(times)
    x = start
    for step, (here, there) in enumerate(pairwise(times)):
        width = there - here
        middle = 0.0 if epsilon is None else epsilon((here + there) / 2)
        noise = torch.zeros_like(x)
        if middle > 0:
            drawn = noise_like(x, Key(key.seed, step), SITE_TRANSPORT)
            noise = (2 * middle * abs(width)) ** 0.5 * drawn
        way = 1.0 if width > 0 else -1.0
        first = _drift(interpolant, field, x, here, way, epsilon)
        ahead = x + width * first + noise
        second = _drift(interpolant, field, ahead, there, way, epsilon)
        x = x + width / 2 * (first + second) + noise
    if not bool(x.isfinite().all()):
        raise ValueError(
            "the transport ended in NaN or infinity; take more steps, or keep the times away from "
            "an end at which the interpolant's noise has an infinite slope (``root``)."
        )
    return x


def _drift(
    interpolant: Interpolant,
    field: Field,
    x: Event,
    time: float,
    way: float,
    epsilon: Epsilon | None,
) -> Event:
    velocity, noise = field(x, at(time, x))
    amount = 0.0 if epsilon is None else epsilon(time)
    if amount == 0:
        return velocity
    gamma = interpolant.at(torch.tensor([time], dtype=torch.float64)).noise.item()
    if amount < 0 or not gamma > 0:
        raise ValueError(
            f"epsilon is {amount} at t={time}, where the interpolant's noise is {gamma}; it must "
            "be at least 0, and 0 where there is no noise: the score is -E[z | x_t] / gamma."
        )
    return velocity - way * amount / gamma * noise


def _check_times(times: Sequence[float]) -> None:
    if len(times) < 2:
        raise ValueError(f"at least two times are needed, got {len(times)}.")
    signs = {late > early for early, late in pairwise(times)}
    if len(signs) > 1 or any(late == early for early, late in pairwise(times)):
        raise ValueError(f"times must rise or fall strictly, got {tuple(times)}.")
    if min(times) < 0 or max(times) > 1:
        raise ValueError(f"times must lie in [0, 1], got some from {min(times)} to {max(times)}.")
