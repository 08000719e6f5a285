"""Where does each token lead from some states? All tokens of all states are walked at once."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64
from numpy import ndarray

from unison.constrain.machine import DEAD, Machine
from unison.constrain.tokens.fronts import ROOT, Classes, Fronts
from unison.constrain.tokens.ragged import runs

_PIECE = 1 << 17  # walkers that move together: bounds memory, and more would not be faster


class Walkers(NamedTuple):
    """What is under way: from an origin, the nodes of a front have led to a state.

    Attributes:
        origin: Which of the walk's first states.
        state: Where the bytes so far have led, never ``DEAD``.
        front: The nodes of the tree of spellings that these bytes reach.
    """

    origin: Int64[ndarray, " W"]
    state: Int32[ndarray, " W"]
    front: Int64[ndarray, " W"]

    def where(self, chosen: ndarray) -> "Walkers":
        """Return some of the walkers."""
        return Walkers(self.origin[chosen], self.state[chosen], self.front[chosen])


def walk(machine: Machine, fronts: Fronts, states: Int32[ndarray, " n"]) -> Walkers:
    """Return every walker at the end of some token, by rising origin and state.

    Together, the fronts of one origin and state hold each token that leads from the one to the
    other, once.
    """
    start = Walkers(np.arange(len(states)), states, np.full(len(states), ROOT))
    stack, arrived = [(0, start)], []
    while stack:
        depth, walkers = stack.pop()
        for piece in _pieces(walkers):
            if depth == fronts.tail.depth:
                arrived += _run(machine, fronts, piece)
                continue
            moved = _step(machine, fronts, piece)
            arrived.append(moved.where(fronts.spelt[moved.front] > 0))
            moved = moved.where(fronts.leads_on(moved.front))
            if len(moved.origin):
                stack.append((depth + 1, moved))
    everyone = Walkers(*(np.concatenate(column) for column in zip(*arrived, strict=True)))
    return everyone.where(np.lexsort((everyone.state, everyone.origin)))


def _pieces(walkers: Walkers) -> Iterator[Walkers]:
    for begin in range(0, len(walkers.origin), _PIECE):
        yield Walkers(*(column[begin : begin + _PIECE] for column in walkers))


def _step(machine: Machine, fronts: Fronts, walkers: Walkers) -> Walkers:
    """Move every walker by every byte: one new walker for each state it reaches."""
    count, slot, byte = fronts.slots(walkers.front)
    mover = np.repeat(np.arange(len(count)), count)
    target = machine.advance(walkers.state[mover], byte)
    live = np.flatnonzero(target != DEAD)
    mover, slot, target = mover[live], slot[live], target[live]
    key = mover << 32 | target
    if len(key) > 1 and (key[1:] < key[:-1]).any():
        order = np.argsort(key, kind="stable")
        key, mover, slot, target = key[order], mover[order], slot[order], target[order]
    begin = runs(key)
    mover = mover[begin]
    classes = Classes(walkers.front[mover], np.concatenate((begin, [len(key)])), slot)
    return Walkers(walkers.origin[mover], target[begin], fronts.follow(classes))


def _run(machine: Machine, fronts: Fronts, walkers: Walkers) -> Iterator[Walkers]:
    """Walk each of the few longest tokens on its own, to its end."""
    tail = fronts.tail
    count, which = fronts.tails(walkers.front)
    origin, state = np.repeat(walkers.origin, count), np.repeat(walkers.state, count)
    for column in range(tail.byte.shape[1]):
        if not len(which):
            return
        state = machine.advance(state, tail.byte[which, column])
        live = state != DEAD
        origin, state, which = origin[live], state[live], which[live]
        there = tail.length[which] == column + 1
        yield Walkers(origin[there], state[there], fronts.tail_front[which[there]])
        origin, state, which = origin[~there], state[~there], which[~there]
