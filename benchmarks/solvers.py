"""Which solver is nearest to the exact flow, for equally many evaluations?

Every law of the zoo has an exact score, so that only rules and grids err. The starts are shared by
all, in five disjoint sets; the reference is RK4 with 1000 steps in log s. The default solver knows
nothing of the laws but that their standard deviation is 1; the learned one is fitted on 512 other
starts of each law. A scheduler of ``diffusers`` counts with the best of its own grids (linspace,
leading, trailing, Karras, exponential, beta, Lu) for each law, number of evaluations and set of
starts; as a harder comparison, with the best of our grids put into it.

    python -m benchmarks.solvers --learned --out solvers.json
"""

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import measure, rivals
from unison.decode.continuous import GRIDS, Levels, Solver, Span, solve
from unison.decode.continuous.fitted import fit
from unison.decode.continuous.tuned import Tuned, TunedGrid
from unison.exact.mixtures import Mixture, flow
from unison.exact.zoo import ZOO
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving
from unison.types import EventDenoiser

HIGH, LOW = 157.4, 0.01
COUNTS = (5, 8, 10, 15, 20)
SITE = 21
FITTED = 512
FIRST = 1_000_000  # starts of the comparison; those of fits are below


def zoo(names: list[str], seeds: int, starts: int, learnt: bool) -> dict[str, Any]:
    """Return errors of the default, the learned solver and every scheduler, by law and count."""
    found: dict[str, Any] = {}
    for name in names:
        law = ZOO[name]()
        size = law.means.shape[1] if isinstance(law, Mixture) else 2
        noise = rng.normal(Key(rng.rows(3, FIRST, seeds * starts)), SITE, size)
        ends = {LOW: flow(law, HIGH * noise, HIGH, LOW, 1000)}
        ends[0.0] = flow(law, ends[LOW], LOW, 1e-5, 400)
        sets = noise.split(starts)
        parts = [{end: y.split(starts)[i] for end, y in ends.items()} for i in range(seeds)]
        for count in COUNTS:
            cell = _compared(law, size, count, list(zip(sets, parts, strict=True)), learnt)
            found[f"{name} {count}"] = cell
            print(_line(name, count, cell), flush=True)
    return found


def _compared(
    law: EventDenoiser, size: int, count: int, sets: list[tuple[Tensor, dict[float, Tensor]]],
    learnt: bool,
) -> dict[str, Any]:  # fmt: skip
    span = Span(HIGH, LOW, VariancePreserving())
    ours = [_ours(Tuned(), TunedGrid().levels(span, count), law, *one) for one in sets]
    cell: dict[str, Any] = {"default": ours}
    if learnt:
        solver, levels = _learned(law, size, count)
        cell["learned"] = [_ours(solver, levels, law, *one) for one in sets]
    cell["own"] = [_best_own(law, count, *one) for one in sets]
    cell["given"] = [_best_given(law, count, *one) for one in sets]
    return cell


def _ours(
    solver: Solver, levels: Levels, law: EventDenoiser, noise: Tensor, ends: dict[float, Tensor]
) -> float:
    key = Key(torch.zeros(len(noise), dtype=torch.int64))
    return _rms(solve(solver, levels, law, levels[0] * noise, key).x - ends[levels[-1]])


def _learned(law: EventDenoiser, size: int, count: int) -> tuple[Solver, Levels]:
    """Return a solver fitted on starts of its own."""
    span = Span(HIGH, LOW, VariancePreserving())
    starts = HIGH * rng.normal(Key(rng.rows(3, 0, FITTED)), SITE, size)
    solver = fit(law, starts, flow(law, starts, HIGH, LOW, 1000), span, count).solver
    return solver, solver.grid


def _best_own(
    law: EventDenoiser, count: int, noise: Tensor, ends: dict[float, Tensor]
) -> tuple[float, str]:
    """Return the least error of any scheduler on any of its grids, and whose it is."""
    found = []
    for name, rival in rivals.rivals().items():
        for grid in rival.grids:
            steps = count if name != "Heun" else (count + 1) // 2
            ended = rivals.run(rival, grid, steps, law, noise)
            if ended.nfe > count and name != "PNDM":
                continue
            reference = ends[0.0] if ended.level == 0 else _at(law, noise, ends, ended.level)
            found.append((_rms(ended.y - reference), f"{name} on {grid}"))
    return min(one for one in found if math.isfinite(one[0]))


def _at(law: EventDenoiser, noise: Tensor, ends: dict[float, Tensor], level: float) -> Tensor:
    """Return the reference at a level near the lowest: grids of floats end a little off."""
    if abs(level / LOW - 1) < 1e-3:
        return ends[LOW]
    return flow(law, ends[LOW], LOW, level, 50)


def _best_given(
    law: EventDenoiser, count: int, noise: Tensor, ends: dict[float, Tensor]
) -> tuple[float, str]:
    """Return the least error of any scheduler on any of our grids, and whose it is."""
    span, found = Span(HIGH, LOW, VariancePreserving()), []
    grids = {name: grid() for name, grid in GRIDS.items()} | {"linear": GRIDS["time"](1.0)}
    for name, rival in rivals.rivals().items():
        if not rival.listed or "zero" in name:
            continue
        for label, grid in grids.items():
            levels = grid.levels(span, count)
            if levels[-1] != LOW:
                continue
            ended = rivals.run_on(rival, levels, law, noise)
            found.append((_rms(ended.y - ends[LOW]), f"{name} on {label}"))
    return min(one for one in found if math.isfinite(one[0]))


def _rms(off: Tensor) -> float:
    return float(off.square().sum(-1).mean().sqrt())


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
