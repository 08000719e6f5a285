"""How does a network become a folder of files? The same pieces, the other way round."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from unison import files
from unison.models.formats import FORMATS, WRAPPED
from unison.models.formats.blueprint import Blueprint, CheckpointError
from unison.models.formats.reading import rooms_of
from unison.models.formats.tensors import SAFETENSORS
from unison.models.network import Network

SHARD = 5_000_000_000  # bytes; what hubs and their users expect of one file
_INDEX = f"{SAFETENSORS}.index.json"

Pack = Callable[[Tensor], Mapping[str, Tensor] | None]


def settings(name: str, blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of a checkpoint.

    Raises:
        CheckpointError: There is no such format, or it cannot describe such a network.
    """
    if name not in FORMATS:
        raise CheckpointError(f"unknown format {name!r}; known: {', '.join((*FORMATS, *WRAPPED))}.")
    return FORMATS[name].write(blueprint)


def write_weights(
    network: Network,
    blueprint: Blueprint,
    path: Path,
    shard_bytes: int = SHARD,
    pack: Pack | None = None,
) -> None:
    """Write the weights into a folder, in several files with an index where they exceed one.

    Args:
        network: Whose weights.
        blueprint: Which tensors they become.
        path: The folder.
        shard_bytes: Most bytes of a file, before packing.
        pack: Returns the parts a tensor is stored as, by what follows its name (see ``levels``).

    Raises:
        NotWrittenError: The disk is full or not writable; each file is whole, old or new.
    """
    weights = network.state_dict()
    groups = _groups(blueprint, weights, shard_bytes)
    written = [SAFETENSORS] if len(groups) == 1 else _names(len(groups))
    places: dict[str, str] = {}
    for name, group in zip(written, groups, strict=True):
        whole = _theirs(blueprint, weights, group)
        parts = {part: w for one, tensor in whole for part, w in _stored(one, tensor, pack)}
        files.write_tensors(path / name, parts)
        places |= dict.fromkeys(parts, name)
    if len(groups) > 1:
        total = sum(map(_bytes, weights.values()))
        index = {"metadata": {"total_size": total}, "weight_map": places}
        files.write_json(path / _INDEX, index)
    _forget_others(path, written)


def _theirs(
    blueprint: Blueprint, weights: Mapping[str, Tensor], wanted: list[str]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the checkpoint's tensors of these names, views of ours where the layout allows."""
    chosen = set(wanted)
    for piece in blueprint.pieces:
        if chosen.isdisjoint(piece.theirs):
            continue
        ours = weights[piece.ours].detach().cpu()
        for name, room in zip(piece.theirs, rooms_of(piece, ours), strict=True):
            if name in chosen:
                yield name, room


def _stored(name: str, tensor: Tensor, pack: Pack | None) -> Iterator[tuple[str, Tensor]]:
    """Yield what a tensor is stored as."""
    parts = None if pack is None else pack(tensor)
    if parts is None:
        yield name, tensor
        return
    for ending, part in parts.items():
        yield name + ending, part


def _groups(
    blueprint: Blueprint, weights: Mapping[str, Tensor], shard_bytes: int
) -> list[list[str]]:
    """Return tensor names in their order, cut before a file would grow too large."""
    groups, size = [[]], 0
    for piece in blueprint.pieces:
        rooms = rooms_of(piece, weights[piece.ours].detach())
        for name, room in zip(piece.theirs, rooms, strict=True):
            if groups[-1] and size + _bytes(room) > shard_bytes:
                groups.append([])
                size = 0
            groups[-1].append(name)
            size += _bytes(room)
    return groups


def _names(count: int) -> list[str]:
    stem = SAFETENSORS.removesuffix(".safetensors")
    return [f"{stem}-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def _forget_others(path: Path, written: list[str]) -> None:
    """Remove weights that an earlier save left under other names: readers would find them first."""
    if len(written) == 1:
        (path / _INDEX).unlink(missing_ok=True)
    for file in (*path.glob("model-*-of-*.safetensors"), path / SAFETENSORS):
        if file.name not in written:
            file.unlink(missing_ok=True)


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * tensor.element_size()
