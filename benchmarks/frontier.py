"""How many steps does each strategy need for how much accuracy, on a trained model?

    python -m benchmarks.frontier runs/problems --out docs/results
    python -m benchmarks.frontier runs/problems --part caches

Every setting of every strategy is reported, not the best one. Accuracy is the share of problems
whose whole answer is right; differences to one token per step are paired, problem by problem, with
95 % intervals. CPU seconds on one thread. Problems come from a seed the model was not trained on.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import unison
from benchmarks import measure, problems
from unison.decode import Strategy
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.presets import PRESETS
from unison.decode.select import SELECTS
from unison.decode.stop import Prophet
from unison.language_model import LanguageModel

BLOCK = 32
SWEEPS = (
    ("threshold", "threshold", (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)),
    ("factor", "factor", (0.5, 1.0, 1.5)),
    ("entropy_bound", "bound", (0.01, 0.1, 0.5, 1.0)),
    ("local_leap", "relaxed", (0.5, 0.75, 0.85, 0.89)),
)


class Cell(NamedTuple):
    """One setting of one strategy on one set of problems."""

    strategy: str
    setting: str
    accuracy: float
    difference: float  # to one token per step, in points
    interval: float  # half of the 95 % interval of it
    steps: float
    fewer: float  # steps of one token per step over these
    seconds: float
    faster: float  # seconds of one token per step, without a cache, over these


class Run(NamedTuple):
    """What one setting did."""

    right: np.ndarray
    steps: float
    seconds: float


def run(model: LanguageModel, asked: list[problems.Problem], strategy: Strategy, cache: str) -> Run:
    """Write every answer."""
    begin = time.process_time()
    samples = unison.generate(
        model,
        [problem.prompt for problem in asked],
        new_tokens=problems.ANSWER,
        strategy=strategy,
        cache=cache,
        batch_size=32,
    )
    seconds = time.process_time() - begin
    right = [
        sample.text == problem.prompt + problem.answer
        for sample, problem in zip(samples, asked, strict=True)
    ]
    return Run(np.array(right), float(np.mean([sample.nfe for sample in samples])), seconds)


def cell(name: str, setting: str, found: Run, base: Run) -> Cell:
    """Compare with one token per step."""
    points = 100 * (found.right.astype(float) - base.right)
    return Cell(
        name,
        setting,
        100 * float(found.right.mean()),
        float(points.mean()),
        1.96 * float(points.std(ddof=1)) / math.sqrt(len(points)),
        found.steps,
        base.steps / found.steps,
        found.seconds,
        base.seconds / found.seconds,
    )


def block_wise(part: str, **setting: Any) -> Strategy:
    """Return a strategy that differs from one token per step in its selection alone."""
    return Composed(select=SELECTS[part](**setting), block_length=BLOCK)


def settings(filter_path: Path | None) -> Iterator[tuple[str, str, Strategy]]:
    """Yield every strategy and setting of the frontier."""
    for steps in (32, 16, 8, 4, 2):
        yield "llada", f"steps {steps}", Composed(steps=steps, block_length=BLOCK)
        yield "ancestral", f"steps {steps}", Ancestral(steps=steps)
    for part, field, values in SWEEPS:
        for value in values:
            yield part, f"{field} {value}", block_wise(part, **{field: value})
    for scale, length in product((1, 2, 3), (24, 32)):
        stop = Prophet(early=7.5 * scale, middle=5.0 * scale, late=2.5 * scale)
        setting = f"gaps x {scale}, blocks of {length}"
        yield "prophet", setting, Composed(stop=stop, block_length=length)
    for name in ("dus", "eoser-ass", "wino", "p2"):
        yield name, "published", PRESETS[name]()
    if filter_path is not None:
        for threshold in (0.5, 0.9, 0.96, 0.99, 0.999, 0.9999):
            chosen = block_wise("learned", path=str(filter_path), threshold=threshold)
            yield "learn2pd", f"threshold {threshold}", chosen


def table(cells: list[Cell]) -> str:
    """Return the cells as Markdown."""
    lines = [
        "| strategy | setting | accuracy % | difference, points | steps | fewer | CPU s | faster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {c.strategy} | {c.setting} | {c.accuracy:.1f} | {c.difference:+.1f} ± {c.interval:.1f} "
        f"| {c.steps:.1f} | {c.fewer:.1f}x | {c.seconds:.1f} | {c.faster:.2f}x |"
        for c in cells
    ]
    return "\n".join(lines)


def options() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--part", choices=("strategies", "caches"), default="strategies")
    parser.add_argument("--filter", type=Path, help="a commit filter for the model")
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="strategies to run; all if left out")
    parser.add_argument("--out", type=Path, help="write frontier_PART_SEED.json and .md here")
    return parser.parse_args()


def drawn(seed: int, count: int, length: int) -> list[problems.Problem]:
    """Return problems, as many of each kind."""
    random = np.random.default_rng([seed, 7])
    kinds = list(problems.KINDS)
    return [problems.problem(random, length, kinds[i % len(kinds)]) for i in range(count)]


def main() -> None:
    """Run the benchmark."""
    chosen = options()
    measure.one_thread(chosen.seed)
    model = unison.load(chosen.model, "cpu")
    long = chosen.part == "caches"
    length = model.max_length if long else problems.PROMPT + problems.ANSWER
    asked = drawn(chosen.seed, chosen.problems, length)
    base = run(model, asked, Composed(block_length=BLOCK), "none")
    cells = [cell("one token per step", "no cache", base, base)]
    print(table(cells), flush=True)
    todo = (
        ((cache, said(strategy), strategy) for strategy, cache in cached())
        if long
        else settings(chosen.filter)
    )
    for name, setting, strategy in todo:
        if chosen.only and name not in chosen.only:
            continue
        found = run(model, asked, strategy, name if long else "none")
        cells.append(cell(name, setting, found, base))
        print(table(cells[-1:]).splitlines()[-1], flush=True)
    if chosen.out is not None:
        record(chosen, length, cells)


def record(chosen: argparse.Namespace, length: int, cells: list[Cell]) -> None:
    """Write the cells and what a reader needs to place them."""
    facts = {"model": chosen.model.name, "problems": chosen.problems, "length": length,
             "seed": chosen.seed, "block": BLOCK, "dtype": "float32"}  # fmt: skip
    rows = [cell._asdict() for cell in cells]
    path = chosen.out / f"frontier_{chosen.part}_{chosen.seed}.json"
    document = {"facts": facts, "machine": measure.machine(), "cells": rows}
    path.write_text(json.dumps(document, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(cells) + "\n")


def cached() -> Iterator[tuple[Strategy, str]]:
    """Yield the strategies and caches of the second part."""
    for cache in ("none", "prefix", "dual", "dkv", "free"):
        if cache != "none":  # which is what all are compared with
            yield Composed(block_length=BLOCK), cache
        yield block_wise("threshold", threshold=0.9), cache


def said(strategy: Any) -> str:
    """Return how a strategy selects."""
    return str(strategy.select)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
