"""How does a model come to think? By thoughts that made its own text likelier (Quiet-STaR)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unison import checkpoints, files
from unison.data import BlockStream, Rows, prepare
from unison.distil.beside import METRICS, Keeper, Observer, as_module, check_length, drill, pooled
from unison.engine.reading import target_of
from unison.language_model import LanguageModel
from unison.models.transformer import Transformer
from unison.objectives import AutoregressiveNll
from unison.prob import rng
from unison.prob.rng import Key
from unison.thoughts.lesson import Schooling, Taught, school
from unison.thoughts.mind import Mind, Thinking
from unison.thoughts.saving import FOLDER, save_mind
from unison.train import Optimizer, Prepared, Train, TrainError, folder
from unison.types import Estimate, Nats


@dataclass(frozen=True)
class ThoughtRun:
    """Training of thoughts; the defaults are those of Quiet-STaR (arXiv:2403.09629).

    Attributes:
        thinking: How the model thinks.
        schooling: What is minimised.
        whole: Train the model itself as well, not its marks and mixing head alone.
        mark: Text that both marks mean at first.
        optimizer: How weights move.
        steps: Optimiser steps.
        batch_size: Texts per step.
        micro_batch: Texts per forward pass; ``None`` for the whole batch at once.
        length: Tokens of a text.
        holdout: Share of the text, by document, that is held out.
        split: Where one document of a text file ends.
        ema: Decay of the weights' average, which is the result; 0 for none.
        eval_every: Steps between evaluations on held-out text.
        eval_texts: Held-out texts per evaluation, the same ones every time.
        save_every: Steps between checkpoints.
        keep: Newest checkpoints that stay on disk.
        log_every: Steps between lines of the log.
        seed: Names every random number of the run.
    """

    thinking: Thinking = field(default_factory=Thinking)
    schooling: Schooling = field(default_factory=Schooling)
    whole: bool = True
    mark: str = "---"
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=1e-6, warmup=20))
    steps: int = 1000
    batch_size: int = 8
    micro_batch: int | None = None
    length: int = 256
    holdout: float = 0.05
    split: Literal["auto", "file", "blank", "line"] = "auto"
    ema: float = 0.0
    eval_every: int = 100
    eval_texts: int = 16
    save_every: int = 100
    keep: int = 2
    log_every: int = 10
    seed: int = 0


class Thinker(nn.Module):
    """A network and its mind, as one thing that learns."""

    def __init__(self, network: Transformer, mind: Mind) -> None:
        super().__init__()
        self.network, self.mind = network, mind


@dataclass(frozen=True)
class Pondered:
    """Thinking as a training objective of a ``Thinker``.

    Attributes:
        begin: The begin token.
        schooling: What is minimised.
    """

    begin: int
    schooling: Schooling

    def __call__(self, process: Any, network: Any, batch: Any, key: Key) -> Nats:
        """Return the summed loss and the places it is over."""
        del process
        taught = self.taught(network, Rows(batch.tokens, batch.valid), key)
        return Nats(taught.loss * taught.places, taught.places)

    def losses(self, process: Any, network: Any, batch: Any, key: Key) -> Float[Tensor, "B L"]:
        """Refuse: thoughts are judged together.

        Raises:
            TrainError: Always.
        """
        raise TrainError("the loss of thoughts is that of a batch, not of single positions.")

    def taught(self, thinker: Thinker, rows: Rows, key: Key) -> Taught:
        """Return what texts teach."""
        begin = torch.full_like(rows.tokens[:, :1], self.begin)
        inputs: Int[Tensor, "B M"] = torch.cat([begin, rows.tokens], dim=1)
        valid = rows.valid
        if valid is not None:
            valid = torch.cat([torch.ones_like(valid[:, :1]), valid], dim=1)
        return school(thinker.network, thinker.mind, inputs, key, self.schooling, valid)


class Measured(NamedTuple):
    """What thoughts do on held-out text.

    Attributes:
        base: Loss of the next token without.
        mixed: Loss of the next token with a thought.
        reward: What a thought saves on the tokens it is credited for.
    """

    base: Estimate
    mixed: Estimate
    reward: Estimate


class Thoughtful(NamedTuple):
    """What a run leaves behind.

    Attributes:
        model: The model; trained, if it was not frozen.
        mind: What lets it think.
        steps: Optimiser steps done.
        before: Held-out text before the first step.
        after: Held-out text at the end.
    """

    model: LanguageModel
    mind: Mind
    steps: int
    before: Measured
    after: Measured


def train_thoughts(
    config: ThoughtRun,
    model: LanguageModel,
    text: Sequence[str],
    out: Path,
    *,
    resume: bool = False,
    observe: Sequence[Observer] = (),
) -> Thoughtful:
    """Teach a model to think. The model that is passed in is left alone.

    Args:
        config: The run.
        model: A causal model of unison's own; load it as float32.
        text: Files, folders or built-in corpora.
        out: Folder of the run, new or empty unless ``resume``: a model directory where the model
            itself is trained, with the thoughts in ``thoughts`` within.
        resume: Go on with what is in ``out``, exactly; starts afresh if there is nothing.
        observe: Called after every step.

    Raises:
        ValueError: The model, the text, the settings or the folder cannot be used.
        OSError: A file cannot be written.
    """
    target = target_of(model)
    check_length(config.length, target.max_length)
    settings = _as_train(config, target.network.config)
    corpus = prepare(
        text, model.tokenizer, holdout=config.holdout, seed=config.seed, split=config.split
    )
    stream = BlockStream.over(corpus.train.tokens, config.length, config.batch_size, config.seed)
    torch.manual_seed(config.seed)
    network = copy.deepcopy(target.network).requires_grad_(config.whole)
    marks = model.tokenizer.encode(config.mark)
    thinker = Thinker(network, Mind(config.thinking, network, marks).to(model.device))
    objective = Pondered(target.begin, config.schooling)
    prepared = Prepared(corpus, stream, model.process, as_module(thinker), objective)
    folder.claim(out, resume, "train-thoughts", config, list(text))
    notes = {**model.notes, "thoughts": folder.plain(config)} if config.whole else model.notes
    result = replace(model, network=network, notes=notes, format="unison", blueprint=None)
    result = result if config.whole else model
    measure = partial(_measured, config, objective, thinker, corpus)
    thinker.eval()
    before = measure()
    keeper = Keeper(lambda: measure().mixed, partial(_write, config, result, thinker.mind))
    state = drill(settings, prepared, out, keeper, observe)
    done = Thoughtful(result, thinker.mind, state.step, before, measure())
    files.write_json(out / METRICS, metrics(done))
    return done


def metrics(done: Thoughtful) -> dict[str, Any]:
    """Return what a run found out, as JSON values."""
    told = {
        when: {name: part._asdict() for name, part in measured._asdict().items()}
        for when, measured in (("before", done.before), ("after", done.after))
    }
    return {"steps": done.steps, **told}


def _write(config: ThoughtRun, model: LanguageModel, mind: Mind, out: Path) -> None:
    if config.whole:
        checkpoints.save(model, out)
    save_mind(out / FOLDER, mind, model)


@torch.no_grad()
def _measured(config: ThoughtRun, objective: Pondered, thinker: Thinker, corpus: Any) -> Measured:
    device = thinker.mind.marks.device
    rows = corpus.held_out(config.length, config.eval_texts).to(device)
    seeds = rng.rows(config.seed + 1, 0, len(rows.tokens)).to(device)
    told: list[Taught] = []
    for part in torch.arange(len(seeds), device=device).split(config.batch_size):
        valid = None if rows.valid is None else rows.valid[part]
        told.append(objective.taught(thinker, Rows(rows.tokens[part], valid), Key(seeds[part])))
    counts = [float(taught.places) for taught in told]
    return Measured(
        *(
            pooled(
                [float(getattr(t, name)) * n for t, n in zip(told, counts, strict=True)],
                counts,
                unit,
            )
            for name, unit in (
                ("base", "nats/token"),
                ("mixed", "nats/token"),
                ("reward", "nats/thought"),
            )
        )
    )


def _as_train(config: ThoughtRun, shape: Any) -> Train:
    """Return the training run that the training of thoughts amounts to."""
    names = ("optimizer", "steps", "batch_size", "micro_batch", "ema", "eval_every", "save_every",
             "keep", "log_every", "seed")  # fmt: skip
    return Train(
        model=replace(shape, max_length=config.length),
        objective=AutoregressiveNll(),  # the loop takes the prepared one
        eval_blocks=config.eval_texts,
        precision="float32",
        **{name: getattr(config, name) for name in names},
    )
