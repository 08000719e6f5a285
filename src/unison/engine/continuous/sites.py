"""Which parts of a network can be left out, and what is left? Groups of inner channels.

A site is a branch whose inner channels nobody else sees: the hidden layer of an MLP, the heads of
an attention, the channels between the convolutions of a residual block. Its last layer reads them,
so a gate on what that layer is given switches a group of them, and leaving out a group that is
switched off changes nothing. Where a group norm stands between, groups are its own: the norms of
the others stay as they are. A branch without groups is its last layer's bias.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unison.engine.continuous.geometry import layers_of
from unison.models.continuous.parts import PlaceAttention, ResidualBlock
from unison.models.layers import Attention
from unison.models.mlp import GeluMlp

Gates = Float[Tensor, "*B G"]


class Site(NamedTuple):
    """A branch with groups of inner channels.

    Attributes:
        name: The branch, in its network.
        reader: Its last layer, in its network.
        channels: What the reader is given.
        groups: Into how many equal groups these fall.
    """

    name: str
    reader: str
    channels: int
    groups: int


class Cost(NamedTuple):
    """How much work a network is, in multiplications of dense maps and convolutions.

    Attributes:
        total: Of the whole network.
        groups: Of each group of each site, one after the other.
    """

    total: float
    groups: Float[Tensor, " G"]

    def share(self, gates: Gates) -> Float[Tensor, "*B"]:
        """Return the share of the work that is left with these gates."""
        return 1 - ((1 - gates) * (self.groups / self.total).to(gates.dtype)).sum(-1)


class _Kind(NamedTuple):
    """How one class of branches is gated and cut.

    Attributes:
        reader: Its last layer.
        groups: Into how many groups it falls; 0 for as many as asked for.
        cut: Leaves out all but some channels, in place, on a copy.
    """

    reader: str
    groups: Callable[[Any], int]
    cut: Callable[[Any, Int[Tensor, " N"]], None]


class Dropped(nn.Module):
    """A branch none of whose groups is left.

    Attributes:
        bias: What its last layer adds.
        adds: Whether the branch adds itself to what it is given.
        across: What changes the width of what it is given, if anything does.
    """

    def __init__(self, branch: nn.Module, bias: Tensor | None, width: int) -> None:
        super().__init__()
        shown = torch.zeros(width) if bias is None else bias.detach().clone()
        self.bias, self.adds = nn.Parameter(shown), not isinstance(branch, Attention | GeluMlp)
        self.fields = isinstance(branch, ResidualBlock | PlaceAttention)
        self.across = branch.across if isinstance(branch, ResidualBlock) else None

    def forward(self, x: Tensor, *beside: Any) -> Tensor:
        """Return the bias at every place, over what is given where the branch adds itself."""
        bias = self.bias.view(-1, *[1] * (x.ndim - 2)) if self.fields else self.bias
        if not self.adds:
            return bias.expand(x.shape)
        return (x if self.across is None else self.across(x)) + bias


def sites_of(network: nn.Module, groups: int = 8) -> tuple[Site, ...]:
    """Return the branches of a network that can be cut.

    Args:
        network: One of ``models.continuous.NETWORKS``.
        groups: Into how many groups a hidden layer falls that has no heads and no group norm.

    Raises:
        ValueError: There are none, or a hidden layer does not fall into so many groups.
    """
    found = []
    for name, branch in network.named_modules():
        kind = _KINDS.get(type(branch))
        if kind is None:
            continue
        layer: Any = getattr(branch, kind.reader)
        count, channels = kind.groups(branch) or groups, layer.weight.shape[1]
        if channels % count:
            raise ValueError(
                f"{name} has {channels} inner channels, which do not fall into {count} groups; "
                "ask for a number that divides them."
            )
        found.append(Site(name, f"{name}.{kind.reader}", channels, count))
    if not found:
        raise ValueError(f"a {type(network).__name__} has no branch that is known to be cut.")
    return tuple(found)


@contextmanager
def gated(network: nn.Module, sites: Sequence[Site], gates: Gates) -> Iterator[None]:
    """Switch groups while the context lasts.

    Args:
        network: Whose.
        sites: Where.
        gates: Of all groups, site after site; for each row of the batch (which takes gradients
            enabled: without them small batches are reshaped), or for all.
    """
    with ExitStack() as stack:
        parts = gates.split([site.groups for site in sites], -1)
        for site, part in zip(sites, parts, strict=True):
            wide = part.repeat_interleave(site.channels // site.groups, -1)
            layer = network.get_submodule(site.reader)
            stack.callback(layer.register_forward_pre_hook(_gate(layer, wide)).remove)
        yield


def _gate(
    layer: nn.Module, gates: Tensor
) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor]]:
    def apply(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
        (x,) = given
        if gates.ndim == 2 and len(gates) != len(x):
            raise ValueError(
                f"there are gates for {len(gates)} rows and the layer is given {len(x)}; enable "
                "gradients, or give the same gates to all rows."
            )
        places = [1] * (x.ndim - 2)
        if isinstance(layer, nn.Linear):
            return (x * (gates.view(len(gates), *places, -1) if gates.ndim == 2 else gates),)
        return (x * gates.view(*gates.shape, *places),)

    return apply


def cut(network: nn.Module, sites: Sequence[Site], kept: Bool[Tensor, " G"]) -> nn.Module:
    """Return a smaller copy that answers as the network does with all other groups switched off.

    Args:
        network: Whose.
        sites: Where.
        kept: Of all groups, site after site.
    """
    made = copy.deepcopy(network)
    parts = kept.split([site.groups for site in sites])
    for site, part in zip(sites, parts, strict=True):
        if bool(part.all()):
            continue
        branch = made.get_submodule(site.name)
        if not bool(part.any()):
            reader: Any = made.get_submodule(site.reader)
            made.set_submodule(site.name, Dropped(branch, reader.bias, len(reader.weight)))
            continue
        channels = part.repeat_interleave(site.channels // site.groups).nonzero()[:, 0]
        _KINDS[type(branch)].cut(branch, channels)
    return made


def cost_of(network: nn.Module, sites: Sequence[Site], ask: Callable[[nn.Module], object]) -> Cost:
    """Count the work of a network, and what each group is of it.

    A group's work is what leaving it out saves, so that work is linear in the gates.

    Args:
        network: Whose.
        sites: Where.
        ask: Shows a network one event.
    """
    total, each = work(network, ask), []
    every, first = sum(site.groups for site in sites), 0
    for site in sites:
        kept = torch.ones(every, dtype=torch.bool)
        kept[first] = False
        saved = total - work(cut(network, sites, kept), ask)
        each.extend([float(saved)] * site.groups)
        first += site.groups
    return Cost(float(total), torch.tensor(each))


def work(network: nn.Module, ask: Callable[[nn.Module], object]) -> int:
    """Count the multiplications of dense maps and convolutions while a network is asked."""
    counts: list[int] = []

    def count(module: Any, given: tuple[Tensor, ...], out: Tensor) -> None:
        counts.append(module.weight[0].numel() * out.numel())

    handles = [layer.register_forward_hook(count) for _, layer in layers_of(network)]
    try:
        ask(network)
    finally:
        for handle in handles:
            handle.remove()
    return sum(counts)


def _keep(layer: Any, answered: Tensor | None = None, given: Tensor | None = None) -> None:
    """Leave out rows or columns of a dense map or a convolution, in place."""
    weight, bias = layer.weight.detach(), layer.bias
    if answered is not None:
        weight = weight[answered]
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach()[answered].clone())
    weight = weight if given is None else weight[:, given]
    layer.weight = nn.Parameter(weight.clone())
    out, into = weight.shape[:2]
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = out, into
    else:
        layer.out_channels, layer.in_channels = out, into


def _cut_block(block: ResidualBlock, kept: Int[Tensor, " N"]) -> None:
    norm, channels = block.second_norm, block.second.weight.shape[1]
    _keep(block.first, answered=kept)
    _keep(block.modulation, answered=torch.cat([kept, channels + kept]))
    _keep(block.second, given=kept)
    fresh = nn.GroupNorm(len(kept) * norm.num_groups // channels, len(kept), norm.eps)
    fresh.weight, fresh.bias = (
        nn.Parameter(part.detach()[kept].clone()) for part in (norm.weight, norm.bias)
    )
    block.second_norm = fresh


def _cut_places(attention: PlaceAttention, kept: Int[Tensor, " N"]) -> None:
    width = attention.out.in_features
    _keep(attention.qkv, answered=torch.cat([kept + part * width for part in range(3)]))
    _keep(attention.out, given=kept)
    attention.heads = attention.heads * len(kept) // width


def _cut_attention(attention: Attention, kept: Int[Tensor, " N"]) -> None:
    if attention.kv_heads != attention.heads:
        raise ValueError("heads that share keys cannot be left out one by one.")
    width = attention.out.in_features
    _keep(attention.qkv, answered=torch.cat([kept + part * width for part in range(3)]))
    _keep(attention.out, given=kept)
    attention.heads = attention.kv_heads = len(kept) // attention.head_dim


def _cut_mlp(mlp: GeluMlp, kept: Int[Tensor, " N"]) -> None:
    _keep(mlp.up, answered=kept)
    _keep(mlp.down, given=kept)


_KINDS: dict[type, _Kind] = {
    ResidualBlock: _Kind("second", lambda block: block.second_norm.num_groups, _cut_block),
    PlaceAttention: _Kind("out", lambda attention: attention.heads, _cut_places),
    Attention: _Kind("out", lambda attention: attention.heads, _cut_attention),
    GeluMlp: _Kind("down", lambda mlp: 0, _cut_mlp),
}
