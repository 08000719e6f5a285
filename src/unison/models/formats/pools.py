"""How do weights that share lie in a file? As the pool they are read from, once.

A weight ``X.weight`` is stored as ``X.slots``, int64: the first of its places in the fold of its
pool, then its shape. The pool is ``pools.ROLE.numbers`` [m], ROLE being X without the number of
its layer, beside ``pools.ROLE.layout``, int64: weights, numbers that stay together, and the seed of
the map (see ``unison.models.sharing.fold``). So the file is as small as what was learnt, and opens
as the file of an ordinary model.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from unison.models.formats.blueprint import CheckpointError, Piece
from unison.models.formats.tensors import Store
from unison.models.network import Network
from unison.models.sharing.fold import Fold, fold, unfolded
from unison.models.sharing.pools import LAYOUT, NUMBERS, POOLS, SLOTS, role_of

_WEIGHT = ".weight"


@dataclass(frozen=True)
class Pooled:
    """A store some of whose tensors are read from pools; they are made whole when asked for.

    Attributes:
        store: Where the pools lie.
        slots: Of each such tensor, by name: the first place, and the shape.
        folds: The map of each pool, by role.
    """

    store: Store
    slots: Mapping[str, list[int]]
    folds: Mapping[str, Fold] = field(repr=False)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every whole tensor's name and shape."""
        plain = {
            name: shape
            for name, shape in self.store.shapes.items()
            if not name.startswith(f"{POOLS}.") and not name.endswith(f".{SLOTS}")
        }
        return plain | {name: tuple(said[1:]) for name, said in self.slots.items()}

    def take(self, names: Sequence[str]) -> Iterator[Tensor]:
        """Yield tensors, those that share in the type of their pool."""
        for name in names:
            if name not in self.slots:
                yield from self.store.take([name])
                continue
            role = role_of(name.removesuffix(_WEIGHT))
            (numbers,) = self.store.take([f"{POOLS}.{role}.{NUMBERS}"])
            start, *shape = self.slots[name]
            yield unfolded(numbers, self.folds[role], start, tuple(shape))


def pieces(network: Network) -> tuple[Piece, ...]:
    """Return every tensor of unison's own format as it is: pools, where weights share."""
    return tuple(Piece(name, (name,)) for name in network.state_dict())


def opened(store: Store) -> Store:
    """Return a store whose tensors are whole.

    Raises:
        CheckpointError: A pool is missing, or does not hold what is to be read from it.
    """
    found = [name for name in store.shapes if name.endswith(f".{SLOTS}")]
    if not found:
        return store
    said = [tensor.tolist() for tensor in store.take(found)]
    slots = {n.removesuffix(SLOTS) + "weight": s for n, s in zip(found, said, strict=True)}
    roles = dict.fromkeys(role_of(name.removesuffix(_WEIGHT)) for name in slots)
    made = Pooled(store, slots, {role: _fold(store, role) for role in roles})
    for name in slots:
        _check(made, name)
    return made


def _fold(store: Store, role: str) -> Fold:
    pool, layout = f"{POOLS}.{role}.{NUMBERS}", f"{POOLS}.{role}.{LAYOUT}"
    missing = [name for name in (pool, layout) if name not in store.shapes]
    if missing:
        raise CheckpointError(
            f"weights that share come without {', '.join(missing)}; the file is damaged or "
            "incomplete."
        )
    (said,) = store.take([layout])
    try:
        weights, chunk, seed = said.tolist()
        return fold(weights, store.shapes[pool][0], chunk, seed)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{layout}: {error} The file is damaged.") from None


def _check(pooled: Pooled, name: str) -> None:
    start, *shape = pooled.slots[name]
    made = pooled.folds[role_of(name.removesuffix(_WEIGHT))]
    stop = start + math.prod(shape)
    if start < 0 or start % made.chunk or stop % made.chunk or stop > made.weights:
        raise CheckpointError(
            f"{name} would be weights {start} to {stop} of a pool that makes {made.weights}, in "
            f"pieces of {made.chunk}; the file is damaged."
        )
