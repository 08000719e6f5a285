"""What if a slot that nothing is known of stands before one that is read?

Whatever comes there may lead to several states, and a text behind it counts once, however many of
them it can go on from. Between such a slot and the last that is read a layer therefore consists of
*sets* of nodes, the subset construction of automata. Diffusion over blocks never needs it: later
blocks stand behind.
"""

import numpy as np
from jaxtyping import Int64, UInt64
from numpy import ndarray

from unison.constrain.joint.lattice import FIXED, Fan, fan_out
from unison.constrain.joint.pieces import NULL
from unison.constrain.joint.stretch import Slot
from unison.constrain.joint.weights import Weights
from unison.constrain.tokens import TokenMachine

_SEED = 0xB10B

Nodes = Int64[ndarray, " _"]


class Sets:
    """Sets of nodes, numbered as they are found."""

    def __init__(self, language: TokenMachine, weights: Weights) -> None:
        self._language, self._weights = language, weights
        self._sets: list[Nodes] = []
        self._number: dict[bytes, int] = {}

    def enter(self, nodes: Nodes) -> Nodes:
        """Return the numbers of the sets of one node each."""
        return np.array([self._intern(nodes[i : i + 1]) for i in range(len(nodes))])

    def leave(self, numbers: Nodes) -> Fan:
        """Return ways from each set to its nodes."""
        members = [self._sets[number] for number in numbers.tolist()]
        source = np.repeat(np.arange(len(members)), [len(member) for member in members])
        return Fan(source, np.concatenate(members), np.full(len(source), FIXED))

    def fan_out(self, numbers: Nodes, slot: Slot, read: bool) -> Fan:
        """Return all ways from a layer of sets through a slot."""
        ways = []
        for source, number in enumerate(numbers.tolist()):
            fan = fan_out(self._language, self._sets[number], slot)
            found = self._told_apart(fan) if read else [(fan.target, FIXED)]
            ways += [(source, self._intern(to), label) for to, label in found if len(to)]
        return Fan(*np.array(ways, np.int64).reshape(-1, 3).T)

    def _told_apart(self, fan: Fan) -> list[tuple[Nodes, int]]:
        """Return the sets that tokens lead to, and the label of the tokens that lead there."""
        found = [(fan.target[fan.label == NULL], NULL)]
        fan = fan.where(fan.label != NULL)
        each = [self._weights.tokens(label) for label in fan.label.tolist()]
        token = np.concatenate(each) if each else np.empty(0, np.int64)
        target = np.repeat(fan.target, [len(tokens) for tokens in each])
        token, target = np.unique(np.stack([token, target]), axis=1)
        begin = np.flatnonzero(np.diff(token, prepend=-1))
        end = np.append(begin[1:], len(token))
        if not len(begin):
            return found
        mark = np.add.reduceat(_signature(target), begin)  # of the set each token leads to
        _, first, kind = np.unique(mark, return_index=True, return_inverse=True)
        for number, which in enumerate(first):
            tokens = token[begin[kind == number]]
            found.append((target[begin[which] : end[which]], self._weights.label(tokens)))
        return found

    def _intern(self, nodes: Nodes) -> int:
        nodes = np.unique(nodes)
        number = self._number.setdefault(nodes.tobytes(), len(self._sets))
        if number == len(self._sets):
            self._sets.append(nodes)
        return number


def _signature(nodes: Nodes) -> UInt64[ndarray, " n"]:
    """Return 64 random bits for every node, the same for the same: sums tell sets apart."""
    kinds, which = np.unique(nodes, return_inverse=True)
    bits = [np.random.Philox([_SEED, node]).random_raw() for node in kinds.tolist()]
    return np.array(bits, np.uint64)[which]
