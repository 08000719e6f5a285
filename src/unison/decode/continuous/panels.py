"""How are integrals over a step taken when a factor is known only at points?

Gauss-Legendre panels no wider than 1.5 in u: on each the integrand is a polynomial of degree 11
through its values, integrated to the end and to every node on the way.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_COUNT, _WIDEST = 12, 1.5
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(_COUNT)


@dataclass(frozen=True, eq=False)
class Panels:
    """Points between two ends, and what turns values there into integrals.

    Attributes:
        points: In the direction of travel, [P].
        weights: Of the integral from end to end, [P]; below 0 where it goes down.
        running: Of the integrals from the first end to each point, [P, P].
    """

    points: Tensor
    weights: Tensor
    running: Tensor

    def integral(self, values: Tensor) -> Tensor:
        """Return the integral of [P, ...] from end to end."""
        return torch.tensordot(self.weights.to(values), values, 1)

    def integrals(self, values: Tensor) -> Tensor:
        """Return the integral of [P, ...] from the first end to each point."""
        return torch.tensordot(self.running.to(values), values, 1)


@lru_cache(maxsize=1024)
def panels(first: float, last: float) -> Panels:
    """Return panels from one number to another, float64."""
    count = max(1, math.ceil(abs(last - first) / _WIDEST))
    half = (last - first) / count / 2
    starts = first + 2 * half * np.arange(count)
    points = (starts[:, None] + half * (1 + _NODES)).ravel()
    running = np.kron(np.eye(count), half * _WITHIN)
    running += np.kron(np.tri(count, k=-1), half * np.tile(_WEIGHTS, (_COUNT, 1)))
    weights = half * np.tile(_WEIGHTS, count)
    return Panels(torch.tensor(points), torch.tensor(weights), torch.tensor(running))


def _within() -> np.ndarray:
    """Return integrals from -1 to each node of the polynomials through the nodes."""
    legendre = np.polynomial.legendre
    powers = legendre.legvander(_NODES, _COUNT - 1)
    columns = [legendre.legval(_NODES, legendre.legint(row, lbnd=-1)) for row in np.eye(_COUNT)]
    return np.stack(columns, 1) @ np.linalg.inv(powers)


_WITHIN = _within()
