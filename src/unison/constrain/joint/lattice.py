"""Which texts can stand in a stretch? Layers of automaton states, one before every slot.

A node is a state of the automaton and whether the text of its hole has ended: ``2 state + ended``.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64
from numpy import ndarray

from unison.constrain.joint.pieces import NULL
from unison.constrain.joint.stretch import OPEN, Slot
from unison.constrain.tokens import TokenMachine

FIXED = -1  # the label of a token that stands there already


class Fan(NamedTuple):
    """Ways from the nodes of one layer: from which, to what node, by which set of tokens."""

    source: Int64[ndarray, " E"]
    target: Int64[ndarray, " E"]
    label: Int64[ndarray, " E"]

    def where(self, keep: Bool[ndarray, " E"] | Int64[ndarray, " k"]) -> "Fan":
        """Return some of the ways."""
        return Fan(self.source[keep], self.target[keep], self.label[keep])


@dataclass(frozen=True, eq=False)
class Step:
    """The ways between two layers, those to one node side by side.

    Attributes:
        source: The place of each way's origin in the layer before.
        target: The place of its end in ``nodes``; ascending.
        label: The tokens that go it: ``FIXED``, the nulls, a group or a piece.
        nodes: The layer behind, ascending.
        start: Where the ways to each of its nodes begin, and the end of the last's.
    """

    source: Int64[ndarray, " E"]
    target: Int64[ndarray, " E"]
    label: Int64[ndarray, " E"]
    nodes: Int64[ndarray, " n"]
    start: Int64[ndarray, " n_and_one"]

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """The smallest label and the largest."""
        return int(self.label.min()), int(self.label.max())

    def kept(self, nodes: Bool[ndarray, " n"]) -> "Step":
        """Return the ways to some of the nodes."""
        way = nodes[self.target]
        count = np.diff(self.start)[nodes]
        target = (nodes.cumsum() - 1)[self.target[way]]
        start = np.append(0, count.cumsum())
        return Step(self.source[way], target, self.label[way], self.nodes[nodes], start)

    @cached_property
    def by_source(self) -> "Sorted":
        """The ways from one node side by side."""
        return _sorted(self.source)

    @cached_property
    def by_label(self) -> "Sorted":
        """The ways by one set of tokens side by side."""
        return _sorted(self.label)


class Sorted(NamedTuple):
    """An order in which equal keys stand side by side.

    Attributes:
        order: The ways in that order.
        key: The keys, each once.
        start: Where each begins.
        rank: Which key each way has, in that order.
    """

    order: Int64[ndarray, " E"]
    key: Int64[ndarray, " K"]
    start: Int64[ndarray, " K"]
    rank: Int64[ndarray, " E"]


def _sorted(keys: Int64[ndarray, " E"]) -> Sorted:
    order = np.argsort(keys, kind="stable")
    inside = keys[order]
    new = np.append(True, inside[1:] != inside[:-1])[: len(inside)]
    start = np.flatnonzero(new)
    return Sorted(order, inside[start], start, new.cumsum() - 1)


def arranged(fan: Fan) -> Step:
    """Return a fan's ways by the node they lead to."""
    order = np.argsort(fan.target, kind="stable")
    inside = fan.where(order)
    new = np.append(True, inside.target[1:] != inside.target[:-1])[: len(order)]
    start = np.flatnonzero(new)
    nodes, start = inside.target[start], np.append(start, len(order))
    return Step(inside.source, new.cumsum() - 1, inside.label, nodes, start)


def fan_out(language: TokenMachine, nodes: Int64[ndarray, " n"], slot: Slot) -> Fan:
    """Return all ways from a layer through a slot."""
    states, ended = (nodes >> 1).astype(np.int32), (nodes & 1).astype(bool)
    writing = np.flatnonzero(~ended)
    if slot.token != OPEN and not slot.null:
        to = language.follow(states[writing], slot.token).astype(np.int64)
        alive = to >= 0
        fan = Fan(writing[alive], 2 * to[alive], np.full(alive.sum(), FIXED))
    else:
        stopping = np.flatnonzero(language.accepts(states)) if slot.final else np.arange(len(nodes))
        if not language.vocabulary.nulls:
            stopping = stopping[:0]
        fan = Fan(stopping, nodes[stopping] | 1, np.full(len(stopping), NULL))
        if slot.token == OPEN:
            fan = _joined(_written(language, states, writing), fan)
    return fan._replace(target=fan.target & ~1) if slot.forgets else fan


def _written(
    language: TokenMachine, states: Int32[ndarray, " n"], writing: Int64[ndarray, " w"]
) -> Fan:
    edges = language.edges(states[writing])
    source = np.repeat(writing, np.diff(edges.offset))
    return Fan(source, 2 * edges.target.astype(np.int64), edges.group.astype(np.int64) + NULL + 1)


def _joined(left: Fan, right: Fan) -> Fan:
    return Fan(*(np.concatenate(pair) for pair in zip(left, right, strict=True)))


def summed(ways: Float64[ndarray, " E"], step: Step) -> Float64[ndarray, " n"]:
    """Return logsumexp of the ways to each node."""
    return _summed(ways, step.start[:-1], step.target)


def summed_back(ways: Float64[ndarray, " E"], step: Step, size: int) -> Float64[ndarray, " m"]:
    """Return logsumexp of the ways from each of ``size`` nodes; -inf where there is none."""
    order, key, start, rank = step.by_source
    found = np.full(size, -np.inf)
    found[key] = _summed(ways[order], start, rank)
    return found


def _summed(
    ways: Float64[ndarray, " E"], start: Int64[ndarray, " n"], rank: Int64[ndarray, " E"]
) -> Float64[ndarray, " n"]:
    top = np.maximum.reduceat(ways, start)
    shift = np.where(top == -np.inf, 0.0, top)
    with np.errstate(divide="ignore"):
        return np.log(np.add.reduceat(np.exp(ways - shift[rank]), start)) + shift


def best(
    ways: Float64[ndarray, " E"], step: Step
) -> tuple[Float64[ndarray, " n"], Int64[ndarray, " n"]]:
    """Return the heaviest way to each node, the first of equals, and which it is."""
    top = np.maximum.reduceat(ways, step.start[:-1])
    hits = np.flatnonzero(ways == top[step.target])
    return top, hits[np.searchsorted(step.target[hits], np.arange(len(top)))]
