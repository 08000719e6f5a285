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
    ("local_leap", "relaxed", (0.5, 0.75, 0.85)),
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
    for scale in (1, 2, 3, 4, 6):
        stop = Prophet(early=7.5 * scale, middle=5.0 * scale, late=2.5 * scale)
        yield "prophet", f"gaps x {scale}", Composed(stop=stop, block_length=BLOCK)
    for name in ("dus", "eoser-ass", "wino", "p2"):
        yield name, "published", PRESETS[name]()
    if filter_path is not None:
        for threshold in (0.5, 0.9, 0.96):
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


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--part", choices=("strategies", "caches"), default="strategies")
    parser.add_argument("--filter", type=Path)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    measure.one_thread(options.seed)
    model = unison.load(options.model, "cpu")
    long = options.part == "caches"
    length = model.max_length if long else problems.PROMPT + problems.ANSWER
    random = np.random.default_rng([options.seed, 7])
    kinds = list(problems.KINDS)
    asked = [
        problems.problem(random, length, kinds[i % len(kinds)]) for i in range(options.problems)
    ]
    slow = Composed(block_length=BLOCK)
    base = run(model, asked, slow, "none")
    cells = [cell("one token per step", "no cache", base, base)]
    print(table(cells), flush=True)
    todo = (
        ((cache, "", strategy) for strategy, cache in cached())
        if long
        else settings(options.filter)
    )
    for name, setting, strategy in todo:
        found = run(model, asked, strategy, name if long else "none")
        cells.append(cell(name, setting or said(strategy), found, base))
        print(table(cells[-1:]).splitlines()[-1], flush=True)
    facts = {"model": str(options.model), "problems": options.problems, "length": length,
             "seed": options.seed, "block": BLOCK, "dtype": "float32"}  # fmt: skip
    if options.out is not None:
        record = {
            "facts": facts,
            "machine": measure.machine(),
            "cells": [c._asdict() for c in cells],
        }
        path = options.out / f"frontier_{options.part}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")
        path.with_suffix(".md").write_text(table(cells) + "\n")


def cached() -> Iterator[tuple[Strategy, str]]:
    """Yield the strategies and caches of the second part."""
    for cache in ("none", "prefix", "dual", "dkv", "free"):
        for strategy in (
            Composed(block_length=BLOCK),
            Composed(select=SELECTS["threshold"](threshold=0.9), block_length=BLOCK),
        ):
            yield strategy, cache


def said(strategy: Any) -> str:
    """Return how a strategy selects."""
    return str(strategy.select)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
