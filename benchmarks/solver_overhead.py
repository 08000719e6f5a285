"""What share of a small U-Net's forward does a solver's own arithmetic take?

CPU seconds of one thread, the least of several repeats: ``python benchmarks/solver_overhead.py``.
"""

import time
from collections.abc import Callable

import torch

from unison.decode.continuous import SOLVERS, Span, solve
from unison.decode.continuous.grids import Karras
from unison.event_denoising import Preconditioned
from unison.models.continuous import UNetConfig, build
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM

CONFIG = UNetConfig(channels=3, width=64, multipliers=(1, 2, 2), blocks=2, attention=(2,))
ROWS, SIDE, INTERVALS = 4, 32, 10
NAMES = ("ddim", "multistep", "dpm_solver", "deis", "unipc", "heun", "dpm_solver_sde")


def seconds(run: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the fastest run."""
    spent = []
    for _ in range(repeats):
        begun = time.process_time()
        run()
        spent.append(time.process_time() - begun)
    return min(spent)


def main() -> None:
    """Print a row for each solver."""
    torch.set_num_threads(1)
    x = torch.randn(ROWS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    net = build(CONFIG).eval()
    ask = Preconditioned(net, span=(0.002, 80.0))
    level = torch.ones(ROWS)
    forward = seconds(lambda: net_alone(net, x, level), 7)
    wrapped = seconds(lambda: ask(x, level), 7)
    weights = sum(weight.numel() for weight in net.parameters()) / 1e6
    print(f"U-Net of {weights:.2f} M weights, {ROWS} x 3 x {SIDE} x {SIDE}, 1 thread")
    print(f"forward {1e3 * forward:.2f} ms; preconditioned {1e3 * wrapped:.2f} ms")
    levels = (*Karras().levels(Span(80.0, 0.002, EDM()), INTERVALS), 0.0)
    answer, key = 0.3 * x, Key(rng.rows(0, 0, ROWS))
    for name in NAMES:
        solver = SOLVERS[name]()
        count = solve(solver, levels, lambda y, s: answer, 80 * x, key).nfe
        spent = seconds(
            lambda solver=solver: solve(solver, levels, lambda y, s: answer, 80 * x, key), 30
        )
        each = spent / count
        print(f"{name:16} {1e6 * each:8.0f} us an evaluation, {100 * each / forward:.2f} %")


def net_alone(net: torch.nn.Module, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Return the network's bare answer, without gradients."""
    with torch.no_grad():
        return net(x, level)


if __name__ == "__main__":
    main()
