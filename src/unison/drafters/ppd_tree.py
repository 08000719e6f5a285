"""Which tree of guesses is worth its cost, when its nodes also carry what the next one rests on?

The dynamic sparse tree of parallel prompt decoding (Chen et al., 2024, arXiv:2405.18628). How far
ahead there are guesses depends on how many prompt tokens the last accepted node had: the *state*.
Each state has its own tree, the same size in all: candidates, and prompt tokens behind them.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from unison.drafters.ahead import Ahead, Positionwise
from unison.speculation.builders.static import Path, best_paths
from unison.speculation.choosing import Chooser
from unison.speculation.parts import Drafting, GoOn, Plan, rows_of
from unison.speculation.tree import How, Level, Node, Nodes, Tree, grown, sized

Accuracy = Sequence[Sequence[float]]  # by depth from 1, by rank from 0; does not increase by rank


class Candidates(NamedTuple):
    """Nodes beside the root.

    Attributes:
        paths: Each as ranks from the root down, likeliest first, so that parents come first.
        chance: Of each being accepted.
    """

    paths: tuple[Path, ...]
    chance: tuple[float, ...]

    @property
    def gain(self) -> float:
        """Drafts expected to be accepted."""
        return sum(self.chance, 0.0)

    @property
    def last(self) -> tuple[float, ...]:
        """Chance of each node, the root first, to be the last that is accepted."""
        left: dict[Path, float] = {(): 1.0} | dict(zip(self.paths, self.chance, strict=True))
        for path, chance in zip(self.paths, self.chance, strict=True):
            left[path[:-1]] -= chance
        return tuple(max(chance, 0.0) for chance in left.values())


class Shape(NamedTuple):
    """The tree of one state.

    Attributes:
        paths: See ``Candidates``.
        probes: Prompt tokens of a chain behind each node, the root first.
    """

    paths: tuple[Path, ...]
    probes: tuple[int, ...]

    @property
    def depth(self) -> int:
        """Levels of candidates."""
        return max(map(len, self.paths), default=0)


class Design(NamedTuple):
    """Trees for all states, and what they are worth.

    Attributes:
        shapes: By state, from 0.
        shares: How often each state is met in the long run.
        written: Tokens written per evaluation of the target in the long run.
        read: Tokens the target reads per evaluation, the root included.
    """

    shapes: tuple[Shape, ...]
    shares: tuple[float, ...]
    written: float
    read: int


def candidates(accuracy: Accuracy, nodes: int, depth: int) -> Candidates:
    """Return the tree with the largest expected acceptance: the nodes likeliest to be accepted.

    Args:
        accuracy: Chance of each guess, given that what comes before was accepted.
        nodes: Most nodes beside the root.
        depth: Deepest level there are guesses for.
    """
    paths = best_paths(accuracy[:depth], nodes)
    chance: dict[Path, float] = {(): 1.0}
    for path in paths:
        chance[path] = chance[path[:-1]] * accuracy[len(path) - 1][path[-1]]
    return Candidates(paths, tuple(chance[path] for path in paths))


def allotted(last: Sequence[float], gains: Sequence[float], most: int) -> tuple[int, ...]:
    """Return how many prompt tokens each node keeps.

    All have as many as there are at first; the one whose loss is the smallest, the chance of its
    node to be the last accepted times what one level less costs the next tree, goes first. That
    is best where each level more gains less than the one before.

    Args:
        last: Chance of each node to be the last that is accepted.
        gains: Drafts expected to be accepted in each state, from 0.
        most: Prompt tokens there is room for.
    """
    length = len(gains) - 1
    count = [length] * len(last)

    def loss(node: int) -> tuple[float, int]:
        return last[node] * (gains[count[node]] - gains[count[node] - 1]), -node

    ready = [loss(node) for node in range(len(last)) if length > 0]
    heapq.heapify(ready)
    for _ in range(length * len(last) - most):
        node = -heapq.heappop(ready)[1]
        count[node] -= 1
        if count[node] > 0:
            heapq.heappush(ready, loss(node))
    return tuple(count)


def transitions(lasts: Sequence[Sequence[float]], probes: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the chance of each state (column) to follow each (row): that of its last node."""
    result = np.zeros((len(lasts), len(lasts)))
    for state, (last, count) in enumerate(zip(lasts, probes, strict=True)):
        np.add.at(result[state], list(count), list(last))
    return result / result.sum(1, keepdims=True)


def stationary(moves: np.ndarray) -> np.ndarray:
    """Return how often a Markov chain that begins in state 0 is in each state, in the long run."""
    lazy = (moves + np.eye(len(moves))) / 2  # the same shares, and no cycles
    for _ in range(50):  # 2 to the 50 steps
        lazy = lazy @ lazy
        lazy /= lazy.sum(1, keepdims=True)
    return lazy[0]


def designed(accuracy: Accuracy, read: int, members: int = 1) -> Design:
    """Return good trees for all states when the target reads so many tokens at a time.

    How many of them are candidates is chosen state by state, again and again, until no change of
    one state writes more; the best of several beginnings.

    Args:
        accuracy: Chance of the guess of each rank at each depth: see ``futures.ranked``.
        read: Tokens per evaluation, the root included.
        members: Chains of prompt tokens behind each node.

    Raises:
        ValueError: The accuracies increase by rank or are no probabilities, or there is no room.
    """
    _check(accuracy, read)
    search = _Search(accuracy, read, members)
    ends = [search.climbed(read * quarter // 4) for quarter in range(4)]
    return max((search.worth(sizes) for sizes in ends), key=lambda design: design.written)


def fastest(accuracy: Accuracy, seconds: Mapping[int, float], members: int = 1) -> Design:
    """Return the trees that write the most tokens per second on some machine.

    Args:
        accuracy: See ``designed``.
        seconds: Time of an evaluation by the tokens it reads, as measured.
        members: See ``designed``.

    Raises:
        ValueError: Nothing was measured, or see ``designed``.
    """
    if not seconds:
        raise ValueError("no times to choose by; measure how long the target takes to read n.")
    designs = [designed(accuracy, read, members) for read in sorted(seconds)]
    return max(designs, key=lambda design: design.written / seconds[design.read])


@dataclass
class _Search:
    """Trees by state and number of candidates, each made once."""

    accuracy: Accuracy
    read: int
    members: int
    made: dict[tuple[int, int], Candidates] = field(default_factory=dict)

    def tree(self, state: int, nodes: int) -> Candidates:
        if (state, nodes) not in self.made:
            self.made[state, nodes] = candidates(self.accuracy, nodes, state)
        return self.made[state, nodes]

    def worth(self, sizes: tuple[int, ...]) -> Design:
        """Return the design with so many candidates in each state from 1."""
        trees = [self.tree(state, nodes) for state, nodes in enumerate((0, *sizes))]
        gains = [tree.gain for tree in trees]
        room = [(self.read - 1 - len(tree.paths)) // self.members for tree in trees]
        lasts = [tree.last for tree in trees]
        probes = [allotted(last, gains, most) for last, most in zip(lasts, room, strict=True)]
        shares = stationary(transitions(lasts, probes))
        shapes = tuple(Shape(tree.paths, count) for tree, count in zip(trees, probes, strict=True))
        written = 1 + float(shares @ np.array(gains))
        return Design(shapes, tuple(shares.tolist()), written, self.read)

    def climbed(self, start: int) -> tuple[int, ...]:
        """Return sizes that no change of one state improves."""
        sizes = [min(start, self.read - 1)] * len(self.accuracy)
        before, value = -1.0, self.worth(tuple(sizes)).written
        while value > before:
            before = value
            for state in range(len(sizes)):
                ways = [(*sizes[:state], n, *sizes[state + 1 :]) for n in range(self.read)]
                worths = [self.worth(way).written for way in ways]
                if max(worths) > value + 1e-12:
                    value = max(worths)
                    sizes = list(ways[worths.index(value)])
        return tuple(sizes)


def _check(accuracy: Accuracy, read: int) -> None:
    if read < 1:
        raise ValueError(f"an evaluation reads at least the last token, got room for {read}.")
    for row in accuracy:
        falls = all(a >= b >= 0 for a, b in pairwise(row))
        if not row or not falls or sum(row) > 1 + 1e-9:
            raise ValueError(
                "the accuracies of a depth are chances that do not increase from rank to rank and "
                f"add up to at most 1; got {list(row)}."
            )
    if not accuracy:
        raise ValueError("there are no accuracies, so there is nothing to build a tree of.")


@runtime_checkable
class Asking(Protocol):
    """A drafting whose probes are placed by the builder."""

    def want(self, count: Nodes, most: int) -> None:
        """Say how many probes of a chain the nodes of this round's tree get, and at most in all."""
        ...


@dataclass(frozen=True)
class Sparse:
    """The tree that was designed for the state a row is in, and its probes.

    For drafters that guess places side by side: prompt tokens, hidden transfer, Medusa heads.

    Attributes:
        shapes: By state, from 0: how many depths there are guesses for.

    Raises:
        ValueError: There are no shapes, or one is deeper than its state.
    """

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = True
    shapes: tuple[Shape, ...]

    def __post_init__(self) -> None:
        deepest = [shape.depth for shape in self.shapes]
        if not deepest or any(depth > state for state, depth in enumerate(deepest)):
            raise ValueError(
                "Sparse needs a tree for each state from 0, no deeper than the state; got depths "
                f"{deepest}. Make them with designed(accuracy, read)."
            )

    @property
    def draws(self) -> frozenset[How]:
        """How its nodes come about."""
        return frozenset({How.FIXED})

    def size(self, depth: int) -> int:
        """Return the nodes of the largest tree cut at a depth."""
        return max(sum(len(path) <= depth for path in shape.paths) for shape in self.shapes)

    def build(
        self, root: Tree, drafting: Drafting, plan: Plan, choose: Chooser, go_on: GoOn
    ) -> Tree:
        """Return the trees.

        Raises:
            ValueError: The drafter does not guess places side by side.
        """
        del choose
        if not isinstance(drafting, Positionwise):
            raise ValueError(
                "Sparse lays out a tree of guesses for places side by side, which this drafter "
                "does not make; use it with prompt tokens, hidden transfer or Medusa heads."
            )
        layout = _Layout.of(self.shapes, root.tokens.device)
        state = drafting.ahead.reach.clamp(max=len(self.shapes) - 1)
        width = 1 + max((max(path) for shape in self.shapes for path in shape.paths), default=-1)
        height = min(max(shape.depth for shape in self.shapes), max(plan.depth, default=0))
        tree = root
        if width > 0:
            live = _room(layout, state, plan) & go_on(root)[:, None]
            tree = sized(_laid(root, drafting.ahead, layout, (state, live, width)), width, height)
        if isinstance(drafting, Asking):
            most = max(sum(shape.probes) for shape in self.shapes)
            drafting.want(layout.probes[state], most)
        return tree


class _Layout(NamedTuple):
    """Shapes as tables, one row for each state; -1 as parent where there is no node."""

    parent: Tensor
    rank: Tensor
    depth: Tensor
    probes: Tensor

    @staticmethod
    def of(shapes: Sequence[Shape], device: torch.device) -> "_Layout":
        most = max(len(shape.paths) for shape in shapes)
        rows = []
        for paths, probes in shapes:
            number: dict[Path, int] = {(): 0} | {path: i + 1 for i, path in enumerate(paths)}
            rows.append(
                (
                    _filled([number[path[:-1]] for path in paths], most, -1),
                    _filled([path[-1] for path in paths], most, 0),
                    _filled([len(path) for path in paths], most, 1),
                    _filled(probes, most + 1, 0),
                )
            )
        columns = zip(*rows, strict=True)
        return _Layout(*(torch.tensor(column, device=device) for column in columns))


def _room(layout: _Layout, state: Node, plan: Plan) -> Bool[Tensor, "B F"]:
    """Return which nodes of each row's tree the plan has room for."""
    parent, depth = layout.parent[state], layout.depth[state]
    number = torch.arange(parent.shape[1], device=state.device)
    deep, many = (rows_of(most, state.device)[:, None] for most in plan)
    return (parent >= 0) & (depth <= deep) & (number < many)


def _laid(root: Tree, ahead: Ahead, layout: _Layout, which: tuple[Node, Tensor, int]) -> Tree:
    """Return the trees.

    Args:
        root: Trees of a root alone.
        ahead: The laws.
        layout: The shapes.
        which: The state of each row, the nodes of its shape that are wanted, and the largest
            number of siblings of any shape.
    """
    state, live, width = which
    parent, rank, depth = (table[state] for table in layout[:3])
    logq, token = ahead.logq.topk(width, dim=-1)
    at = (depth - 1) * width + rank
    logq, token = (part.flatten(1).gather(1, at) for part in (logq, token))
    how = torch.full_like(parent, How.FIXED)
    zero = torch.zeros_like(parent)
    level = Level(
        torch.where(live, token, -1),
        torch.where(live, parent, zero),
        rank,
        how,
        logq,
        logq.exp(),
        live,
    )
    return grown(root, level, torch.where(live, depth, zero + 1))


def _filled(values: Sequence[int], length: int, value: int) -> list[int]:
    return [*values, *[value] * (length - len(values))]
