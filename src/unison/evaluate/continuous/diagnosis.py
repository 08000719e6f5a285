"""What is there to know of a trained model of events? All diagnoses of one model, at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from unison.evaluate.continuous.dimension import dimensions, flipd, trace_dimension
from unison.evaluate.continuous.exposure import Exposure, exposure, visited
from unison.evaluate.continuous.gauge import curl_index
from unison.evaluate.continuous.products import noised
from unison.evaluate.continuous.targets import decided, target_sheet, targets
from unison.event_model import EventModel
from unison.generation.events import Drawing, route
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous.residual import ResidualProcess
from unison.types import Estimate, Event

SITE_STARTED = 0x7FFFFC03
SPREADS = (0.05, 0.1, 0.2, 0.5, 1.0)  # levels that are looked at, in spreads of the data


@dataclass(frozen=True)
class Examination:
    """How a model is looked at.

    Attributes:
        drawing: How the run that is compared with data is made.
        count: Events of that run; twice as many of data are needed.
        probes: Random directions for each event and level.
        levels: Where dimension and curl are measured; shares of the data's spread if empty.
        shown: Rows of the sheet.
    """

    drawing: Drawing = field(default_factory=Drawing)
    count: int = 32
    probes: int = 2
    levels: tuple[float, ...] = ()
    shown: int = 8

    def __post_init__(self) -> None:
        for name, least in (("count", 2), ("probes", 1), ("shown", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")


class Local(NamedTuple):
    """What the model knows of the data's shape at one level.

    Attributes:
        level: s.
        trace: Dimensions by the trace of dD/dy.
        flipd: Dimensions by the derivative of the log-density.
        curl: |J - J^T| / |J|.
    """

    level: float
    trace: Estimate
    flipd: Estimate
    curl: Estimate


class Diagnosis(NamedTuple):
    """What was found.

    Attributes:
        local: By level, rising.
        exposure: By level of the run, falling.
        decided: Share of the run after which events keep their composition.
        sheet: A PNG file of the clean means along the run.
    """

    local: tuple[Local, ...]
    exposure: tuple[Exposure, ...]
    decided: Estimate
    sheet: bytes


def diagnosed(model: EventModel, clean: Event, how: Examination) -> Diagnosis:
    """Measure dimension, curl, exposure bias, and when runs decide.

    Args:
        model: One that generates by a Gaussian process.
        clean: Data it did not learn from.
        how: The measurements.

    Raises:
        ValueError: The model restores, the data are too few or of another shape, or a level is
            outside the model's range.
    """
    _check(model, clean)
    device = next(model.network.parameters()).device
    rows = min(how.count, len(clean) // 2)
    clean = clean[: 2 * rows].to(device)
    key = Key(rng.rows(how.drawing.seed, 0, rows).to(device))
    local = [_local(model, clean[:rows], level, key, how.probes) for level in _levels(model, how)]
    denoise, way = model.denoiser(), route(model, how.drawing)
    noise = rng.normal(key, SITE_STARTED, clean[0].numel()).to(clean).view_as(clean[:rows])
    start = (way.levels[0] ** 2 + model.spread**2) ** 0.5 * noise
    states = visited(way.solver, way.levels, denoise, start, key)
    seen = targets(way.solver, way.levels, denoise, start, key)
    return Diagnosis(
        tuple(local),
        exposure(denoise, states, clean, how.drawing.seed),
        decided(seen)[1],
        target_sheet(seen, how.shown),
    )


def _local(model: EventModel, clean: Event, level: float, key: Key, probes: int) -> Local:
    denoise = model.denoiser(gradients=True)
    return Local(
        level,
        dimensions(trace_dimension(denoise, clean, level, key, probes)),
        dimensions(flipd(denoise, clean, level, key, probes)),
        curl_index(denoise, noised(clean, level, key), level, key, probes),
    )


def _levels(model: EventModel, how: Examination) -> Sequence[float]:
    low, high = model.span
    wanted = how.levels or tuple(share * model.spread for share in SPREADS)
    inside = sorted(level for level in wanted if low <= level <= high)
    if how.levels and len(inside) < len(how.levels):
        raise ValueError(
            f"levels {tuple(wanted)} are asked for; the model knows {low:.6g} to {high:.6g}."
        )
    return inside


def _check(model: EventModel, clean: Event) -> None:
    if isinstance(model.process, ResidualProcess) or model.config.beside_channels:
        raise ValueError("this model restores; only models that generate can be diagnosed.")
    if tuple(clean.shape[1:]) != model.shape:
        raise ValueError(
            f"the model draws events of shape {model.shape}, the data have "
            f"{tuple(clean.shape[1:])}."
        )
    if len(clean) < 4:
        raise ValueError(f"at least 4 events of data are needed, got {len(clean)}.")
