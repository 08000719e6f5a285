"""Where are a checkpoint's tensors, and how are they read without a second copy of the model?"""

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unison.models.formats.blueprint import CheckpointError

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"


@runtime_checkable
class Store(Protocol):
    """Tensors by name, read when asked for."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's name and shape."""
        ...

    def take(self, names: Sequence[str]) -> Iterator[Tensor]:
        """Yield tensors in this order."""
        ...


@dataclass(frozen=True)
class Mapped:
    """Safetensors files, mapped into memory: a tensor's pages are read when it is first used.

    Attributes:
        files: The file of each tensor.
        shapes: The shape of each tensor.
    """

    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]

    def take(self, names: Sequence[str]) -> Iterator[Tensor]:
        """Yield tensors; each maps its own part of the file and lets go of it when dropped."""
        with ExitStack() as stack:
            opened: dict[Path, Any] = {}
            for name in names:
                path = self.files[name]
                if path not in opened:
                    opened[path] = stack.enter_context(safe_open(path, "pt"))
                yield opened[path].get_tensor(name)


@dataclass(frozen=True)
class Held:
    """Tensors that are already objects, mapped from a pickle or made by a converter.

    Attributes:
        tensors: By name.
    """

    tensors: Mapping[str, Tensor]

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's name and shape."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def take(self, names: Sequence[str]) -> Iterator[Tensor]:
        """Yield tensors."""
        for name in names:
            yield self.tensors[name]


def in_folder(path: Path) -> Store:
    """Return the tensors of a folder, in one file or several, safetensors before pickles.

    Raises:
        CheckpointError: There are none, an index names a file that is missing, or one is damaged.
    """
    for single, kind in ((SAFETENSORS, mapped), (PICKLE, unpickled)):
        index = path / f"{single}.index.json"
        if index.exists():
            return kind(_listed(index))
        if (path / single).exists():
            return kind([path / single])
    raise CheckpointError(
        f"{path}/{SAFETENSORS} is missing (and so are {SAFETENSORS}.index.json, {PICKLE}); the "
        "directory is not a complete model."
    )


def mapped(paths: Sequence[Path]) -> Mapped:
    """Return the tensors of safetensors files.

    Raises:
        CheckpointError: A file is damaged.
    """
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  # a handle, not a mapping
                    files[name] = path
                    shapes[name] = tuple(file.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is damaged or truncated ({error}); copy it again or use another "
                "checkpoint."
            ) from None
    return Mapped(files, shapes)


def unpickled(paths: Sequence[Path]) -> Held:
    """Return the tensors of PyTorch files, which may hold tensors and plain containers alone.

    Raises:
        CheckpointError: A file is damaged or holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"{path} cannot be read as tensors alone ({_first_line(error)}); convert it to "
                "safetensors where it was made."
            ) from None
        content = content.get("state_dict", content) if isinstance(content, dict) else {}
        tensors |= {name: w for name, w in content.items() if isinstance(w, Tensor)}
    return Held(tensors)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        CheckpointError: The file is missing, is damaged or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing; the directory is not a complete model."
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); the file is damaged.") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold one JSON object, got {type(content).__name__}.")
    return content


def _listed(index: Path) -> list[Path]:
    """Return the files an index names."""
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise CheckpointError(f"{index} has no weight_map; the file is damaged.")
    paths = [index.parent / str(name) for name in sorted(set(cast(dict, named).values()))]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise CheckpointError(
            f"{index} names {', '.join(missing)}, which {index.parent} does not hold; copy the "
            "missing files."
        )
    return paths


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
