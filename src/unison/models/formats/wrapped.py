"""How is a transformers class served as a network, where no mapping of tensors is worth having?

Such a family keeps its own class: the network holds it, loading and saving are transformers'.
"""

from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from torch import nn

from unison.models.formats.blueprint import Blueprint, CheckpointError, Source
from unison.models.network import Network
from unison.models.view import View
from unison.types import SoftTokens, Tokens


@runtime_checkable
class Wrapped(Protocol):
    """One wrapped checkpoint family: a module of this package with these names.

    It takes the place of a ``Format``, which has ``read`` and ``write`` instead.
    """

    @property
    def ARCHITECTURES(self) -> Collection[str]:  # noqa: N802  # a module's constant
        """Names in config.json's ``architectures`` that mean this family."""
        ...

    def recognises(self, source: Source) -> bool:
        """Return whether a checkpoint without a known architecture is of this family."""
        ...

    def build(self, source: Source, dtype: torch.dtype) -> tuple[Network, Blueprint]:
        """Return the network, with its weights, and what it is; the blueprint has no pieces.

        Raises:
            CheckpointError: A setting or a tensor is missing, contradictory or unsupported.
        """
        ...

    def save(self, network: Network, blueprint: Blueprint, path: Path) -> None:
        """Write settings and weights into an existing folder; ``build`` undoes it."""
        ...


def transformers_class(name: str) -> Any:
    """Return a class of the optional library by name.

    Raises:
        CheckpointError: transformers is not installed, or too old to know it.
    """
    try:
        import transformers
    except ImportError:
        raise CheckpointError(
            f"this checkpoint runs through transformers' {name}, which is not installed; "
            "pip install 'unison[hf]'."
        ) from None
    try:
        return getattr(transformers, name)
    except AttributeError:
        raise CheckpointError(
            f"transformers {transformers.__version__} has no {name}; pip install -U 'unison[hf]'."
        ) from None


def load(name: str, source: Source, dtype: torch.dtype, ignored: tuple[str, ...] = ()) -> Any:
    """Return the transformers model of a folder, with every weight read from it.

    transformers itself fills what is missing with fresh numbers; here that is an error.

    Args:
        name: The class.
        source: The folder.
        dtype: Of the weights.
        ignored: Patterns (fnmatch) of tensors in the folder that the model may leave unread.

    Raises:
        CheckpointError: It is no folder, files are unreadable, or tensors are missing, unknown or
            of other shapes.
    """
    kind = transformers_class(name)
    if not source.path.is_dir():
        raise CheckpointError(
            f"{source.path} is not a folder; {name} is read from the folder that holds its "
            "config.json and weights."
        )
    try:
        model, told = kind.from_pretrained(
            source.path,
            dtype=dtype,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are told below, by name
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{source.path} cannot be read as {name}: {error}") from error
    unknown = [key for key in told["unexpected_keys"] if not _matches(key, ignored)]
    shapes = [key[0] if isinstance(key, tuple) else key for key in told["mismatched_keys"]]
    for what, keys in (
        ("lacks", told["missing_keys"]),
        ("has, in another shape than config.json says,", shapes),
        ("has, and the model does not know,", unknown),
    ):
        if keys:
            raise CheckpointError(
                f"{source.path} {what} {len(keys)} tensors: {_listed(keys)}; it is incomplete or "
                f"not a checkpoint of {name}."
            )
    return model.eval()


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


def _listed(keys: Collection[str], most: int = 5) -> str:
    names = sorted(keys)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def save(model: nn.Module, path: Path) -> None:
    """Write a transformers model's settings and weights into a folder."""
    model.save_pretrained(path)  # pyright: ignore[reportCallIssue]


def check_inputs(name: str, inputs: Tokens | SoftTokens, view: View | None) -> Tokens:
    """Return the inputs if a wrapped network can serve them.

    Raises:
        ValueError: They are mixtures of tokens, or the view asks for a cache, other positions or
            another mask.
    """
    if isinstance(inputs, SoftTokens):
        raise ValueError(
            f"{name} reads tokens, not mixtures of tokens (SoftTokens); use an objective or "
            "strategy on plain tokens."
        )
    for part in ("compute", "memory", "positions", "mask"):
        if view is not None and getattr(view, part) is not None:
            raise ValueError(
                f"{name} runs inside transformers and cannot take view.{part}; it serves "
                "view.read, block and known. Decode without a cache and without shadows."
            )
    return inputs
