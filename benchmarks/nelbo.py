"""What does the fused uniform-state NELBO save? Against the same loss with its tensors in full.

The reference forms one-hot vectors, both xbar tensors and their logarithms, as published code
does, and leaves the backward pass to autograd. Run: ``python -m benchmarks.nelbo --out x.json``.
"""

import subprocess
import sys
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks import measure
from unison.objectives.uniform_nelbo import uniform_nelbo

SIZES = ((50257, 512), (2048, 4096), (256, 4096))  # vocabulary, positions
TARGETS = {50257: ">= 3", 2048: ">= 1.5", 256: ""}


def materialised(logits, clean, noisy, alpha, dalpha):
    """Return the loss with everything of size [rows, K] in memory."""
    size = logits.shape[-1]
    alpha, dalpha = alpha[:, None], dalpha[:, None]
    x_bar = size * alpha * F.one_hot(clean, size).float() + 1 - alpha
    x_bar_theta = size * alpha * logits.log_softmax(-1).exp() + 1 - alpha
    x_bar_zt = x_bar.gather(-1, noisy[:, None])
    x_bar_theta_zt = x_bar_theta.gather(-1, noisy[:, None])
    first = size * (1 / x_bar_zt - 1 / x_bar_theta_zt)
    second = (x_bar / x_bar_zt) * (
        x_bar_theta_zt.log() - x_bar_theta.log() + x_bar.log() - x_bar_zt.log()
    )
    return (dalpha / (size * alpha) * (first - second.sum(-1, keepdim=True)))[:, 0]


LOSSES = {"reference": materialised, "ours": uniform_nelbo}


def operands(size, rows):
    """Return logits and everything else the loss takes, half of the tokens changed."""
    t = torch.linspace(0.01, 1, rows)
    clean = torch.randint(size, (rows,))
    noisy = torch.where(torch.arange(rows) % 2 == 0, clean, torch.randint(size, (rows,)))
    logits = torch.empty(rows, size).normal_().requires_grad_()
    return logits, clean, noisy, 1 - 0.999 * t, torch.full_like(t, -0.999)


def both_ways(name, arguments):
    """Return the forward and backward pass as a piece of work."""

    def run():
        arguments[0].grad = None
        LOSSES[name](*arguments).mean().backward()

    return run


def resident(name):
    """Return VmRSS (now) or VmHWM (at most) of this process in bytes.

    Linux only. Not ``getrusage``: its maximum survives fork and exec and would be the parent's.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024


def peak_bytes(name, size, rows):
    """Print the memory that forward and backward add to their operands, gradient included."""
    both_ways(name, operands(8, 8))()  # libraries load their kernels now
    work = both_ways(name, operands(size, rows))
    before = resident("VmRSS")
    work()
    print(resident("VmHWM") - before)


def peak_in_subprocess(name, size, rows):
    """Measure in a fresh process: a process's high-water mark never falls."""
    command = [sys.executable, "-m", "benchmarks.nelbo", "--memory", name, str(size), str(rows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def main():
    """Measure every size and report."""
    parser = measure.options(__doc__, rounds=7)
    parser.add_argument("--memory", nargs=3, metavar=("LOSS", "K", "ROWS"))
    parser.add_argument("--scale", type=int, default=1, help="divide the positions by this")
    arguments = parser.parse_args()
    measure.one_thread(arguments.seed)
    if arguments.memory:
        name, size, rows = arguments.memory
        peak_bytes(name, int(size), int(rows))
        return
    ratios, seconds, memory = [], {}, {}
    for size, rows in SIZES:
        rows //= arguments.scale
        data = operands(size, rows)
        spent = measure.take_turns(
            {name: both_ways(name, data) for name in LOSSES}, arguments.rounds
        )
        label = f"K={size} N={rows}"
        seconds |= {f"{label} {name}": s for name, s in spent.items()}
        ratios.append(
            measure.ratio(
                f"{label}: speed, reference / ours",
                spent["reference"],
                spent["ours"],
                TARGETS[size],
            )
        )
        peaks = {name: peak_in_subprocess(name, size, rows) for name in LOSSES}
        memory |= {f"{label} {name}": peak for name, peak in peaks.items()}
        ratios.append(
            measure.ratio(
                f"{label}: peak memory, ours / reference",
                [peaks["ours"]],
                [peaks["reference"]],
                "<= 0.5" if size == 50257 else "",
            )
        )
    facts = {"sizes": SIZES, "dtype": "float32", "peak_bytes": memory, "seed": arguments.seed}
    measure.report(ratios, seconds, facts, arguments.out)


if __name__ == "__main__":
    main()
