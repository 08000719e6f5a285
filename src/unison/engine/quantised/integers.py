"""What is a product of bytes, exactly? Sums of int32, by the fastest instructions there are.

torch multiplies bytes with oneDNN, four to five times as fast as float32 where the CPU has VNNI.
CPUs without it may add pairs of products in 16 bits and cut off what does not fit, so the kernel
is tried once on the largest numbers. Where it fails, float32 multiplies: a sum of 1024 products of
bytes is a whole number below 2^24, and so is every part of it, in whatever order.
"""

import functools

import torch
from jaxtyping import Int8, Int32
from torch import Tensor

MOST = 127  # bytes lie in -127 ... 127
_EXACT = 1024  # MOST * MOST * _EXACT < 2^24


def product(
    levels: Int8[Tensor, "M K"], weights: Int8[Tensor, "K N"], into: Int32[Tensor, "M N"]
) -> None:
    """Write levels times weights; all in -127 ... 127, and K below 2^17."""
    if levels.is_cpu and native():
        torch._int_mm(levels, weights, out=into)  # pyright: ignore[reportPrivateImportUsage]
        return
    into.zero_()
    for some, part in zip(levels.split(_EXACT, 1), weights.split(_EXACT), strict=True):
        into += (some.float() @ part.float()).to(torch.int32)


@functools.cache
def native() -> bool:
    """Return whether torch's product of bytes on this CPU is exact for the largest numbers."""
    signs = torch.tensor([[1, 1], [-1, -1], [1, -1]], dtype=torch.int8) * MOST
    levels, weights = signs.repeat(8, 64), signs.repeat(8, 64).T.contiguous()
    try:
        found = torch._int_mm(levels, weights)  # pyright: ignore[reportPrivateImportUsage]
    except RuntimeError:
        return False
    return torch.equal(found.double(), levels.double() @ weights.double())
