r"""What should a layer do with what it still reads? Least squares in place of what is gone.

With the moments of x, columns R kept, the weights V and bias c that come closest to W x + b,

    min over V, c of  E |V x_R + c - W x - b|^2 + damping |V - W_R|^2,

are V = (W C_R + damping W_R) (C_RR + damping)^-1 with C the covariance, or S where there is no
bias, and c = b + W mu - V mu_R.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.compress.calibration import Moments

_DAMPING = 1e-4  # of the mean of the diagonal


class Affine(NamedTuple):
    """A linear layer's weight and bias."""

    weight: Float[Tensor, "N K"]
    bias: Float[Tensor, " N"] | None


def refitted(layer: Affine, moments: Moments, kept: Int[Tensor, " R"]) -> Affine:
    """Return the layer that reads the kept columns alone and answers as nearly as it can."""
    weight, mean = layer.weight.double(), moments.mean
    second = moments.second
    if layer.bias is not None:
        second = second - torch.outer(mean, mean)
    amount = _amount(second)
    among = damped(second)[kept][:, kept]
    right = weight @ second[:, kept] + amount * weight[:, kept]
    new = torch.linalg.solve(among, right, left=False)
    if layer.bias is None:
        return Affine(new.to(layer.weight.dtype), None)
    bias = layer.bias.double() + weight @ mean - new @ mean[kept]
    return Affine(new.to(layer.weight.dtype), bias.to(layer.bias.dtype))


def damped(second: Float[Tensor, "K K"]) -> Float[Tensor, "K K"]:
    """Return S with a little of its mean diagonal added: invertible."""
    return second + _amount(second) * torch.eye(len(second)).to(second)


def _amount(second: Tensor) -> float:
    mean = float(second.diagonal().mean())
    return _DAMPING * mean if mean > 0 else 1.0
