"""How does a folder of files become a network? Recognised, mapped piece by piece, nothing twice."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unison.models.formats import (
    FORMATS,
    WRAPPED,
    gguf,
    levels,
    lightning,
    pools,
    tensors,
    vocabulary,
)
from unison.models.formats.blueprint import Blueprint, CheckpointError, Format, Piece, Source
from unison.models.formats.tensors import Held, Store
from unison.models.formats.wrapped import Wrapped
from unison.models.network import Network
from unison.models.transformer import Transformer
from unison.suggest import nearest

# Choosing experts is decided in float32: what its weights are stored in is kept.
_PRECISE = (".mlp.bias", ".mlp.router.weight")


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose files were found and whose family is known.

    Attributes:
        name: The family, in ``FORMATS`` or ``WRAPPED``.
        source: Its settings.
        store: Its tensors.
    """

    name: str
    source: Source
    store: Store


def open_checkpoint(path: Path, tokenizer: Path | None = None) -> Opened:
    """Find a checkpoint's files and its family.

    Args:
        path: A folder, or one file: safetensors, GGUF, a PyTorch pickle or a Lightning checkpoint.
        tokenizer: Where its tokenizer is, if not in the same folder.

    Raises:
        CheckpointError: A file is missing or damaged, or the family is not known.
    """
    folder = path if path.is_dir() else path.parent
    config, stored = _contents(path)
    store = pools.opened(levels.opened(stored))
    generation = folder / "generation_config.json"
    source = Source(
        path=path,
        config=config,
        generation=tensors.read_json(generation) if generation.exists() else {},
        shapes=store.shapes,
        tokens=vocabulary.special_tokens(tokenizer or folder),
    )
    return Opened(recognise(source), source, store)


def recognise(source: Source) -> str:
    """Return the family's name: by ``architectures``, else as the families themselves see it.

    Raises:
        CheckpointError: No family knows it.
    """
    families: Mapping[str, Format | Wrapped] = {**FORMATS, **WRAPPED}
    stated = source.config.get("architectures") or ()
    for architecture in stated:
        named = [name for name, one in families.items() if architecture in one.ARCHITECTURES]
        if named:
            return named[0]
    seen = [name for name, family in families.items() if family.recognises(source)]
    if seen:
        return seen[0]
    known = sorted({one for family in families.values() for one in family.ARCHITECTURES})
    if stated:
        close = nearest(str(stated[0]), known)
        raise CheckpointError(
            f"{source.path}: the architecture {', '.join(map(str, stated))} is not supported"
            f"{close}; supported: {', '.join(known)}."
        )
    raise CheckpointError(
        f"{source.path}/config.json does not describe a model that unison knows (model_type "
        f"{source.config.get('model_type')!r}, no architectures). Supported: {', '.join(known)}."
    )


def build(
    opened: Opened, dtype: torch.dtype | None, device: torch.device
) -> tuple[Network, Blueprint]:
    """Return the network with its weights, in evaluation mode, and what it is.

    Args:
        opened: The checkpoint.
        dtype: Of the weights; ``None`` for that in which most of them are stored.
        device: Where to put them.

    Raises:
        CheckpointError: Settings cannot be used, or tensors are missing, unknown or of other
            shapes.
    """
    if opened.name in WRAPPED:
        dtype = dtype or stored_dtype(opened.store, opened.store.shapes)
        network, blueprint = WRAPPED[opened.name].build(opened.source, dtype)
        return network.to(device).eval(), blueprint  # pyright: ignore[reportAttributeAccessIssue]
    try:
        blueprint = FORMATS[opened.name].read(opened.source)
    except (TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{opened.source.path}: {error} The file is damaged or was edited."
        ) from None
    return assemble(blueprint, opened.store, opened.source.path, dtype, device).eval(), blueprint


def assemble(
    blueprint: Blueprint,
    store: Store,
    path: Path,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Transformer:
    """Return the network with the checkpoint's tensors in it.

    Tensors taken as they are stay mapped from the file; those made of several are allocated once.

    Raises:
        CheckpointError: Tensors are missing, unknown or of other shapes.
    """
    with torch.device("meta"):
        network = Transformer(blueprint.config)
    ours = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    _check(blueprint, ours, store.shapes, path)
    dtype = dtype or stored_dtype(store, [name for p in blueprint.pieces for name in p.theirs])
    weights = {}
    for piece in blueprint.pieces:
        wanted = None if piece.ours.endswith(_PRECISE) else dtype
        weights[piece.ours] = _made(piece, ours[piece.ours], store, wanted).to(device)
    network.load_state_dict(weights, assign=True)
    return network


def stored_dtype(store: Store, names: Collection[str]) -> torch.dtype:
    """Return the floating type that most of these numbers are stored in."""
    sizes = Counter()
    for tensor in store.take(list(names)):
        if tensor.dtype.is_floating_point:
            sizes[tensor.dtype] += tensor.numel()
    return max(sizes, key=lambda dtype: sizes[dtype], default=torch.float32)


def parts_of(piece: Piece, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shapes of the checkpoint's tensors that make up one of ours."""
    if piece.how == "same":
        return [shape]
    if piece.how == "transposed":
        return [shape[::-1]]
    if piece.how == "stack":
        return [shape[1:]] * len(piece.theirs)
    inner = shape[2:] if piece.how == "stack_concat" else shape[1:]
    sizes = piece.sizes * (len(piece.theirs) // len(piece.sizes))
    return [(size, *inner) for size in sizes]


def rooms_of(piece: Piece, ours: Tensor) -> list[Tensor]:
    """Return the views of one of our tensors where the checkpoint's tensors lie."""
    if piece.how == "same":
        return [ours]
    if piece.how == "transposed":
        return [ours.T]
    if piece.how == "stack":
        return list(ours.unbind(0))
    if piece.how == "concat":
        return list(ours.split(list(piece.sizes)))
    return [room for group in ours.unbind(0) for room in group.split(list(piece.sizes))]


def _made(piece: Piece, shape: tuple[int, ...], store: Store, dtype: torch.dtype | None) -> Tensor:
    """Return one of our tensors: the stored one itself, or one allocation filled part by part."""
    if piece.how == "same":
        (tensor,) = store.take(piece.theirs)
        return tensor if dtype is None else tensor.to(dtype)
    made, rooms = None, []
    for number, tensor in enumerate(store.take(piece.theirs)):
        if made is None:
            made = torch.empty(shape, dtype=dtype or tensor.dtype)
            rooms = rooms_of(piece, made)
        rooms[number].copy_(tensor)
    assert made is not None  # pieces have parts
    return made


def _check(
    blueprint: Blueprint,
    ours: Mapping[str, tuple[int, ...]],
    theirs: Mapping[str, tuple[int, ...]],
    path: Path,
) -> None:
    """Refuse a checkpoint whose tensors are not exactly those the network is made of."""
    unmade = sorted(ours.keys() ^ {piece.ours for piece in blueprint.pieces})
    if unmade:
        raise CheckpointError(f"{path}: this format does not say where {_few(unmade)} come from.")
    used = {name for piece in blueprint.pieces for name in piece.theirs}
    missing = sorted(used - theirs.keys())
    if missing:
        raise CheckpointError(
            f"{path} does not fit config.json: it lacks {len(missing)} tensors, "
            f"{_few(missing)}; it is incomplete or of another model."
        )
    wrong = [
        f"{name} is {list(theirs[name])} and should be {list(shape)}"
        for piece in blueprint.pieces
        for name, shape in zip(piece.theirs, parts_of(piece, ours[piece.ours]), strict=True)
        if theirs[name] != shape
    ]
    if wrong:
        raise CheckpointError(
            f"{path} does not fit config.json: {len(wrong)} tensors are of another shape, "
            f"{_few(wrong)}."
        )
    left = sorted(name for name in theirs.keys() - used if not _ignored(name, blueprint.ignored))
    if left:
        raise CheckpointError(
            f"{path} does not fit config.json: it has {len(left)} tensors that the model does not "
            f"know, {_few(left)}."
        )


def _ignored(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name.endswith(pattern) or fnmatch(name, pattern) for pattern in patterns)


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _contents(path: Path) -> tuple[dict[str, Any], Store]:
    """Return settings and tensors."""
    if path.is_dir():
        if not (path / "config.json").exists():
            files = sorted(path.glob("*.gguf"))
            if len(files) == 1:
                return gguf.read(files[0])
        return tensors.read_json(path / "config.json"), tensors.in_folder(path)
    if path.suffix not in _FILES:
        raise CheckpointError(
            f"{path} is not a directory; give the folder that holds config.json, or a file of a "
            f"known kind: {', '.join(_FILES)}."
        )
    return _FILES[path.suffix](path)


def _beside(kind: Callable[[list[Path]], Store]) -> Callable[[Path], tuple[dict[str, Any], Store]]:
    """Return a reader of one file of tensors with config.json, if any, in the same folder."""

    def read(path: Path) -> tuple[dict[str, Any], Store]:
        config = path.parent / "config.json"
        return (tensors.read_json(config) if config.exists() else {}), kind([path])

    return read


def _trained(path: Path) -> tuple[dict[str, Any], Store]:
    config, weights = lightning.read(path)
    return config, Held(weights)


_FILES: Mapping[str, Callable[[Path], tuple[dict[str, Any], Store]]] = {
    ".safetensors": _beside(tensors.mapped),
    ".bin": _beside(tensors.unpickled),
    ".pt": _beside(tensors.unpickled),
    ".ckpt": _trained,
    ".gguf": gguf.read,
}
