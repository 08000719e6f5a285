"""Is a denoiser's field a gradient, and does it matter? Curl, the gauge condition, energies.

The exact mean has a symmetric Jacobian, s^-2 Cov(x_0 | y); a network's has not. What is not a
gradient is not always wrong: with score = grad log p + r the flow has the same marginals whenever
div(p r) = 0, that is div r + r . grad log p = 0 everywhere (Horvat and Pfister, 2024,
arXiv:2402.03845). Points then move along the law, and samples and likelihoods stay right; what is
read of dD/dy (``dimension``) does not.
"""

from dataclasses import dataclass

import torch

from unison.evaluate.continuous.products import (
    answer,
    averaged,
    check_probes,
    quotient,
    signs,
    traces,
)
from unison.prob.rng import Key
from unison.types import Estimate, Event, EventDenoiser, Level, Ranged


def curl_index(
    denoise: EventDenoiser, x: Event, level: float, key: Key, probes: int = 1
) -> Estimate:
    """Return |J - J^T| / |J| of J = dD/dy over all rows: 0 for a gradient, 2 at most.

    Frobenius norms; both are means over rows and random signs v, E|J v|^2 = |J|^2. A probe costs
    three backward passes.

    Args:
        denoise: The model, differentiable.
        x: Noisy events at ``level``.
        level: s.
        key: One random stream per row.
        probes: Random directions a row, at least 1.

    Raises:
        ValueError: There are no probes, or the model is not differentiable.
    """
    check_probes(probes, least=1)
    turned, whole = [], []
    with answer(denoise, x, level) as found:
        for probe in range(probes):
            along = signs(x, key, probe)
            pushed = found.pushed(along)
            turned.append((pushed - found.pulled(along)).square().flatten(1).sum(1).detach())
            whole.append(pushed.square().flatten(1).sum(1).detach())
    square = quotient(torch.stack(turned).mean(0), torch.stack(whole).mean(0), "of the Jacobian")
    root = max(square.value, 0.0) ** 0.5
    error = square.stderr / (2 * root) if root > 0 else square.stderr**0.5
    return square._replace(value=root, stderr=error)


def gauge_residual(
    field: EventDenoiser, exact: EventDenoiser, x: Event, level: float, key: Key, probes: int = 0
) -> Estimate:
    """Return E|div r + r . grad log p_s|^2, 0 where a field r leaves the marginals alone.

    With random signs the square is the product of two independent halves of the probes, so that
    it has no bias; single estimates may then be below 0.

    Args:
        field: r(y, s), what is added to the score; differentiable.
        exact: The mean E[x_0 | y] that the score (D - y) / s^2 is of.
        x: Events of p_s.
        level: s.
        key: One random stream per row.
        probes: Random directions a row, an even number; 0 builds the Jacobian of r.

    Raises:
        ValueError: Probes are odd or below 0, or the field is not differentiable.
    """
    check_probes(probes)
    if probes % 2:
        raise ValueError(f"probes are divided in two halves and must be even, got {probes}.")
    with answer(field, x, level) as found:
        spread = traces(found, key, probes)
        along = found.given.detach()
    score = (exact(x, torch.full_like(spread[0], level).to(x)) - x) / level**2
    drift = (along * score).flatten(1).sum(1)
    halves = spread.chunk(2) if probes else (spread, spread)
    one, two = (half.mean(0) + drift for half in halves)
    return averaged(one * two, "1/s^4")


@dataclass(frozen=True)
class Conservative:
    """The denoiser whose score is the gradient of -|y - D|^2 / (2 s^2), D that of another.

    Its mean is D + J^T (y - D), which has no curl whatever the network (Salimans and Ho, 2021,
    openreview 9AS-TF2jRNb). Where D is exact this is another mean: the network has to be trained
    inside. An evaluation costs a backward pass, and passes gradients on.

    Attributes:
        denoise: Who gives D; differentiable.
    """

    denoise: EventDenoiser

    @property
    def span(self) -> tuple[float, float]:
        """The levels the other denoiser knows."""
        return self.denoise.span if isinstance(self.denoise, Ranged) else (0.0, float("inf"))

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean."""
        keeps = torch.is_grad_enabled()
        with torch.enable_grad():
            free = x if x.requires_grad else x.detach().requires_grad_()
            mean = self.denoise(free, level)
            away = free - mean
            pulled = torch.autograd.grad(mean, free, away, create_graph=keeps)[0]
        made = mean + pulled
        return made if keeps else made.detach()
