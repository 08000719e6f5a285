"""Which beginnings of texts are computed once for all requests that share them?

Keys and values of what a network reads from its left alone depend on nothing that follows. They
are remembered in a tree over token ids, a node for every ``unit`` tokens (as in RadixAttention,
Zheng et al., 2023, arXiv:2312.07104); the ones not used for longest are forgotten first.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from unison.engine.state import State
from unison.models import KeyValues, TransformerConfig

_Chunk = tuple[int, ...]


class Counts(NamedTuple):
    """What a store did so far.

    Attributes:
        asked: Tokens of all texts that were looked up.
        found: Tokens of them whose keys and values were remembered.
        forgotten: Tokens that had to leave.
        held: Tokens remembered now.
        bytes: What these take.
    """

    asked: int = 0
    found: int = 0
    forgotten: int = 0
    held: int = 0
    bytes: int = 0


@dataclass(eq=False)
class _Node:
    """The keys and values of ``unit`` tokens after those of its parents."""

    parent: "_Node | None"
    chunk: _Chunk
    kept: Tensor | None  # [2, depth, H, unit, E]
    children: "dict[_Chunk, _Node]" = field(default_factory=dict)


class Prefixes:
    """Keys and values of beginnings of texts, by what the network read there.

    Belongs to one network, one device and one thread. What it returns are copies: a beginning
    that is forgotten takes nothing from who reads it.

    Attributes:
        unit: Tokens that are remembered or forgotten together.
        counts: What was asked and found.
    """

    def __init__(self, config: TransformerConfig, unit: int, bytes: int) -> None:
        """Make an empty store.

        Args:
            config: Of the network.
            unit: Tokens of a node, a multiple of the network's block length.
            bytes: Most that keys and values may take.

        Raises:
            ValueError: What the network reads depends on more than what stands before it.
        """
        block = {"causal": 1, "block_causal": config.block_length}.get(config.attention)
        if block is None:
            raise ValueError(
                "prefixes are shared by networks with attention='causal' or 'block_causal', got "
                f"{config.attention!r}: where all see all, a beginning depends on what follows."
            )
        if config.time == "adaln" and not config.time_zeroed:
            raise ValueError(
                "this network reads the noise level, on which its keys and values depend; share "
                "prefixes of networks with time='none' or time_zeroed."
            )
        if unit < 1 or unit % block:
            raise ValueError(
                f"unit must be a multiple of the network's block length {block}, got {unit}."
            )
        if bytes < 0:
            raise ValueError(f"bytes must be at least 0, got {bytes}.")
        self.unit, self._room = unit, bytes
        self.counts = Counts()
        self._depth = config.depth
        self._root = _Node(None, (), None)
        self._recent: OrderedDict[_Node, None] = OrderedDict()  # a parent after its children

    def find(self, tokens: Sequence[int]) -> tuple[int, KeyValues | None]:
        """Return how many leading tokens are remembered, and a copy of their keys and values.

        Args:
            tokens: What the network is to read, from the first position.
        """
        path = self._path(self._chunks(tokens))
        self._touch(path)
        length = len(path) * self.unit
        counts = self.counts
        self.counts = counts._replace(asked=counts.asked + len(tokens), found=counts.found + length)
        if not path:
            return 0, None
        whole = torch.cat([node.kept for node in path if node.kept is not None], dim=3)
        keys, values = (tuple(part[:, None].unbind(0)) for part in whole)
        return length, KeyValues(keys, values)

    def keep(self, tokens: Sequence[int], memory: KeyValues) -> None:
        """Remember the keys and values of a text's beginning, whole units of it.

        Args:
            tokens: What the network read.
            memory: Of one row; of at least so many positions.
        """
        chunks = self._chunks(tokens)
        path = self._path(chunks)
        self._touch(path)
        for number in range(len(path), len(chunks)):
            kept = self._cut(memory, number * self.unit)
            if not self._make_room(kept.nbytes, path):
                return
            parent = path[-1] if path else self._root
            node = _Node(parent, chunks[number], kept)
            parent.children[node.chunk] = node
            path.append(node)
            self._count(node, 1)
            self._touch(path)

    def clear(self) -> None:
        """Forget everything, as when the weights change."""
        while self._recent:
            self._forget(next(iter(self._recent)))

    def _chunks(self, tokens: Sequence[int]) -> list[_Chunk]:
        whole = len(tokens) // self.unit * self.unit
        return [tuple(tokens[i : i + self.unit]) for i in range(0, whole, self.unit)]

    def _path(self, chunks: Sequence[_Chunk]) -> list[_Node]:
        """Return the nodes of the longest remembered beginning."""
        node, path = self._root, []
        for chunk in chunks:
            if chunk not in node.children:
                break
            node = node.children[chunk]
            path.append(node)
        return path

    def _touch(self, path: Sequence[_Node]) -> None:
        """Note that nodes were used: the first last, so that leaves are forgotten before it."""
        for node in reversed(path):
            self._recent[node] = None
            self._recent.move_to_end(node)

    def _cut(self, memory: KeyValues, first: int) -> Tensor:
        return torch.stack(
            [
                torch.stack([layer[0, :, first : first + self.unit] for layer in part])
                for part in memory
            ]
        ).detach()

    def _make_room(self, size: int, path: Sequence[_Node]) -> bool:
        """Forget what was not used for longest, but nothing of ``path``; return if it sufficed."""
        while self.counts.bytes + size > self._room:
            oldest = next(iter(self._recent), None)
            if oldest is None or oldest in path:
                return False
            self._forget(oldest)
        return True

    def _forget(self, node: _Node) -> None:
        """Drop a leaf; the least recent node is one."""
        del self._recent[node]
        if node.parent is not None:
            del node.parent.children[node.chunk]
        self._count(node, -1)
        self.counts = self.counts._replace(forgotten=self.counts.forgotten + self.unit)

    def _count(self, node: _Node, sign: int) -> None:
        size = 0 if node.kept is None else node.kept.nbytes
        self.counts = self.counts._replace(
            held=self.counts.held + sign * self.unit, bytes=self.counts.bytes + sign * size
        )


def seeded(before: State, inputs: Tensor, valid: Tensor | None, prefixes: Prefixes) -> State:
    """Return a state before the first evaluation that remembers what others computed.

    Args:
        before: Of rows never evaluated; its memory is written.
        inputs: What the network is to read, [B, L].
        valid: False at padding; ``None`` if there is none.
        prefixes: Of this network.
    """
    given = before.prompt if valid is None else before.prompt & valid
    lengths = given.long().cumprod(1).sum(1).tolist()
    seen = before.seen.clone()
    for row, (tokens, length) in enumerate(zip(inputs.tolist(), lengths, strict=True)):
        found, known = prefixes.find(tokens[:length])
        if known is None:
            continue
        write(before.memory, known, row)
        seen[row, :found] = inputs[row, :found]
    return before._replace(seen=seen)


def keep(after: State, prefixes: Prefixes) -> None:
    """Remember the keys and values of every row's prompt, as far as it was computed."""
    usable = after.prompt & (after.seen >= 0) & ~after.told
    lengths = usable.long().cumprod(1).sum(1).tolist()
    for row, (tokens, length) in enumerate(zip(after.seen.tolist(), lengths, strict=True)):
        part = KeyValues(*(tuple(one[row : row + 1] for one in kind) for kind in after.memory))
        prefixes.keep(tokens[:length], part)


def write(memory: KeyValues, known: KeyValues, row: int) -> None:
    """Write one row's known beginning into a memory."""
    for whole, part in zip(
        (*memory.keys, *memory.values), (*known.keys, *known.values), strict=True
    ):
        whole[row, :, : part.shape[2]] = part[0]
