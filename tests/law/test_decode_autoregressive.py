"""Left-to-right decoding is the chain rule."""

from itertools import product

import numpy as np
import pytest
from laws import assert_law
from oracle import decoding as oracle

from unison.decode.autoregressive.left_to_right import LeftToRight
from unison.process import Sequential

VOCAB, LENGTH = 3, 3


def causal_tables(prefixes, seed):
    """A denoiser whose position i sees x_<i; garbage where a prefix is not decided."""
    table = oracle.random_tables(VOCAB + 1, VOCAB, LENGTH, seed + 1).clean.copy()
    for x in product(range(VOCAB + 1), repeat=LENGTH):
        for i in range(LENGTH):
            if VOCAB not in x[:i]:
                table[x][i] = prefixes[x[:i]]
    return oracle.Tables(table, table)


@pytest.mark.parametrize("given", [{}, {0: 1}, {1: 2}, {2: 0}, {0: 2, 2: 1}], ids=str)
def test_left_to_right_follows_the_chain_rule(given, seed, as_denoiser, write):
    rng = np.random.default_rng(seed)
    prefixes = {
        x: rng.dirichlet(np.full(VOCAB, 0.7))
        for n in range(LENGTH)
        for x in product(range(VOCAB), repeat=n)
    }
    denoise = as_denoiser(causal_tables(prefixes, seed))
    decoded = write(LeftToRight(), Sequential(VOCAB), denoise, given, LENGTH)
    law = oracle.left_to_right_law(prefixes, given, LENGTH)
    assert_law(map(tuple, decoded.tokens.tolist()), oracle.as_dict(law))
    assert (decoded.nfe == LENGTH - len(given)).all()
