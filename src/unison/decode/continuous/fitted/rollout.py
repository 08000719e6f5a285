"""Where does a table of numbers take its starts, and how does the end move with the numbers?"""

import torch
from torch import Tensor
from torch.func import jacfwd, jvp

from unison.decode.continuous.api import at
from unison.decode.continuous.fitted.table import Layout, Table
from unison.types import Event, EventDenoiser, Level


def ended(denoise: EventDenoiser, table: Table, starts: Event) -> Event:
    """Return the events at the last level; differentiable in the table."""
    y, means = starts, []
    for i in range(len(table.weights)):
        level = table.u[i].exp().to(y.dtype).expand(len(y))
        means.append(denoise(y, level).to(y.dtype))
        parts = [weight * mean for weight, mean in zip(table.given[i + 1], means, strict=False)]
        y = table.kept[i + 1] * starts + torch.stack(parts).sum(0)
    return y


def linearised(
    denoise: EventDenoiser, layout: Layout, numbers: Tensor, starts: Event
) -> tuple[Event, Tensor]:
    """Return the ends [B, E] and their derivatives in the numbers [B, E, P], for flat events.

    A denoiser answers each row by that row alone, so its Jacobian in a row of E elements costs
    E forward derivatives for all rows together; the rest is sums.
    """
    table = layout.table(numbers)
    # jacfwd is declared for whatever a function returns; here that is a Table of Tensors.
    moved = Table(*jacfwd(lambda one: tuple(layout.table(one)))(numbers))  # type: ignore[misc]
    rows, size = starts.shape
    y, dy = starts, starts.new_zeros(rows, size, len(numbers))
    means, d_means = starts.new_zeros(rows, size, layout.intervals), []
    for i in range(layout.intervals):
        level = table.u[i].exp().repeat(rows)
        means[:, :, i], by_y, by_u = _derivatives(denoise, y, level)
        d_means.append((by_y @ dy).addcmul_(by_u[..., None], moved.u[i]))
        y = table.kept[i + 1] * starts + means @ table.given[i + 1]
        dy = means @ moved.given[i + 1] + starts[..., None] * moved.kept[i + 1]
        for weight, d_mean in zip(table.given[i + 1].tolist(), d_means, strict=False):
            dy = dy.add_(d_mean, alpha=weight)
    return y, dy


def _derivatives(denoise: EventDenoiser, y: Event, level: Level) -> tuple[Event, Tensor, Tensor]:
    """Return the means, their Jacobians [B, E, E] in y and derivatives [B, E] in log s."""

    def answer(event: Tensor, levels: Tensor) -> Tensor:
        return denoise(event, levels).to(y.dtype)

    rows, size = y.shape
    # One call: a copy of the rows for each element, and one for the level.
    along_y = torch.eye(size + 1, size, dtype=y.dtype, device=y.device)
    along_u = torch.eye(size + 1, dtype=y.dtype, device=y.device)[-1]
    copies = (y.repeat(size + 1, 1), level.repeat(size + 1))
    tangents = (along_y.repeat_interleave(rows, 0), along_u.repeat_interleave(rows) * copies[1])
    mean, moved = jvp(answer, copies, tangents)[:2]
    columns = moved.view(size + 1, rows, size)
    return mean[:rows], columns[:-1].permute(1, 2, 0), columns[-1]


def distance(ends: Event, wanted: Event) -> Tensor:
    """Return the root of the mean squared distance between events."""
    return (ends - wanted).flatten(1).square().sum(1).mean().sqrt()


def sensitive(denoise: EventDenoiser, starts: Event, level: float) -> None:
    """Check that an answer can be differentiated.

    Raises:
        ValueError: It cannot.
    """
    shown = starts[:1].clone().requires_grad_()
    with torch.enable_grad():
        mean = denoise(shown, at(level, shown))
    if not mean.requires_grad:
        raise ValueError(
            "the denoiser's answer does not depend on its event for autograd; a fit needs its "
            "derivative: call the model without torch.no_grad, inference_mode or detach."
        )
