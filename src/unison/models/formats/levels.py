"""How do weights of few bits lie in a file? As levels of a grid, beside its scales.

A tensor ``X`` [N, K] on a grid of groups of 32 along K is stored as ``X.levels``, ``X.scale`` of
half precision [N, K / 32] and, with 4 bits, ``X.minimum`` like it: X = scale levels + minimum.
Levels of 8 bits are int8 [N, K]; two of 4 bits share a byte of uint8 [N, K / 2], column k of a
group below and column k + 16 above. Products with a scale are exact in float32, so a weight that
lies on the grid comes back to the last bit, and any reader of safetensors can read the file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unison.models.formats.blueprint import CheckpointError
from unison.models.formats.tensors import Store

GROUP = 32
LEVELS, SCALE, MINIMUM = ".levels", ".scale", ".minimum"


@dataclass(frozen=True)
class Levelled:
    """A store some of whose tensors are levels; they are made whole when asked for.

    Attributes:
        store: Where they lie.
    """

    store: Store

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every whole tensor's name and shape."""
        theirs = self.store.shapes
        found = _levelled(theirs)
        parts = {name + part for name in found for part in (LEVELS, SCALE, MINIMUM)}
        plain = {name: shape for name, shape in theirs.items() if name not in parts}
        return plain | {name: _whole(theirs, name) for name in found}

    def take(self, names: Sequence[str]) -> Iterator[Tensor]:
        """Yield tensors, those of levels as float32."""
        theirs = self.store.shapes
        for name in names:
            parts = [part for part in (LEVELS, SCALE, MINIMUM) if name + part in theirs]
            if parts:
                yield restored(*self.store.take([name + part for part in parts]))
            else:
                yield from self.store.take([name])


def opened(store: Store) -> Store:
    """Return a store whose tensors are whole.

    Raises:
        CheckpointError: Levels lack their scales, or the shapes do not fit.
    """
    shapes = store.shapes
    for name in _levelled(shapes):
        _check(shapes, name)
    return Levelled(store) if _levelled(shapes) else store


def restored(levels: Tensor, scale: Tensor, minimum: Tensor | None = None) -> Tensor:
    """Return scale levels + minimum, float32."""
    groups = spread(levels) if minimum is not None else levels.unflatten(1, (-1, GROUP))
    whole = scale.float()[..., None] * groups
    return (whole if minimum is None else whole + minimum.float()[..., None]).flatten(1)


def paired(levels: Tensor) -> Tensor:
    """Return levels of 4 bits [N, G, 32] as bytes [N, G * 16]."""
    low, high = levels.to(torch.uint8).chunk(2, dim=2)
    return (low | (high << 4)).flatten(1)


def spread(bytes_: Tensor) -> Tensor:
    """Return the levels [N, G, 32] of bytes [N, G * 16]."""
    pairs = bytes_.unflatten(1, (-1, GROUP // 2))
    return torch.cat([pairs & 15, pairs >> 4], dim=2)


def _levelled(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    return [name.removesuffix(LEVELS) for name in shapes if name.endswith(LEVELS)]


def _whole(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    rows, groups = shapes[name + SCALE]
    return rows, groups * GROUP


def _check(shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    if name + SCALE not in shapes:
        raise CheckpointError(
            f"{name}{LEVELS} comes without {name}{SCALE}; the file is damaged or incomplete."
        )
    paired_up = name + MINIMUM in shapes
    rows, groups = shapes[name + SCALE]
    wanted = (rows, groups * GROUP // (2 if paired_up else 1))
    fits = shapes[name + LEVELS] == wanted
    if not fits or (paired_up and shapes[name + MINIMUM] != (rows, groups)):
        raise CheckpointError(
            f"{name}{LEVELS} is {list(shapes[name + LEVELS])} and should be {list(wanted)} beside "
            "its scales; the file is damaged."
        )
