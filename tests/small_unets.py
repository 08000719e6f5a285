"""Small U-Nets of random weights, and runs of them, for tests of what makes events fast."""

from functools import partial

import torch

from unison.decode.continuous import DDIM, GRIDS, Span, solve
from unison.event_denoising import Preconditioned
from unison.models.continuous import UNetConfig, build
from unison.models.continuous.parts import ResidualBlock
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM

CONFIG = UNetConfig(channels=1, width=8, multipliers=(1, 2), blocks=1, attention=(1,))
HIGH, LOW, SIDE = 20.0, 0.05, 8


def network(config=CONFIG, strength=0.3, seed=0):
    """A U-Net of which every weight was moved, those that begin at 0 too."""
    net = build(config, seed).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            scale = strength * weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1
            weight += scale * torch.randn(weight.shape, generator=draw)
    return net.requires_grad_(False)


def deaf(net):
    """The network, whose encoder no longer hears the noise."""
    for part in (net.body.downs, net.body.middle):
        for block in part.modules():
            if isinstance(block, ResidualBlock):
                block.modulation.weight.zero_()
                block.modulation.bias.zero_()
    return net


def levels(steps, high=HIGH):
    """A grid that ends with 0."""
    return (*GRIDS["logsnr"]().levels(Span(high, LOW, EDM()), steps - 1), 0.0)


def start(rows=2, side=SIDE, channels=1, high=HIGH, seed=3):
    """Noise at the first level."""
    key = Key(rng.rows(seed, 0, rows))
    flat = rng.normal(key, 77, channels * side * side)
    return high * flat.view(rows, channels, side, side).float()


def drawn(denoise, steps, solver=None, x=None, grid=None):
    """Events of one run."""
    x = start() if x is None else x
    key = Key(rng.rows(3, 0, len(x)))
    run = partial(solve, DDIM() if solver is None else solver, grid or levels(steps))
    return run(denoise, x, key).x


def distance(x, y):
    """Root mean square."""
    return (x - y).square().mean().sqrt().item()


def plain(net=None, **settings):
    """A denoiser of the network, of data of spread 0.5."""
    return Preconditioned(network() if net is None else net, spread=0.5, **settings)
