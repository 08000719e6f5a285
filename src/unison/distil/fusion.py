"""How does one model come to understand another's memory? By answering with it (Cache-to-Cache)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison import files
from unison.data import BlockStream, Rows, prepare
from unison.data.chat import chat_template
from unison.data.pairs import Layout, Pairs, prepare_pairs
from unison.distil.beside import METRICS, Keeper, Observer, as_module, check_length, drill, pooled
from unison.fusion.alignment import Pick
from unison.fusion.fuser import Annealing, Fuser, Fusing
from unison.fusion.lesson import Pair, lesson
from unison.fusion.saving import pair_of, save_fuser
from unison.language_model import LanguageModel
from unison.objectives import AutoregressiveNll
from unison.prob import rng
from unison.prob.rng import Key
from unison.train import Optimizer, Prepared, Train, TrainError, folder
from unison.train.setup import Material
from unison.types import Estimate, Nats

SITE_GATES = 0


def _optimizer() -> Optimizer:
    return Optimizer(lr=1e-4, weight_decay=0.01, warmup=193, schedule="linear", final=0.0)


@dataclass(frozen=True)
class FusionRun:
    """Training of a fuser; the defaults are those of Cache-to-Cache (arXiv:2510.03215).

    Attributes:
        fusing: Shape of the fuser.
        pick: Which of several pieces stands for a token of the receiver's.
        first: Temperature of the gates at first.
        last: Temperature of the gates at the last step.
        optimizer: How weights move.
        steps: Optimiser steps.
        batch_size: Texts per step.
        micro_batch: Texts per forward pass; ``None`` for the whole batch at once.
        length: Tokens of a row: of a prompt and its answer, or of a text.
        prompt_tokens: Tokens of a text that are its prompt; pairs say so themselves.
        holdout: Share that is held out.
        split: Where one document of a text file ends.
        truncate: Cut answers that are too long for a row.
        ema: Decay of the weights' average, which is the result; 0 for none.
        eval_every: Steps between evaluations on what is held out.
        eval_texts: Held-out rows per evaluation, the same ones every time.
        save_every: Steps between checkpoints.
        keep: Newest checkpoints that stay on disk.
        log_every: Steps between lines of the log.
        seed: Names every random number of the run.
    """

    fusing: Fusing = field(default_factory=Fusing)
    pick: Pick = "longest"
    first: float = 1.0
    last: float = 0.001
    optimizer: Optimizer = field(default_factory=_optimizer)
    steps: int = 1929
    batch_size: int = 256
    micro_batch: int | None = 8
    length: int = 256
    prompt_tokens: int = 128
    holdout: float = 0.05
    split: Literal["auto", "file", "blank", "line"] = "auto"
    truncate: bool = False
    ema: float = 0.0
    eval_every: int = 100
    eval_texts: int = 64
    save_every: int = 100
    keep: int = 2
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        Annealing(self.first, self.last, max(self.steps, 1))
        if not 1 <= self.prompt_tokens < self.length:
            raise ValueError(
                f"prompt_tokens must be in [1, length={self.length}), got {self.prompt_tokens}."
            )


class Source(NamedTuple):
    """What is learnt from.

    Attributes:
        paths: Files or folders; of text also built-in corpora.
        pairs: Whether they hold prompts and answers, not text.
        chat: Where the receiver's chat template is, for pairs that are conversations.
    """

    paths: Sequence[str]
    pairs: bool = False
    chat: str | Path = "."


@dataclass(frozen=True, eq=False)
class Fused:
    """Fusing as a training objective of a ``Fuser``.

    Attributes:
        pair: The models.
        config: The run.
    """

    pair: Pair
    config: FusionRun

    def __call__(self, process: Any, network: Any, batch: Any, key: Key) -> Nats:
        """Return the summed loss of the answers and their tokens."""
        del process
        config = self.config
        gates = network.gates
        one = Key(torch.tensor([config.seed], device=gates.device), key.step)
        u = rng.uniform(one, SITE_GATES, gates.numel())[0].view(gates.shape)
        annealing = Annealing(config.first, config.last, config.steps)
        chances = network.chances(u, annealing.temperature(key.step))
        return self.nats(network, Rows(batch.tokens, batch.valid, batch.given), chances)

    def losses(self, process: Any, network: Any, batch: Any, key: Key) -> Float[Tensor, "B L"]:
        """Refuse: only answers have a loss.

        Raises:
            TrainError: Always.
        """
        raise TrainError("a fuser has a loss on answers alone, not at every position.")

    def nats(self, fuser: Fuser | None, rows: Rows, chances: Tensor | None = None) -> Nats:
        """Return the loss of rows, ``fuser=None`` for the receiver alone."""
        tokens = rows.tokens
        given = torch.full_like(tokens[:, 0], self.config.prompt_tokens)
        given = given if rows.given is None else rows.given.sum(1)
        return lesson(fuser, self.pair, tokens, given, rows.valid, chances)


class Joined(NamedTuple):
    """What a run leaves behind.

    Attributes:
        fuser: The fuser.
        steps: Optimiser steps done.
        alone: The receiver's loss on held-out answers by itself.
        fused: The same with the sharer's help.
        opened: Share of the gates that are open.
    """

    fuser: Fuser
    steps: int
    alone: Estimate
    fused: Estimate
    opened: float


def train_fusion(
    config: FusionRun,
    receiver: LanguageModel,
    sharer: LanguageModel,
    source: Source,
    out: Path,
    *,
    resume: bool = False,
    observe: Sequence[Observer] = (),
) -> Joined:
    """Train a fuser between two models, which stay as they are.

    Args:
        config: The run.
        receiver: Decodes; its tokenizer divides the text.
        sharer: Tells.
        source: What is learnt from.
        out: Folder of the run, which is also the fuser's; new or empty unless ``resume``.
        resume: Go on with what is in ``out``, exactly; starts afresh if there is nothing.
        observe: Called after every step.

    Raises:
        ValueError: The models, the text, the settings or the folder cannot be used.
        OSError: A file cannot be written.
    """
    pair = pair_of(receiver, sharer, config.pick)
    check_length(config.length, min(pair.receiver.max_length, pair.sharer.max_length))
    shape = pair.receiver.network.config
    settings = _as_train(config, shape)
    corpus, stream = _material(config, receiver, source)
    for one in (pair.receiver, pair.sharer):
        one.network.eval().requires_grad_(False)
    torch.manual_seed(config.seed)
    fuser = Fuser(config.fusing, shape, pair.sharer.network.config).to(receiver.device)
    objective = Fused(pair, config)
    prepared = Prepared(corpus, stream, receiver.process, as_module(fuser), objective)
    folder.claim(out, resume, "train-fusion", config, list(source.paths))
    measure = partial(_measured, objective, corpus)
    keeper = Keeper(
        lambda: measure(fuser),
        lambda place: save_fuser(place, fuser, receiver, sharer, config.pick),
    )
    state = drill(settings, prepared, out, keeper, observe)
    opened = float((fuser.gates > 0).float().mean())
    done = Joined(fuser, state.step, measure(None), measure(fuser), opened)
    files.write_json(out / METRICS, metrics(done))
    return done


def metrics(done: Joined) -> dict[str, Any]:
    """Return what a run found out, as JSON values."""
    return {
        "parameters": sum(w.numel() for w in done.fuser.parameters()),
        "steps": done.steps,
        "alone": done.alone._asdict(),
        "fused": done.fused._asdict(),
        "gates_open": done.opened,
    }


def _material(
    config: FusionRun, receiver: LanguageModel, source: Source
) -> tuple[Material, BlockStream]:
    """Return what is learnt from, and its order."""
    if not source.pairs:
        corpus = prepare(
            source.paths,
            receiver.tokenizer,
            holdout=config.holdout,
            seed=config.seed,
            split=config.split,
        )
        tokens = corpus.train.tokens
        return corpus, BlockStream.over(tokens, config.length, config.batch_size, config.seed)
    pairs: Pairs = prepare_pairs(
        source.paths,
        receiver.tokenizer,
        Layout(config.length, "ignored", config.truncate),
        template=lambda: chat_template(source.chat, receiver.tokenizer),
        holdout=config.holdout,
        seed=config.seed,
    )
    return pairs, BlockStream(len(pairs.train), config.batch_size, config.seed)


@torch.no_grad()
def _measured(objective: Fused, corpus: Material, fuser: Fuser | None) -> Estimate:
    config = objective.config
    device = next(objective.pair.receiver.network.parameters()).device
    rows = corpus.held_out(config.length, config.eval_texts).to(device)
    told: list[Nats] = []
    for part in torch.arange(len(rows.tokens), device=device).split(config.micro_batch or 8):
        some = Rows(*(None if x is None else x[part] for x in rows))  # pyright: ignore
        told.append(objective.nats(fuser, some))
    return pooled([float(n.total) for n in told], [float(n.count) for n in told], "nats/token")


def _as_train(config: FusionRun, shape: Any) -> Train:
    """Return the training run that the training of a fuser amounts to."""
    names = ("optimizer", "steps", "batch_size", "micro_batch", "ema", "eval_every", "save_every",
             "keep", "log_every", "seed")  # fmt: skip
    return Train(
        model=replace(shape, max_length=config.length),
        objective=AutoregressiveNll(),  # the loop takes the prepared one
        eval_blocks=config.eval_texts,
        precision="float32",
        **{name: getattr(config, name) for name in names},
    )
