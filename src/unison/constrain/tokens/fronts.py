"""Which tokens begin alike? Sets of nodes of the tree of spellings, shared by all walks.

Bytes that lead a state to the same next state are followed together. What stands for them is a
*front*: all nodes that some sequence of such classes of bytes reaches. The body of one JSON string
and that of the next walk through the same fronts, however many strings a schema has, so the second
costs as many steps as there are classes of tokens, not as there are tokens.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64, Integer, UInt8, UInt64
from numpy import ndarray

from unison.constrain.tokens.ragged import Growing, Ragged, bounds, runs, sizes, spans
from unison.constrain.vocabulary import Trie

ROOT = 0  # the front every walk begins with: the root of the tree
_UNKNOWN = -1


class Classes(NamedTuple):
    """Bytes followed together.

    Attributes:
        front: Where each class is followed from.
        start: Class i consists of the slots ``slot[start[i] : start[i + 1]]``; each has one.
        slot: A byte of its front, as ``Fronts.slots`` numbers them, rising in each class.
    """

    front: Int64[ndarray, " G"]
    start: Int64[ndarray, " G_and_one"]
    slot: Int64[ndarray, " total"]


class Fronts:
    """Sets of nodes of one depth each, numbered as they are found.

    Attributes:
        tail: The longest spellings, which are followed one by one.
        tail_front: The fronts they end in.
    """

    def __init__(self, trie: Trie) -> None:
        self._trie = trie
        self._nodes = Ragged(np.int32)  # of each front
        self._bytes = Ragged(np.uint8)  # by which each front goes on; one such is a slot
        self._kids = Ragged(np.int32)  # of each slot, the nodes it leads to
        self._single = Growing(np.int64)  # of each slot, the front of that byte alone
        self._several: dict[bytes, int] = {}  # front and set of bytes: the front they lead to
        self._weight = Growing(np.uint64, 2)
        self._spelt = Growing(np.int64)
        self._open(np.zeros(1, np.int32), np.ones(1, np.int64))
        self.tail = trie.tails
        ends = len(self.tail.end)
        self.tail_front = self._add(self.tail.end, np.ones(ends, np.int64))
        self._bytes.extend(np.empty(0, np.uint8), np.zeros(ends, np.int64))

    @property
    def weight(self) -> UInt64[ndarray, "F 2"]:
        """Of each front the sum of its tokens' signatures, 128 random bits for each token."""
        return self._weight.data

    @property
    def spelt(self) -> Int64[ndarray, " F"]:
        """Of each front how many tokens end there."""
        return self._spelt.data

    @property
    def held(self) -> int:
        """How many nodes all fronts hold together: a measure of memory."""
        return len(self._nodes.values)

    def leads_on(self, fronts: Int64[ndarray, " n"]) -> Bool[ndarray, " n"]:
        """Return which fronts are not only ends of tokens."""
        offset = self._bytes.offset
        return offset[fronts + 1] > offset[fronts]

    def slots(
        self, fronts: Int64[ndarray, " n"]
    ) -> tuple[Int64[ndarray, " n"], Int64[ndarray, " total"], UInt8[ndarray, " total"]]:
        """Return by how many bytes each front goes on, their slots, and the bytes."""
        count, slot = self._bytes.places(fronts)
        return count, slot, self._bytes.values[slot]

    def tails(
        self, fronts: Int64[ndarray, " n"]
    ) -> tuple[Int64[ndarray, " n"], Int64[ndarray, " total"]]:
        """Return how many tails begin in each front, of their depth, and which."""
        count, nodes = self._nodes.take(fronts)
        begin, end = np.searchsorted(self.tail.node, (nodes, nodes + 1))
        owner = np.repeat(np.arange(len(fronts)), count)
        each = np.bincount(np.repeat(owner, end - begin), minlength=len(fronts))
        return each, spans(begin, end - begin)

    def follow(self, classes: Classes) -> Int64[ndarray, " G"]:
        """Return the front each class leads to, finding those that are not known yet."""
        count = sizes(classes.start[:-1], len(classes.slot))
        several = np.flatnonzero(count > 1)
        if not len(several):
            return self._follow_single(classes.slot)
        result = np.empty(len(count), np.int64)
        single = count == 1
        result[single] = self._follow_single(classes.slot[classes.start[:-1][single]])
        begin, size = classes.start[several], count[several]
        slot = classes.slot[spans(begin, size)]
        front = classes.front[several]
        result[several] = self._follow_several(Classes(front, bounds(size), slot))
        return result

    def tokens(self, fronts: Int64[ndarray, " n"]) -> Int64[ndarray, " total"]:
        """Return the tokens that end in any of some fronts, rising."""
        nodes = self._nodes.take(fronts)[1]
        begin = self._trie.token_offset[nodes]
        chosen = np.zeros(1 + self._trie.tokens.max(), bool)  # cheaper than sorting
        chosen[self._trie.tokens[spans(begin, self._trie.spelt[nodes])]] = True
        return np.flatnonzero(chosen)

    def _follow_single(self, slot: Int64[ndarray, " n"]) -> Int64[ndarray, " n"]:
        known = self._single.data[slot]
        if known.min(initial=0) == _UNKNOWN:
            new = np.unique(slot[known == _UNKNOWN])
            count, nodes = self._kids.take(new)
            self._single.data[new] = self._open(nodes, count)
            known = self._single.data[slot]
        return known

    def _follow_several(self, classes: Classes) -> Int64[ndarray, " G"]:
        keys = self._keys(classes)
        new = {key: i for i, key in enumerate(keys) if key not in self._several}
        if new:
            rows = np.fromiter(new.values(), np.int64)
            size = classes.start[rows + 1] - classes.start[rows]
            count, nodes = self._kids.take(classes.slot[spans(classes.start[rows], size)])
            each = np.add.reduceat(count, size.cumsum() - size)
            self._several.update(zip(new, self._open(nodes, each).tolist(), strict=True))
        return np.fromiter((self._several[key] for key in keys), np.int64, len(keys))

    def _keys(self, classes: Classes) -> list[bytes]:
        """Return front and set of bytes of each class, exactly, as bytes."""
        byte = self._bytes.values[classes.slot].astype(np.uint64)
        bit, word = np.uint64(1) << (byte & np.uint64(63)), byte >> np.uint64(6)
        keys = np.empty((len(classes.front), 5), np.uint64)
        keys[:, 4] = classes.front
        for i in range(4):
            keys[:, i] = np.bitwise_or.reduceat(np.where(word == i, bit, 0), classes.start[:-1])
        return keys.view("V40")[:, 0].tolist()

    def _open(
        self, nodes: Int32[ndarray, " total"], count: Int64[ndarray, " n"]
    ) -> Int64[ndarray, " n"]:
        """Add fronts of so many nodes each, none empty, and all that leads on from them."""
        fresh = self._add(nodes, count)
        children = self._trie.children[nodes]
        kid = spans(self._trie.child[nodes], children)
        owner = np.repeat(np.repeat(np.arange(len(count)), count), children)
        key = 256 * owner + self._trie.byte[kid]
        order = np.argsort(key, kind="stable")
        key = key[order]
        begin = runs(key)
        self._kids.extend(kid[order], sizes(begin, len(key)))
        slot = key[begin]
        self._bytes.extend(slot % 256, np.bincount(slot // 256, minlength=len(count)))
        self._single.extend(np.full(len(slot), _UNKNOWN))
        return fresh

    def _add(
        self, nodes: Integer[ndarray, " total"], count: Int64[ndarray, " n"]
    ) -> Int64[ndarray, " n"]:
        fresh = len(self._nodes) + np.arange(len(count))
        self._nodes.extend(nodes, count)
        if len(count):
            start = count.cumsum() - count
            self._weight.extend(np.add.reduceat(self._trie.weight[nodes], start))
            self._spelt.extend(np.add.reduceat(self._trie.spelt[nodes], start))
        return fresh
