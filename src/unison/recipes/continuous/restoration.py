"""How well are images restored in few steps? Residual processes against conditional diffusion.

All methods have networks of one size, one number of optimiser steps, one budget of evaluations and
as many settings of their sampler (``restoring.ways``), of which the one with the least energy score
on validation images is taken, for each kind of step. Test images are others.

PSNR and SSIM favour the mean of all possible answers over any one of them, so the energy score
(Gneiting and Raftery, 2007, doi:10.1198/016214506000001437) decides: with two restorations x, x'
of an image y it is (|x - y| + |x' - y| - |x - x'|) / 2, whose mean is half the energy distance to
the true conditional law plus a number that is the same for all methods.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison import event_model, files
from unison.data.continuous import Events, Pair, Reading, degraded, read
from unison.data.continuous.degrading import Blur, Degradation, Hole, LowResolution
from unison.evaluate.continuous.likeness import averaged, psnr, ssim
from unison.evaluate.sheet import sheet
from unison.event_model import EventModel
from unison.models.continuous import UNetConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.recipes.continuous import features
from unison.recipes.continuous.features import Eye
from unison.recipes.continuous.report import Report, Row, Say, closed, opened
from unison.recipes.continuous.restoring import CONDITIONAL, METHODS, Way, restored, ways
from unison.suggest import nearest
from unison.train.config import Optimizer
from unison.train.continuous import MODEL, TrainEvents, prepare, train
from unison.types import Event

NAME = "restoration"
TASKS: Mapping[str, Degradation] = {
    "deblurring": Blur(1.5),
    "inpainting": Hole(0.5),
    "super_resolution": LowResolution(2),
    "super_resolution_4": LowResolution(4),
}
_DEGRADE, _DRAW = 11, 12  # names of what is drawn, beside the seed of a run
_SHOWN = 8
_LESS_IS_BETTER = ("energy score", "feature distance")

Rows = Float[Tensor, " B"]


@dataclass(frozen=True)
class Restoration:
    """Few-step restoration: residual processes against conditional DDPM and DDIM.

    Attributes:
        data: ``digits``, ``mnist5k``, ``faces``, a file or a folder of images.
        task: What is undone: deblurring, inpainting, super_resolution (by 2) or
            super_resolution_4.
        methods: Residual processes to compare with conditional diffusion, with commas.
        nfe: Evaluations for each image.
        steps: Optimiser steps of each network.
        width: Channels of the outermost level of each network.
        batch_size: Images in a step.
        images: Held-out images at most, half of them to choose settings by.
        mirror: Learn from mirror images too.
        seed: Names every random number.
    """

    data: str = "digits"
    task: str = "super_resolution"
    methods: str = "resshift,resfusion,sbve"
    nfe: int = 4
    steps: int = 600
    width: int = 24
    batch_size: int = 64
    images: int = 512
    mirror: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("nfe", "steps", "width", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.images < 8:
            raise ValueError(f"images must be at least 8, got {self.images}.")
        if self.task not in TASKS:
            raise ValueError(
                f"unknown task {self.task!r}{nearest(self.task, TASKS)}; known: {', '.join(TASKS)}."
            )
        known = [name for name in METHODS if name not in CONDITIONAL]
        for name in self.residuals:
            if name not in known:
                raise ValueError(
                    f"unknown method {name!r}{nearest(name, known)}; known: {', '.join(known)}."
                )

    @property
    def residuals(self) -> list[str]:
        """The residual processes that are compared."""
        return [name.strip() for name in self.methods.split(",") if name.strip()]


class Judged(NamedTuple):
    """What restorations of some images are worth, image by image.

    Attributes:
        scores: For each metric one number an image.
        values: The first restoration of each.
    """

    scores: Mapping[str, Rows]
    values: Event


def run(config: Restoration, folder: Path, say: Say) -> Report:
    """Train all methods, choose their settings, and compare them on test images.

    Raises:
        ValueError: The data are no images, or the folder holds something else.
    """
    events = _events(config)
    task = TASKS[config.task]
    pair = _held_out(config, events, task)
    began = opened(folder, NAME, config, [events.name])
    eye = features.learnt(events, seed=config.seed)
    say(f"classifier: {eye.accuracy.value:.3f} of held-out images right")
    half = len(pair.clean) // 2
    tuned, test = _part(pair, slice(0, half)), _part(pair, slice(half, None))
    found = {"degraded": Judged(_against(eye, test.degraded, test.clean), test.degraded)}
    chosen: dict[str, Way] = {}
    for name in (*CONDITIONAL, *config.residuals):
        model = _trained(config, events, name, folder, say)
        for way in _best(config, model, name, tuned, eye):
            chosen[way.name] = way
            found[way.name] = _judged(config, model, way, test, eye)
    numbers = {name: _means(judged.scores) for name, judged in found.items()}
    files.write_bytes(folder / "restored.png", _sheet(found, test))
    facts = {
        "columns of restored.png": [*found, "truth"],
        "powers of the grids": {name: way.power for name, way in chosen.items()},
        "classifier": eye.accuracy.value,
        **compared(found, chosen),
    }
    return closed(folder, began, Report(numbers, ("restored.png",), facts=facts))


def compared(found: Mapping[str, Judged], chosen: Mapping[str, Way]) -> dict[str, object]:
    """Return, for each metric, how far the best residual row is above the best conditional ones.

    Differences are paired, image by image, and positive where the residual process is better; won
    and lost are beyond 1.96 standard errors.
    """
    out: dict[str, object] = {}
    for metric in found["degraded"].scores:
        sign = -1.0 if metric in _LESS_IS_BETTER else 1.0
        scores = {name: sign * found[name].scores[metric] for name in chosen}
        ours = _highest(scores, [name for name in chosen if chosen[name].residual])
        for method, title in CONDITIONAL.items():
            theirs = _highest(scores, [n for n in chosen if chosen[n].method == method])
            gain = averaged(scores[ours] - scores[theirs], metric)
            beyond = abs(gain.value) > 1.96 * gain.stderr
            verdict = ("won" if gain.value > 0 else "lost") if beyond else "even"
            said = f"{ours} over {theirs}: {gain.value:.4g} ± {1.96 * gain.stderr:.2g}, {verdict}"
            out[f"{metric}, against {title}"] = said
    return out


def _highest(scores: Mapping[str, Rows], names: list[str]) -> str:
    return max(names, key=lambda name: scores[name].mean().item())


def _events(config: Restoration) -> Events:
    events = read(config.data, Reading(holdout=0.3, seed=config.seed))
    if not config.mirror:
        return events
    learnt, labels = events.learnt, events.labels
    if labels is not None and learnt.labels is not None:
        labels = torch.cat([labels, learnt.labels])
    return replace(
        events,
        values=torch.cat([events.values, learnt.values.flip(-1)]),
        held_out=torch.cat([events.held_out, torch.zeros(len(learnt.values), dtype=torch.bool)]),
        labels=labels,
    )


def _held_out(config: Restoration, events: Events, task: Degradation) -> Pair:
    values = events.kept.values[: config.images]
    return degraded(values, task, Key(rng.rows(config.seed, 0, len(values)), _DEGRADE))


def _part(pair: Pair, rows: slice) -> Pair:
    return Pair(*(part[rows] for part in pair))


def _trained(config: Restoration, events: Events, name: str, folder: Path, say: Say) -> EventModel:
    """Return the model of a method, trained unless it is already."""
    method = METHODS[name]
    settings = TrainEvents(
        network=UNetConfig(width=config.width),
        process=method.process,
        objective=method.objective,
        prediction=method.prediction,
        degradation=TASKS[config.task],
        labels=False,
        reading=Reading(holdout=0.3, seed=config.seed),
        optimizer=Optimizer(lr=2e-3, warmup=min(50, config.steps), schedule="cosine"),
        steps=config.steps,
        batch_size=config.batch_size,
        ema=0.99,
        eval_every=max(1, config.steps // 4),
        save_every=max(1, config.steps // 4),
        seed=config.seed,
    )
    out = folder / "models" / name
    say(f"training {name}: {config.steps} steps")
    train(prepare(settings, events, torch.device("cpu")), out, resume=True)
    return event_model.load(out / MODEL)


def _best(config: Restoration, model: EventModel, name: str, pair: Pair, eye: Eye) -> list[Way]:
    """Return the best setting of each kind of step, by the energy score on validation images."""
    best: dict[str, tuple[float, Way]] = {}
    for way in ways(name):
        score = _judged(config, model, way, pair, eye).scores["energy score"].mean().item()
        if way.name not in best or score < best[way.name][0]:
            best[way.name] = (score, way)
    return [way for _, way in best.values()]


def _judged(config: Restoration, model: EventModel, way: Way, pair: Pair, eye: Eye) -> Judged:
    """Restore twice, from two noises, and measure."""
    twice = [
        restored(model, way, config.nfe, pair.degraded, seed)
        for seed in (config.seed * 2 + _DRAW, config.seed * 2 + _DRAW + 1)
    ]
    first, second = (_against(eye, x, pair.clean) for x in twice)
    scores = {name: (first[name] + second[name]) / 2 for name in first}
    apart = _distance(*twice)
    scores["energy score"] = scores["energy score"] - apart / 2
    return Judged(scores, twice[0])


def _against(eye: Eye, found: Event, truth: Event) -> dict[str, Rows]:
    """Return every metric of each image; the energy score is that of a law of one answer."""
    held = found.clamp(-1, 1)
    seen = eye.features(found) - eye.features(truth)
    return {
        "PSNR, dB": psnr(held, truth),
        "SSIM": ssim(held, truth),
        "feature distance": seen.double().norm(dim=1),
        "energy score": _distance(found, truth),
    }


def _distance(left: Event, right: Event) -> Rows:
    return (left.double() - right.double()).flatten(1).norm(dim=1)


def _means(scores: Mapping[str, Rows]) -> Row:
    return {name: averaged(rows, name) for name, rows in scores.items()}


def _sheet(found: Mapping[str, Judged], test: Pair) -> bytes:
    """Return pictures in rows: what is left, every method, the truth."""
    columns = [judged.values[:_SHOWN] for judged in found.values()] + [test.clean[:_SHOWN]]
    return sheet(torch.stack(columns, 1).flatten(0, 1), len(columns))
