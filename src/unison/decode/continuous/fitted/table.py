"""How do free numbers become a solver? A differentiable table of levels, scales and weights.

The numbers are logits of the steps in u = log s (a softmax makes them a grid between fixed ends),
the logarithms of state noise over level inside the run, and additions to the weights of a known
multistep rule on that grid: where all additions are 0 the solver is that rule, and a fit that
moves the grid takes the rule's weights along.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unison.decode.continuous.api import Levels
from unison.decode.continuous.exponential import Basis, order_at
from unison.decode.continuous.fitted.learned import LearnedSolver

Polynomial = Literal["log", "level"]  # in what the answers are interpolated

_NODES, _WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(16))


class Table(NamedTuple):
    """A solver as sums of the start and the answers, for n intervals.

    Attributes:
        u: Logarithms of the levels, [n + 1].
        scales: Noise in each state, [n + 1].
        weights: Of the answers in each step, [n, n], lower triangular; rows sum to 1.
        kept: What is left of the start in each state, [n + 1].
        given: Weight of each answer in each state, [n + 1, n].
    """

    u: Tensor
    scales: Tensor
    weights: Tensor
    kept: Tensor
    given: Tensor


@dataclass(frozen=True)
class Layout:
    """Where a fit begins, and how its numbers are read.

    Attributes:
        high: The first level.
        low: The last, above 0.
        intervals: How many.
        order: Of the rule that additions are made to.
        basis: What that rule interpolates.
        polynomial: In what.
    """

    high: float
    low: float
    intervals: int
    order: int = 2
    basis: Basis = "data"
    polynomial: Polynomial = "log"

    def numbers(self, levels: Levels) -> Tensor:
        """Return the numbers that mean the rule itself on these levels, float64."""
        u = torch.tensor([math.log(level) for level in levels], dtype=torch.float64)
        return torch.cat([(u[:-1] - u[1:]).log(), u.new_zeros(self.size - self.intervals)])

    @property
    def size(self) -> int:
        """How many numbers there are."""
        n = self.intervals
        return n + (n - 1) + n * (n - 1) // 2

    def free(self, scales: bool, weights: bool) -> Tensor:
        """Return which numbers a phase of a fit may move: the grid, and what is asked for."""
        n = self.intervals
        counts = torch.tensor([n, n - 1, n * (n - 1) // 2])
        return torch.tensor([True, scales, weights]).repeat_interleave(counts)

    def table(self, numbers: Tensor) -> Table:
        """Return the solver that the numbers mean."""
        n = self.intervals
        u = self._grid(numbers[:n])
        ends = numbers.new_zeros(1)
        scales = (u + torch.cat([ends, numbers[n : 2 * n - 1], ends])).exp()
        rows, columns = torch.tril_indices(n, n, -1)
        added = numbers.new_zeros(n, n).index_put((rows, columns), numbers[2 * n - 1 :])
        kept, given = [numbers.new_ones(())], [numbers.new_zeros(n)]
        weights = []
        one_hot = torch.eye(n, dtype=numbers.dtype)
        for i in range(n):
            rule = self._rule(u, i, given, one_hot)
            weights.append(rule + added[i] - added[i].sum() * one_hot[i])
            ratio = scales[i + 1] / scales[i]
            kept.append(ratio * kept[i])
            given.append(ratio * given[i] + (1 - ratio) * weights[i])
        return Table(u, scales, torch.stack(weights), torch.stack(kept), torch.stack(given))

    def solver(self, numbers: Tensor) -> LearnedSolver:
        """Return the solver as plain numbers, its ends exact."""
        table = self.table(numbers.detach())
        inner = table.u.exp().tolist()[1:-1]
        scales = table.scales.tolist()[1:-1]
        weights = tuple(
            (*row[:i], 1 - math.fsum(row[:i])) for i, row in enumerate(table.weights.tolist())
        )
        return LearnedSolver((self.high, *inner, self.low), (self.high, *scales, self.low), weights)

    def _grid(self, logits: Tensor) -> Tensor:
        high, low = math.log(self.high), math.log(self.low)
        places = logits.softmax(0).cumsum(0)[:-1]
        return torch.cat(
            [logits.new_full((1,), high), high + (low - high) * places, logits.new_full((1,), low)]
        )

    def _rule(self, u: Tensor, i: int, given: list[Tensor], one_hot: Tensor) -> Tensor:
        """Return the weights of the known rule in step i, over all answers."""
        order = order_at(self.order, i, self.intervals)
        newest = range(i, i - order, -1)
        weights = self._integrals(u, i, newest)
        left = (u[i + 1] - u[i]).exp()
        if self.basis == "data":
            return torch.stack([weights[k] * one_hot[j] for k, j in enumerate(newest)]).sum(0) / (
                1 - left
            )
        # Noises are (state - answer) / level, and states are sums of answers.
        moved = [weights[k] / u[j].exp() * (given[j] - one_hot[j]) for k, j in enumerate(newest)]
        row = (given[i] + torch.stack(moved).sum(0) - left * given[i]) / (1 - left)
        return row / row.sum()  # 1 already where states hold the noise of their level

    def _integrals(self, u: Tensor, i: int, newest: range) -> list[Tensor]:
        """Return each answer's weight, as ``exponential.integrals`` but differentiable in u."""
        half = (u[i + 1] - u[i]) / 2
        where = u[i] + half * (1 + _NODES)
        kernel = -(u[i + 1] - where).exp() if self.basis == "data" else where.exp()
        points, nodes = (u, where) if self.polynomial == "log" else (u.exp(), where.exp())
        weights = []
        for j in newest:
            others = [(nodes - points[k]) / (points[j] - points[k]) for k in newest if k != j]
            product = torch.stack([torch.ones_like(nodes), *others]).prod(0)
            weights.append((half * _WEIGHTS * kernel * product).sum())
        return weights
