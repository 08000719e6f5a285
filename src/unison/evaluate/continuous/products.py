"""How does an answer change with the question? Products with the Jacobian of a denoiser.

Rows never see each other, so the Jacobian J = dD/dy is one matrix for each row, over the numbers of
an event. It is never built for large events: J^T v is one backward pass, J v two, and traces come
from random signs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from unison.decode.continuous.api import at
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Estimate, Event, EventDenoiser

SITE_SIGNS, SITE_NOISE = 0x7FFFFC00, 0x7FFFFC01


class Answer(NamedTuple):
    """A question whose answer can be differentiated.

    Attributes:
        asked: The events that were shown.
        given: What the denoiser answered, a function of ``asked``.
    """

    asked: Event
    given: Event

    def pulled(self, along: Event) -> Event:
        """Return J^T v of every row."""
        return torch.autograd.grad(self.given, self.asked, along, retain_graph=True)[0]

    def pushed(self, along: Event) -> Event:
        """Return J v of every row: the derivative of J^T w in w, whatever w is."""
        free = torch.zeros_like(self.given).requires_grad_()
        pulled = torch.autograd.grad(self.given, self.asked, free, create_graph=True)[0]
        return torch.autograd.grad(pulled, free, along)[0]

    def jacobian(self) -> Float[Tensor, "B N N"]:
        """Return J of every row, an answer's number in a line: as many passes as numbers."""
        size = self.given[0].numel()
        units = torch.eye(size, dtype=self.given.dtype, device=self.given.device)
        lines = [self.pulled(unit.view_as(self.given[0]).expand_as(self.given)) for unit in units]
        return torch.stack([line.flatten(1) for line in lines], 1).detach()


@contextmanager
def answer(denoise: EventDenoiser, x: Event, level: float) -> Iterator[Answer]:
    """Ask a denoiser about events at one level, so that its answer can be differentiated.

    Raises:
        ValueError: No gradient passes from the answer to the events.
    """
    # the fused attention kernels have no second derivatives
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        free = x.detach().clone().requires_grad_()
        mean = denoise(free, at(level, free))
        if not mean.requires_grad:
            raise ValueError(
                "the denoiser's answer does not depend on its events as far as autograd knows; "
                "ask the model for denoiser(gradients=True)."
            )
        yield Answer(free, mean)


def noised(clean: Event, level: float, key: Key) -> Event:
    """Return x_0 + s noise of every row."""
    noise = rng.normal(key, SITE_NOISE, clean[0].numel()).to(clean).view_as(clean)
    return clean + level * noise


def signs(x: Event, key: Key, probe: int) -> Event:
    """Draw +1 or -1 for every number: unbiased for traces (Hutchinson, 1989)."""
    stream = Key(rng.derived(key.seed, probe), key.step)
    uniforms = rng.uniform(stream, SITE_SIGNS, x[0].numel())
    return ((uniforms < 0.5).double() * 2 - 1).to(x).view_as(x)


def traces(found: Answer, key: Key, probes: int) -> Float[Tensor, "P B"]:
    """Return v^T J v of every row for random signs v, or the trace itself for 0 probes.

    The mean over the first axis is without bias; its rows are independent.
    """
    if probes == 0:
        return found.jacobian().diagonal(dim1=1, dim2=2).sum(1)[None]
    drawn = []
    for probe in range(probes):
        along = signs(found.asked, key, probe)
        drawn.append((along * found.pulled(along)).flatten(1).sum(1).detach())
    return torch.stack(drawn)


def averaged(values: Float[Tensor, " N"], unit: str) -> Estimate:
    """Return the mean of independent observations, with its standard error."""
    n = len(values)
    if n == 0:
        raise ValueError("there is nothing to average; give at least one event.")
    values = values.detach().double()
    error = (values.var() / n).sqrt().item() if n > 1 else float("nan")
    return Estimate(values.mean().item(), error, n, unit)


def quotient(above: Float[Tensor, " N"], below: Float[Tensor, " N"], unit: str) -> Estimate:
    """Return the mean of ``above`` over the mean of ``below``, with its error to first order."""
    above, below = above.detach().double(), below.detach().double()
    ratio, n = (above.mean() / below.mean()).item(), len(above)
    off = (above - ratio * below) / below.mean()
    error = (off.var() / n).sqrt().item() if n > 1 else float("nan")
    return Estimate(ratio, error, n, unit)


def check_probes(probes: int, least: int = 0) -> None:
    """Refuse too few random directions."""
    if probes < least:
        exact = "" if least else ", where 0 asks for exact traces"
        raise ValueError(f"probes must be at least {least}{exact}, got {probes}.")


def check_rising(levels: Sequence[float]) -> None:
    """Refuse levels that do not rise from above 0."""
    rising = all(low < high for low, high in pairwise(levels))
    if len(levels) < 2 or not (levels[0] > 0 and rising):
        raise ValueError(f"two levels at least must rise from above 0, got {tuple(levels)}.")
