"""How is the default solver's table made? One fitted solver for many laws at once.

The rule is that of ``unison.decode.continuous.fitted.LearnedSolver``: levels, the noise tau in the
state at each, and weights of all means seen so far. They minimise the mean log error over random
mixtures, guided mixtures and Gaussians with steep spectra; the laws that solvers are compared on
(``unison.exact.zoo.ZOO``) are not among them, nor are any of their starts.

    python -m benchmarks.tune_solver --intervals 5 6 8 10 --out table.json

A number of intervals that the table already has is learnt on from there.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unison.decode.continuous import Span
from unison.decode.continuous.exponential import weights_of
from unison.decode.continuous.grids import CosineSNR, TimePower
from unison.exact.mixtures import Mixture, gaussian
from unison.exact.zoo import random_mixture, standardised
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving

HIGH, LOW = 157.4, 0.01  # of the linear DDPM schedule
STARTS = ((TimePower(2.0), "noise"), (CosineSNR(), "data"))  # the second helps few intervals alone
FLOOR = 1e-3  # errors below this are not worth a trade


@dataclass(frozen=True)
class Stack:
    """Laws of one dimension and one number of components, evaluated side by side."""

    log_weights: Tensor  # N K
    means: Tensor  # N K D
    values: Tensor  # N K D
    axes: Tensor  # N K D D
    guidance: Tensor  # N, towards the first component

    def __call__(self, x: Tensor, s: Tensor) -> Tensor:
        """Return the guided means of x [N, S, D] at one level."""
        away = torch.einsum("nksd,nkde->nkse", x[:, None] - self.means[:, :, None], self.axes)
        total = self.values + s * s
        log_p = -(away.square() / total[:, :, None] + total.log()[:, :, None]).sum(-1) / 2
        shares = (self.log_weights[:, :, None] + log_p).softmax(1)
        pulled = away * (self.values / total)[:, :, None]
        centres = self.means[:, :, None] + torch.einsum("nkse,nkde->nksd", pulled, self.axes)
        plain = (shares[..., None] * centres).sum(1)
        return plain + (self.guidance - 1)[:, None, None] * (centres[:, 0] - plain)


@dataclass(frozen=True)
class Lesson:
    """Laws with starts and where their exact flow ends."""

    laws: Stack
    starts: Tensor  # N S D
    ends: Tensor

    def errors(self, rule: "Numbers") -> Tensor:
        """Return the root mean square error on each law."""
        x, seen = self.starts, []
        for i, row in enumerate(rule.weights):
            seen.append(self.laws(x, rule.levels[i]))
            ratio = rule.scales[i + 1] / rule.scales[i]
            x = ratio * x + (1 - ratio) * sum(row[j] * mean for j, mean in enumerate(seen))
        return (x - self.ends).square().sum(-1).mean(-1).sqrt()


def stacked(laws: list[Mixture], guidance: Tensor) -> Stack:
    """Return the laws as one."""
    values, axes = torch.linalg.eigh(torch.stack([law.covariances for law in laws]))
    return Stack(
        torch.stack([law.log_weights for law in laws]),
        torch.stack([law.means for law in laws]),
        values.clamp(min=0),
        axes,
        guidance,
    )


def lesson(laws: list[Mixture], guided: int, starts: int, seed: int) -> Lesson:
    """Return the laws, the first ``guided`` of them under guidance, with their exact ends."""
    guidance = torch.ones(len(laws), dtype=torch.float64)
    guidance[:guided] = torch.linspace(1.5, 6, guided, dtype=torch.float64)
    stack = stacked(laws, guidance)
    size = laws[0].means.shape[1]
    noise = rng.normal(Key(rng.rows(seed, 0, len(laws) * starts)), 3, size)
    y = HIGH * noise.view(len(laws), starts, size)
    return Lesson(stack, y, _flow(stack, y))


@torch.no_grad()
def _flow(laws: Stack, y: Tensor, steps: int = 800) -> Tensor:
    u = torch.tensor(math.log(HIGH), dtype=torch.float64)
    width = (math.log(LOW) - u) / steps
    for _ in range(steps):
        first = y - laws(y, u.exp())
        second = _slope(laws, y + width / 2 * first, u + width / 2)
        third = _slope(laws, y + width / 2 * second, u + width / 2)
        fourth = _slope(laws, y + width * third, u + width)
        y, u = y + width / 6 * (first + 2 * second + 2 * third + fourth), u + width
    return y


def _slope(laws: Stack, y: Tensor, u: Tensor) -> Tensor:
    return y - laws(y, u.exp())


def steep(seed: int, size: int = 12) -> Mixture:
    """Return a Gaussian whose variances fall by a random power, as those of images do."""
    draw = rng.uniform(Key(torch.tensor([seed])), 9, 2)[0]
    values = torch.logspace(0, -1.0 - 3.5 * float(draw[0]), size, dtype=torch.float64)
    return standardised(gaussian(torch.zeros(size).double(), torch.diag(values)))


def clusters(seed: int, count: int = 9) -> Mixture:
    """Return round components of one random size at random places."""
    draws = rng.uniform(Key(torch.tensor([seed])), 10, 2 * count + 1)[0]
    means = torch.special.ndtri(draws[: 2 * count]).view(count, 2)
    size = 0.3 * 10 ** (-1.3 * float(draws[-1]))
    shapes = (size**2 * torch.eye(2, dtype=torch.float64)).expand(count, 2, 2)
    weights = torch.full((count,), -math.log(count), dtype=torch.float64)
    return standardised(Mixture(weights, means, shapes))


def lessons(first: int, share: float) -> list[Lesson]:
    """Return what is learnt from, or what is held out: other seeds give other laws."""
    count = int(64 * share)
    flat = [random_mixture(i) for i in range(first, first + count)]
    deep = [random_mixture(i, size=8) for i in range(first, first + count // 2)]
    round_ones = [clusters(i) for i in range(first, first + count // 2)]
    lines = [steep(i) for i in range(first, first + count // 8)]
    return [
        lesson(flat, count // 3, 24, first + 1),
        lesson(round_ones, count // 16, 24, first + 4),
        lesson(deep, count // 8, 16, first + 2),
        lesson(lines, 0, 24, first + 3),
    ]


class Numbers(NamedTuple):
    """A solver: its levels, the noise in the state at each, and the weights of each interval."""

    levels: Tensor
    scales: Tensor
    weights: list[Tensor]


def score(parts: list[Lesson], rule: Numbers) -> Tensor:
    """Return the mean log error over all laws."""
    errors = torch.cat([part.errors(rule) for part in parts])
    return (errors + FLOOR).log().mean()


class Rule(torch.nn.Module):
    """Numbers that learn, from a multistep rule on a known grid."""

    def __init__(self, levels: tuple[float, ...], basis: str, order: int) -> None:
        super().__init__()
        steps = torch.tensor(levels, dtype=torch.float64).log().diff().neg()
        self.lengths = torch.nn.Parameter((steps / steps.sum()).log())
        self.shifts = torch.nn.Parameter(torch.zeros(len(levels) - 2, dtype=torch.float64))
        rows = unfolded(levels, basis, order)
        self.rows = torch.nn.ParameterList([torch.nn.Parameter(row) for row in rows])

    def forward(self) -> Numbers:
        """Return levels, noises and weights that sum to 1."""
        lengths = self.lengths.softmax(0) * math.log(HIGH / LOW)
        levels = HIGH * torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).neg().exp()
        scales = torch.cat([levels[:1], levels[1:-1] * self.shifts.exp(), levels[-1:]])
        rows = [torch.cat([row[:-1], 1 - row[:-1].sum()[None]]) for row in self.rows]
        return Numbers(levels, scales, rows)


def resumed(row: dict[str, list[Any]]) -> Rule:
    """Return the rule of a table, to learn on."""
    levels = torch.tensor(row["levels"], dtype=torch.float64)
    scales = torch.tensor(row["scales"], dtype=torch.float64)
    rule = Rule(tuple(row["levels"]), "noise", 1)
    with torch.no_grad():
        rule.shifts.copy_((scales / levels).log()[1:-1])
        for mine, weights in zip(rule.rows, row["weights"], strict=True):
            mine.copy_(torch.tensor(weights, dtype=torch.float64))
    return rule


def unfolded(levels: tuple[float, ...], basis: str, order: int) -> list[Tensor]:
    """Return a multistep rule as weights of all means seen so far."""
    count = len(levels) - 1
    eye = torch.eye(count, dtype=torch.float64)
    here, points, rows = torch.zeros(count, dtype=torch.float64), [], []
    for i in range(count):
        points.append(here)
        nodes = range(i, i - min(order, i + 1, count - i), -1)
        known = tuple(levels[j] for j in nodes)
        weights = weights_of((levels[i], levels[i + 1]), known, basis)  # pyright: ignore
        ratio = levels[i + 1] / levels[i]
        if basis == "data":
            after, parts = ratio * here, [eye[j] for j in nodes]
        else:
            after, parts = here, [(points[j] - eye[j]) / levels[j] for j in nodes]
        after = after + sum(weight * part for weight, part in zip(weights, parts, strict=True))
        rows.append(((after - ratio * here) / (1 - ratio))[: i + 1].clone())
        here = after
    return rows


def tuned(rule: Rule, parts: list[Lesson], iterations: int, rate: float) -> None:
    """Descend: the grid first, then grid and weights together."""
    for share, params in ((0.2, [rule.lengths]), (0.8, list(rule.parameters()))):
        count = int(share * iterations)
        adam = torch.optim.Adam(params, lr=rate, betas=(0.9, 0.99))
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, count, rate * 1e-3)
        for _ in range(count):
            loss = score(parts, rule())
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            adam.step()
            decay.step()


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.9g}") for value in values.tolist()]


def _summing_to_one(row: list[float]) -> list[float]:
    return [*row[:-1], 1 - math.fsum(row[:-1])]


def main() -> None:
    """Tune, print the error on laws that were learnt from and on others, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--intervals", type=int, nargs="+", required=True)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    learn, held = lessons(0, 1.0), lessons(5000, 0.5)
    span = Span(HIGH, LOW, VariancePreserving())
    for count in asked.intervals:
        best: tuple[float, Rule] | None = None
        table = json.loads(asked.out.read_text()) if asked.out.exists() else {}
        begun = {basis: Rule(grid.levels(span, count), basis, 3) for grid, basis in STARTS}
        if count >= 8:
            begun.pop("data")
        if str(count) in table:
            begun = {"table": resumed(table[str(count)])}
        for basis, rule in begun.items():
            with torch.no_grad():
                before = float(score(held, rule()).exp())
            tuned(rule, learn, asked.iterations, 0.01)
            with torch.no_grad():
                after = [float(score(part, rule()).exp()) for part in (learn, held)]
            print(count, basis, f"untuned {before:.4f} learnt {after[0]:.4f} held {after[1]:.4f}",
                  flush=True)  # fmt: skip
            if best is None or after[1] < best[0]:
                best = after[1], rule
        assert best is not None
        with torch.no_grad():
            numbers = best[1]()
        table[str(count)] = {
            "levels": _rounded(numbers.levels),
            "scales": _rounded(numbers.scales),
            "weights": [_summing_to_one(_rounded(row)) for row in numbers.weights],
        }
        asked.out.write_text(json.dumps(table, indent=0))


if __name__ == "__main__":
    main()
