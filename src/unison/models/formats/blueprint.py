"""What must a checkpoint family say so that one loader and one writer serve it?"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from unison.models.config import TransformerConfig


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Piece:
    """One of our tensors and the checkpoint's tensors it is made of; serves both directions.

    Attributes:
        ours: Name in ``Transformer.state_dict()``.
        theirs: Names in the checkpoint.
        how: ``same``: one tensor as it is; ``concat``: theirs joined along dimension 0, of the
            given ``sizes``; ``stack``: theirs stacked along a new dimension 0; ``stack_concat``:
            groups of ``len(sizes)`` tensors, each group joined along dimension 0, the groups
            stacked; ``transposed``: one matrix, rows and columns swapped.
        sizes: Rows of each part of ``concat`` and ``stack_concat``.
    """

    ours: str
    theirs: tuple[str, ...]
    how: Literal["same", "concat", "stack", "stack_concat", "transposed"] = "same"
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Blueprint:
    """A checkpoint in unison's terms. No field is guessed downstream; guesses made here are told.

    Attributes:
        config: The network's shape; ``config.shifted``, ``.time``, ``.attention`` and
            ``.block_length`` say how its answers are aligned and what it sees.
        pieces: Where every tensor comes from.
        process: What it undoes.
        mask_id: The mask token of an absorbing model.
        bos_id: What a causal model reads before the first token.
        eos_ids: Tokens that end a text; the first is the end of document.
        pad_id: The padding token, if there is one.
        defaults: Generation defaults, by the names of ``unison.language_model.Defaults``.
        ignored: Endings or patterns (fnmatch) of tensors that carry nothing, such as buffers.
        inferred: One sentence for each fact the checkpoint does not state and how it was found.
        extra: The original settings, kept for writing the checkpoint back.
    """

    config: TransformerConfig
    pieces: tuple[Piece, ...]
    process: Literal["absorbing", "uniform", "sequential"]
    mask_id: int | None = None
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """What a format may look at to decide: everything small in a checkpoint's folder.

    Attributes:
        path: The folder (or file).
        config: ``config.json``; empty where there is none.
        generation: ``generation_config.json``; empty where there is none.
        shapes: Every tensor's name and shape.
        tokens: Special and added tokens, text to id.
    """

    path: Path
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    tokens: Mapping[str, int]


class Format(Protocol):
    """One checkpoint family: a module of this package with these names."""

    @property
    def ARCHITECTURES(self) -> Collection[str]:  # noqa: N802  # a module's constant
        """Names in config.json's ``architectures`` that mean this family."""
        ...

    def recognises(self, source: Source) -> bool:
        """Return whether a checkpoint without a known architecture is of this family."""
        ...

    def read(self, source: Source) -> Blueprint:
        """Return the checkpoint in unison's terms.

        Raises:
            CheckpointError: A setting is missing, contradictory or unsupported.
        """
        ...

    def write(self, blueprint: Blueprint) -> dict[str, Any]:
        """Return the ``config.json`` of such a checkpoint; ``read`` undoes it."""
        ...
