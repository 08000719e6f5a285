"""Where does a text stand behind the tokens that lead it? Found once, not at every step."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from unison.constrain.joint.stretch import Slot, Stretch, slots
from unison.constrain.machine import DEAD
from unison.constrain.tokens import TokenMachine

Nodes = Int64[ndarray, " _"]


class Lead(NamedTuple):
    """The slots of a stretch before its first open one.

    Attributes:
        tokens: What stands in them.
        nodes: The node before the first, and the one behind each; the last is negative if no text
            begins like that.
    """

    tokens: Int64[ndarray, " n"]
    nodes: Nodes

    @property
    def node(self) -> int:
        """The node behind all of them."""
        return int(self.nodes[-1])


def led(language: TokenMachine, stretch: Stretch, before: Lead | None) -> Lead:
    """Return the slots that lead a stretch.

    Args:
        language: Reads them.
        stretch: All slots; where none is open, none leads.
        before: Those of an earlier step, of the same row.
    """
    open_ = np.flatnonzero(stretch.token < 0)
    tokens = stretch.token[: open_[0] if len(open_) else 0]
    nodes = [2 * language.start]
    if before is not None:
        common = min(len(tokens), len(before.tokens))
        differ = np.flatnonzero(tokens[:common] != before.tokens[:common])
        nodes = before.nodes[: 1 + (int(differ[0]) if len(differ) else common)].tolist()
    if len(nodes) <= len(tokens):
        found = slots(stretch, language.vocabulary.nulls)
        for slot in found[len(nodes) - 1 : len(tokens)]:
            nodes.append(_behind(language, nodes[-1], slot))
    return Lead(tokens, np.array(nodes, np.int64))


def _behind(language: TokenMachine, node: int, slot: Slot) -> int:
    if node < 0:
        return DEAD
    state, ended = np.array([node >> 1], np.int32), node & 1
    if slot.null:
        if slot.final and not language.accepts(state)[0]:
            return DEAD
        ended = 1
    else:
        state = state[:0] if ended else language.follow(state, slot.token)
        if not len(state) or state[0] == DEAD:
            return DEAD
    return 2 * int(state[0]) + (0 if slot.forgets else ended)
