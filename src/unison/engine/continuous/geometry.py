"""Which numbers does a layer multiply? The geometry of dense maps and convolutions."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Dense = nn.Linear | nn.Conv1d | nn.Conv2d

_KERNELS = {0: F.linear, 1: F.conv1d, 2: F.conv2d}


class Geometry(NamedTuple):
    """A dense map, or a convolution padded with zeros.

    Attributes:
        kernel: Its sides; empty for a dense map.
        stride: Along each side.
        padding: Along each side, at both ends.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def dense(self) -> bool:
        """Whether it is a dense map."""
        return not self.kernel

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer's answer."""
        kernel = _KERNELS[len(self.kernel)]
        if self.dense:
            return kernel(x, weight, bias)
        return kernel(x, weight, bias, self.stride, self.padding)

    def taps(self, x: Tensor, outside: int) -> Tensor:
        """Return what each output place multiplies, [batch, *places, taps], channels innermost.

        Args:
            x: What the layer is given, [..., D] or [batch, D, *places].
            outside: What lies beyond the borders.
        """
        if self.dense:
            return x
        ends = [end for pad in reversed(self.padding) for end in (pad, pad)]
        shown = F.pad(x.movedim(1, -1).contiguous(), [0, 0, *ends], value=outside)
        for axis, (size, step) in enumerate(zip(self.kernel, self.stride, strict=True)):
            shown = shown.unfold(1 + axis, size, step)
        sides = len(self.kernel)
        return shown.movedim(1 + sides, -1).flatten(1 + sides)

    def rows(self, weight: Tensor) -> Tensor:
        """Return weights as a matrix [N, taps] that multiplies ``taps``."""
        return weight if self.dense else weight.movedim(1, -1).flatten(1)

    def arranged(self, out: Tensor) -> Tensor:
        """Return answers [batch, *places, N] as the layer gives them."""
        return out if self.dense else out.movedim(-1, 1)


def geometry_of(layer: Dense) -> Geometry:
    """Return a layer's geometry.

    Raises:
        ValueError: A convolution is dilated, grouped, or not padded with zeros.
    """
    if isinstance(layer, nn.Linear):
        return Geometry((), (), ())
    plain = layer.padding_mode == "zeros" and layer.groups == 1 and set(layer.dilation) == {1}
    if not plain or isinstance(layer.padding, str):
        raise ValueError(
            f"{layer} cannot be rounded: only convolutions without groups and dilation, padded "
            "with a stated number of zeros, can; leave the layer as it is."
        )
    return Geometry(layer.kernel_size, layer.stride, layer.padding)


def layers_of(network: nn.Module, leave: tuple[str, ...] = ()) -> Iterator[tuple[str, Dense]]:
    """Go through the dense maps and convolutions of a network, with their names.

    Args:
        network: Whose.
        leave: Names, or beginnings of names up to a dot, that are passed over.

    Raises:
        ValueError: There is nothing by a name that is to be passed over.
    """
    known = {name for name, _ in network.named_modules()}
    strange = [name for name in leave if name not in known]
    if strange:
        raise ValueError(
            f"the network has no part {strange[0]!r}; its parts are "
            f"{', '.join(name for name, _ in network.named_children())} and what is in them."
        )
    for name, module in network.named_modules():
        passed = any(name == one or name.startswith(f"{one}.") for one in leave)
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and not passed:
            yield name, module


def multiplications(layer: Dense, out: torch.Size) -> int:
    """Return how many multiplications made an output of that shape, of all its rows."""
    return layer.weight[0].numel() * out.numel()
