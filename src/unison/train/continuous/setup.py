"""What must exist before the first step? Events and a network that fits them, checked whole."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from unison.data.continuous import Events, Side, degraded, made_noisy, read
from unison.event_denoising import Preconditioned, Residual
from unison.event_model import EventModel
from unison.models.continuous import NETWORKS, build, name_of
from unison.objectives.continuous import Bind, EventBatch, EventLoss
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import GaussianProcess
from unison.process.continuous.residual import ResidualProcess
from unison.train import folder
from unison.train.config import TrainError
from unison.train.continuous.config import TrainEvents
from unison.types import EventDenoiser

_HELD_OUT = 1 << 62  # the first row number of held-out events: none of training comes near


class Prepared(NamedTuple):
    """A run that can start.

    Attributes:
        config: The run.
        events: What is learnt from, and what is held out.
        model: What is trained, and what it will be saved as.
        device: Where.
        digest: Of the data, so that a resumed run cannot go on with others.
    """

    config: TrainEvents
    events: Events
    model: EventModel
    device: torch.device
    digest: str

    @property
    def objective(self) -> EventLoss:
        """What is minimised."""
        return self.config.objective


def prepare(config: TrainEvents, source: str | Path | Events, device: torch.device) -> Prepared:
    """Read the events and build the network its seed draws.

    Raises:
        ValueError: The data or the settings cannot be used.
    """
    events = source if isinstance(source, Events) else read(source, config.reading)
    if config.noise_share:
        events = made_noisy(events, config.noise_level, config.noise_share, config.seed)
    network = build(_fitted(config, events), config.seed).to(device)
    restores = isinstance(config.process, ResidualProcess)
    model = EventModel(
        network,
        config.process,
        events.shape,
        _residual_spread(config, events) if restores else events.spread,
        config.prediction,
        _span(config),
        notes={
            "data": events.name,
            "licence": events.licence,
            "scaling": list(events.scaling),
            "train": folder.plain(config),
        },
    )
    prepared = Prepared(config, events, model, device, _digest(events))
    with torch.no_grad():  # shapes that do not fit are refused here, not in a run
        batch = held_out(prepared, 2)
        config.objective(config.process, binder(model), batch, _key(config.seed, _HELD_OUT, 2))
    return prepared


def binder(model: EventModel) -> Bind:
    """Return what makes denoisers of a model that is being trained."""
    process = model.process

    def bind(label: Tensor | None, beside: Tensor | None) -> EventDenoiser:
        if isinstance(process, ResidualProcess) and beside is not None:
            return Residual(
                network=model.network,  # pyright: ignore[reportArgumentType]
                process=process,
                degraded=beside,
                spread=model.spread,
                label=label,
                span=model.span,
                gradients=True,
            )
        return Preconditioned(
            network=model.network,  # pyright: ignore[reportArgumentType]
            prediction=model.prediction,
            spread=model.spread,
            label=label,
            beside=beside,
            span=model.span,
            gradients=True,
        )

    return bind


def batch_of(prepared: Prepared, step: int) -> tuple[EventBatch, Key]:
    """Return the events of a step and their streams: functions of (seed, step) alone."""
    config, side = prepared.config, prepared.events.learnt
    chosen = rows_of(config.seed, step, config.batch_size, len(side.values))
    key = Key(rng.rows(config.seed, 0, config.batch_size), step)
    strata = rng.stratified(config.seed, step, config.batch_size)
    return _batch(prepared, side, chosen, (strata, key))


def held_out(prepared: Prepared, count: int) -> EventBatch:
    """Return the first held-out events with levels and degradations that are always the same."""
    side = prepared.events.kept
    chosen = torch.arange(min(count, len(side.values)))
    key = _key(prepared.config.seed, _HELD_OUT, len(chosen))
    strata = rng.stratified(prepared.config.seed, _HELD_OUT, len(chosen))
    return _batch(prepared, side, chosen, (strata, key))[0]


def held_out_key(prepared: Prepared, rows: int) -> Key:
    """Return the streams of held-out events."""
    key = _key(prepared.config.seed, _HELD_OUT, rows)
    return Key(key.seed.to(prepared.device), key.step)


def rows_of(seed: int, step: int, size: int, count: int) -> Int[Tensor, " {size}"]:
    """Return which events a step sees: every event once in each pass, shuffled anew."""
    places = torch.arange(step * size, (step + 1) * size)
    passes, within = places // count, places % count
    orders = {int(number): _order(seed, int(number), count) for number in passes.unique()}
    return torch.stack(
        [orders[p][w] for p, w in zip(passes.tolist(), within.tolist(), strict=True)]
    )


@functools.lru_cache(maxsize=4)
def _order(seed: int, number: int, count: int) -> Tensor:
    return rng.uniform(Key(torch.tensor([seed]), number), rng.SITE_SHUFFLE, count)[0].argsort()


def _batch(
    prepared: Prepared, side: Side, chosen: Tensor, draws: tuple[Tensor, Key]
) -> tuple[EventBatch, Key]:
    strata, key = draws
    values = side.values[chosen]
    labels = None if side.labels is None or not prepared.config.labels else side.labels[chosen]
    way = prepared.config.degradation
    beside = None if way is None else degraded(values, way, key).degraded
    known = None if side.known is None else side.known[chosen]
    batch = EventBatch(values, strata, labels, beside, known)
    device = prepared.device
    return batch.each(lambda part: part.to(device)), Key(key.seed.to(device), key.step)


def _key(seed: int, first: int, count: int) -> Key:
    return Key(rng.rows(seed, first, count), 0)


def _fitted(config: TrainEvents, events: Events) -> Any:
    """Return the shape of the network with the data's sizes filled in.

    Raises:
        TrainError: The network is for events with another number of axes.
    """
    name = name_of(config.network)
    if len(events.shape) != NETWORKS[name].axes:
        fitting = [other for other, kind in NETWORKS.items() if kind.axes == len(events.shape)]
        raise TrainError(
            f"the network {name!r} takes events of {NETWORKS[name].axes} axes, and those of "
            f"{events.name} have shape {events.shape}; choose "
            f"{' or '.join(fitting) or 'other data'}."
        )
    return dataclasses.replace(
        config.network,
        channels=events.shape[0],
        classes=events.classes if config.labels else 0,
        beside_channels=0 if config.degradation is None else events.shape[0],
    )


def _span(config: TrainEvents) -> tuple[float, float]:
    """Return the levels to be trained, or the times of a residual process."""
    if isinstance(config.process, ResidualProcess):
        return (0.0, 1.0)
    process: GaussianProcess = config.process
    least, most = process.level(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    return max(config.low, least), min(config.high, most)


def _residual_spread(config: TrainEvents, events: Events) -> float:
    """Return the standard deviation of what a degradation takes away."""
    values = events.learnt.values
    if config.degradation is None:
        return events.spread
    worse = degraded(values, config.degradation, _key(config.seed, 0, len(values))).degraded
    return float((worse - values).std())


def _digest(events: Events) -> str:
    found = hashlib.sha256(events.values.numpy().tobytes())
    found.update(events.held_out.numpy().tobytes())
    if events.labels is not None:
        found.update(events.labels.numpy().tobytes())
    return found.hexdigest()[:16]
