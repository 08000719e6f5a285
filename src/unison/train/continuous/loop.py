"""How does a run on continuous data go from its first step to its last, through kills?"""

import math
import operator
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from unison import event_model, files
from unison.prob.rng import Key
from unison.train import checkpoint, folder, log, optim
from unison.train.checkpoint import Parts
from unison.train.config import TrainError
from unison.train.continuous.config import TrainEvents
from unison.train.continuous.setup import Prepared, batch_of, binder, held_out, held_out_key
from unison.train.ema import Average
from unison.train.step import Outcome, move
from unison.types import Estimate

MODEL = "model"  # the folder of the finished model, inside that of the run
VERB = "continuous"
_UNIT = "weighted squares"
_PARTS = 8  # independent parts of the held-out events, for the standard error


class Passed(NamedTuple):
    """What observers see after a step.

    Attributes:
        step: Steps done.
        outcome: Loss, in weighted squares per number, and gradient norm of the step.
        seconds: Wall time of the step, evaluation left out.
        evaluation: Held-out loss, when this step evaluated.
    """

    step: int
    outcome: Outcome
    seconds: float
    evaluation: Estimate | None = None


class Standing(NamedTuple):
    """Where a run stands.

    Attributes:
        step: Steps done.
        skipped: Steps whose gradient was not finite.
        in_a_row: How many of them were the last ones.
        best: Lowest held-out loss seen.
        evaluation: The last held-out loss.
    """

    step: int = 0
    skipped: int = 0
    in_a_row: int = 0
    best: float = math.inf
    evaluation: Estimate | None = None


class Finished(NamedTuple):
    """What a run leaves behind.

    Attributes:
        folder: The run; the model is in its subfolder ``model``, the best one in
            ``checkpoints/best``.
        standing: Steps, skipped steps, losses.
    """

    folder: Path
    standing: Standing


Observer = Callable[[Passed], None]


def train(
    prepared: Prepared, out: Path, *, resume: bool = False, observe: Sequence[Observer] = ()
) -> Finished:
    """Train until ``steps`` and leave the averaged weights in ``out/model``.

    A run killed at any moment and resumed gives, on the same machine, bit for bit what it would
    have given without the kill: events, levels, noise and degradations are functions of
    (seed, step), and everything else is in the checkpoint.

    Args:
        prepared: What is trained on what.
        out: Folder of the run; new or empty unless ``resume``.
        resume: Go on with what is there.
        observe: Called after every step; cannot change the run.

    Raises:
        TrainError: The folder holds something else or other data, or the gradient stayed
            non-finite.
        OSError: A file cannot be written.
    """
    config = prepared.config
    folder.claim(out, resume, VERB, config, [prepared.events.name])
    checkpoint.sweep(out)
    log.rewind(out, checkpoint.newest_step(out))
    checkpoint.prune(out / "checkpoints", config.keep)  # a kill may have come before it
    network = prepared.model.network.train()
    parts = Parts(network, Average(network, config.ema), optim.make(network, config.optimizer), {})
    standing = _resumed(prepared, parts, out)
    observers = [_writer(out, config), *observe]
    while standing.step < config.steps:
        standing = _stepped(prepared, parts, standing, out, observers)
    parts.average.swap(network)
    event_model.save(prepared.model, out / MODEL)
    return Finished(out, standing)


def _stepped(
    prepared: Prepared, parts: Parts, standing: Standing, out: Path, observers: Sequence[Observer]
) -> Standing:
    """Take one step, with all that follows it."""
    config = prepared.config
    began = time.perf_counter()
    outcome = _taken(prepared, parts, standing.step)
    in_a_row = standing.in_a_row + 1 if outcome.skipped else 0
    if in_a_row >= config.max_skipped:
        raise TrainError(
            f"stopped at step {standing.step}: {in_a_row} steps in a row had a non-finite gradient "
            f"(loss {outcome.loss}). The last good state is in checkpoints/. Start again in "
            "another folder with a lower optimizer.lr or a longer optimizer.warmup."
        )
    parts.average.update(parts.network, standing.step)
    seconds = time.perf_counter() - began
    step, skipped = standing.step + 1, standing.skipped + outcome.skipped
    standing = standing._replace(step=step, skipped=skipped, in_a_row=in_a_row)
    evaluation = None
    if step == config.steps or step % config.eval_every == 0:
        standing = _evaluated(prepared, parts, standing, out)
        evaluation = standing.evaluation
    for observer in observers:
        observer(Passed(step, outcome, seconds, evaluation))
    if step == config.steps or step % config.save_every == 0:
        meta: dict[str, Any] = {"data": prepared.digest, **standing._asdict()}
        del meta["step"]
        checkpoint.write(out / "checkpoints", step, parts, meta)
        checkpoint.prune(out / "checkpoints", config.keep)
    return standing


def _taken(prepared: Prepared, parts: Parts, step: int) -> Outcome:
    config = prepared.config
    batch, key = batch_of(prepared, step)
    torch.manual_seed((config.seed * 1_000_003 + step) % (1 << 63))  # dropout inside the network
    squares = prepared.objective(config.process, binder(prepared.model), batch, key)
    squares.total.backward()
    share = optim.rate(config.optimizer, step, config.steps)
    sums = (squares.total.detach() / squares.count, squares.count)
    return move(parts.network, parts.optimizers, config.optimizer, share, sums)


def _evaluated(prepared: Prepared, parts: Parts, standing: Standing, out: Path) -> Standing:
    """Score the averaged weights on held-out events and keep them if they are the best yet."""
    parts.average.swap(parts.network)
    parts.network.eval()
    found = score(prepared)
    if found.value < standing.best:
        best = out / "checkpoints" / "best"
        best.parent.mkdir(exist_ok=True)
        event_model.save(prepared.model, best)
        standing = standing._replace(best=found.value)
    parts.network.train()
    parts.average.swap(parts.network)
    return standing._replace(evaluation=found)


@torch.no_grad()
def score(prepared: Prepared) -> Estimate:
    """Return the objective's mean on held-out events, of the weights as they are."""
    config = prepared.config
    batch = held_out(prepared, config.eval_events)
    rows = len(batch.events)
    key, bind = held_out_key(prepared, rows), binder(prepared.model)
    size = max(1, min(config.batch_size, -(-rows // _PARTS)))
    sums = []
    for first in range(0, rows, size):
        part = slice(first, first + size)
        some = batch.each(operator.itemgetter(part))
        squares = prepared.objective(config.process, bind, some, Key(key.seed[part], key.step))
        sums.append(torch.stack([squares.total.double(), squares.count.double()]))
    totals, counts = torch.stack(sums).unbind(1)
    mean = (totals.sum() / counts.sum()).item()
    means = totals / counts
    error = means.std().item() / len(means) ** 0.5 if len(means) > 1 else math.nan
    return Estimate(mean, error, len(means), _UNIT)


def _resumed(prepared: Prepared, parts: Parts, out: Path) -> Standing:
    saved = checkpoint.existing(out / "checkpoints")
    if not saved:
        return Standing()
    meta = checkpoint.read(saved[-1], parts)
    if meta["data"] != prepared.digest:
        raise TrainError(
            f"{out} was trained on other data: {prepared.events.name} has changed; start a new run "
            "with another --out."
        )
    evaluation = meta["evaluation"]
    if evaluation is not None:
        value, stderr, *rest = evaluation
        evaluation = Estimate(files.number(value), files.number(stderr), *rest)
    best = math.inf if meta["best"] is None else meta["best"]
    return Standing(meta["step"], meta["skipped"], meta["in_a_row"], best, evaluation)


def _writer(out: Path, config: TrainEvents) -> Observer:
    """Return an observer that appends lines to the run's log."""
    path = out / log.LOG_FILE

    def write(passed: Passed) -> None:
        due = passed.step % config.log_every == 0 or passed.evaluation is not None
        if not (due or passed.outcome.skipped):
            return
        line: dict[str, Any] = {
            "step": passed.step,
            **passed.outcome._asdict(),
            "lr_share": optim.rate(config.optimizer, passed.step - 1, config.steps),
            "events_per_second": config.batch_size / passed.seconds,
        }
        if passed.evaluation is not None:
            line["held_out"] = passed.evaluation._asdict()
        with path.open("a", encoding="utf-8") as file:
            file.write(files.to_json(line) + "\n")

    return write
