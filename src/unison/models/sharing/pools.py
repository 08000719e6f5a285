"""Where do the weights of a network lie when they share? Linear maps and tables that read a pool.

Weights of one role, such as the output projections of all layers, start with one spread and share
one pool (see ``fold``). Biases and norms stay as they are.
"""

import copy
import math
import re
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models.config import TransformerConfig
from unison.models.sharing import fold as folds
from unison.models.transformer import Transformer
from unison.prob import rng

POOLS, NUMBERS, LAYOUT, SLOTS = "pools", "numbers", "layout", "slots"


class Pool(nn.Module):
    """A few numbers that many weights are.

    Args:
        numbers: m of them.
        weights: How many weights, N.
        chunk: Numbers that stay together.
        seed: Names the map.
    """

    def __init__(self, numbers: Float[Tensor, " M"], weights: int, chunk: int, seed: int) -> None:
        super().__init__()
        self.numbers = nn.Parameter(numbers)
        self.register_buffer(LAYOUT, torch.tensor([weights, chunk, seed]))
        made = folds.fold(weights, len(numbers), chunk, seed)
        self.register_buffer("places", made.places, persistent=False)
        self.register_buffer("signs", made.signs, persistent=False)
        self.chunk = chunk

    @property
    def fold(self) -> folds.Fold:
        """The map, where the numbers are."""
        return folds.Fold(self.places, self.signs, self.chunk, len(self.numbers))  # pyright: ignore[reportArgumentType]

    def read(self, start: int, shape: tuple[int, ...]) -> Tensor:
        """Return the weights from ``start`` on."""
        return folds.unfolded(self.numbers, self.fold, start, shape)


class SharedLinear(nn.Module):
    """A linear map whose weight is read from a pool.

    Args:
        pool: Not a part of this module: the network holds it once.
        start: The first of its weights.
        linear: The map it stands for; its bias stays.
    """

    def __init__(self, pool: Pool, start: int, linear: nn.Linear) -> None:
        super().__init__()
        self._pool, self._start = (pool,), start
        self._shape = tuple(linear.weight.shape)
        self.out_features, self.in_features = self._shape
        self.bias = linear.bias
        self.register_buffer(SLOTS, torch.tensor([start, *self._shape]))

    @property
    def weight(self) -> Tensor:
        """The weight, as the pool says it now."""
        return self._pool[0].read(self._start, self._shape)

    def forward(self, x: Float[Tensor, "*P I"]) -> Float[Tensor, "*P O"]:
        """Return the map of every vector."""
        return F.linear(x, self.weight, self.bias)


class SharedEmbedding(nn.Module):
    """A table whose entries are read from a pool; arguments as ``SharedLinear``."""

    def __init__(self, pool: Pool, start: int, table: nn.Embedding) -> None:
        super().__init__()
        self._pool, self._start = (pool,), start
        self._shape = tuple(table.weight.shape)
        self.register_buffer(SLOTS, torch.tensor([start, *self._shape]))

    @property
    def weight(self) -> Tensor:
        """The table, as the pool says it now."""
        return self._pool[0].read(self._start, self._shape)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of some ids."""
        return F.embedding(ids, self.weight)


def check(config: TransformerConfig) -> None:
    """Refuse a network whose weights cannot share.

    Raises:
        ValueError: It has experts.
    """
    if config.mixture is not None:
        raise ValueError("weights of a mixture of experts cannot share; leave model.mixture out.")


def shared(network: Transformer, share: float, seed: int) -> Transformer:
    """Return a network of the same shape that holds a share of the numbers.

    With a share of 1 it answers as the given one, which is unchanged, and learns as it would.

    Args:
        network: Freshly drawn weights; their spread is kept.
        share: Numbers for each weight, in (0, 1].
        seed: Names the maps.

    Raises:
        ValueError: The share is not in (0, 1], or the network has experts.
    """
    check(network.config)
    made = copy.deepcopy(network)
    pools = nn.ModuleDict()
    for number, (role, names) in enumerate(_roles(made).items()):
        parts = [made.get_submodule(name) for name in names]
        pool = _pool([part.weight for part in parts], share, seed, number)  # pyright: ignore
        pools[role] = pool
        start = 0
        for name, part in zip(names, parts, strict=True):
            _replace(made, name, _reading(part, pool, start))
            start += part.weight.numel()  # pyright: ignore
    made.add_module(POOLS, pools)
    return made


def expanded(network: Transformer) -> Transformer:
    """Return an ordinary network of the weights that a sharing one reads; others are returned."""
    if not shares(network):
        return network
    with torch.device("meta"):
        made = Transformer(network.config)
    found = dict(network.named_parameters())
    readers = {f"{name}.weight": part for name, part in network.named_modules() if _reads(part)}
    weights = {
        name: (readers[name].weight if name in readers else found[name]).detach().clone()  # pyright: ignore
        for name in made.state_dict()
    }
    made.load_state_dict(weights, assign=True)
    return made.train(network.training)


def shares(network: nn.Module) -> bool:
    """Return whether a network's weights share."""
    return POOLS in dict(network.named_children())


def role_of(name: str) -> str:
    """Return what a module is, whichever layer it stands in; a name for its pool."""
    return re.sub(r"blocks\.\d+\.", "blocks.", name).replace(".", "-")


def numbers(network: nn.Module) -> Mapping[str, int]:
    """Return the numbers that are learnt, and the weights they are."""
    learnt = sum(w.numel() for w in network.parameters())
    pools = [part for part in network.modules() if isinstance(part, Pool)]
    saved = sum(pool.fold.weights - len(pool.numbers) for pool in pools)
    return {"numbers": learnt, "weights": learnt + saved}


def _roles(network: nn.Module) -> dict[str, list[str]]:
    """Return the maps and tables of a network, by role."""
    roles: dict[str, list[str]] = {}
    for name, part in network.named_modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            roles.setdefault(role_of(name), []).append(name)
    return roles


def _pool(weights: list[Tensor], share: float, seed: int, number: int) -> Pool:
    flat = torch.cat([w.detach().flatten() for w in weights])
    chunk = folds.chunk_of(math.gcd(*(w.numel() for w in weights)))
    slots = folds.slots_of(len(flat), share, chunk)
    own = int(rng.rows(seed, number, 1)[0])
    begun = folds.begun(flat, folds.fold(len(flat), slots, chunk, own))
    return Pool(begun, len(flat), chunk, own)


def _reading(part: nn.Module, pool: Pool, start: int) -> nn.Module:
    if isinstance(part, nn.Embedding):
        return SharedEmbedding(pool, start, part)
    assert isinstance(part, nn.Linear)  # _roles lists nothing else
    return SharedLinear(pool, start, part)


def _replace(network: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, part)


def _reads(part: nn.Module) -> bool:
    return isinstance(part, SharedLinear | SharedEmbedding)
