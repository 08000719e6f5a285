"""How fast does each objective train? Steps of the real loop beside what the machine can do."""

import dataclasses
import gc
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from unison.bench import memory
from unison.bench.record import BenchError
from unison.bench.training import flops, machine
from unison.bench.training.machine import Limits, Span, Work, spread
from unison.bench.training.parts import DONE, PARTS, Marks, marked
from unison.bench.training.rows import Row
from unison.models import PRESETS, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.suggest import nearest
from unison.train import Optimizer, Train, optim
from unison.train.config import Device, fitted, objective_of
from unison.train.ema import Average
from unison.train.setup import build, device_of
from unison.train.step import Learner, take, uses_bfloat16
from unison.types import Tokens

Observer = Callable[[str], None]


@dataclass(frozen=True)
class Speed:
    """Which training steps are timed.

    Attributes:
        objectives: Names in ``OBJECTIVES``; each trains a network of the shape it is best with.
        sizes: Names in ``PRESETS``, or width x depth x heads: ``192x6x6``.
        vocab_size: Tokens of the vocabulary.
        length: Tokens of a row.
        batch_size: Rows of a step.
        micro_batch: Rows of a forward pass; ``None`` for all at once.
        steps: Steps of each that are timed; they take turns.
        warmup: Steps of each before those.
        optimizer: What moves the weights.
        precision: Of the network: bfloat16 autocast on a GPU, float32 on a CPU.
        device: Where.
        threads: Of a CPU; ``None`` leaves them as they are.
        seed: Names weights, tokens and noise.
    """

    objectives: tuple[str, ...] = ("ar", "mdlm", "duo", "bd3")
    sizes: tuple[str, ...] = ("micro", "tiny")
    vocab_size: int = 2048
    length: int = 128
    batch_size: int = 16
    micro_batch: int | None = None
    steps: int = 5
    warmup: int = 2
    optimizer: Literal["adamw", "muon"] = "adamw"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Device = "auto"
    threads: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "length", "batch_size", "steps", "warmup"):
            if getattr(self, name) < 1:
                raise BenchError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.threads is not None and self.threads < 1:
            raise BenchError(f"threads must be at least 1, got {self.threads}.")
        for name in ("objectives", "sizes"):
            chosen = getattr(self, name)
            if not chosen or len(set(chosen)) < len(chosen):
                raise BenchError(f"{name} must name at least one, each once, got {chosen}.")
        for name, size in self.cases():
            self.train(name, size)

    def cases(self) -> list[tuple[str, str]]:
        """Return every objective at every size."""
        return [(objective, size) for size in self.sizes for objective in self.objectives]

    def train(self, objective: str, size: str) -> Train:
        """Return the run whose steps are timed.

        Raises:
            ValueError: Objective or size are unknown, or do not go together.
        """
        minimised = objective_of(objective)
        shape = dataclasses.replace(shape_of(size), max_length=self.length)
        return Train(
            model=fitted(shape, minimised),
            objective=minimised,
            optimizer=Optimizer(self.optimizer),
            steps=self.warmup + self.steps + 2,
            batch_size=self.batch_size,
            micro_batch=self.micro_batch,
            precision=self.precision,
            seed=self.seed,
        )


class _Case(NamedTuple):
    """One run that takes turns with others.

    Attributes:
        objective: Its name.
        size: Name of the shape.
        parameters: Weights that move.
        step: Takes its next step.
        products: The step's matrix products alone.
        tally: What the operations of a step are.
        plain: FLOPs of one plain evaluation and gradient.
        held: Memory.
        marks: When its parts began.
    """

    objective: str
    size: str
    parameters: int
    step: Work
    products: Work
    tally: flops.Tally
    plain: int
    held: memory.Peak
    marks: Marks


def shape_of(size: str) -> TransformerConfig:
    """Return the shape of a name, or of width x depth x heads.

    Raises:
        ValueError: It is neither.
    """
    if size in PRESETS:
        return PRESETS[size]
    spelt = re.fullmatch(r"(\d+)x(\d+)x(\d+)", size)
    if spelt is None:
        raise BenchError(
            f"unknown size {size!r}{nearest(size, PRESETS)}; known: {', '.join(PRESETS)}, or "
            "WIDTHxDEPTHxHEADS such as 192x6x6."
        )
    hidden, depth, heads = map(int, spelt.groups())
    return TransformerConfig(hidden=hidden, depth=depth, heads=heads)


def measure(speed: Speed, observe: Observer = lambda doing: None) -> tuple[list[Row], Limits]:
    """Time steps of every objective at every size, in turns with the machine's limits.

    A step is that of the training loop: noise, loss, gradient, optimiser, average of the weights.
    Reading the corpus, evaluation and checkpoints are left out; tokens are drawn uniformly.

    Args:
        speed: What is timed.
        observe: Told what begins.

    Returns:
        A row for each, sizes in turn, and what the machine can do.

    Raises:
        ValueError: The device is absent, or a gradient was not finite.
    """
    device = device_of(speed.device)
    with _threads(speed.threads):
        bfloat16 = uses_bfloat16(speed.train(*speed.cases()[0]), device)
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        probes = machine.probes(device, dtype)
        _prepared(speed, *speed.cases()[0], device)  # libraries set their buffers aside
        cases = []
        for objective, size in speed.cases():
            observe(f"{objective} at {size}: first steps")
            cases.append(_prepared(speed, objective, size, device))
        work = {probe.name: probe.run for probe in (*probes.products, *probes.traffic)}
        for number, case in enumerate(cases):
            work |= {f"products {number}": case.products, f"step {number}": case.step}
        observe(f"{speed.steps} steps of each, in turns")
        spans = machine.take_turns(work, speed.steps, device)
        limits = machine.limits(probes, spans, device)
    [fastest] = [probe for probe in probes.products if probe.name == limits.best]
    reference = machine.rates(fastest, spans, device)
    rows = [
        _row(speed, case, spans[f"step {n}"], spans[f"products {n}"], reference, device)
        for n, case in enumerate(cases)
    ]
    return rows, limits


def _prepared(speed: Speed, objective: str, size: str, device: torch.device) -> _Case:
    """Build a run, take its first steps, and count what one of them does."""
    config, marks = speed.train(objective, size), Marks(device)
    gc.collect()
    with memory.watched(device) as held:
        learner, average = _learner(config, speed.vocab_size, device)
        step = _step(marked(learner, marks), config, average, _tokens(speed, device), marks)
        for _ in range(speed.warmup):
            step()
    with flops.Counting(lambda: marks.part) as counting:
        step()
    marks.forget()
    tally = counting.tally
    plain = flops.training(learner.network.config, speed.batch_size, speed.length).total
    moving = sum(weight.numel() for weight in optim.moving(learner.network).values())
    alone = flops.alone(tally.of(*_LEARNING), device)
    return _Case(objective, size, moving, step, alone, tally, plain, held, marks)


def _learner(config: Train, vocab_size: int, device: torch.device) -> tuple[Learner, Average]:
    """Return what the training loop would begin with."""
    process, network = build(config, vocab_size, vocab_size - 1, device)
    network.train()
    optimizers = optim.make(network, config.optimizer)
    learner = Learner(network, process, config.objective, optimizers)
    return learner, Average(network, config.ema)


def _step(learner: Learner, config: Train, average: Average, tokens: Tokens, marks: Marks) -> Work:
    """Return a function that takes the next step at every call."""
    taken = iter(range(1 << 62))

    def step() -> None:
        number = next(taken)
        marks("objective")
        outcome = take(learner, config, tokens, number)
        if outcome.skipped:
            raise BenchError(
                f"the gradient of {type(config.objective).__name__} was not finite at step "
                f"{number}, so the weights were not moved; use precision=float32."
            )
        marks("optimizer")
        average.update(learner.network, number)
        marks(DONE)

    return step


def _tokens(speed: Speed, device: torch.device) -> Tokens:
    """Return rows of uniformly drawn tokens."""
    rows = Key(rng.rows(speed.seed, 0, speed.batch_size))
    u = rng.uniform(rows, _SITE_TOKENS, speed.length)
    return (u * speed.vocab_size).long().to(device)


def _row(
    speed: Speed,
    case: _Case,
    steps: Sequence[Span],
    products: Sequence[Span],
    reference: Sequence[float],
    device: torch.device,
) -> Row:
    """Put together what was measured of a case, round by round."""
    tokens = speed.batch_size * speed.length
    wall, cpu = spread([span.wall for span in steps]), spread([span.cpu for span in steps])
    compared = machine.seconds(steps, device)
    parts = case.marks.seconds()
    learning = case.tally.flops(*_LEARNING)
    alone = machine.seconds(products, device)
    return Row(
        case.objective,
        case.size,
        case.parameters,
        tokens,
        wall,
        cpu,
        tokens / wall.median,
        tokens / cpu.median,
        case.tally.alive.peak,
        case.held.growth,
        case.held.of,
        learning,
        case.tally.flops("optimizer"),
        learning / case.plain,
        case.tally.bytes.total(),
        spread([learning / s / best for s, best in zip(compared, reference, strict=True)]),
        spread([a / s for a, s in zip(alone, compared, strict=True)]),
        {part: parts[part] / sum(parts.values()) for part in PARTS},
    )


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Compute with so many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_LEARNING = tuple(part for part in PARTS if part != "optimizer")
_SITE_TOKENS = 0
