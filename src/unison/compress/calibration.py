"""What do the layers of a network read? Second moments of their inputs over all noise levels.

The output error of a layer whose weights W become W' is E |(W' - W) x|^2 = tr(D S D^T) with
D = W' - W and S = E x x^T, so S is all that rounding or cutting a layer needs to know of the text.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unison.compress.levels import CompressError, Levels, Noisy, losses, noisy
from unison.models import Transformer
from unison.process import Process
from unison.types import Tokens

Weighting = Literal["time", "gradient"]
Seen = Callable[[str, Tensor, Tensor], None]


class Moments(NamedTuple):
    """What one layer reads, weighted means over positions, float64.

    Attributes:
        second: S = E x x^T.
        mean: E x.
    """

    second: Float[Tensor, "K K"]
    mean: Float[Tensor, " K"]


def transformer(network: Any) -> Transformer:
    """Return a network that is unison's own.

    Raises:
        CompressError: It is another library's.
    """
    if not isinstance(network, Transformer):
        raise CompressError(
            f"a {type(network).__name__} cannot be compressed: its layers are another library's; "
            "unison's own Transformer can, which unison.load makes of most families."
        )
    return network


def moments(
    network: Transformer,
    process: Process,
    text: Tokens,
    names: Sequence[str],
    levels: Levels,
    weighting: Weighting = "time",
) -> dict[str, Moments]:
    """Return what some linear layers read, over all levels.

    Args:
        network: Answers.
        process: What it undoes.
        text: Whole rows.
        names: Of linear layers.
        levels: Rows and noise.
        weighting: ``time`` counts every position the same, levels as the objective draws them.
            ``gradient`` counts, within a level, positions by the squared gradient of the bound at
            the layer's output there: an error where nobody looks costs nothing.
    """
    gathered = {name: _Sums(network.get_submodule(name).weight) for name in names}  # pyright: ignore
    for one in noisy(levels, process, text):
        if weighting == "time":
            with torch.no_grad(), observed(network, names, _plainly(gathered)):
                losses(process, network, one)
        else:
            _by_gradient(network, process, one, gathered)
    return {name: sums.means() for name, sums in gathered.items()}


def _plainly(gathered: Mapping[str, "_Sums"]) -> Seen:
    """Return an observer that counts every position the same."""
    return lambda name, x, y: gathered[name].add(x.flatten(0, -2), None)


def _by_gradient(
    network: Transformer, process: Process, one: Noisy, gathered: Mapping[str, "_Sums"]
) -> None:
    """Add some rows of one level, by the gradient at each layer's output."""

    def see(name: str, x: Tensor, y: Tensor) -> None:
        read = x.detach().flatten(0, -2)

        def weigh(gradient: Tensor) -> None:
            weight = gradient.detach().float().square().sum(-1).flatten().double()
            gathered[name].add(read, weight / weight.mean() if float(weight.sum()) else None)

        y.register_hook(weigh)

    with torch.enable_grad(), still(network), observed(network, gathered, see):
        losses(process, network, one).sum().backward()


@contextmanager
def observed(network: nn.Module, names: Sequence[str] | Mapping[str, Any], see: Seen) -> Iterator:
    """Show what named layers read and answer at every call within."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def shown(layer: nn.Module, read: tuple[Tensor, ...], answer: Tensor) -> None:
            if torch.is_grad_enabled() and not answer.requires_grad:
                answer.requires_grad_()
            see(name, read[0], answer)

        return shown

    handles = [network.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def still(network: nn.Module) -> Iterator:
    """Let no weight ask for a gradient within: those of activations are wanted alone."""
    asking = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in asking:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in asking:
            weight.requires_grad_(True)


class _Sums:
    """Weighted sums of x x^T and x, and of the weights."""

    def __init__(self, weight: Tensor) -> None:
        width = weight.shape[1]
        self._second = torch.zeros(width, width, dtype=torch.float64, device=weight.device)
        self._mean = self._second.new_zeros(width)
        self._count = 0.0

    def add(self, x: Float[Tensor, "N K"], weight: Float[Tensor, " N"] | None) -> None:
        """Add some positions."""
        x = x.float()
        weighted = x if weight is None else x * weight.to(x.dtype)[:, None]
        self._second += (weighted.T @ x).double()
        self._mean += weighted.double().sum(0)
        self._count += len(x) if weight is None else float(weight.sum())

    def means(self) -> Moments:
        """Return the means so far."""
        second = self._second / self._count
        return Moments((second + second.T) / 2, self._mean / self._count)


@torch.no_grad()
def output_errors(
    network: Transformer,
    process: Process,
    text: Tokens,
    changes: Mapping[str, Float[Tensor, "N K"]],
    levels: Levels,
) -> dict[str, Float[Tensor, " T"]]:
    """Return how far changes of weights move each layer's output: E |D x|^2 / E |W x|^2 by level.

    Args:
        network: As it was before the changes.
        process: What it undoes.
        text: Whole rows; best others than were calibrated on.
        changes: D of each layer.
        levels: Rows and noise.
    """
    sums: dict[tuple[str, int], Tensor] = {}
    at = 0

    def see(name: str, x: Tensor, y: Tensor) -> None:
        layer = network.get_submodule(name)
        answer = y if layer.bias is None else y - layer.bias  # pyright: ignore
        moved = x.flatten(0, -2).float() @ changes[name].T
        both = torch.stack([moved.square().sum(), answer.float().square().sum()]).double()
        sums[name, at] = sums.get((name, at), torch.zeros_like(both)) + both

    with observed(network, changes, see):
        for one in noisy(levels, process, text):
            at = one.level
            losses(process, network, one)
    return {
        name: torch.stack([sums[name, i][0] / sums[name, i][1] for i in range(at + 1)]).cpu()
        for name in changes
    }
