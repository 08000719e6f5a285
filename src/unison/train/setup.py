"""What must exist before the first step? Corpus, tokenizer, network: checked whole, then built."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from unison.data import BlockStream, Rows, Tokenizer
from unison.data import prepare as prepare_corpus
from unison.models import Transformer, TransformerConfig, sharing
from unison.objectives import Loss
from unison.process import PROCESSES, Holes, Process, Sequential, Uniform, make_schedule
from unison.process.absorbing import Absorbing
from unison.scale.placing import Placed
from unison.train.config import Train, TrainError


@runtime_checkable
class Sized(Protocol):
    """A held-out split: how much of it is scored, and how much text that is."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are scored."""
        ...

    @property
    def num_bytes(self) -> int:
        """Bytes of the text they stand for."""
        ...


@runtime_checkable
class Material(Protocol):
    """What is learnt from: a corpus of text, or pairs of a prompt and its completion."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What the tokens mean."""
        ...

    @property
    def valid(self) -> Sized:
        """What is held out."""
        ...

    def rows(self, length: int, indices: Int64[np.ndarray, " B"]) -> Rows:
        """Return rows of the training split by number."""
        ...

    def held_out(self, length: int, limit: int) -> Rows:
        """Return the first rows of the held-out split, at most ``limit``."""
        ...


class Prepared(NamedTuple):
    """A run that can start.

    Attributes:
        corpus: Tokens, tokenizer and sizes.
        stream: Which rows each step reads.
        process: The corruption.
        network: What is trained.
        objective: What is minimised.
        frozen: Networks the objective compares with, by name; saved with the run.
        bound: What held-out text is scored with; ``None`` for the bound of the process.
        placed: Where the network lies, of several ranks; ``None`` for on this process alone.
    """

    corpus: Material
    stream: BlockStream
    process: Process
    network: Transformer
    objective: Loss
    frozen: Mapping[str, nn.Module] = MappingProxyType({})
    bound: Loss | None = None
    placed: Placed | None = None

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of held-out text that one nat per token amounts to."""
        valid = self.corpus.valid
        return valid.num_tokens / valid.num_bytes / math.log(2)


def device_of(name: str) -> torch.device:
    """Return the device of that name; ``auto`` prefers a GPU.

    Raises:
        TrainError: The device is absent or its name is not understood.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise TrainError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N.") from None
    absent = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if absent or device.type not in ("cpu", "cuda"):
        raise TrainError(
            f"device {name!r} is not available here; "
            f"{torch.cuda.device_count()} CUDA devices were found. Use auto or cpu."
        )
    return device


def make_process(name: str, vocab_size: int, schedule: str, holes: Holes | None = None) -> Process:
    """Return the process of that name; a sequential one may know marks of holes."""
    if PROCESSES[name] is Sequential:
        return Sequential(vocab_size, holes=holes)
    if PROCESSES[name] is Uniform:
        return Uniform(vocab_size, make_schedule(schedule))
    return Absorbing(vocab_size, make_schedule(schedule))


def prepare(
    config: Train, sources: Sequence[str], device: torch.device, cache: Path | None = None
) -> Prepared:
    """Read the corpus and build the network.

    Raises:
        ValueError: The corpus or the settings cannot be used; nothing was written to the run.
    """
    corpus = prepare_corpus(
        sources,
        config.data.tokenizer,
        cache=cache,
        holdout=config.data.holdout,
        seed=config.seed,
        split=config.data.split,
    )
    stream = BlockStream.over(
        corpus.train.tokens, config.model.max_length, config.batch_size, config.seed
    )
    process, network = build(config, corpus.tokenizer.vocab_size, corpus.tokenizer.eos_id, device)
    return Prepared(corpus, stream, process, network, config.objective)


def build(
    config: Train, vocab_size: int, eos_id: int, device: torch.device
) -> tuple[Process, Transformer]:
    """Return the process of a run and the network its seed draws.

    Raises:
        TrainError: The shape states other sizes than the vocabulary and the process need.
    """
    count = config.objective.needs.holes
    holes = Holes(count, eos_id) if count else None
    process = make_process(config.objective.process, vocab_size, config.schedule, holes)
    shape = sized(config.model, process)
    torch.manual_seed(config.seed)
    network = Transformer(shape)
    if config.shared is not None:
        network = sharing.shared(network, config.shared, config.seed)
    return process, network.to(device)


def sized(shape: TransformerConfig, process: Process) -> TransformerConfig:
    """Return the shape with the vocabulary sizes of a process filled in.

    Raises:
        TrainError: The shape states other sizes.
    """
    for name, wanted in (("vocab_size", process.vocab_size), ("num_states", process.num_states)):
        if getattr(shape, name) not in (0, wanted):
            raise TrainError(
                f"model.{name}={getattr(shape, name)}, but tokenizer and process need {wanted}; "
                "leave it out."
            )
    return dataclasses.replace(shape, vocab_size=process.vocab_size, num_states=process.num_states)
