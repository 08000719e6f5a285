"""Does a model forget a class, or only its name? Train, unlearn, attack, and compare.

Four models: one that knows every class; one trained anew without the class, which is what
unlearning should amount to; one whose class was redirected by finetuning, as in concept ablation
(Kumari et al., 2023, arXiv:2303.13516) and ESD (Gandikota et al., 2023, arXiv:2303.07345); and one
whose label was merely replaced by that of no class. Each is asked for the erased class by its own
label, and then attacked (``evaluate.continuous.recovery``).
"""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from unison import event_model, files
from unison.data.continuous import Events, Reading, read
from unison.decode.continuous import Multistep, Span, solve
from unison.decode.continuous.grids import LogSNR
from unison.evaluate.continuous.recovery import Attack, Success, success
from unison.evaluate.sheet import sheet
from unison.event_denoising import Preconditioned
from unison.event_model import EventModel
from unison.models.continuous import UNetConfig
from unison.objectives.continuous import Denoising
from unison.objectives.continuous.levels import LogNormal
from unison.prob import rng
from unison.prob.rng import Key
from unison.recipes.continuous.report import Report, Say, closed, opened, table
from unison.train.config import Optimizer
from unison.train.continuous import MODEL, TrainEvents, prepare, train
from unison.types import Event, Level

Conditions = Float[Tensor, "B C"]

SITE_START, SITE_ROWS, SITE_LEVELS, SITE_NOISE = 0x7FFFFD21, 70, 71, 72
ERASED = 0  # the erased class, once classes are counted from it
_EMBEDDING = "condition.label.weight"
_UNLEARNING = 1 << 41  # first row numbers of streams that are not of training
_JUDGED = 1 << 42
_FEWEST = 8  # pictures of the class that any rate needs, and of a row of the figure
_SHARE = 0.3  # of a finetuning batch that redirects


@dataclass(frozen=True)
class Unlearning:
    """An audit of unlearning one class.

    Attributes:
        data: Labelled images: ``digits``, ``mnist5k`` or an archive.
        erased: The class to forget.
        towards: The class its label is redirected to; -1 for no class.
        steps: Optimiser steps of the two trainings.
        unlearning_steps: Of finetuning.
        width: Of the network.
        batch_size: Events in a step.
        attacks: Held-out pictures of the erased class that are attacked with.
        iterations: Of each attack.
        nfe: Evaluations of each drawing.
        seed: Names every random number.
    """

    data: str = "digits"
    erased: int = 7
    towards: int = -1
    steps: int = 600
    unlearning_steps: int = 300
    width: int = 32
    batch_size: int = 64
    attacks: int = 40
    iterations: int = 60
    nfe: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "unlearning_steps", "width", "batch_size", "attacks", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.nfe < 2:
            raise ValueError(f"nfe must be at least 2, got {self.nfe}.")
        if self.erased < 0 or self.towards < -1 or self.towards == self.erased:
            raise ValueError(
                "erased must be a class and towards another one or -1, got "
                f"{self.erased} and {self.towards}."
            )


@dataclass(frozen=True)
class Steered:
    """A network whose table of classes is replaced by one vector for each row.

    Attributes:
        network: With a ``Condition``.
        condition: The vector of each row.
    """

    network: nn.Module
    condition: Conditions

    def __call__(
        self,
        x: Event,
        noise: Level,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Event:
        """Return the answer under each row's own vector; ``label`` is not read."""
        own = torch.arange(len(x), device=x.device)
        return functional_call(self.network, {_EMBEDDING: self.condition}, (x, noise, own, beside))


@dataclass(frozen=True)
class ByVector:
    """A class-conditional model that is told vectors in place of classes.

    Attributes:
        model: Who is asked.
        basis: Vectors of which conditions are the weights; ``None`` for conditions that are the
            vectors themselves.
    """

    model: EventModel
    basis: Conditions | None = None

    def __call__(self, x: Event, level: Level, condition: Conditions) -> Event:
        """Return E[x_0 | x_t, condition]."""
        vectors = condition if self.basis is None else condition @ self.basis
        return Preconditioned(
            Steered(self.model.network.eval(), vectors),
            self.model.prediction,
            self.model.spread,
            span=self.model.span,
            gradients=True,
        )(x, level)


class Judge(NamedTuple):
    """The class of the nearest real picture, and how often that is right on held-out ones."""

    pictures: Event
    labels: Int[Tensor, " N"]
    accuracy: float = float("nan")

    def __call__(self, x: Event) -> Int[Tensor, " B"]:
        """Return the class of each picture."""
        return self.labels[torch.cdist(x.flatten(1), self.pictures.flatten(1)).argmin(1)]


def run(config: Unlearning, folder: Path, say: Say) -> Report:
    """Train, unlearn, attack, and report how often the class comes back.

    Raises:
        ValueError: The data have no such class, or too few pictures of it.
    """
    events = _events(config)
    began = opened(folder, "unlearning", config, [config.data])
    judge = _judge(events)
    say(f"judge: nearest picture, {judge.accuracy:.1%} right on held-out ones")
    models = _models(config, events, folder / "models", say)
    found: dict[str, dict[str, Success]] = {}
    drawn: list[Event] = []
    for name, model in models.items():
        found[name], pictures = _audited(config, model, events, judge)
        drawn.extend(pictures)
    numbers = {
        name: {way: result.rate for way, result in row.items()} for name, row in found.items()
    }
    for line in table(numbers):
        say(line)
    files.write_bytes(folder / "recovered.png", sheet(torch.cat(drawn), _FEWEST))
    facts = {
        "judge's accuracy": judge.accuracy,
        "95 % intervals": {
            name: {way: [result.low, result.high] for way, result in row.items()}
            for name, row in found.items()
        },
        "rows of recovered.png": [f"{name}: {way}" for name, row in found.items() for way in row],
    }
    return closed(folder, began, Report(numbers, ("recovered.png",), facts=facts))


def draw(model: EventModel, condition: Conditions, nfe: int, key: Key) -> Event:
    """Draw an event under each vector."""
    steered = ByVector(model)

    def denoise(x: Event, level: Level) -> Event:
        return steered(x, level, condition)

    low, high = model.span
    span = Span(high, low, model.process, model.spread)  # pyright: ignore[reportArgumentType]
    levels = LogSNR().levels(span, nfe - 1)
    size = torch.Size(model.shape).numel()
    noise = rng.normal(key, SITE_START, size).float().view(-1, *model.shape)
    with torch.no_grad():
        return solve(Multistep(), (*levels, 0.0), denoise, high * noise, key).x


def redirected(model: EventModel, events: Events, config: Unlearning) -> EventModel:
    """Return a model that answers for the erased class what it used to answer for another.

    On pictures of the other classes it goes on to learn, so that those stay.
    """
    pupil = replace(model, network=copy.deepcopy(model.network))
    adam = torch.optim.Adam(pupil.network.parameters(), lr=1e-3)
    for step in range(config.unlearning_steps):
        key = Key(rng.rows(config.seed, _UNLEARNING, config.batch_size), step)
        lesson = _lesson(model, events, config, key)
        error = pupil.denoiser(lesson.label, gradients=True)(lesson.noisy, lesson.level)
        squares = (error - lesson.aim).square().flatten(1).mean(1)
        loss = (squares * (lesson.level**-2 + model.spread**-2)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return pupil


class _Lesson(NamedTuple):
    label: Int[Tensor, " B"]
    noisy: Event
    level: Level
    aim: Event


def _lesson(model: EventModel, events: Events, config: Unlearning, key: Key) -> _Lesson:
    """Return noisy pictures, what to call them, and what to answer."""
    values, labels = events.learnt.values, events.learnt.labels
    assert labels is not None  # _events has refused data without
    kept = torch.nonzero(labels != ERASED)[:, 0]
    u = rng.uniform(key, SITE_ROWS, 2)
    erased = u[:, 1] < _SHARE
    rows = torch.where(erased, (u[:, 0] * len(values)).long(), kept[(u[:, 0] * len(kept)).long()])
    label, clean = torch.where(erased, ERASED, labels[rows]), values[rows]
    level = (rng.normal(key, SITE_LEVELS, 1)[:, 0] * 1.4 - 0.4).exp().clamp(*model.span).float()
    noise = rng.normal(key, SITE_NOISE, clean[0].numel()).float().view_as(clean)
    noisy = clean + level.view(-1, 1, 1, 1) * noise
    towards = (config.towards - config.erased) % events.classes if config.towards >= 0 else -1
    with torch.no_grad():
        other = model.denoiser(torch.full_like(label, towards))(noisy, level)
    return _Lesson(label, noisy, level, torch.where(erased.view(-1, 1, 1, 1), other, clean))


def renamed(model: EventModel) -> EventModel:
    """Return a model whose erased label means what no label means, all else untouched."""
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        table_of(network)[ERASED] = table_of(network)[model.classes]
    return replace(model, network=network)


def table_of(network: nn.Module) -> Conditions:
    """Return the vectors of a network's classes, and last that of no class."""
    return network.get_parameter(_EMBEDDING)


def _events(config: Unlearning) -> Events:
    """Return pictures whose classes are counted from the erased one.

    Raises:
        ValueError: They are no labelled pictures, or too few are of the class.
    """
    events = read(config.data, Reading(holdout=0.25, seed=config.seed))
    if events.labels is None or len(events.shape) != 3:
        raise ValueError(f"{config.data} holds no labelled pictures; an audit needs classes.")
    if not max(config.erased, config.towards) < events.classes:
        raise ValueError(
            f"{config.data} has classes 0 to {events.classes - 1}; erased is {config.erased} and "
            f"towards {config.towards}."
        )
    moved = replace(events, labels=(events.labels - config.erased) % events.classes)
    for name, side in (("learnt from", moved.learnt), ("held out", moved.kept)):
        count = int((side.labels == ERASED).sum())
        if count < _FEWEST:
            raise ValueError(
                f"only {count} pictures of class {config.erased} are {name}; at least {_FEWEST} "
                "are needed."
            )
    return moved


def _judge(events: Events) -> Judge:
    learnt, kept = events.learnt, events.kept
    assert learnt.labels is not None
    assert kept.labels is not None
    judge = Judge(learnt.values, learnt.labels)
    return judge._replace(accuracy=float((judge(kept.values) == kept.labels).float().mean()))


def _models(config: Unlearning, events: Events, folder: Path, say: Say) -> dict[str, EventModel]:
    """Return all models; what is there already is not made again."""
    assert events.labels is not None
    without = events.labels != ERASED
    fewer = replace(
        events,
        values=events.values[without],
        held_out=events.held_out[without],
        labels=events.labels[without],
    )
    whole = _trained(config, events, folder / "whole", say)
    anew = _trained(config, fewer, folder / "anew", say)
    finetuned = folder / "redirected"
    if not finetuned.exists():
        event_model.save(redirected(whole, events, config), finetuned)
    return {
        "whole": whole,
        "renamed": renamed(whole),
        "redirected": event_model.load(finetuned),
        "anew": anew,
    }


def _trained(config: Unlearning, events: Events, folder: Path, say: Say) -> EventModel:
    settings = TrainEvents(
        network=UNetConfig(width=config.width),
        objective=Denoising(levels=LogNormal(-0.4, 1.4)),
        low=0.02,
        high=20.0,
        optimizer=Optimizer(lr=2e-3, warmup=min(50, config.steps), schedule="cosine"),
        steps=config.steps,
        batch_size=config.batch_size,
        ema=0.99,
        eval_every=config.steps,
        save_every=200,
        seed=config.seed,
    )
    done = train(prepare(settings, events, torch.device("cpu")), folder, resume=True)
    say(f"{folder.name}: held-out loss {done.standing.evaluation}")
    return event_model.load(folder / MODEL)


def _audited(
    config: Unlearning, model: EventModel, events: Events, judge: Judge
) -> tuple[dict[str, Success], list[Event]]:
    """Return how often the erased class comes, by label and by attacks, and some pictures."""
    labels = events.kept.labels
    assert labels is not None
    targets = events.kept.values[labels == ERASED][: config.attacks]
    count = len(targets)
    key = Key(rng.rows(config.seed, _JUDGED, count))
    table_now = table_of(model.network).detach()
    attack = Attack(iterations=config.iterations, low=0.1, spread=model.spread)
    even = torch.full((count, len(table_now)), 1 / len(table_now))
    vector = attack(ByVector(model), targets, even @ table_now, key)
    mixture = attack(ByVector(model, table_now), targets, even, key)
    asked = {
        "its label": table_now[ERASED].expand(count, -1),
        "mixture of labels": mixture @ table_now,
        "any vector": vector,
    }
    drawn = {way: draw(model, condition, config.nfe, key) for way, condition in asked.items()}
    found = {
        way: success(int((judge(pictures) == ERASED).sum()), count)
        for way, pictures in drawn.items()
    }
    return found, [pictures[:_FEWEST] for pictures in drawn.values()]
