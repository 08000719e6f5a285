"""How do weights beside a model learn? The loop of every run, told what to keep and to measure."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any, NamedTuple

from torch import nn

from unison import files
from unison.train import Event, Hooks, Prepared, State, Train, TrainError, checkpoint, fit, log
from unison.types import Estimate

METRICS = "metrics.json"
Observer = Callable[[Event], None]


class Keeper(NamedTuple):
    """What the caller of a run plugs in.

    Attributes:
        measure: Held-out loss, on the same texts and with the same random numbers every time;
            the averaged weights are in place.
        write: Puts the weights into a folder.
    """

    measure: Callable[[], Estimate]
    write: Callable[[Path], None]


def drill(
    config: Train, prepared: Prepared, out: Path, keeper: Keeper, observe: Sequence[Observer]
) -> State:
    """Train, going on with what is in ``out``; the result is written there.

    The best weights so far are kept in ``checkpoints/best``; the averaged ones of the last step
    are the result.

    Raises:
        TrainError: The gradient stayed non-finite, or a checkpoint cannot be read.
        OSError: A file cannot be written.
    """
    checkpoint.sweep(out)
    log.rewind(out, checkpoint.newest_step(out))
    tokens = config.batch_size * config.model.max_length
    observers = [log.writer(out, config.log_every, tokens), *observe]
    best = out / "checkpoints" / "best"

    def keep() -> None:
        best.parent.mkdir(exist_ok=True)
        files.replace_folder(best, keeper.write)

    def tell(event: Event) -> None:
        for observer in observers:
            observer(event)

    state = fit(config, prepared, out, Hooks(keeper.measure, keep, tell))
    state.parts.average.swap(prepared.network)
    prepared.network.eval()
    keeper.write(out)
    return state


def check_length(length: int, most: int) -> None:
    """Refuse texts that, with their begin token, are longer than a model can read.

    Raises:
        TrainError: They are.
    """
    if not 2 <= length < most:
        raise TrainError(
            f"length={length} does not fit: with the begin token a text has one token more, and "
            f"the model reads {most}; choose 2 .. {most - 1}."
        )


def as_module(network: nn.Module) -> Any:
    """Return a module as what the loop trains: it asks for nothing but weights."""
    return network


def pooled(totals: Sequence[float], counts: Sequence[float], unit: str) -> Estimate:
    """Return a mean over batches, and the error from the spread between them.

    Raises:
        TrainError: There is nothing to take the mean of.
    """
    if not sum(counts):
        raise TrainError("nothing that is held out can be scored; give more, or longer, text.")
    parts = [total / count for total, count in zip(totals, counts, strict=True) if count]
    spread = stdev(parts) / math.sqrt(len(parts)) if len(parts) > 1 else math.nan
    return Estimate(sum(totals) / sum(counts), spread, len(parts), unit)
