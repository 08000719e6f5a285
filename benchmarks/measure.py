"""How much does it cost, next to what? CPU seconds of alternatives, interleaved in one run.

Seconds differ between machines and between hours; ratios of alternatives that take turns in one
process hardly do. Nothing here asserts: the caller prints targets next to what was measured.
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from unison.bench.training import machine as limits
from unison.bench.training.machine import Work


@dataclass(frozen=True)
class Ratio:
    """One cost over another: the median over rounds, and the extremes.

    Attributes:
        name: What is divided by what.
        median: Of the rounds' ratios.
        low: Smallest of them.
        high: Largest of them.
        rounds: How many.
        target: What was hoped for, in words; empty if nothing.
    """

    name: str
    median: float
    low: float
    high: float
    rounds: int
    target: str = ""


def take_turns(work: dict[str, Work], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """Return CPU seconds of every alternative in every round, after ``warm`` unmeasured rounds."""
    spans = limits.take_turns(work, rounds, torch.device("cpu"), warm)
    return {name: [span.cpu for span in taken] for name, taken in spans.items()}


def ratio(name: str, over: list[float], under: list[float], target: str = "") -> Ratio:
    """Divide round by round, so that a slow moment of the machine hits both sides."""
    values = [a / b for a, b in zip(over, under, strict=True)]
    return Ratio(name, statistics.median(values), min(values), max(values), len(values), target)


def options(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return the command line every benchmark shares."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="write the record as JSON")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def one_thread(seed: int) -> None:
    """Fix threads, so CPU seconds mean work, and the noise of operands."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)


def machine() -> dict[str, Any]:
    """Return what a reader needs to place the numbers."""
    facts = limits.facts(torch.device("cpu"))
    return facts | {"numpy": np.__version__, "scipy": scipy.__version__}


def report(
    ratios: list[Ratio], seconds: dict[str, list[float]], facts: dict[str, Any], out: Path | None
) -> None:
    """Print the table of ratios and, if asked, write everything as JSON."""
    print(f"{'ratio':58} {'median':>8} {'min':>8} {'max':>8}  target")
    for r in ratios:
        print(f"{r.name:58} {r.median:8.3f} {r.low:8.3f} {r.high:8.3f}  {r.target}")
    if out is None:
        return
    record = {
        "command": sys.argv,
        "facts": facts,
        "machine": machine(),
        "cpu_seconds": seconds,
        "ratios": [asdict(r) for r in ratios],
    }
    partial = out.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=2) + "\n")
    partial.replace(out)
