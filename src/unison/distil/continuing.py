"""What would the target write? Texts whose beginnings are given and whose rest is its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unison import files
from unison.data import Corpus, CorpusError, Rows, Split, Tokenizer
from unison.engine.reading import NetworkTarget
from unison.prob import rng
from unison.speculation import Ask, Speculation, Text, speculate
from unison.speculation.policies.plain import Plain

_BATCH = 16  # texts written together
_HELD_OUT = 0.1  # of the number of texts to learn from


class Continued(NamedTuple):
    """How texts are continued.

    Attributes:
        length: Tokens of a text.
        prompt: Tokens of its given beginning.
        temperature: What the rest is written with; 0 for the likeliest tokens.
        seed: Names every random number.
    """

    length: int
    prompt: int
    temperature: float
    seed: int


@dataclass(frozen=True, eq=False)
class Continuations:
    """Texts a target wrote, as material of a training run.

    Attributes:
        corpus: Where the beginnings come from.
        training: What is learnt from.
        apart: What is held out.
    """

    corpus: Corpus
    training: Int[Tensor, "N L"]
    apart: Int[Tensor, "M L"]

    @property
    def tokenizer(self) -> Tokenizer:
        """What the tokens mean."""
        return self.corpus.tokenizer

    @property
    def valid(self) -> Split:
        """What the beginnings of held-out texts come from."""
        return self.corpus.valid

    def rows(self, length: int, indices: Int64[np.ndarray, " B"]) -> Rows:
        """Return texts to learn from by number."""
        del length
        return Rows(self.training[torch.from_numpy(indices)])

    def held_out(self, length: int, limit: int) -> Rows:
        """Return the first held-out texts, at most ``limit``."""
        del length
        return Rows(self.apart[:limit])


def continued(
    target: NetworkTarget, corpus: Corpus, how: Continued, count: int, folder: Path
) -> Continuations:
    """Let a target write, or read what it wrote before it was stopped.

    A target goes on behind its end tokens: rows stay equally long.

    Args:
        target: Writes.
        corpus: Lends beginnings: the first tokens of its blocks.
        how: How.
        count: Most texts to learn from; a tenth of that is held out.
        folder: Where what it wrote is kept, a file for each batch.

    Raises:
        CorpusError: The corpus has fewer than two beginnings, or none held out.
        OSError: A file cannot be written.
    """
    folder.mkdir(exist_ok=True)
    files.sweep(folder)
    own = _written(target, corpus.train, how, count, folder / "train")
    few = max(1, round(_HELD_OUT * count))
    apart = _written(target, corpus.valid, how, few, folder / "valid")
    return Continuations(corpus, own, apart)


def _written(
    target: NetworkTarget, split: Split, how: Continued, count: int, name: Path
) -> Int[Tensor, "N L"]:
    """Return the texts of one side."""
    blocks = min(count, len(split.tokens) // how.prompt)
    if blocks < min(2, count):
        raise CorpusError(
            f"the {name.name} side of the corpus has {len(split.tokens)} tokens, too few for "
            f"{min(2, count)} beginnings of {how.prompt}; give more text or a smaller "
            "prompt_tokens."
        )
    # Beginnings stand as far apart as the text allows.
    apart = max(1, len(split.tokens) // how.prompt // blocks) * how.prompt
    starts = np.arange(blocks) * apart
    tokens = split.tokens[starts[:, None] + np.arange(how.prompt)].astype(np.int64)
    parts = []
    for number, prompts in enumerate(torch.from_numpy(tokens).split(_BATCH)):
        path = name.with_name(f"{name.name}-{number:05d}.safetensors")
        kept = _kept(path)
        if kept is None or len(kept) != len(prompts):
            kept = _spoken(target, prompts, how, number * _BATCH)
            files.write_tensors(path, {"tokens": kept})
        parts.append(kept)
    return torch.cat(parts)


def _kept(path: Path) -> Tensor | None:
    """Return what was written before, unless there is nothing or it is damaged."""
    try:
        return load_file(path)["tokens"]
    except (OSError, SafetensorError, KeyError):
        return None


def _spoken(
    target: NetworkTarget, prompts: Int[Tensor, "B P"], how: Continued, first: int
) -> Int[Tensor, "B L"]:
    """Return whole texts of one batch."""
    begin = torch.full_like(prompts[:, :1], target.begin)
    inputs = torch.cat([begin, prompts], dim=1)
    device = next(target.network.parameters()).device
    length = torch.full((len(inputs),), inputs.shape[1], device=device)
    text = Text(inputs.to(device), length)
    seeds = rng.rows(how.seed, first, len(prompts)).to(device)
    policy = Plain(how.temperature)
    room = [how.length - how.prompt] * len(prompts)
    spoken = speculate(Speculation(policy=policy), target, Ask(text, room, seeds))
    return torch.cat([prompts, torch.tensor(spoken.tokens)], dim=1)
