r"""What would the bound lose without one head or one MLP unit?

A unit u is some columns of the layer that reads it (``out`` reads heads, ``down`` MLP units); a
gate z_u on them is 1 in the network and 0 where the unit is gone. ``removal`` is the loss change
itself, one evaluation a unit. The others ask once for all units, over all noise levels:

    gradient    E |dl/dz_u|,  dl/dz_u = sum over a row's positions of  x_u . dl/dx_u
                (Michel et al., 2019, arXiv:1905.10650; Molchanov et al., 2019, arXiv:1906.10771)
    energy      E |W_u x_u|^2, what the unit adds to the stream: from second moments alone
    surgeon     the least change of the layer's output without u when the others may be refitted,
                |W_u|^2 / (S^-1)_uu for a single column
                (optimal brain surgeon: Hassibi & Stork, 1993; for layers: arXiv:2208.11580)
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unison.compress.calibration import Moments, still
from unison.compress.levels import Levels, losses, noisy
from unison.compress.pruning.solving import damped
from unison.models import Transformer
from unison.process import Process
from unison.types import Tokens

Importance = Literal["gradient", "energy", "surgeon", "removal"]


class Scores(NamedTuple):
    """Importance of every unit, layer by layer; comparable within a layer.

    Attributes:
        heads: Of each query head.
        mlp: Of each MLP unit.
    """

    heads: tuple[Float[Tensor, " H"], ...]
    mlp: tuple[Float[Tensor, " M"], ...]


def readers(network: Transformer) -> dict[str, int]:
    """Return the layers that read units, by name, and how many columns a unit has."""
    names = {f"blocks.{i}.attention.out": network.config.head_dim for i in _layers(network)}
    return names | {f"blocks.{i}.mlp.down": 1 for i in _layers(network)}


def by_layer(network: Transformer, scores: Mapping[str, Tensor]) -> Scores:
    """Return scores by the name of the reading layer as scores of heads and units."""
    return Scores(
        tuple(scores[f"blocks.{i}.attention.out"] for i in _layers(network)),
        tuple(scores[f"blocks.{i}.mlp.down"] for i in _layers(network)),
    )


def gradients(
    network: Transformer, process: Process, text: Tokens, levels: Levels
) -> dict[str, Float[Tensor, " U"]]:
    """Return E |dl/dz_u| of every unit, l the bound of a row, nats."""
    sums = {}

    def see(name: str, x: Tensor) -> None:
        size = readers_of[name]

        def add(gradient: Tensor) -> None:
            each = (x.detach() * gradient).flatten(1, -2).sum(1).unflatten(1, (-1, size)).sum(-1)
            sums[name] = sums.get(name, 0) + each.double().abs().sum(0)

        x.register_hook(add)

    readers_of = readers(network)
    with torch.enable_grad(), still(network), _reading(network, see):
        for one in noisy(levels, process, text):
            losses(process, network, one).sum().backward()
    return {name: total / levels.rows for name, total in sums.items()}


def energies(network: Transformer, moments: Mapping[str, Moments]) -> dict[str, Tensor]:
    """Return E |W_u x_u|^2 of every unit: tr(W_u S_uu W_u^T)."""
    found = {}
    for name, size in readers(network).items():
        weight, second = _weight(network, name), moments[name].second
        columns = weight.T.unflatten(0, (-1, size))  # [units, size, N]
        blocks = torch.stack(
            [second[i : i + size, i : i + size] for i in range(0, len(second), size)]
        )
        found[name] = (columns @ columns.mT * blocks).sum((1, 2))
    return found


def surgeons(network: Transformer, moments: Mapping[str, Moments]) -> dict[str, Tensor]:
    """Return the least output change without each unit when all others may be refitted.

    Removing columns u at best costs tr(W_u ((S^-1)_uu)^-1 W_u^T).
    """
    found = {}
    for name, size in readers(network).items():
        weight = _weight(network, name)
        inverse = torch.linalg.inv(damped(moments[name].second))
        blocks = torch.stack(
            [inverse[i : i + size, i : i + size] for i in range(0, len(inverse), size)]
        )
        columns = weight.T.unflatten(0, (-1, size))
        found[name] = (columns @ columns.mT * torch.linalg.inv(blocks)).sum((1, 2))
    return found


@torch.no_grad()
def removals(
    network: Transformer, process: Process, text: Tokens, levels: Levels
) -> dict[str, Float[Tensor, " U"]]:
    """Return how much the bound rises without each unit, nats per token, under the same noise.

    One evaluation a unit: exact, and dear.
    """
    whole = _mean(network, process, text, levels)
    found = {}
    for name, size in readers(network).items():
        layer = network.get_submodule(name)
        count = _weight(network, name).shape[1] // size
        changes = []
        for unit in range(count):
            with _without(layer, slice(unit * size, (unit + 1) * size)):
                changes.append(_mean(network, process, text, levels) - whole)
        found[name] = torch.tensor(changes, dtype=torch.float64)
    return found


@contextmanager
def _without(layer: nn.Module, columns: slice) -> Iterator:
    """Let a layer read zeros in some columns within."""

    def blank(module: nn.Module, read: tuple[Tensor, ...]) -> Tensor:
        x = read[0].clone()
        x[..., columns] = 0
        return x

    handle = layer.register_forward_pre_hook(blank)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _reading(network: Transformer, see: Callable[[str, Tensor], None]) -> Iterator:
    """Show what the layers read, as something a gradient reaches."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], Tensor]:
        def shown(module: nn.Module, read: tuple[Tensor, ...]) -> Tensor:
            x = read[0] if read[0].requires_grad else read[0].detach().requires_grad_()
            see(name, x)
            return x

        return shown

    handles = [
        network.get_submodule(name).register_forward_pre_hook(hook(name))
        for name in readers(network)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mean(network: Transformer, process: Process, text: Tokens, levels: Levels) -> float:
    total, count = 0.0, 0
    for one in noisy(levels, process, text):
        loss = losses(process, network, one)
        total, count = total + float(loss.double().sum()), count + loss.numel()
    return total / count


def _weight(network: Transformer, name: str) -> Tensor:
    return network.get_submodule(name).weight.detach().double()  # pyright: ignore


def _layers(network: Transformer) -> range:
    return range(network.config.depth)
