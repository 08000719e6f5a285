"""A left-to-right row that stops at its end says what it would have said up to there."""

from collections import defaultdict
from itertools import product

import numpy as np
from laws import assert_law
from oracle import decoding as oracle

from unison.decode.autoregressive.left_to_right import LeftToRight
from unison.process import Sequential

VOCAB, LENGTH, END = 3, 3, 1
STOPPING = LeftToRight(eos_ids=(END,), stop_at_end=True)


def causal(seed):
    """A law of every next token, and the denoiser that knows it; garbage behind open positions."""
    rng = np.random.default_rng(seed)
    prefixes = {
        x: rng.dirichlet(np.full(VOCAB, 0.7))
        for n in range(LENGTH)
        for x in product(range(VOCAB), repeat=n)
    }
    table = oracle.random_tables(VOCAB + 1, VOCAB, LENGTH, seed + 1).clean.copy()
    for x in product(range(VOCAB + 1), repeat=LENGTH):
        for i in range(LENGTH):
            if VOCAB not in x[:i]:
                table[x][i] = prefixes[x[:i]]
    return prefixes, oracle.Tables(table, table)


def ended(text, first=0):
    """The text up to its end, and that end again."""
    at = text.index(END, first) if END in text[first:] else LENGTH
    return text[:at] + (END,) * (LENGTH - at)


def test_the_law_is_that_of_the_whole_text_cut_at_its_end(seed, as_denoiser, write):
    prefixes, tables = causal(seed)
    decoded = write(STOPPING, Sequential(VOCAB), as_denoiser(tables), {}, LENGTH)
    law = defaultdict(float)
    for text, mass in oracle.as_dict(oracle.left_to_right_law(prefixes, {}, LENGTH)).items():
        law[ended(tuple(text))] += mass
    texts = [tuple(row) for row in decoded.tokens.tolist()]
    assert_law(texts, law)
    steps = [min(text.index(END) + 1, LENGTH) if END in text else LENGTH for text in texts]
    assert decoded.nfe.tolist() == steps


def test_an_end_before_given_text_does_not_stop_the_row(seed, as_denoiser, write):
    prefixes, tables = causal(seed)
    denoise = as_denoiser(tables)
    decoded = write(STOPPING, Sequential(VOCAB), denoise, {2: 0}, LENGTH)
    law = oracle.left_to_right_law(prefixes, {2: 0}, LENGTH)
    assert_law(map(tuple, decoded.tokens.tolist()), oracle.as_dict(law))
    assert (decoded.nfe == LENGTH - 1).all()
