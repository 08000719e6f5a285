"""How many threads are best here? What unison doctor --threads times, and who uses it."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from unison.cli import shared
from unison.engine import threads
from unison.language_model import LanguageModel
from unison.models import PRESETS, Transformer

_STAND_IN = "tiny"
_VOCAB = 8192


def found(model: LanguageModel | None, clock: threads.Clock = time.perf_counter) -> dict[str, Any]:
    """Time one evaluation in every way, keep the best for later runs, and return all of it.

    Args:
        model: What is evaluated, on its usual canvas; ``None`` for a small network of our own.
        clock: Seconds on the wall.

    Raises:
        ValueError: The model is on another device than the CPU.
    """
    here, usual = threads.machine(), torch.get_num_threads()
    work, what = _work(model)
    ways = tuple(dict.fromkeys([*threads.settings(here), threads.Setting(usual)]))
    rows = threads.timed(work, ways, here, clock)
    chosen = threads.best(rows, usual)
    path = threads.keep(chosen, here)
    return {
        "evaluated": what,
        "cores": len(here.cores),
        "memory_nodes": len(here.nodes),
        "usual": str(threads.Setting(usual)),
        "best": str(chosen),
        "kept": str(path),
        "ways": [_told(row) for row in threads.table(rows, chosen)],
    }


def used() -> None:
    """Run as was found best on this machine, if anything was; say so."""
    line = threads.recalled(os.environ, threads.machine())
    if line is not None:
        shared.log(line)


def _work(model: LanguageModel | None) -> tuple[Callable[[], object], str]:
    if model is None:
        shape = replace(PRESETS[_STAND_IN], vocab_size=_VOCAB, num_states=_VOCAB)
        network, length, name = Transformer(shape).eval(), shape.max_length, "a small network"
    elif model.device.type == "cpu":
        network, name = model.network, "the model"
        length = min(model.defaults.length, model.max_length)
    else:
        raise ValueError(
            f"the model is on {model.device}, and threads matter on a CPU; use --device cpu."
        )
    tokens, sigma = torch.zeros(1, length, dtype=torch.long), torch.ones(1)

    def work() -> object:
        with torch.no_grad():
            return network(tokens, sigma)

    return work, f"{name}, one row of {length} tokens"


def _told(row: dict[str, Any]) -> str:
    where = "" if row["node"] is None else f", node {row['node']}"
    mark = ", best" if row["best"] else ""
    return (
        f"{row['threads']} threads{where}: {row['milliseconds']} ms ({row['low']} to "
        f"{row['high']}), {row['times_the_slowest']} times the slowest{mark}"
    )
