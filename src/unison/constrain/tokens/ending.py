"""How many tokens are left at least? Distances to the end of a text, and texts that need them."""

import numpy as np
from jaxtyping import Bool, Int32, Int64
from numpy import ndarray

from unison.constrain.tokens.ragged import spans
from unison.constrain.vocabulary import Trie

UNREACHABLE = 1 << 30  # no number of tokens ends the text


def distances(
    offset: Int64[ndarray, " S_and_one"], target: Int32[ndarray, " E"], ends: Bool[ndarray, " S"]
) -> Int32[ndarray, " S"]:
    """Return the fewest edges from each state to one that ends: breadth first, backwards."""
    size = len(ends)
    source = np.repeat(np.arange(size), np.diff(offset))
    into = source[np.argsort(target, kind="stable")]  # where the edges into each state come from
    begin = np.concatenate(([0], np.bincount(target, minlength=size).cumsum()))
    distance = np.full(size, UNREACHABLE, np.int32)
    layer, far = np.flatnonzero(ends), 0
    while len(layer):
        distance[layer] = far
        before = into[spans(begin[layer], begin[layer + 1] - begin[layer])]
        layer = np.unique(before[distance[before] == UNREACHABLE])
        far += 1
    return distance


def spell(trie: Trie, text: bytes) -> list[int] | None:
    """Return the fewest tokens that spell a text, ``None`` if none do.

    The rest of the answer after any of its tokens is the answer for the rest of the text.
    """
    size = len(text)
    fewest = [UNREACHABLE] * size + [0]
    best = [(0, 0)] * size  # a first token, and where it ends
    for i in range(size - 1, -1, -1):
        node = 0
        for j in range(i, size):
            step = trie.steps.get(256 * node + text[j])
            if step is None:
                break
            node = step
            if trie.first_token[node] >= 0 and fewest[j + 1] + 1 < fewest[i]:
                fewest[i] = fewest[j + 1] + 1
                best[i] = trie.first_token[node], j + 1
    if fewest[0] >= UNREACHABLE:
        return None
    tokens, i = [], 0
    while i < size:
        token, i = best[i]
        tokens.append(token)
    return tokens


def unspelt(trie: Trie, spellings: tuple[bytes | None, ...], text: bytes) -> list[str]:
    """Return the characters of a text that no token holds and no tokens spell, each once."""
    joined = b"\xff".join(said for said in spellings if said)  # no UTF-8 text holds this byte
    characters = dict.fromkeys(text.decode("utf-8"))
    return [
        char
        for char in characters
        if char.encode() not in joined and spell(trie, char.encode()) is None
    ]
