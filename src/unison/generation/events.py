"""How are events drawn from a trained model? A solver, a grid, conditions, in batches."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unison.decode.continuous import Drawn, Grid, Multistep, Solver, Span, solve
from unison.decode.continuous.budget import intervals_within
from unison.decode.continuous.grids import TimePower
from unison.decode.continuous.guidance import ClassifierFree
from unison.decode.continuous.posterior_step import PosteriorStep
from unison.decode.continuous.tuned import Plan, default
from unison.event_model import EventModel
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous.residual import ResidualProcess, start
from unison.types import Event, EventDenoiser

SITE_FIRST = 0x7FFFFF28


@dataclass(frozen=True)
class Drawing:
    """How to draw.

    Attributes:
        solver: Who steps; ``None`` for what suits the number of evaluations (``tuned.default``),
            and for residual processes, which bring their own.
        grid: Which levels it visits; likewise.
        nfe: Evaluations it may spend on a row; guidance doubles them.
        guidance: Weight of classifier-free guidance; 1 for the model itself.
        high: First level; ``None`` for the model's highest.
        low: Last level above 0; ``None`` for the model's lowest.
        last_mean: Whether the last evaluation is spent on the clean mean at the last level; it
            takes away the noise that is left there, which at a model's lowest level nobody sees.
        batch_size: Rows drawn together; changes speed and memory, never events.
        seed: Names the noise.
    """

    solver: Solver | None = None
    grid: Grid | None = None
    nfe: int = 20
    guidance: float = 1.0
    high: float | None = None
    low: float | None = None
    last_mean: bool = False
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("nfe", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


class DrawnEvents(NamedTuple):
    """What was drawn.

    Attributes:
        values: Events as the model knows them, scaled.
        nfe: Network evaluations spent on each row, those of guidance included.
        seconds: Wall time of drawing.
    """

    values: Event
    nfe: int
    seconds: float


def draw_events(
    model: EventModel,
    drawing: Drawing,
    count: int,
    label: int | None = None,
    degraded: Event | None = None,
) -> DrawnEvents:
    """Draw events of a class, or restore degraded ones.

    Row i of a seed is the same event whatever the count and the batch size.

    Args:
        model: Who is asked.
        drawing: How.
        count: Events.
        label: A class of the model; ``None`` for all it learnt from.
        degraded: One degraded event for each row, for models that restore.

    Raises:
        ValueError: The class, the levels or the settings do not fit the model.
    """
    _check(model, drawing, (count, label, degraded))
    residual = isinstance(model.process, ResidualProcess)
    once = _restored if residual else _generated
    began = time.perf_counter()
    drawn: list[Drawn] = []
    for first in range(0, count, drawing.batch_size):
        rows = min(drawing.batch_size, count - first)
        key = Key(rng.rows(drawing.seed, first, rows))
        labels = None if label is None else torch.full((rows,), label)
        worse = None if degraded is None else degraded[first : first + rows]
        drawn.append(once(model, drawing, key, (labels, worse)))
    times = 1 if drawing.guidance == 1 else 2
    values = torch.cat([part.x for part in drawn])
    return DrawnEvents(values, times * drawn[0].nfe, time.perf_counter() - began)


def route(model: EventModel, drawing: Drawing) -> Plan:
    """Return the solver and the levels of a drawing.

    Raises:
        ValueError: The budget pays no interval, or levels are outside the model's range.
    """
    low, high = model.span
    top = high if drawing.high is None else drawing.high
    bottom = low if drawing.low is None else drawing.low
    slack = 1e-6
    if not low * (1 - slack) <= bottom < top <= high * (1 + slack):
        raise ValueError(
            f"levels from {top:.6g} to {bottom:.6g} are asked for; the model knows {high:.6g} to "
            f"{low:.6g}."
        )
    if drawing.nfe == 1:  # no solver steps: the model's own answer, which students are made for
        return Plan(drawing.solver or Multistep(), (top, 0.0))
    span = Span(top, bottom, model.process, model.spread)
    last = (0.0,) if drawing.last_mean else ()
    if drawing.solver is None and drawing.grid is None:
        usual = default(span, drawing.nfe - len(last))
        return Plan(usual.solver, (*usual.levels, *last))
    solver, grid = drawing.solver or Multistep(), drawing.grid or TimePower(2.0)
    intervals = intervals_within(solver, drawing.nfe, final=len(last))
    return Plan(solver, (*grid.levels(span, intervals), *last))


def _generated(
    model: EventModel, drawing: Drawing, key: Key, given: Sequence[Tensor | None]
) -> Drawn:
    labels, beside = given
    device = next(model.network.parameters()).device
    solver, levels = route(model, drawing)
    noise = rng.normal(key, SITE_FIRST, _size(model)).float().view(-1, *model.shape)
    moved = Key(key.seed.to(device))
    denoise = _denoiser(model, drawing, [_to(part, device) for part in (labels, beside)])
    # far above the data the marginal is that of noise and data together
    spread = (levels[0] ** 2 + model.spread**2) ** 0.5
    return _home(solve(solver, levels, denoise, (spread * noise).to(device), moved))


def _denoiser(model: EventModel, drawing: Drawing, given: Sequence[Tensor | None]) -> EventDenoiser:
    labels, beside = given
    aim = model.denoiser(labels, beside)
    if labels is None or drawing.guidance == 1:
        return aim
    plain = model.denoiser(torch.full_like(labels, -1), beside)
    return ClassifierFree(aim, plain, drawing.guidance)


def _restored(
    model: EventModel, drawing: Drawing, key: Key, given: Sequence[Tensor | None]
) -> Drawn:
    """Step from the degraded events back, in equal steps of time."""
    labels, worse = given
    if worse is None or not isinstance(model.process, ResidualProcess):
        raise ValueError("a residual process starts from degraded events; give them.")
    device = next(model.network.parameters()).device
    worse = worse.to(device)
    solver = PosteriorStep(model.process, worse)
    times = [1 - step / drawing.nfe for step in range(drawing.nfe)]
    moved = Key(key.seed.to(device))
    begun = start(model.process, worse, moved)
    denoise = model.restorer(worse, _to(labels, device))
    return _home(solve(solver, (*times, 0.0), denoise, begun, moved))


def _check(
    model: EventModel, drawing: Drawing, given: tuple[int, int | None, Event | None]
) -> None:
    count, label, degraded = given
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    if degraded is not None and len(degraded) != count:
        raise ValueError(f"{count} events are asked for and {len(degraded)} degraded ones given.")
    wanted = model.config.beside_channels
    if bool(wanted) != (degraded is not None):
        needs = "restores; give it degraded events" if wanted else "generates; it takes none"
        raise ValueError(f"this model {needs}.")
    residual = isinstance(model.process, ResidualProcess)
    named = drawing.solver is not None or drawing.grid is not None
    if residual and (named or drawing.guidance != 1):
        raise ValueError(
            f"{type(model.process).__name__} is undone by its own posterior step in equal steps of "
            "time; leave solver, grid and guidance out."
        )
    if drawing.guidance != 1 and label is None:
        raise ValueError(f"guidance={drawing.guidance} is towards a class; name a label.")


def _size(model: EventModel) -> int:
    return int(torch.tensor(model.shape).prod())


def _to(part: Tensor | None, device: torch.device) -> Tensor | None:
    return None if part is None else part.to(device)


def _home(drawn: Drawn) -> Drawn:
    return drawn._replace(x=drawn.x.cpu())
