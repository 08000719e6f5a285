"""What do resting encoders, resting levels and late patches save, and what do they cost?

A small U-Net learns pictures of two bright spots at random places; then 50 steps of DDIM from the
same noise are made plainly, with an encoder that runs at key steps alone (``propagation``), with
inner levels that do (``step_caching``), and in patches that hear of each other late (``patches``,
all of them imagined in one process, so that only bytes and distances mean anything). Told are CPU
seconds over those of the plain run, taking turns, and how far samples end from the plain ones:
root mean square over the spread of the plain ones. The same is told of plain runs of fewer steps,
the other way to spend less.
Run: ``python -m benchmarks.event_caching --rounds 3``.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import measure
from unison.decode.continuous import DDIM, GRIDS, Solver, Span, solve
from unison.engine.continuous.keys import Every, KeySteps, Places
from unison.engine.continuous.patch_transport import OneProcess
from unison.engine.continuous.patches import StaleContext, neighbours
from unison.engine.continuous.prior_noise import PriorNoise
from unison.engine.continuous.propagation import Propagation
from unison.engine.continuous.step_caching import StepCaching
from unison.event_denoising import Preconditioned, scales
from unison.models.continuous import UNetConfig, build
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM
from unison.types import EventDenoiser

CONFIG = UNetConfig(channels=1, width=16, multipliers=(1, 2, 2), blocks=1, attention=(2,))
SIDE, ROWS, BATCH, STEPS, SPREAD = 16, 8, 32, 50, 0.3
HIGH, LOW = 40.0, 0.01
KEYS: dict[str, KeySteps] = {
    "every step": Every(1),
    "25 of 50": Every(2),
    "13 of 50": Every(4),
    "9 of 50, published": Places(),
    "7 of 50": Every(8),
    "4 of 50": Every(16),
}
FEWER = (33, 25, 13, 9)
CONTEXTS = {
    "2 patches, fresh": (StaleContext(lag=0), 2),
    "2 patches, lag 1": (StaleContext(), 2),
    "2 patches, lag 2": (StaleContext(lag=2), 2),
    "2 patches, lag 4": (StaleContext(lag=4), 2),
    "4 patches, lag 1": (StaleContext(), 4),
    "4 patches, lag 1, half of the neighbours": (neighbours(0.5, 4), 4),
    "4 patches, lag 1, a quarter of the neighbours": (neighbours(0.25, 4), 4),
}


def pictures(rows: int, draw: torch.Generator) -> Tensor:
    """Two bright spots each, of mean 0 or so."""
    line = torch.arange(SIDE) / SIDE
    centres, widths = (
        torch.rand(rows, 2, 2, 1, generator=draw),
        0.08 + 0.08 * torch.rand(rows, 2, 1, 1, generator=draw),
    )
    down, across = (-((line - centres) / widths).square() / 2).exp().unbind(2)
    return (down[..., None] * across[..., None, :]).sum(1, keepdim=True) - 0.2


def learnt(steps: int, seed: int) -> nn.Module:
    """A U-Net that denoises them."""
    network, draw = build(CONFIG, seed), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    for _ in range(steps):
        clean = pictures(BATCH, draw)
        level = (torch.randn(BATCH, generator=draw) * 1.5 - 0.8).exp()
        s = level.view(-1, 1, 1, 1)
        y = clean + s * torch.randn(clean.shape, generator=draw)
        at = scales("edm", level, SPREAD)
        into, skip, out = (one.float().view(-1, 1, 1, 1) for one in (at.into, at.skip, at.out))
        loss = (network(into * y, at.noise.float()) - (clean - skip * y) / out).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()
    print(f"{steps} steps of training, last loss {loss.item():.3f}")
    return network.eval().requires_grad_(False)


def steps_of(count: int) -> tuple[float, ...]:
    """A grid of so many evaluations."""
    return (*GRIDS["karras"]().levels(Span(HIGH, LOW, EDM()), count - 1), 0.0)


def drawn(made: Callable[[], EventDenoiser], solver: Solver, grid: tuple[float, ...]) -> Tensor:
    """Samples from the noise that every run begins with."""
    key = Key(rng.rows(0, 0, ROWS))
    x = HIGH * rng.normal(key, 1, SIDE * SIDE).view(ROWS, 1, SIDE, SIDE).float()
    return solve(solver, grid, made(), x, key).x


def main() -> None:
    """Print what each way costs and saves."""
    parser = measure.options(__doc__, rounds=3)
    parser.add_argument("--training", type=int, default=600, help="steps of training")
    chosen = parser.parse_args()
    measure.one_thread(chosen.seed)
    denoise = Preconditioned(learnt(chosen.training, chosen.seed), spread=SPREAD)
    grid = steps_of(STEPS)
    ways: dict[str, tuple[Callable[[], EventDenoiser], Solver]] = {}
    for name, keys in KEYS.items():
        for kind, made in (
            ("encoder", Propagation(denoise, keys)),
            ("encoder, together", Propagation(denoise, keys, together=True)),
            ("1 outer level", StepCaching(denoise, keys)),
            ("2 outer levels", StepCaching(denoise, keys, 2)),
        ):
            ways[f"{kind}: {name}"] = partial(made.with_memory, grid), DDIM()
    noisy = Propagation(denoise, Places())
    ways["encoder, prior noise: 9 of 50, published"] = (
        partial(noisy.with_memory, grid),
        PriorNoise(DDIM()),
    )
    runs = {name: partial(drawn, made, solver, grid) for name, (made, solver) in ways.items()}
    for steps in FEWER:
        runs[f"plain: {steps} steps"] = partial(drawn, lambda: denoise, DDIM(), steps_of(steps))
    plain = partial(drawn, lambda: denoise, DDIM(), grid)
    whole = plain()
    away = {name: _away(run(), whole) for name, run in runs.items()}
    seconds = measure.take_turns({"plain": plain, **runs}, chosen.rounds)
    ratios = [
        measure.ratio(f"{name} (away {away[name]:.4f})", seconds[name], seconds["plain"])
        for name in runs
    ]
    measure.report(ratios, seconds, measure.machine(), chosen.out)
    patches(denoise, grid, whole)


def patches(denoise: Preconditioned, grid: tuple[float, ...], whole: Tensor) -> None:
    """Print how far patches end, and what they send."""
    print(f"{'patches':48} {'away':>9}  bytes a row and evaluation")
    for name, (context, count) in CONTEXTS.items():
        made = context.with_memory(denoise, OneProcess(count))
        samples = drawn(lambda made=made: made, DDIM(), grid)
        sent = {kind: size // (ROWS * STEPS) for kind, size in made.traffic.items()}
        print(f"{name:48} {_away(samples, whole):9.5f}  {sum(sent.values())} {sent}")


def _away(samples: Tensor, whole: Tensor) -> float:
    return ((samples - whole).square().mean().sqrt() / whole.std()).item()


if __name__ == "__main__":
    main()
