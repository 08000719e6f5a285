"""What is a model to everyone else? Network, process, tokenizer and defaults, as one value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch

from unison.data import Tokenizer
from unison.denoising import RowDenoiser
from unison.models import Network
from unison.models.formats.blueprint import Blueprint
from unison.process import Process
from unison.types import Mask

UNREADABLE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Defaults:
    """How the model is sampled unless told otherwise (``generation_config.json``).

    Attributes:
        strategy: Name in ``unison.decode.STRATEGIES``.
        steps: Denoiser evaluations for strategies that take a number of steps.
        length: Canvas length in tokens.
        temperature: Applied to the belief.
        top_p: Nucleus applied to the belief.
        block_length: Tokens of a block, for strategies that write block by block; ``None`` for
            their own.
        settings: Settings of that strategy and its parts, by dotted name.
    """

    strategy: str = "ancestral"
    steps: int = 64
    length: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    block_length: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LanguageModel:
    """A network that is aligned (position i speaks of position i) and knows its process.

    Attributes:
        network: Noisy tokens and noise level in, logits out.
        process: What the network was trained to undo.
        tokenizer: Text to ids and back.
        defaults: How it is sampled unless told otherwise.
        notes: Where it comes from; free-form, kept in ``config.json``.
        format: The checkpoint family it was read from: a name in ``unison.models.formats``.
        inferred: One sentence for each fact that its checkpoint does not state.
        eos_ids: Tokens that end a text; the first is the end of document.
        blueprint: How its checkpoint is laid out, to write it back; ``None`` if it has none.
    """

    network: Network
    process: Process
    tokenizer: Tokenizer
    defaults: Defaults = field(default_factory=Defaults)
    notes: dict[str, Any] = field(default_factory=dict)
    format: str = "unison"
    inferred: tuple[str, ...] = ()
    eos_ids: tuple[int, ...] = ()
    blueprint: Blueprint | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.eos_ids:
            object.__setattr__(self, "eos_ids", (self.tokenizer.eos_id,))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def max_length(self) -> int:
        """Longest canvas, in tokens."""
        return self.network.config.max_length

    def denoiser(self, valid: Mask | None = None) -> RowDenoiser:
        """Return the belief p(x_0 | x_t) as a callable of (x_t, t).

        Args:
            valid: False at padding, which then influences nothing.
        """
        return RowDenoiser(self.network, self.process, valid)

    @property
    def evaluations_per_step(self) -> int:
        """Network calls behind one call of the denoiser."""
        return 2 if self.network.config.self_conditioning else 1

    def text(self, ids: Sequence[int], *, show_special: bool = False) -> str:
        """Return the text of ids; each that the tokenizer does not know becomes U+FFFD.

        Networks with a padded vocabulary, or with an undecided position left, hold such ids.

        Args:
            ids: Any states of the canvas.
            show_special: Write special tokens by name instead of leaving them out.
        """
        size = self.tokenizer.vocab_size
        parts = []
        for known, run in groupby(map(int, ids), lambda i: 0 <= i < size):
            numbers = list(run)
            parts.append(
                self.tokenizer.decode(numbers, show_special=show_special)
                if known
                else UNREADABLE * len(numbers)
            )
        return "".join(parts)
