"""How much is an image like the one it should be? PSNR and SSIM, one number an image."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unison.types import Estimate, Event

PEAK = 2.0  # scaled images lie in [-1, 1]
_WINDOW = 7
_K1, _K2 = 0.01, 0.03

Rows = Float[Tensor, " B"]
Images = Float[Tensor, "B C H W"]


def psnr(found: Event, truth: Tensor, peak: float = PEAK) -> Rows:
    """Return the peak signal-to-noise ratio of each event in dB, float64.

    Raises:
        ValueError: The shapes differ.
    """
    _check_alike(found, truth)
    square = (found.double() - truth.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(peak**2 / square)


def ssim(found: Images, truth: Tensor, peak: float = PEAK) -> Rows:
    """Return the structural similarity of each image, at most 1, float64.

    Wang et al., 2004, doi:10.1109/TIP.2003.819861, with uniform windows of 7 pixels (fewer on
    smaller images) wholly inside the image, variances without bias, the mean over channels.

    Raises:
        ValueError: The shapes differ.
    """
    _check_alike(found, truth)
    x, y = found.double(), truth.double()
    side = min(_WINDOW, *x.shape[2:])
    side -= 1 - side % 2  # odd
    count = side * side
    share = count / max(count - 1, 1)
    mean_x, mean_y = _means(x, side), _means(y, side)
    var_x = share * (_means(x * x, side) - mean_x.square())
    var_y = share * (_means(y * y, side) - mean_y.square())
    both = share * (_means(x * y, side) - mean_x * mean_y)
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    under = (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    return (top / under).flatten(1).mean(1)


def averaged(rows: Rows, unit: str) -> Estimate:
    """Return the mean over events with its standard error."""
    count = len(rows)
    error = rows.double().std().item() / math.sqrt(count) if count > 1 else math.nan
    return Estimate(rows.double().mean().item(), error, count, unit)


def _means(x: Tensor, side: int) -> Tensor:
    return functional.avg_pool2d(x, side, stride=1)


def _check_alike(found: Tensor, truth: Tensor) -> None:
    if found.shape != truth.shape:
        raise ValueError(
            f"events {tuple(found.shape)} cannot be compared with events {tuple(truth.shape)}; "
            "give as many, of the same shape."
        )
