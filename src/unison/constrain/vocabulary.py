"""What does each token spell? A tokenizer as bytes, and the tree of all its spellings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64, UInt8, UInt64
from numpy import ndarray

from unison.constrain.language import ConstraintError

_SEED = 0x5EED
_TAILS = 128  # one in so many spellings is among the longest


@dataclass(frozen=True, eq=False)
class Tails:
    """What is left of the longest spellings from some depth of the tree on.

    Attributes:
        depth: How many bytes of each are before it.
        node: The node, of that depth, from which each goes on, rising.
        end: The node each ends in.
        length: How many bytes are left, at least one.
        byte: These bytes, and behind them zeros.
    """

    depth: int
    node: Int64[ndarray, " K"]
    end: Int64[ndarray, " K"]
    length: Int64[ndarray, " K"]
    byte: UInt8[ndarray, "K longest"]


@dataclass(frozen=True, eq=False)
class Trie:
    """The tree of all spellings: one node for each way in which one begins.

    Nodes are numbered level by level from the root, 0, and in each level in the order of the texts
    they stand for, so the children of a node are neighbours.

    Attributes:
        byte: The last byte of each node; of the root, which has none, 0.
        child: The children of node i are ``child[i]`` .. ``child[i + 1]`` - 1, by rising byte.
        token_offset: The tokens of node i are ``tokens[token_offset[i] : token_offset[i + 1]]``.
        tokens: Tokens that spell something, by node, rising in each.
    """

    byte: UInt8[ndarray, " N"]
    child: Int64[ndarray, " N_and_one"]
    token_offset: Int64[ndarray, " N_and_one"]
    tokens: Int64[ndarray, " T"]

    @cached_property
    def levels(self) -> Int64[ndarray, " D"]:
        """The first node of each depth, and of the depth behind the last, where there is none."""
        first = [0]
        while first[-1] < len(self.byte):
            first.append(int(self.child[first[-1]]))
        return np.array(first)

    @cached_property
    def spelt(self) -> Int64[ndarray, " N"]:
        """How many tokens each node spells."""
        return self.token_offset[1:] - self.token_offset[:-1]

    @cached_property
    def children(self) -> Int64[ndarray, " N"]:
        """How many children each node has."""
        return self.child[1:] - self.child[:-1]

    @cached_property
    def weight(self) -> UInt64[ndarray, "N 2"]:
        """Of each node the sum of its tokens' signatures, 128 random bits for each token."""
        draws = np.random.Generator(np.random.Philox(_SEED))
        total = np.zeros((len(self.tokens) + 1, 2), np.uint64)
        signature = draws.integers(0, 1 << 64, (len(self.tokens), 2), np.uint64)
        np.cumsum(signature, 0, out=total[1:])
        return total[self.token_offset[1:]] - total[self.token_offset[:-1]]

    @cached_property
    def tails(self) -> Tails:
        """The few longest spellings, from the depth on where only they are left."""
        ends = np.flatnonzero(self.spelt)
        longer = len(ends) - np.searchsorted(ends, self.levels[1:])  # than 0, 1, .. bytes
        depth = int(np.flatnonzero(longer <= len(ends) // _TAILS)[0])
        end = ends[len(ends) - longer[depth] :]
        length = np.searchsorted(self.levels, end, "right") - 1 - depth
        byte = np.zeros((len(end), length.max(initial=0)), np.uint8)
        parent = np.repeat(np.arange(len(self.byte)), self.children)  # of each node but the root
        node = end.copy()
        for column in range(byte.shape[1] - 1, -1, -1):
            under = np.flatnonzero(length > column)
            byte[under, column] = self.byte[node[under]]
            node[under] = parent[node[under] - 1]
        order = np.argsort(node, kind="stable")
        return Tails(depth, node[order], end[order], length[order], byte[order])

    @cached_property
    def steps(self) -> dict[int, int]:
        """The child of node i by byte b, under ``256 * i + b``: for walks of one text."""
        parent = np.repeat(np.arange(len(self.byte)), self.children)
        keys = 256 * parent + self.byte[1:]
        return dict(zip(keys.tolist(), range(1, len(self.byte)), strict=True))

    @cached_property
    def first_token(self) -> list[int]:
        """The smallest token of each node, -1 where a node only leads on."""
        first = np.full(len(self.byte), -1, np.int64)
        ends = np.flatnonzero(self.spelt)
        first[ends] = self.tokens[self.token_offset[ends]]
        return first.tolist()


def trie(spellings: Sequence[bytes | None]) -> Trie:
    """Return the tree of spellings, leaving out tokens that spell nothing."""
    pairs = sorted((text, i) for i, text in enumerate(spellings) if text)
    texts, ids = [text for text, _ in pairs], np.array([i for _, i in pairs])
    flat = np.frombuffer(b"".join(texts), np.uint8)
    length = np.fromiter(map(len, texts), np.int64, len(texts))
    begin = length.cumsum() - length
    node = np.zeros(len(texts), np.int64)
    alive = np.arange(len(texts))
    parents, bytes_ = [np.zeros(1, np.int64)], [np.zeros(1, np.uint8)]
    nodes, depth = 1, 0
    while len(alive):
        byte, parent = flat[begin[alive] + depth], node[alive]
        new = np.ones(len(alive), bool)  # sorted texts: equal beginnings are neighbours
        new[1:] = (byte[1:] != byte[:-1]) | (parent[1:] != parent[:-1])
        node[alive] = nodes - 1 + new.cumsum()
        parents.append(parent[new])
        bytes_.append(byte[new])
        nodes += len(parents[-1])
        depth += 1
        alive = alive[length[alive] > depth]
    children = np.bincount(np.concatenate(parents)[1:], minlength=nodes)
    order = np.lexsort((ids, node))  # a node's tokens need not stand together: "a" is before "ab"
    return Trie(
        np.concatenate(bytes_),
        np.concatenate(([1], 1 + children.cumsum())),
        np.concatenate(([0], np.bincount(node, minlength=nodes).cumsum())),
        ids[order],
    )


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The bytes each token adds to a text.

    Attributes:
        spellings: By token id; ``None`` where a token is no text (special tokens, padding), which
            then never stands inside a constrained text. Several tokens may spell the same.
        nulls: Tokens that end a text or fill what is left of a hole behind its text.
        name: Tells vocabularies apart in caches: the tokenizer's fingerprint.
    """

    spellings: tuple[bytes | None, ...]
    nulls: tuple[int, ...]
    name: str

    def __post_init__(self) -> None:
        if not any(self.spellings):
            raise ConstraintError("no token of this vocabulary spells any text.")

    def __reduce__(self) -> tuple[type["Vocabulary"], tuple[object, ...]]:
        """Leave out the tree, which is larger than what it is made of."""
        return Vocabulary, (self.spellings, self.nulls, self.name)

    @cached_property
    def trie(self) -> Trie:
        """The tree of all spellings."""
        return trie(self.spellings)


def vocabulary(spellings: Sequence[bytes | None], nulls: Sequence[int], name: str) -> Vocabulary:
    """Return a vocabulary in which nulls and empty spellings are no text."""
    none = set(nulls)
    said = tuple(None if i in none or not text else text for i, text in enumerate(spellings))
    return Vocabulary(said, tuple(nulls), name)
