"""How good are generated images, by which solver, in how many evaluations?

One model is trained, sampled by several solvers with several budgets, and each set is compared
with held-out images: by Frechet distances in two spaces of features, by how many kinds of image
there are in effect (Vendi score), and by whether images are copies of what was learnt from.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison import event_model, files
from unison.data.continuous import Events, Reading, read
from unison.decode.continuous import Grid, Solver
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.deis import DEIS
from unison.decode.continuous.dpm_solver import DPMSolver
from unison.decode.continuous.grids import TimePower
from unison.decode.continuous.heun import Heun
from unison.decode.continuous.tuned import Tuned, TunedGrid, row_of
from unison.decode.continuous.unipc import UniPC
from unison.evaluate import figures
from unison.evaluate.continuous.frechet import frechet
from unison.evaluate.continuous.likeness import averaged
from unison.evaluate.sheet import sheet
from unison.evaluate.vendi import spectrum_of, vendi
from unison.event_model import EventModel
from unison.generation.events import Drawing, draw_events
from unison.models.continuous import UNetConfig
from unison.process.continuous import VariancePreserving
from unison.recipes.continuous import features
from unison.recipes.continuous.features import Eye
from unison.recipes.continuous.report import Report, Row, Say, closed, opened
from unison.suggest import nearest
from unison.train.config import Optimizer
from unison.train.continuous import MODEL, TrainEvents, prepare, train
from unison.types import Estimate, Event

NAME = "generation"
_LOW, _HIGH = 0.01, 80.0
_COMPONENTS = 16  # principal components of pixels
_COLUMNS = 8  # images of a class on the sheet
_NEAR = 0.5  # nearer to a learnt image than this share of what held-out images are: a copy

Vectors = Float[Tensor, "N D"]


class Way(NamedTuple):
    """A solver with its grid."""

    solver: Solver
    grid: Grid


WAYS: Mapping[str, Way] = {
    "ddim": Way(DDIM(), TimePower(2.0)),
    "deis": Way(DEIS(), TimePower(2.0)),
    "dpm_solver": Way(DPMSolver(), TimePower(2.0)),
    "heun": Way(Heun(), TimePower(2.0)),
    "tuned": Way(Tuned(), TunedGrid()),
    "unipc": Way(UniPC(), TimePower(2.0)),
}


@dataclass(frozen=True)
class Generation:
    """Images from noise: solvers and budgets compared by Frechet distance, variety and novelty.

    Attributes:
        data: ``digits``, ``mnist5k``, ``faces``, a file or a folder of images.
        solvers: Names with commas: ddim, deis, dpm_solver, heun, tuned, unipc. A budget that
            ``tuned`` has no table for is left out of its row; the first one draws the sheet.
        budgets: Evaluations for each image, with commas.
        count: Images of each set.
        guidance: Weight of classifier-free guidance on the sheet of classes.
        steps: Optimiser steps.
        width: Channels of the network's outermost level.
        batch_size: Images in a step.
        seed: Names every random number.
    """

    data: str = "digits"
    solvers: str = "tuned,dpm_solver,ddim"
    budgets: str = "2,4,8,16"
    count: int = 256
    guidance: float = 2.0
    steps: int = 1500
    width: int = 24
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "width", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.count < 16:
            raise ValueError(f"count must be at least 16, got {self.count}.")
        for name in self.names:
            if name not in WAYS:
                raise ValueError(
                    f"unknown solver {name!r}{nearest(name, WAYS)}; known: {', '.join(WAYS)}."
                )
        if min(self.nfes, default=0) < 2:
            raise ValueError(f"budgets must be numbers from 2 with commas, got {self.budgets!r}.")

    @property
    def names(self) -> list[str]:
        """The solvers."""
        return [name.strip() for name in self.solvers.split(",") if name.strip()]

    @property
    def nfes(self) -> list[int]:
        """The budgets."""
        words = [word.strip() for word in self.budgets.split(",") if word.strip()]
        return [int(word) if word.isdigit() else 0 for word in words]


class Ruler(NamedTuple):
    """What sets of images are measured with.

    Attributes:
        eye: A classifier, for its features.
        centre: Mean of the pixels of what is learnt from.
        axes: Their principal components.
        truth: Held-out images.
        learnt: What is learnt from.
    """

    eye: Eye
    centre: Float[Tensor, " P"]
    axes: Float[Tensor, "P K"]
    truth: Event
    learnt: Event

    def pixels(self, x: Event) -> Vectors:
        """Return coordinates along the components."""
        return (x.flatten(1).double() - self.centre) @ self.axes

    def seen(self, x: Event) -> Vectors:
        """Return the classifier's features."""
        return self.eye.features(x).double()


def run(config: Generation, folder: Path, say: Say) -> Report:
    """Train, draw, measure.

    Raises:
        ValueError: The data are no images, or the folder holds something else.
    """
    events = read(config.data, Reading(holdout=0.25, seed=config.seed))
    rule = ruler(events, features.learnt(events, seed=config.seed))
    began = opened(folder, NAME, config, [events.name])
    say(f"training: {config.steps} steps")
    model = _trained(config, events, folder)
    count = min(config.count, len(rule.truth))
    own = measured(rule, rule.learnt[:count], config.seed, own=True)
    numbers: dict[str, Row] = {"learnt images": own}
    for name in config.names:
        for nfe in config.nfes:
            if (drawing := _drawing(config, name, nfe)) is None:
                continue
            drawn = draw_events(model, drawing, count)
            numbers[f"{name} {drawn.nfe}"] = measured(rule, drawn.values, config.seed)
            say(f"{name} {drawn.nfe}: {drawn.seconds:.1f} s")
    written = _written(config, model, numbers, folder)
    facts = {"classifier": rule.eye.accuracy.value, "its task": rule.eye.task}
    if model.classes:
        facts |= _obeyed(config, model, rule)
    return closed(folder, began, Report(numbers, written, facts=facts))


def ruler(events: Events, eye: Eye) -> Ruler:
    """Return what sets are measured with."""
    learnt = events.learnt.values
    flat = learnt.flatten(1).double()
    away = flat - flat.mean(0)
    axes = torch.linalg.eigh(away.T @ away)[1][:, -_COMPONENTS:]
    return Ruler(eye, flat.mean(0), axes, events.kept.values, learnt)


def measured(rule: Ruler, found: Event, seed: int = 0, own: bool = False) -> Row:
    """Return what a set of images is worth; ``own`` says that they are of what was learnt from."""
    found = found.clamp(-1, 1)
    truth = rule.truth[: len(found)]
    near, far = nearest_learnt(rule, found, own), nearest_learnt(rule, truth)
    usual = far.mean()
    variety = vendi(spectrum_of(rule.seen(found).numpy()))
    copies = averaged((near < _NEAR * usual).double(), "share of images")
    ratio = averaged(near / usual, "of held-out images'")
    return {
        "Frechet, features": frechet(rule.seen(found), rule.seen(truth), seed),
        "Frechet, pixels": frechet(rule.pixels(found), rule.pixels(truth), seed),
        "Vendi": Estimate(variety.value, variety.stderr, variety.n, "images"),
        "nearest learnt": ratio,
        "copies": copies,
    }


def nearest_learnt(rule: Ruler, x: Event, own: bool = False) -> Float[Tensor, " N"]:
    """Return the distance from each image to the nearest one that was learnt from.

    Args:
        rule: What was learnt from.
        x: Images.
        own: They are the first of those themselves, which are then no neighbours of their own.
    """
    apart = torch.cdist(x.flatten(1).double(), rule.learnt.flatten(1).double())
    if own:
        apart.diagonal().fill_(math.inf)
    return apart.min(1).values


def _trained(config: Generation, events: Events, folder: Path) -> EventModel:
    quarter = max(1, config.steps // 4)
    settings = TrainEvents(
        network=UNetConfig(width=config.width),
        process=VariancePreserving(),
        low=_LOW,
        high=_HIGH,
        optimizer=Optimizer(lr=2e-3, warmup=min(50, config.steps), schedule="cosine"),
        reading=Reading(holdout=0.25, seed=config.seed),
        steps=config.steps,
        batch_size=config.batch_size,
        ema=0.99,
        eval_every=quarter,
        save_every=quarter,
        seed=config.seed,
    )
    out = folder / "models" / "generation"
    train(prepare(settings, events, torch.device("cpu")), out, resume=True)
    return event_model.load(out / MODEL)


def _drawing(config: Generation, name: str, nfe: int, guidance: float = 1.0) -> Drawing | None:
    """Return how to draw; ``None`` where the tuned solver has no such number of steps."""
    way = WAYS[name]
    if name == "tuned" and not _tabulated(nfe - 1):  # the last evaluation is the answer
        return None
    return Drawing(
        way.solver,
        way.grid,
        nfe,
        guidance,
        last_mean=True,
        batch_size=128,
        seed=config.seed,
    )


def _tabulated(intervals: int) -> bool:
    try:
        row_of(intervals)
    except ValueError:
        return False
    return True


def _best(config: Generation, guidance: float) -> Drawing:
    """Return the drawing of sheets: the first solver with the largest budget it has."""
    for name in config.names:
        for nfe in sorted(config.nfes, reverse=True):
            if (drawing := _drawing(config, name, nfe, guidance)) is not None:
                return drawing
    raise ValueError(
        f"no solver of {config.solvers} has a way for {config.budgets} evaluations; add "
        "dpm_solver to the solvers."
    )


def _written(
    config: Generation, model: EventModel, numbers: Mapping[str, Row], folder: Path
) -> tuple[str, ...]:
    """Write a sheet of samples, a row for each class, and distances over budgets."""
    if model.classes:
        guided = _best(config, config.guidance)
        rows = [draw_events(model, guided, _COLUMNS, k).values for k in range(model.classes)]
        values = torch.cat(rows)
    else:
        values = draw_events(model, _best(config, 1.0), _COLUMNS**2).values
    files.write_bytes(folder / "samples.png", sheet(values, _COLUMNS))
    curves = [curve for name in config.names if (curve := _curve(name, numbers)).x]
    panel = figures.Panel(curves, "evaluations", "Frechet distance, features", True, True)
    files.write_bytes(folder / "budgets.png", figures.drawn([panel]))
    return ("samples.png", "budgets.png")


def _curve(name: str, numbers: Mapping[str, Row]) -> figures.Curve:
    spent, cells = [], []
    for title, row in numbers.items():
        solver, _, nfe = title.rpartition(" ")
        if solver == name:
            spent.append(int(nfe))
            cells.append(row["Frechet, features"])
    return figures.Curve(name, spent, [c.value for c in cells], [c.stderr for c in cells])


def _obeyed(config: Generation, model: EventModel, rule: Ruler) -> dict[str, object]:
    """Return how often images of a class are taken for it, with guidance and without."""
    said: dict[str, object] = {}
    for weight in (1.0, config.guidance):
        drawing = _best(config, weight)
        right = [
            (rule.eye.classes(draw_events(model, drawing, 16, label).values) == label).double()
            for label in range(model.classes)
        ]
        found = averaged(torch.cat(right), "share")
        said[f"drawn class recognised, guidance {weight:g}"] = found
    return said
