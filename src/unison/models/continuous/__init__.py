"""Which networks predict continuous data? One file each; one table.

To add one: write a frozen configuration and an ``nn.Module`` that takes it and satisfies
``types.EventNetwork``, and add one line below. Saving, loading and the contract tests iterate the
table.
"""

from typing import Any, NamedTuple

import torch
from torch import nn

from unison.models.continuous.dit import DiT, DiTConfig
from unison.models.continuous.mlp import PointsConfig, PointsNetwork
from unison.models.continuous.unet import Features, UNet, UNetConfig
from unison.models.continuous.wave import WaveConfig, WaveUNet


class Kind(NamedTuple):
    """One family of networks.

    Attributes:
        config: Its frozen configuration.
        network: The module, made from one.
        axes: Of an event: channels, and those of its grid.
    """

    config: type
    network: type[nn.Module]
    axes: int


NETWORKS: dict[str, Kind] = {
    "dit": Kind(DiTConfig, DiT, 3),
    "points": Kind(PointsConfig, PointsNetwork, 1),
    "unet": Kind(UNetConfig, UNet, 3),
    "wave": Kind(WaveConfig, WaveUNet, 2),
}


def name_of(config: Any) -> str:
    """Return the name of the network that a configuration makes.

    Raises:
        ValueError: It is of no network in the table.
    """
    for name, kind in NETWORKS.items():
        if type(config) is kind.config:
            return name
    raise ValueError(
        f"a {type(config).__name__} makes no network of continuous data; known: "
        f"{', '.join(kind.config.__name__ for kind in NETWORKS.values())}."
    )


def build(config: Any, seed: int = 0) -> nn.Module:
    """Return a fresh network on the CPU; equal arguments, equal weights.

    Raises:
        ValueError: The configuration is of no network in the table.
    """
    kind = NETWORKS[name_of(config)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.network(config)


__all__ = [
    "NETWORKS",
    "DiT",
    "DiTConfig",
    "Features",
    "Kind",
    "PointsConfig",
    "PointsNetwork",
    "UNet",
    "UNetConfig",
    "WaveConfig",
    "WaveUNet",
    "build",
    "name_of",
]
