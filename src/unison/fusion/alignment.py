"""Which token of the sharer's says what a token of the receiver's says?"""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from unison.data import Tokenizer

Pick = Literal["first", "longest"]
NONE = -1


def alignment(
    receiver: Tokenizer, sharer: Tokenizer, states: int, pick: Pick = "longest"
) -> Int[Tensor, " S"] | None:
    """Return the sharer's token for each of the receiver's, or ``None`` where they are the same.

    A token is decoded, encoded by the other tokenizer, and one of the pieces stands for it: both
    models then read as many tokens (Cache-to-Cache; Fu et al., 2025, arXiv:2510.03215). Special
    tokens go with those of the same name, the end of document and what stands for unknown letters
    with the other's.

    Args:
        receiver: Whose tokens are given.
        sharer: Whose tokens are wanted.
        states: Rows of the receiver's embedding; those beyond its tokens have no counterpart.
        pick: The first of several pieces, or the one with most letters.

    Returns:
        A token for each, ``NONE`` where there is no counterpart: text that is no whole letter, or
        special tokens the other does not have.
    """
    if receiver.fingerprint == sharer.fingerprint:
        return None
    table = torch.full((max(states, receiver.vocab_size),), NONE)
    ids = range(receiver.vocab_size)
    texts = [receiver.decode([token]) for token in ids]
    for token, pieces in zip(ids, sharer.encode_batch(texts), strict=True):
        if token == receiver.eos_id:
            table[token] = sharer.eos_id
        elif token == receiver.unk_id:
            table[token] = NONE if sharer.unk_id is None else sharer.unk_id
        elif not texts[token]:
            named = sharer.id_of(receiver.decode([token], show_special=True))
            table[token] = NONE if named is None else named
        elif pieces and "\N{REPLACEMENT CHARACTER}" not in texts[token]:
            table[token] = _picked(pieces, sharer, pick)
    return table


def _picked(pieces: list[int], sharer: Tokenizer, pick: Pick) -> int:
    if pick == "first":
        return pieces[0]
    return max(pieces, key=lambda piece: len(sharer.decode([piece])))
