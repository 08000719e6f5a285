"""How near is a sample of the posterior to the exact one, for equally many evaluations?

Laws of the zoo seen through a noisy linear measurement have an exact posterior. The distance is
sliced W2 to 20 000 exact draws; what as many exact draws are apart themselves, in the mean, is
taken off its square. The ensemble and the guided samplers get the same levels, the same number of
events and evaluations; guidance needs a backward pass for each besides, the ensemble none.

    python -m benchmarks.posteriors --seeds 5 --out posteriors.json
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import measure
from unison.decode.continuous import solve
from unison.decode.continuous.ancestral import Ancestral
from unison.decode.continuous.guidance import DPS, Dense, Measurement, PiGDM
from unison.exact.distances import directions, sliced_wasserstein
from unison.exact.mixtures import Mixture
from unison.exact.zoo import ZOO, random_mixture
from unison.prob import rng
from unison.prob.rng import Key
from unison.search.posterior import Ensemble

NOISE = 0.3
COUNT = 4000


class Case(NamedTuple):
    """A law, what is seen of it, and draws from what that leaves."""

    law: Mixture
    measured: Measurement
    posterior: Mixture
    exact: Tensor
    along: Tensor

    def distance(self, points: Tensor, shares: Tensor | None = None) -> float:
        """Return sliced W2 to the exact posterior."""
        return float(sliced_wasserstein(points, self.exact, self.along, (shares, None)))


def case(name: str) -> Case:
    """Return a law of the zoo, or a random one in six dimensions."""
    law = ZOO[name]() if name in ZOO else random_mixture(77, size=6, components=5)
    assert isinstance(law, Mixture)
    size = law.means.shape[1]
    operator = torch.ones(1, size, dtype=torch.float64)
    operator[0, 1:] = 0.4
    truth = law.sample(Key(rng.rows(1, 0, 1)))
    seen = truth @ operator.T + NOISE * rng.normal(Key(rng.rows(1, 1, 1)), 3, 1)
    posterior = law.posterior(operator, seen[0], NOISE)
    exact = posterior.sample(Key(rng.rows(2, 0, 20_000)))
    measured = Measurement(Dense(operator), seen, NOISE)
    return Case(law, measured, posterior, exact, directions(Key(rng.rows(6, 0, 64)), size))


def levels(count: int, high: float = 80.0, low: float = 0.01) -> tuple[float, ...]:
    """Return Karras levels and a last 0: ``count`` evaluations."""
    ends = high ** (1 / 7), low ** (1 / 7)
    ramp = [(ends[0] + i / (count - 1) * (ends[1] - ends[0])) ** 7 for i in range(count)]
    return (*ramp, 0.0)


def ways(here: Case, grid: tuple[float, ...], seed: int) -> Iterator[tuple[str, float, float]]:
    """Yield name, squared distance and the error of the mean."""
    size = here.exact.shape[1]
    out = Ensemble(COUNT).sample(
        here.law, here.measured, grid, (size,), Key(rng.rows(100 + seed, 0, 1))
    )
    shares = out.log_weights[0].exp()
    yield "ensemble", here.distance(out.particles[0], shares), _off(here, out.mean()[0])
    key = Key(rng.rows(200 + seed, 0, COUNT))
    start = grid[0] * rng.normal(key, 1, size)
    guided = {
        **{f"dps {s}": DPS(here.law, here.measured, 1.0, s) for s in ("noise", "spread", "norm")},
        "pigdm": PiGDM(here.law, here.measured, iterations=1),
    }
    for name, one in guided.items():
        drawn = solve(Ancestral(), grid, one, start, key)
        assert drawn.nfe == out.nfe
        yield name, here.distance(drawn.x), _off(here, drawn.x.mean(0))


def _off(here: Case, mean: Tensor) -> float:
    return float((mean - here.posterior.mean()).norm())


def measured(name: str, count: int, seeds: int) -> dict[str, Any]:
    """Return the excess of every way over exact draws, and the error of its mean."""
    here = case(name)
    draws = [here.posterior.sample(Key(rng.rows(10 + i, 0, COUNT))) for i in range(8)]
    floor = statistics.mean(here.distance(x) ** 2 for x in draws)
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        for way, distance, off in ways(here, levels(count), seed):
            found.setdefault(way, []).append((distance, off))
    return {"floor": math.sqrt(floor)} | {
        way: {
            "excess": math.sqrt(max(statistics.mean(d**2 for d, _ in rows) - floor, 0)),
            "distances": [d for d, _ in rows],
            "mean": statistics.mean(off for _, off in rows),
        }
        for way, rows in found.items()
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--laws", nargs="+", default=["gmm5", "ring8", "six"])
    parser.add_argument("--nfe", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    measure.one_thread(0)
    record: dict[str, Any] = {"machine": measure.machine(), "cells": {}}
    for name in asked.laws:
        for count in asked.nfe:
            cell = measured(name, count, asked.seeds)
            record["cells"][f"{name} {count}"] = cell
            excess = {way: cell[way]["excess"] for way in cell if way != "floor"}
            best = min(value for way, value in excess.items() if way != "ensemble")
            off, floor = cell["ensemble"]["mean"], cell["floor"]
            told = " ".join(f"{way} {value:.3f}" for way, value in excess.items())
            print(f"{name} {count}: x{excess['ensemble'] / best:.2f} | {told} | "
                  f"floor {floor:.3f} mean off {off:.3f}", flush=True)  # fmt: skip
    if asked.out:
        asked.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
