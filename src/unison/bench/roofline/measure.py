"""How is it measured? Gauges and work in turns, then each step operation by operation."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from unison.bench.record import BenchError
from unison.bench.roofline import suite
from unison.bench.roofline.ceiling import Ceiling, Gauge, ceiling, named, peaks
from unison.bench.roofline.gauges import gauges
from unison.bench.roofline.rows import Row, Timing, row, without
from unison.bench.roofline.settings import Roofline
from unison.bench.roofline.stage import Stage
from unison.bench.roofline.suite import Maker
from unison.bench.roofline.watching import Watched, Watching, price
from unison.bench.roofline.work import Work
from unison.bench.training import machine
from unison.bench.training.machine import Span
from unison.language_model import LanguageModel
from unison.train.setup import device_of

Observer = Callable[[str], None]

_DTYPES = ("float32", "bfloat16")
_ENOUGH = 0.02  # seconds of a reading


@dataclass(frozen=True)
class Measured:
    """What was measured at one size.

    Attributes:
        size: Name of the shape, or of the model.
        limits: What the machine did.
        rows: What was held against it.
        left_out: Why rows are missing, by name.
    """

    size: str
    limits: Ceiling
    rows: tuple[Row, ...]
    left_out: Mapping[str, str]


@dataclass
class _Case:
    """A work between its rounds."""

    work: Work
    steps: int
    again: int
    spans: list[Span] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)


def measure(
    settings: Roofline,
    more: Mapping[str, Maker] | None = None,
    model: LanguageModel | None = None,
    observe: Observer = lambda doing: None,
) -> list[Measured]:
    """Hold work against the machine's limits, size by size.

    Args:
        settings: What is measured.
        more: Rows of rooms above this one, by name.
        model: A trained model instead of random weights; the sizes are then left aside.
        observe: Told what begins.

    Raises:
        ValueError: A row is unknown, none can be measured, or the device is absent.
    """
    device = device_of(settings.device) if model is None else model.device
    makers = suite.makers(more or {})
    names = suite.chosen(settings.only, list(makers))
    sizes = settings.sizes if model is None else ("model",)
    with _threads(settings.threads):
        found = []
        for size in sizes:
            stage = Stage(settings, size, device, model)
            found.append(_at(stage, {name: makers[name] for name in names}, observe))
            gc.collect()
    return found


def _at(stage: Stage, makers: Mapping[str, Maker], observe: Observer) -> Measured:
    """Measure one size."""
    device, rounds = stage.device, stage.settings.rounds
    cases, left_out = _prepared(stage, makers, observe)
    found = gauges(stage.config, stage.settings.batch_size, _DTYPES, device)
    readings: dict[str, list[float]] = {named(gauge): [] for gauge in found}
    for number in range(rounds):
        observe(f"{stage.size}: round {number + 1} of {rounds}")
        for gauge in found:
            _read(gauge, readings[named(gauge)], device, warm=number == 0)
        for case in cases:
            _time(case, stage)
    clock = "device second" if device.type == "cuda" else "CPU second"
    held = [peaks(found, readings, number) for number in range(rounds)]
    rows = [row(case.work, stage.size, stage.dtype, _timing(case, device), held) for case in cases]
    limits = ceiling(found, readings, clock, machine.facts(device))
    return Measured(stage.size, limits, tuple(rows), left_out)


def _prepared(
    stage: Stage, makers: Mapping[str, Maker], observe: Observer
) -> tuple[list[_Case], dict[str, str]]:
    """Make every work and do it once; what does not fit the model is left out, with the reason."""
    cases, left_out = [], {}
    for name, make in makers.items():
        observe(f"{stage.size}: {name}")
        try:
            work = make(stage)
        except ValueError as error:
            left_out[name] = str(error)
            continue
        begun = work.pulse.number
        [taken] = machine.seconds([machine.timed(work.call, stage.device)], stage.device)
        again = max(1, round(_ENOUGH / max(taken, 1e-6)))
        cases.append(_Case(work, max(1, work.pulse.number - begun), again))
    if not cases:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise BenchError(f"nothing can be measured at {stage.size}. {reasons}")
    return cases, left_out


def _read(gauge: Gauge, readings: list[float], device: torch.device, *, warm: bool) -> None:
    if warm:
        gauge.run()
    readings += machine.seconds([machine.timed(gauge.run, device)], device)


def _time(case: _Case, stage: Stage) -> None:
    """Time a work as it is, then once more operation by operation."""
    work, again = case.work, case.again

    def run() -> None:
        for _ in range(again):
            work.call()

    stage.inside.taken()
    span = machine.timed(run, stage.device)
    case.inside.append(stage.inside.taken() / again)
    case.spans.append(Span(span.wall / again, span.cpu / again))
    with Watching(stage.device, lambda: work.pulse.number) as watching:
        work.call()
    case.watched.append(without(watching.watched(), price(stage.device)))


def _timing(case: _Case, device: torch.device) -> Timing:
    spans: Sequence[Span] = case.spans
    wall, cpu = [span.wall for span in spans], [span.cpu for span in spans]
    return Timing(case.steps, wall, cpu, machine.seconds(spans, device), case.inside, case.watched)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Compute with so many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
