"""How is a drafter taught what its target would write? One loop for every kind."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import stdev
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison import files
from unison.data import BlockStream, Rows, prepare
from unison.distil.continuing import Continued, continued
from unison.drafters.kind import Kind, Lesson
from unison.drafters.saving import Fingerprint, Trained, fingerprint, save_drafter
from unison.engine.reading import NetworkTarget, target_of
from unison.language_model import LanguageModel
from unison.models.transformer import Transformer
from unison.objectives import AutoregressiveNll
from unison.prob import rng
from unison.prob.rng import Key
from unison.train import (
    Event,
    Hooks,
    Optimizer,
    Prepared,
    Train,
    TrainError,
    checkpoint,
    fit,
    folder,
    log,
)
from unison.train.setup import Material
from unison.types import Estimate, Nats

METRICS = "metrics.json"
Observer = Callable[[Event], None]


def _optimizer() -> Optimizer:
    return Optimizer(lr=1e-3, beta2=0.95, warmup=50, schedule="cosine", clip=0.5)


@dataclass(frozen=True)
class DrafterRun:
    """Training of a drafter.

    Attributes:
        kind: What is trained.
        optimizer: How weights move.
        steps: Optimiser steps.
        batch_size: Texts per step.
        length: Tokens of a text.
        holdout: Share of the text, by document, that is held out.
        split: Where one document of a text file ends.
        continue_from_target: Learn from what the target itself writes: the text lends it
            beginnings. Costs its time once; what it wrote is kept in the run.
        prompt_tokens: Tokens of a beginning.
        continuations: Most texts the target writes.
        temperature: What it writes with; 0 for its likeliest tokens.
        ema: Decay of the weights' average, which is the result; 0 for none.
        eval_every: Steps between evaluations on held-out text.
        eval_texts: Held-out texts per evaluation, the same ones every time.
        save_every: Steps between checkpoints.
        keep: Newest checkpoints that stay on disk.
        log_every: Steps between lines of the log.
        seed: Names every random number of the run.
    """

    kind: Kind
    optimizer: Optimizer = field(default_factory=_optimizer)
    steps: int = 1000
    batch_size: int = 8
    length: int = 128
    holdout: float = 0.05
    split: Literal["auto", "file", "blank", "line"] = "auto"
    continue_from_target: bool = False
    prompt_tokens: int = 16
    continuations: int = 512
    temperature: float = 0.0
    ema: float = 0.0
    eval_every: int = 200
    eval_texts: int = 16
    save_every: int = 100
    keep: int = 2
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("length", 2), ("prompt_tokens", 1), ("continuations", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be at least 0 and finite, got {self.temperature}.")
        if self.continue_from_target and self.prompt_tokens >= self.length:
            raise ValueError(
                f"prompt_tokens={self.prompt_tokens} leaves nothing of length={self.length} for "
                "the target to write; choose fewer."
            )


class Room(NamedTuple):
    """Where a run lives and for how long.

    Attributes:
        out: Its folder, which is also the drafter's; new or empty unless ``resume``.
        resume: Go on with what is in ``out``, exactly; starts afresh if there is nothing.
        minutes: Stop after so many, wherever the run is; ``None`` for when all steps are done.
    """

    out: Path
    resume: bool = False
    minutes: float | None = None


class Taught(NamedTuple):
    """What a run leaves behind.

    Attributes:
        trained: The drafter's settings and weights.
        steps: Optimiser steps done.
        held_out: Loss on held-out text at the end, per place.
        agreement: For each depth from 1, how often the drafter's likeliest token was the
            target's.
    """

    trained: Trained
    steps: int
    held_out: Estimate | None
    agreement: tuple[Estimate, ...]


@dataclass(frozen=True)
class Drilled:
    """A kind of drafter as a training objective of its weights.

    Attributes:
        kind: The kind.
        target: The network it learns from, and its begin token.
    """

    kind: Kind
    target: NetworkTarget

    def __call__(self, process: Any, network: Any, batch: Any, key: Key) -> Nats:
        """Return the summed loss and the places it is over."""
        del process
        return self.lesson(network, batch.tokens, key).loss

    def losses(self, process: Any, network: Any, batch: Any, key: Key) -> Float[Tensor, "B L"]:
        """Refuse: a lesson has no loss for every position.

        Raises:
            TrainError: Always.
        """
        raise TrainError(f"{self.kind.name} tells no loss of single positions.")

    def lesson(self, module: torch.nn.Module, tokens: Int[Tensor, "B L"], key: Key) -> Lesson:
        """Return what texts teach."""
        begin = torch.full_like(tokens[:, :1], self.target.begin)
        return self.kind.lesson(module, self.target.network, torch.cat([begin, tokens], 1), key)


def train_drafter(
    config: DrafterRun,
    model: LanguageModel,
    text: Sequence[str],
    room: Room,
    *,
    observe: Sequence[Observer] = (),
) -> Taught:
    """Train a drafter for a target, whose weights stay as they are.

    Args:
        config: The run.
        model: The target. The drafter is trained in its precision, so load it as float32; its
            weights are told to need no gradient.
        text: Files, folders or built-in corpora.
        room: Where the run lives.
        observe: Called after every step.

    Raises:
        ValueError: The model cannot be a target, or the text, the settings or the folder cannot
            be used.
        OSError: A file cannot be written.
    """
    began = time.monotonic()
    target = target_of(model)
    target.network.eval().requires_grad_(False)
    made_for = fingerprint(model)
    prepared = _prepared(config, model, target, text, room)
    trained = Trained(config.kind, prepared.network)
    best = room.out / "checkpoints" / "best"
    checkpoint.sweep(room.out)
    log.rewind(room.out, checkpoint.newest_step(room.out))
    observers = [log.writer(room.out, config.log_every, config.batch_size * config.length)]
    hooks = Hooks(
        evaluate=lambda: _held_out(config, prepared)[0],
        keep_best=lambda: _keep(best, trained, made_for),
        observe=lambda event: _tell([*observers, *observe], event),
        enough=lambda: room.minutes is not None and time.monotonic() - began > 60 * room.minutes,
    )
    state = fit(_as_train(config, target.network), prepared, room.out, hooks)
    state.parts.average.swap(prepared.network)
    prepared.network.eval()
    save_drafter(room.out, trained, made_for)
    taught = Taught(trained, state.step, *_held_out(config, prepared))
    files.write_json(room.out / METRICS, metrics(taught))
    return taught


def _prepared(
    config: DrafterRun, model: LanguageModel, target: NetworkTarget, text: Sequence[str], room: Room
) -> Prepared:
    """Return the run, after it was checked whole and its folder claimed."""
    if config.length >= target.max_length:
        raise TrainError(
            f"length={config.length} and the begin token do not fit the target, which reads "
            f"{target.max_length} tokens; choose at most {target.max_length - 1}."
        )
    corpus = prepare(
        text, model.tokenizer, holdout=config.holdout, seed=config.seed, split=config.split
    )
    material: Material = corpus
    torch.manual_seed(config.seed)
    module = config.kind.module(target.network).to(model.device)
    if config.continue_from_target:
        folder.claim(room.out, room.resume, "train-drafter", config, list(text))
        how = Continued(config.length, config.prompt_tokens, config.temperature, config.seed)
        material = continued(target, corpus, how, config.continuations, room.out / "texts")
        stream = BlockStream(len(material.training), config.batch_size, config.seed)
    else:
        tokens = corpus.train.tokens
        stream = BlockStream.over(tokens, config.length, config.batch_size, config.seed)
        if not len(_whole(material.held_out(config.length, config.eval_texts))):
            raise TrainError(
                f"the held-out text is shorter than length={config.length}; give more text, a "
                "larger holdout or a shorter length."
            )
        folder.claim(room.out, room.resume, "train-drafter", config, list(text))
    drilled = Drilled(config.kind, target)
    network: Any = module  # the loop trains any module
    return Prepared(material, stream, model.process, network, drilled)


def _whole(rows: Rows) -> Tensor:
    """Return the rows without padding."""
    return rows.tokens if rows.valid is None else rows.tokens[rows.valid.all(1)]


@torch.no_grad()
def _held_out(config: DrafterRun, prepared: Prepared) -> tuple[Estimate, tuple[Estimate, ...]]:
    """Return loss and agreement on the same texts and with the same random numbers every time."""
    drilled, module = prepared.objective, prepared.network
    assert isinstance(drilled, Drilled)
    rows = _whole(prepared.corpus.held_out(config.length, config.eval_texts))
    device = next(module.parameters()).device
    key = Key(rng.rows(config.seed + 1, 0, len(rows)))
    lessons = []
    for at in torch.arange(len(rows)).split(config.batch_size):
        streams = Key(key.seed[at].to(device))
        lessons.append(drilled.lesson(module, rows[at].to(device), streams))
    total = sum(float(lesson.loss.total) for lesson in lessons)
    places = sum(float(lesson.loss.count) for lesson in lessons)
    parts = [float(lesson.loss.total / lesson.loss.count) for lesson in lessons]
    spread = math.nan if len(parts) < 2 else stdev(parts) / math.sqrt(len(parts))
    hits = torch.stack([lesson.hits for lesson in lessons]).sum(0).tolist()
    counts = torch.stack([lesson.places for lesson in lessons]).sum(0).tolist()
    depths = tuple(_share(hit, count) for hit, count in zip(hits, counts, strict=True))
    return Estimate(total / places, spread, len(parts), "loss/place"), depths


def _share(hits: float, places: float) -> Estimate:
    """Return a share and the error of so many independent trials."""
    if not places:
        return Estimate(math.nan, math.nan, 0, "share")
    share = hits / places
    return Estimate(share, math.sqrt(share * (1 - share) / places), round(places), "share")


def _keep(best: Path, trained: Trained, made_for: Fingerprint) -> None:
    """Replace ``checkpoints/best``: the drafter with the lowest held-out loss so far."""
    best.parent.mkdir(exist_ok=True)
    files.replace_folder(best, lambda temporary: save_drafter(temporary, trained, made_for))


def _tell(observers: Sequence[Observer], event: Event) -> None:
    for observer in observers:
        observer(event)


def metrics(taught: Taught) -> dict[str, Any]:
    """Return what a run found out, as JSON values."""
    return {
        "kind": taught.trained.kind.name,
        "parameters": sum(w.numel() for w in taught.trained.module.parameters()),
        "steps": taught.steps,
        "held_out": None if taught.held_out is None else taught.held_out._asdict(),
        "agreement": [depth._asdict() for depth in taught.agreement],
    }


def _as_train(config: DrafterRun, network: Transformer) -> Train:
    """Return the training run that the training of a drafter amounts to."""
    names = ("optimizer", "steps", "batch_size", "ema", "eval_every", "save_every", "keep",
             "log_every", "seed")  # fmt: skip
    return Train(
        model=replace(network.config, max_length=config.length),
        objective=AutoregressiveNll(),  # the loop takes the prepared one
        eval_blocks=config.eval_texts,
        precision="float32",
        **{name: getattr(config, name) for name in names},
    )
