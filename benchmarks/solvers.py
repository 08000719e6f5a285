"""Which solver is nearest to the exact flow, for equally many evaluations?

Every law of the zoo has an exact score, so that only rules and grids err. The starts are shared by
all, in five disjoint sets; the reference is RK4 with 600 steps in log s. The default solver knows
nothing of the laws but that their standard deviation is 1; the learned one is fitted on 1024 other
starts of each law. A scheduler of ``diffusers`` counts with the best of its own grids (linspace,
leading, trailing, Karras, exponential, beta, Lu) for each law, number of evaluations and set of
starts; as a harder comparison, with the best of our grids put into it.

    python -m benchmarks.solvers --learned --out solvers.json
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

from benchmarks import measure, rivals
from unison.decode.continuous import GRIDS, Levels, Solver, Span, default, solve
from unison.decode.continuous.fitted import fit
from unison.decode.continuous.grids import TimePower
from unison.exact.mixtures import Mixture, flow
from unison.exact.zoo import ZOO
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving
from unison.types import EventDenoiser

HIGH, LOW = 157.4, 0.01
COUNTS = (5, 8, 10, 15, 20)
SITE = 21
FITTED = 1024
FIRST = 1_000_000  # starts of the comparison; those of fits are below


class Race(NamedTuple):
    """A law, starts that all share, and where the exact flow takes them.

    Attributes:
        law: The exact mean.
        size: Its dimension.
        noise: Standard normal starts.
        ends: The exact ends at the levels that solvers end at.
        sets: Into how many disjoint sets the starts fall.
    """

    law: EventDenoiser
    size: int
    noise: Tensor
    ends: dict[float, Tensor]
    sets: int

    def errors(self, y: Tensor, level: float) -> list[float]:
        """Return the root mean square error of every set."""
        off = (y - self._end(level)).square().sum(-1)
        return [float(part.mean().sqrt()) for part in off.chunk(self.sets)]

    def _end(self, level: float) -> Tensor:
        """Return the exact ends at a level: grids of float32 end a little off the lowest."""
        rounded = float(f"{level:.5g}")
        if rounded not in self.ends:
            self.ends[rounded] = flow(self.law, self.ends[LOW], LOW, rounded, 50)
        return self.ends[rounded]


def race(name: str, sets: int, starts: int) -> Race:
    """Return a law of the zoo with its starts and ends."""
    law = ZOO[name]()
    size = law.means.shape[1] if isinstance(law, Mixture) else 2
    noise = rng.normal(Key(rng.rows(3, FIRST, sets * starts)), SITE, size)
    end = flow(law, HIGH * noise, HIGH, LOW, 600)
    return Race(law, size, noise, {LOW: end, 0.0: flow(law, end, LOW, 1e-4, 100)}, sets)


def zoo(names: list[str], sets: int, starts: int, learnt: bool) -> dict[str, Any]:
    """Return errors of the default, the learned solver and every scheduler, by law and count."""
    found: dict[str, Any] = {}
    for name in names:
        here = race(name, sets, starts)
        for count in COUNTS:
            cell = _compared(here, count, learnt)
            found[f"{name} {count}"] = cell
            print(_line(name, count, cell), flush=True)
    return found


def _compared(here: Race, count: int, learnt: bool) -> dict[str, Any]:
    span = Span(HIGH, LOW, VariancePreserving())
    cell: dict[str, Any] = {"default": _ours(*default(span, count), here)}
    if learnt:
        cell["learned"] = _ours(*_learned(here, count), here)
    cell["own"] = _best(_on_own_grids(here, count))
    cell["given"] = _best(_on_our_grids(here, count))
    return cell


def _ours(solver: Solver, levels: Levels, here: Race) -> list[float]:
    key = Key(torch.zeros(len(here.noise), dtype=torch.int64))
    drawn = solve(solver, levels, here.law, levels[0] * here.noise, key)
    return here.errors(drawn.x, levels[-1])


def _learned(here: Race, count: int) -> tuple[Solver, Levels]:
    """Return a solver fitted on starts of its own."""
    span = Span(HIGH, LOW, VariancePreserving())
    starts = HIGH * rng.normal(Key(rng.rows(3, 0, FITTED)), SITE, here.size)
    ends = flow(here.law, starts, HIGH, LOW, 600)
    solver = fit(here.law, starts, ends, span, count).solver
    return solver, solver.grid


def _on_own_grids(here: Race, count: int) -> Iterator[tuple[str, list[float]]]:
    """Yield the errors of every scheduler on every grid it lays itself."""
    for name, rival in rivals.rivals().items():
        steps = count if name != "Heun" else (count + 1) // 2
        for grid in rival.grids:
            ended = rivals.run(rival, grid, steps, here.law, here.noise)
            if ended.nfe <= count or name == "PNDM":  # which takes one evaluation more
                yield f"{name} on {grid}", here.errors(ended.y, ended.level)


def _on_our_grids(here: Race, count: int) -> Iterator[tuple[str, list[float]]]:
    """Yield the errors of every scheduler on the grids that suit any span."""
    span = Span(HIGH, LOW, VariancePreserving())
    grids = {name: grid() for name, grid in GRIDS.items() if name != "ays"}
    for name, rival in rivals.rivals().items():
        if rival.listed and "zero" not in name:
            for label, grid in (grids | {"linear": TimePower(1.0)}).items():
                ended = rivals.run_on(rival, grid.levels(span, count), here.law, here.noise)
                yield f"{name} on {label}", here.errors(ended.y, LOW)


def _best(found: Iterator[tuple[str, list[float]]]) -> list[tuple[float, str]]:
    """Return for each set of starts the least error, and whose it is."""
    rows = [(name, errors) for name, errors in found if all(map(math.isfinite, errors))]
    return [min((errors[i], name) for name, errors in rows) for i in range(len(rows[0][1]))]


def _line(name: str, count: int, cell: dict[str, Any]) -> str:
    own, given = ([one[0] for one in cell[kind]] for kind in ("own", "given"))
    parts = [f"{name:10} {count:2}"]
    for kind in ("default", "learned"):
        if kind in cell:
            ours = cell[kind]
            ratios = [a / b for a, b in zip(ours, own, strict=True)]
            harder = [a / b for a, b in zip(ours, given, strict=True)]
            parts.append(
                f"{kind} {statistics.mean(ours):.4f} own x{statistics.median(ratios):.2f} "
                f"[{min(ratios):.2f} {max(ratios):.2f}] given x{statistics.median(harder):.2f}"
            )
    parts.append(f"| own {statistics.mean(own):.4f} {cell['own'][0][1]}")
    parts.append(f"| given {statistics.mean(given):.4f} {cell['given'][0][1]}")
    return " ".join(parts)


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--laws", nargs="+", default=list(ZOO))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=400)
    parser.add_argument("--learned", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    measure.one_thread(0)
    record = {"machine": measure.machine()}
    record["zoo"] = zoo(asked.laws, asked.seeds, asked.starts, asked.learned)
    if asked.out:
        asked.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
