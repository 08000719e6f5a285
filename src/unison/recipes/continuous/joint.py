"""Can one network generate images with their labels, classify, and draw what a label says?

A U-Net with a second head, on the features of its innermost level, learns both beliefs of
``jointly``: the image's mean with its label hidden or told, and the label given a noisy image.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unison import files
from unison.data.continuous import Events, EventsError, Reading, read
from unison.decode.continuous import Span, solve
from unison.decode.continuous.dpm_solver import DPMSolver
from unison.decode.continuous.grids import TimePower
from unison.evaluate.continuous.frechet import frechet
from unison.evaluate.continuous.likeness import averaged
from unison.evaluate.sheet import sheet
from unison.event_denoising import over, scales
from unison.models.continuous import UNet, UNetConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving
from unison.recipes.continuous import features
from unison.recipes.continuous.features import Eye
from unison.recipes.continuous.jointly import (
    Labels,
    LogShares,
    Told,
    classified,
    drawn,
    parted,
)
from unison.recipes.continuous.report import Report, Row, Say, closed, opened
from unison.train import checkpoint, optim
from unison.train.checkpoint import Parts
from unison.train.config import Optimizer
from unison.train.continuous.setup import rows_of
from unison.train.ema import Average
from unison.train.step import move
from unison.types import Estimate, Event, Level

NAME = "joint"
_LOW, _HIGH, _CLEAN = 0.01, 80.0, 0.1
_COLUMNS = 8
_SITE_HIDDEN, _SITE_NOISE, _SITE_START = 65, 66, 67
_LEVELS = 40  # of the estimate of nats


@dataclass(frozen=True)
class JointImages:
    """Images and labels from one network: pairs, classes of images, images of a class.

    Attributes:
        data: ``digits``, ``mnist5k``, or a file or folder of images with labels.
        steps: Optimiser steps.
        width: Channels of the network's outermost level.
        batch_size: Images in a step.
        hidden: How often the label is hidden while learning.
        weight: Of the label's cross-entropy beside the image's loss.
        nfe: Evaluations for each pair.
        count: Pairs that are drawn to be measured.
        seed: Names every random number.
    """

    data: str = "digits"
    steps: int = 1200
    width: int = 24
    batch_size: int = 64
    hidden: float = 0.5
    weight: float = 0.3
    nfe: int = 16
    count: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "width", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.nfe < 4 or self.count < 16:
            raise ValueError(
                f"nfe must be at least 4 and count 16, got {self.nfe} and {self.count}."
            )
        if not (0 < self.hidden < 1 and self.weight > 0):
            raise ValueError(
                f"hidden must be in (0, 1) and weight above 0, got {self.hidden} and {self.weight}."
            )


class JointNetwork(nn.Module):
    """A U-Net whose innermost features are read by a second head, for the label."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.unet = UNet(config)
        inner = config.width * config.multipliers[-1]
        self.head = nn.Sequential(
            nn.LayerNorm(16 * inner),
            nn.Linear(16 * inner, 64),
            nn.SiLU(),
            nn.Linear(64, config.classes),
        )

    def forward(
        self, x: Float[Tensor, "B C H W"], noise: Level, label: Labels
    ) -> tuple[Float[Tensor, "B C H W"], LogShares]:
        """Return the answer about the image, and logits of the label."""
        kept = self.unet.encode(x, noise, label)
        seen = F.adaptive_avg_pool2d(kept.middle, 4).flatten(1)
        return self.unet.decode(kept, noise, label), self.head(seen)


@dataclass(frozen=True)
class Model:
    """A network as a joint belief (``jointly.Joint``).

    Attributes:
        network: Who is asked.
        spread: Standard deviation of the images.
    """

    network: JointNetwork
    spread: float

    def __call__(self, x: Event, level: Level, label: Labels) -> tuple[Event, LogShares]:
        """Return both beliefs, the label's as log-probabilities."""
        at = scales("edm", level, self.spread)
        answer, logits = self.network((over(at.into, x) * x).float(), at.noise.float(), label)
        mean = over(at.skip, x) * x + over(at.out, x) * answer.to(x.dtype)
        return mean, logits.log_softmax(1)


def run(config: JointImages, folder: Path, say: Say) -> Report:
    """Train, then draw pairs, classify held-out images, and draw images of each class.

    Raises:
        ValueError: The data have no labels, or the folder holds something else.
    """
    events = read(config.data, Reading(holdout=0.25, seed=config.seed))
    if events.labels is None:
        raise EventsError(
            f"{events.name} has no labels; give digits, mnist5k, or images in a folder for each "
            "class."
        )
    eye = features.learnt(events, seed=config.seed)
    began = opened(folder, NAME, config, [events.name])
    model = trained(config, events, folder, say)
    with torch.no_grad():
        numbers, images = _measured(config, model, events, eye)
    files.write_bytes(folder / "pairs.png", sheet(images.pairs, _COLUMNS))
    files.write_bytes(folder / "classes.png", sheet(images.classes, _COLUMNS))
    facts = {"labels of pairs.png": images.labels}
    return closed(folder, began, Report(numbers, ("pairs.png", "classes.png"), facts=facts))


def trained(config: JointImages, events: Events, folder: Path, say: Say) -> Model:
    """Return the model, trained from the last checkpoint of the folder, if there is one."""
    shape = UNetConfig(events.shape[0], config.width, classes=events.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = JointNetwork(shape)
    settings = Optimizer(lr=2e-3, warmup=min(50, config.steps), schedule="cosine")
    parts = Parts(network, Average(network, 0.99), optim.make(network, settings), {})
    place = folder / "checkpoints"
    checkpoint.sweep(folder)
    saved = checkpoint.existing(place)
    done = checkpoint.read(saved[-1], parts)["step"] if saved else 0
    model = Model(network, events.spread)
    say(f"training: {config.steps - done} of {config.steps} steps")
    quarter = max(1, config.steps // 4)
    for step in range(done, config.steps):
        loss = _loss(config, model, events, step)
        loss.backward()
        share = optim.rate(settings, step, config.steps)
        count = torch.tensor(config.batch_size)
        move(network, parts.optimizers, settings, share, (loss.detach(), count))
        parts.average.update(network, step)
        if (step + 1) % quarter == 0 or step + 1 == config.steps:
            checkpoint.write(place, step + 1, parts, {"loss": loss.item()})
            checkpoint.prune(place, 1)
    parts.average.swap(network)
    network.eval()
    return model


def _loss(config: JointImages, model: Model, events: Events, step: int) -> Tensor:
    """Return the image's loss plus the label's cross-entropy where it is hidden."""
    side, size = events.learnt, config.batch_size
    rows = rows_of(config.seed, step, size, len(side.values))
    key = Key(rng.rows(config.seed, 0, size), step)
    clean, label = side.values[rows], side.labels[rows]  # pyright: ignore[reportOptionalSubscript]
    process = VariancePreserving()
    ends = process.time_of(torch.tensor([_LOW, _HIGH], dtype=torch.float64))
    u = rng.stratified(config.seed, step, size)
    level = process.level(ends[0] + u * (ends[1] - ends[0])).float()
    noise = rng.normal(key, _SITE_NOISE, clean[0].numel()).float().view_as(clean)
    hidden = rng.uniform(key, _SITE_HIDDEN, 1)[:, 0] < config.hidden
    told = torch.where(hidden, -1, label)
    mean, shares = model(clean + over(level, clean) * noise, level, told)
    weight = level**-2 + model.spread**-2
    image = (weight * (mean - clean).square().flatten(1).mean(1)).mean()
    cost = -shares.gather(1, label[:, None])[:, 0]
    return image + config.weight * (cost * hidden).sum() / hidden.sum().clamp(min=1)


class _Images(NamedTuple):
    pairs: Event
    labels: list[int]
    classes: Event


def _measured(
    config: JointImages, model: Model, events: Events, eye: Eye
) -> tuple[dict[str, Row], _Images]:
    truth = events.kept.values[: config.count]
    labels = events.kept.labels[: config.count]  # pyright: ignore[reportOptionalSubscript]
    span = Span(_HIGH, _LOW, VariancePreserving(), model.spread)
    levels = (*TimePower(2.0).levels(span, config.nfe - 3), 0.0)
    pairs = drawn(model, levels, _starts(config, model, truth[0], len(truth)), _key(config, truth))
    agreed = (eye.classes(pairs.x) == pairs.label).double()
    told = torch.arange(events.classes).repeat_interleave(_COLUMNS)
    begun = _starts(config, model, truth[0], len(told))
    given = solve(DPMSolver(), levels, Told(model, told), begun, _key(config, begun))
    obeyed = (eye.classes(given.x) == told).double()
    right = (classified(model, truth, _CLEAN) == labels).double()
    far = frechet(eye.features(pairs.x).double(), eye.features(truth).double(), config.seed)
    numbers: dict[str, Row] = {
        "pairs": {"share right": averaged(agreed, "share"), "Frechet, features": far},
        "classifying": {"share right": averaged(right, "share")},
        "small classifier": {"share right": eye.accuracy},
        "images of a class": {"share right": averaged(obeyed, "share")},
        **_nats(model, truth, labels),
    }
    shown = _COLUMNS * 4
    return numbers, _Images(pairs.x[:shown], pairs.label[:shown].tolist(), given.x)


def _nats(model: Model, clean: Event, label: Labels) -> dict[str, Row]:
    """Return the pair's nats with the label told at three levels; exact beliefs would agree."""
    span = Span(_HIGH, _CLEAN, VariancePreserving(), model.spread)
    levels = TimePower(2.0).levels(span, _LEVELS)
    key = Key(rng.rows(1, 0, len(clean)))
    rows: dict[str, Row] = {}
    for where, place in (("first", 0), ("half way", _LEVELS // 2), ("last", _LEVELS)):
        parts = parted(model, clean, label, levels, place, key)
        row: dict[str, Estimate] = {
            "label, nats": averaged(parts.label, "nats"),
            "pair, nats": averaged(parts.total, "nats"),
        }
        rows[f"label told {where}"] = row
    return rows


def _starts(config: JointImages, model: Model, like: Tensor, count: int) -> Event:
    key = Key(rng.rows(config.seed, 0, count))
    noise = rng.normal(key, _SITE_START, like.numel()).float().view(-1, *like.shape)
    return (_HIGH**2 + model.spread**2) ** 0.5 * noise


def _key(config: JointImages, rows: Event) -> Key:
    return Key(rng.rows(config.seed, 0, len(rows)))
