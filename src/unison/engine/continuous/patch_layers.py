"""What must a layer know of other patches? Its halo, its statistics, its keys and values.

Each class here does what the layer it holds does, on patches, and asks an exchange for the rest.
``on_patches`` puts them in the place of the layers: the network is the user's own, weights shared.
"""

import copy
from functools import partial
from itertools import chain
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unison.engine.continuous.patch_transport import Reach
from unison.models.continuous.parts import PlaceAttention
from unison.models.continuous.unet import UNet


@runtime_checkable
class Exchange(Protocol):
    """What other patches said, as layers ask for it."""

    own: tuple[int, ...]

    def around(self, layer: str, rows: Tensor, reach: Reach) -> tuple[Tensor, ...]:
        """Return what lies above and below each patch held here."""
        ...

    def everyone(self, layer: str, values: Tensor) -> tuple[Tensor, ...]:
        """Return what every patch said."""
        ...

    def seen(self, rows: int) -> int:
        """Return how many of a map's places attention sees on either side of a patch of them."""
        ...


class PatchConv(nn.Module):
    """A convolution whose rows above and below come from the neighbours."""

    def __init__(self, layer: str, conv: nn.Conv2d, exchange: Exchange) -> None:
        super().__init__()
        self.layer, self.conv, self.exchange = layer, conv, exchange
        (kernel, _), (stride, _), (pad, side) = conv.kernel_size, conv.stride, _pads(conv)
        self.reach, self.side = (pad, max(kernel - stride - pad, 0)), side

    def forward(self, h: Tensor) -> Tensor:
        """Convolve; beyond the image's edges lie zeros."""
        patches = h.unflatten(0, (len(self.exchange.own), -1))
        around = self.exchange.around(self.layer, patches, self.reach)
        framed = []
        for patch, above, below in zip(patches, around[::2], around[1::2], strict=True):
            missing = (self.reach[0] - above.shape[-2], self.reach[1] - below.shape[-2])
            framed.append(F.pad(torch.cat([above, patch, below], -2), (0, 0, *missing)))
        conv, x = self.conv, torch.cat(framed)
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, (0, self.side))


class PatchNorm(nn.Module):
    """A group norm whose statistics are those of all patches, as far as they are known.

    What others said some steps ago is corrected by how far the patch's own moments have moved
    since, global' + (own - own'): DistriFusion (Li et al., 2024, arXiv:2402.19481). A variance that
    comes out below 0 is replaced by the patch's own.
    """

    def __init__(self, layer: str, norm: nn.GroupNorm, exchange: Exchange) -> None:
        super().__init__()
        self.layer, self.norm, self.exchange = layer, norm, exchange

    def forward(self, h: Tensor) -> Tensor:
        """Normalise."""
        own = self.exchange.own
        wide = torch.promote_types(h.dtype, torch.float32)
        grouped = h.to(wide).flatten(2).unflatten(1, (self.norm.num_groups, -1)).flatten(2)
        variance, mean = torch.var_mean(grouped, -1, correction=0)
        fresh = torch.stack([mean, variance], -1).unflatten(0, (len(own), -1))
        told = torch.stack(self.exchange.everyone(self.layer, fresh))
        moved = _moments(fresh) - _moments(told[list(own)])
        found = _statistics(_moments(told).mean(0) + moved)
        variance = torch.where(found[..., 1] < 0, fresh[..., 1].double(), found[..., 1])
        factor = (variance + self.norm.eps).rsqrt().flatten(0, 1).to(wide)[..., None]
        mean = found[..., 0].flatten(0, 1).to(wide)[..., None]
        scaled = ((grouped - mean) * factor).view(h.shape).to(h.dtype)
        places = (-1, *[1] * (h.ndim - 2))
        return scaled * self.norm.weight.view(places) + self.norm.bias.view(places)


def attended(layer: str, exchange: Exchange, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from each patch to itself and to what is seen of the others.

    Args:
        layer: Which attention it is.
        exchange: What others said.
        q: Queries, [own patches * batch, heads, places, width].
        k: Keys, likewise.
        v: Values, likewise.
    """
    both = torch.cat([k, v], -1).unflatten(0, (len(exchange.own), -1))
    seen = exchange.seen(k.shape[-2])
    around = exchange.around(layer, both, (seen, seen))
    found = []
    asked = q.unflatten(0, (len(exchange.own), -1))
    for query, own, above, below in zip(asked, both, around[::2], around[1::2], strict=True):
        keys, values = torch.cat([above, own, below], -2).chunk(2, -1)
        found.append(F.scaled_dot_product_attention(query, keys, values))
    return torch.cat(found)


def on_patches(network: UNet, exchange: Exchange) -> UNet:
    """Return the network with layers that ask an exchange; the weights are the same tensors."""
    shared = {id(one): one for one in chain(network.parameters(), network.buffers())}
    clone = copy.deepcopy(network, shared)
    for name, layer in list(clone.named_modules()):
        if isinstance(layer, nn.Conv2d) and layer.kernel_size[0] > 1:
            clone.set_submodule(name, PatchConv(name, layer, exchange))
        elif isinstance(layer, nn.GroupNorm):
            clone.set_submodule(name, PatchNorm(name, layer, exchange))
        elif isinstance(layer, PlaceAttention):
            layer.attend = partial(attended, name, exchange)
    return clone


def _moments(statistics: Tensor) -> Tensor:
    """Return E[h] and E[h^2] of means and variances, float64."""
    mean, variance = statistics.double().unbind(-1)
    return torch.stack([mean, variance + mean.square()], -1)


def _statistics(moments: Tensor) -> Tensor:
    mean, square = moments.unbind(-1)
    return torch.stack([mean, square - mean.square()], -1)


def _pads(conv: nn.Conv2d) -> tuple[int, int]:
    """Return the rows and columns of zeros around what a convolution sees.

    Raises:
        ValueError: They are named, as by padding='same', or it is dilated, or not by zeros.
    """
    if isinstance(conv.padding, str) or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
        raise ValueError(
            f"patches know convolutions with counted rows of zeros around them, got {conv}."
        )
    return conv.padding[0], conv.padding[1]
