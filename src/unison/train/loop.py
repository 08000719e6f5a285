"""How does a run go from its first step to its last, through kills and bad gradients?"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import nn

from unison.data import Rows
from unison.models import Transformer
from unison.scale.elastic import Memory
from unison.scale.peers import peers_of
from unison.scale.placing import Placed, alone
from unison.scale.spikes import Guard, Rule
from unison.train import optim
from unison.train.checkpoint import Parts
from unison.train.compiling import learning
from unison.train.config import Train, TrainError
from unison.train.ema import Average
from unison.train.keeping import Keeping, State
from unison.train.private import take as take_privately
from unison.train.promise import Private, begun
from unison.train.setup import Prepared
from unison.train.step import Learner, Outcome, take
from unison.types import Estimate


class Event(NamedTuple):
    """What observers see after a step.

    Attributes:
        step: Steps done.
        outcome: Loss and gradient norm of the step.
        lr_share: Learning rate as a share of its peak.
        seconds: Wall time of the step, evaluation left out.
        evaluation: Held-out loss in nats per token, when this step evaluated.
        bits_per_byte: The same per byte of text.
        private: What the run promises of single rows; ``None`` if nothing.
    """

    step: int
    outcome: Outcome
    lr_share: float
    seconds: float
    evaluation: Estimate | None = None
    bits_per_byte: float | None = None
    private: Private | None = None


class Hooks(NamedTuple):
    """What the caller plugs in.

    Attributes:
        evaluate: Held-out loss in nats per token; called with the averaged weights in place.
        keep_best: Called, with the averaged weights in place, when that loss is the lowest yet.
        observe: Called after every step; cannot change the run.
        prepare_step: Called before every step with its number; may refresh frozen networks.
        enough: Called after every step: whether the run ends here, before all steps are done.
        went_back: Called with the step of an earlier state when the run has gone back to it.
    """

    evaluate: Callable[[], Estimate]
    keep_best: Callable[[], None]
    observe: Callable[[Event], None]
    prepare_step: Callable[[int], None] = lambda step: None
    enough: Callable[[], bool] = lambda: False
    went_back: Callable[[int], None] = lambda step: None


def fit(
    config: Train,
    prepared: Prepared,
    folder: Path,
    hooks: Hooks,
    memory: Memory | None = None,
) -> State:
    """Train until ``config.steps``, starting from the newest checkpoint in ``folder`` if any.

    A run killed at any moment and started again gives, on the same machine, bit for bit what it
    would have given without the kill: every random number and the data order are functions of
    (seed, step), and everything else is in the checkpoint.

    Args:
        config: The run.
        prepared: What it works on.
        folder: Where it lives.
        hooks: What the caller plugs in.
        memory: Where snapshots are kept besides; the newest state there is is gone on from.

    Raises:
        TrainError: The gradient stayed non-finite, or a checkpoint cannot be read.
    """
    placed = alone(prepared.network) if prepared.placed is None else prepared.placed
    keeping = Keeping(folder, placed, config.keep, memory)
    private = begun(config, prepared, placed, folder)
    try:
        state = _steps(config, prepared, hooks, placed, keeping, private)
        keeping.finish()
    except BaseException:
        keeping.abandon()
        raise
    return state


def _steps(
    config: Train,
    prepared: Prepared,
    hooks: Hooks,
    placed: Placed,
    keeping: Keeping,
    private: Private | None,
) -> State:
    """Do the steps that are left."""
    learner, parts = _ready(config, prepared, placed)
    state, saved = keeping.begun(parts)
    guard = _guard(config, placed, saved)
    last = state.step >= config.steps
    while not last:
        if guard is not None:  # at the top: a kill may have come before it
            state = _gone_back(state, guard, keeping, hooks)
        began = time.perf_counter()
        hooks.prepare_step(state.step)
        outcome = _learn(config, prepared, learner, guard, private, state.step)
        in_a_row = state.in_a_row + 1 if outcome.skipped else 0
        if in_a_row >= config.max_skipped:
            raise TrainError(_explain(config, state.step, outcome))
        parts.average.update(placed.own, state.step)
        seconds = time.perf_counter() - began
        state = state._replace(
            step=state.step + 1, skipped=state.skipped + outcome.skipped, in_a_row=in_a_row
        )
        last = state.step == config.steps or hooks.enough()
        if last and parts.peers is not None and config.ema:  # else all hold the same already
            parts.peers.share(parts.average.weights)
        evaluation = None
        if last or state.step % config.eval_every == 0:
            state = evaluate(state, hooks, prepared.network)
            evaluation = state.evaluation
        in_bits = None if evaluation is None else evaluation.value * prepared.bits_per_byte
        share = _share(config, state)
        hooks.observe(Event(state.step, outcome, share, seconds, evaluation, in_bits, private))
        save = last or state.step % config.save_every == 0
        keeping.after(state, _besides(guard, private, state.step, save=save), save=save)
    return state


def _learn(
    config: Train,
    prepared: Prepared,
    learner: Learner,
    guard: Guard | None,
    private: Private | None,
    step: int,
) -> Outcome:
    """Take one step on its rows."""
    if private is not None:
        return take_privately(learner, config, private, prepared.corpus, step)
    assert learner.placed is not None  # _ready says where it lies
    number = step if guard is None else guard.batch(step)
    rows = _read(config, prepared, learner.placed, number)
    return take(learner, config, rows.tokens, step, rows.valid, rows.given, guard)


def _besides(
    guard: Guard | None, private: Private | None, step: int, *, save: bool
) -> dict[str, Any]:
    """Return what is saved with a state."""
    extra = {} if guard is None else {"spikes": guard.plain()}
    return {**extra, "privacy": private.spent(step)} if private is not None and save else extra


def _guard(config: Train, placed: Placed, saved: dict[str, Any]) -> Guard | None:
    """Return what judges the steps, as far as it had come."""
    if not config.scale.spikes:
        return None
    guard = Guard(Rule(), placed.spread.world)
    if "spikes" in saved:
        guard.restore(saved["spikes"])
    return guard


def _gone_back(state: State, guard: Guard, keeping: Keeping, hooks: Hooks) -> State:
    """Return an earlier state if there were too many spikes, else this one."""
    first = guard.must_return()
    if first is None:
        return state
    if not keeping.can_go_back(first):
        guard.forgive()
        return state
    earlier, _ = keeping.back(state.parts, first)
    guard.has_returned()
    hooks.went_back(earlier.step)
    return earlier._replace(best=state.best, skipped=state.skipped)


def _ready(config: Train, prepared: Prepared, placed: Placed) -> tuple[Learner, Parts]:
    """Return what a step works on, and all of a run that changes."""
    prepared.network.train()
    average, optimizers = Average(placed.own, config.ema), optim.make(placed.own, config.optimizer)
    peers = peers_of(placed)
    parts = Parts(placed.own, average, optimizers, prepared.frozen, peers)
    seen = cast(Transformer, learning(config, prepared, placed))
    return Learner(seen, prepared.process, prepared.objective, optimizers, placed, peers), parts


def _read(config: Train, prepared: Prepared, placed: Placed, step: int) -> Rows:
    """Return this rank's rows of the batch of a step, on its device."""
    indices = prepared.stream.indices(step)
    if not placed.alone:
        mine = placed.spread.rows(config.batch_size)
        indices = indices[mine.start : mine.stop]
    device = next(placed.own.parameters()).device
    return prepared.corpus.rows(config.model.max_length, indices).to(device)


def evaluate(state: State, hooks: Hooks, network: nn.Module) -> State:
    """Score the averaged weights on held-out text and keep them if they are the best yet."""
    own, average = state.parts.network, state.parts.average
    average.swap(own)
    network.eval()
    result = hooks.evaluate()
    if result.value < state.best:
        hooks.keep_best()
        state = state._replace(best=result.value)
    network.train()
    average.swap(own)
    return state._replace(evaluation=result)


def _share(config: Train, state: State) -> float:
    """Return the share of the peak learning rate that the last step took."""
    return optim.rate(config.optimizer, state.step - 1, config.steps)


def _explain(config: Train, step: int, outcome: Outcome) -> str:
    return (
        f"stopped at step {step}: {config.max_skipped} steps in a row had a non-finite gradient "
        f"(loss {outcome.loss}, gradient norm {outcome.grad_norm}). The last good state is in "
        "checkpoints/. Start again in another folder with a lower optimizer.lr, a longer "
        "optimizer.warmup or precision=float32."
    )
