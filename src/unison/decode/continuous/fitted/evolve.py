"""Which program is best for one model? Evolution with a cheap guess of who is worth a try.

S3 (Liu et al., 2024, arXiv:2312.07243) evolves programs and lets a learnt predictor choose which
children are evaluated. Differs: the predictor is a ridge regression of the logarithm of the error
on levels and one-hot choices, fitted anew in each generation; and what is minimised is the distance
to exactly solved trajectories, which takes milliseconds.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unison.decode.continuous.api import State
from unison.decode.continuous.fitted.document import document
from unison.decode.continuous.fitted.programs import (
    BASES,
    HIGHEST,
    Choice,
    Program,
    Programmed,
    plain,
    read,
)
from unison.decode.continuous.grids import CosineSNR, Karras, Knee, LogSNR, Span, TimePower
from unison.files import write_json
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser

FORMAT, VERSION = "unison program search", 1
SITE_EVOLUTION = 0x7FFFFF27
_DRAWS = 64  # uniforms of one child; more than any child reads


@dataclass(frozen=True)
class Evolution:
    """How programs are searched for.

    Attributes:
        budget: Programs that are evaluated, the first ones too.
        population: How many a generation evaluates.
        parents: Share of the best that have children.
        proposed: Children that are made for each one evaluated; the predictor chooses.
        jitter: Standard deviation of the logarithm by which a level or a scale moves.
        seed: Equal seeds search alike.
    """

    budget: int = 2000
    population: int = 64
    parents: float = 0.3
    proposed: int = 4
    jitter: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("budget", "population", "proposed"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.parents <= 1:
            raise ValueError(f"parents is a share in (0, 1], got {self.parents}.")


class Evaluated(NamedTuple):
    """A program and its root mean squared distance; infinite where it overflowed."""

    program: Program
    error: float


class Searched(NamedTuple):
    """What a search found.

    Attributes:
        best: The program of least error on the starts, and that error.
        begun: The best of those it began with.
        evaluated: How many were evaluated, none twice.
    """

    best: Evaluated
    begun: Evaluated
    evaluated: int


@dataclass
class Archive:
    """All programs evaluated so far, by fingerprint, in that order."""

    found: dict[str, Evaluated] = field(default_factory=dict)
    generation: int = 0

    def ranked(self) -> list[Evaluated]:
        """Return them, the best first."""
        return sorted(self.found.values(), key=lambda one: one.error)


def search_program(
    denoise: EventDenoiser,
    starts: Event,
    ends: Tensor,
    initial: Sequence[Program],
    how: Evolution | None = None,
    path: Path | None = None,
) -> Searched:
    """Search for the program that best takes the starts to their ends.

    The result is never worse on these starts than the best of ``initial``. A search that was
    stopped goes on from its file, and ends as if it had never been.

    Args:
        denoise: The model.
        starts: Events at the programs' first level.
        ends: Where they belong at the last, of their shape.
        initial: Programs to begin with, all with one number of steps and the same two ends.
        how: Effort; the default evaluates 2000 programs.
        path: A file that is written after each generation.

    Raises:
        ValueError: No program is given, or they differ in steps or ends; starts and ends differ in
            shape; the file belongs to another search.
    """
    how = how or Evolution()
    _check_alike(initial)
    if starts.shape != ends.shape:
        raise ValueError(
            f"starts {tuple(starts.shape)} and ends {tuple(ends.shape)} must have one shape."
        )
    name = {"how": asdict(how), "initial": [one.fingerprint() for one in initial]}
    archive = _resumed(path, name)
    while archive.generation == 0 or len(archive.found) < how.budget:
        left = how.budget - len(archive.found)
        asked = initial if archive.generation == 0 else _children(archive, how, left)
        fresh = {one.fingerprint(): one for one in asked}
        for print_, program in fresh.items():
            if print_ not in archive.found:
                archive.found[print_] = Evaluated(program, error_of(program, denoise, starts, ends))
        archive.generation += 1
        _saved(path, name, archive)
        if not asked:
            break
    begun = min((archive.found[one.fingerprint()] for one in initial), key=lambda one: one.error)
    return Searched(archive.ranked()[0], begun, len(archive.found))


def error_of(program: Program, denoise: EventDenoiser, starts: Event, ends: Event) -> float:
    """Return the root mean squared distance to the ends; infinite where numbers overflow."""
    solver, levels = Programmed(program), program.levels
    state = State(starts)
    seeds = torch.zeros(len(starts), dtype=torch.int64)
    with torch.no_grad():
        for step in range(len(program.choices)):
            state = solver.step(levels, denoise, state, Key(seeds, step))
        error = float((state.x - ends).flatten(1).square().sum(1).mean().sqrt())
    return error if math.isfinite(error) else math.inf


def beginnings(span: Span, intervals: int) -> list[Program]:
    """Return multistep rules of two orders in both bases on the usual grids."""
    grids = (TimePower(2.0), LogSNR(), Karras(), CosineSNR(), Knee())
    return [
        plain(grid, span, intervals, order, basis, corrector)
        for grid in grids
        for order in (2, 3)
        for basis in BASES
        for corrector in (False, True)
    ]


def _children(archive: Archive, how: Evolution, most: int) -> list[Program]:
    """Return new programs of the best ones, those that the predictor expects most of."""
    ranked = archive.ranked()
    parents = [one.program for one in ranked[: max(2, round(how.parents * how.population))]]
    count = how.proposed * how.population
    key = Key(rng.rows(how.seed, archive.generation * count, count), archive.generation)
    draws = rng.uniform(key, SITE_EVOLUTION, _DRAWS).tolist()
    made = {}
    for row in draws:
        child = _child(parents, Draws(row), how.jitter)
        if child is not None and child.fingerprint() not in archive.found:
            made[child.fingerprint()] = child
    guess = _predictor(list(archive.found.values()))
    best = sorted(made.values(), key=lambda one: float(_features(one) @ guess))
    return list(islice(best, min(how.population, most)))


class Draws:
    """Uniforms that are read one after another."""

    def __init__(self, uniforms: Sequence[float]) -> None:
        self._rest = iter(uniforms)

    def below(self, count: int) -> int:
        """Return a number from 0 to ``count`` - 1."""
        return int(next(self._rest) * count)

    def normal(self) -> float:
        """Return a standard normal number."""
        return math.sqrt(-2 * math.log(next(self._rest))) * math.cos(2 * math.pi * next(self._rest))


def _child(parents: Sequence[Program], draws: Draws, jitter: float) -> Program | None:
    """Return a mutated cross of two parents; ``None`` where its levels would not fall."""
    # The lower of two ranks: better parents have more children.
    one, other = (parents[min(draws.below(len(parents)), draws.below(len(parents)))] for _ in "ab")
    cut = draws.below(2 * len(one.choices))  # past the end half the time: no cross
    choices = [*one.choices[:cut], *other.choices[cut:]]
    for _ in range(1 + draws.below(3)):
        place = draws.below(len(choices))
        choices[place] = _mutated(choices[place], place, len(choices), draws, jitter)
    levels = [choice.level for choice in choices]
    if any(low >= high for high, low in zip(levels, [*levels[1:], one.low], strict=True)):
        return None
    return Program(tuple(choices), one.low)


def _mutated(choice: Choice, place: int, steps: int, draws: Draws, jitter: float) -> Choice:
    """Return the choice with one field changed; the first level and the last step's rest stay."""
    factor = math.exp(jitter * draws.normal())
    moved = choice._replace(level=choice.level * factor) if place > 0 else choice
    order = min(max(choice.order + (1, -1)[draws.below(2)], 1), HIGHEST, place + 1)
    turned = choice._replace(order=order, estimation=min(max(choice.estimation, order - 1), order))
    estimation = 1 + draws.below(choice.order)
    options = (
        moved,
        moved,
        choice._replace(basis=BASES[1 - BASES.index(choice.basis)]),
        turned,
        choice._replace(estimation=estimation),
        choice._replace(corrector=not choice.corrector and place < steps - 1),
        choice._replace(scale=choice.scale * factor),
        choice._replace(scale=choice.scale * factor),
    )
    return options[draws.below(len(options))]


def _features(program: Program) -> np.ndarray:
    """Return what the predictor sees: levels and their squares, and all choices as one-hots."""
    u = np.log([choice.level for choice in program.choices])
    rows = [
        [
            *(choice.order == order for order in range(1, HIGHEST + 1)),
            *(choice.estimation == order for order in range(1, HIGHEST + 1)),
            choice.basis == "data",
            choice.corrector,
            choice.scale,
        ]
        for choice in program.choices
    ]
    steps = np.diff(u)
    return np.concatenate([[1.0], u, u**2, steps**2, np.asarray(rows, dtype=float).ravel()])


def _predictor(known: Sequence[Evaluated], ridge: float = 1.0) -> np.ndarray:
    """Return weights of features that predict the logarithm of the error."""
    sound = [one for one in known if one.error < math.inf][-1000:]
    features = np.stack([_features(one.program) for one in sound])
    errors = np.log([max(one.error, 1e-12) for one in sound])
    normal = features.T @ features + ridge * np.eye(features.shape[1])
    return np.linalg.solve(normal, features.T @ errors)


def _check_alike(initial: Sequence[Program]) -> None:
    if not initial:
        raise ValueError("a search needs programs to begin with, such as `beginnings` makes.")
    kinds = {(len(one.choices), one.levels[0], one.low) for one in initial}
    if len(kinds) > 1:
        raise ValueError(
            "programs to begin with must have one number of steps and the same first and last "
            f"level, got {sorted(kinds)}."
        )


def _resumed(path: Path | None, name: dict[str, Any]) -> Archive:
    if path is None or not path.exists():
        return Archive()
    content = document(path, FORMAT, VERSION)
    if content["name"] != name:
        raise ValueError(
            f"{path} belongs to a search with other settings or beginnings; give another path."
        )
    found = {}
    for entry in content["evaluated"]:
        error = math.inf if entry["error"] is None else entry["error"]
        program = read(entry["program"])
        found[program.fingerprint()] = Evaluated(program, error)
    return Archive(found, content["generation"])


def _saved(path: Path | None, name: dict[str, Any], archive: Archive) -> None:
    if path is None:
        return
    evaluated = [
        {"program": one.program.to_json(), "error": one.error} for one in archive.found.values()
    ]
    head = {"format": FORMAT, "version": VERSION, "name": name, "generation": archive.generation}
    write_json(path, {**head, "evaluated": evaluated})
