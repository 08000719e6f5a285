"""The byte n-gram is a normalised law, and the one that its recursion defines."""

import math
import random
from collections import Counter
from pydoc_data.topics import topics

import numpy as np
import pytest

from unison.evaluate.ngram import END, SYMBOLS, NGram

START = 257
TEXTS = ["abab b", "ba ab a", "", "bbb abba ab", "a"]


def symbols_of(text):
    return [*text.encode(), END]


def brute_counts(texts, order):
    counts = [Counter() for _ in range(order)]
    for text in texts:
        padded = [START] * (order - 1) + symbols_of(text)
        for i in range(order - 1, len(padded)):
            for k in range(order):
                counts[k][(*padded[i - k : i], padded[i])] += 1
    return counts


def brute_probability(counts, history, symbol):
    p = 1 / SYMBOLS
    for k, level in enumerate(counts):
        context = tuple(history[len(history) - k :])
        followers = {gram[-1]: c for gram, c in level.items() if gram[:-1] == context}
        if followers:
            c, total, kinds = followers.get(symbol, 0), sum(followers.values()), len(followers)
            p = (c + kinds * p) / (total + kinds)
    return p


def brute_nats(texts, order, text, end):
    counts = brute_counts(texts, order)
    padded = [START] * (order - 1) + symbols_of(text)
    stop = len(padded) if end else len(padded) - 1
    return -sum(
        math.log(brute_probability(counts, padded[:i], padded[i])) for i in range(order - 1, stop)
    )


@pytest.mark.parametrize("order", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("end", [True, False])
def test_nats_are_those_of_the_recursion_written_with_dictionaries(order, end):
    model = NGram.fit(TEXTS, order)
    for text in ["abba", "b", "", "aab bab zab", "é"]:
        expected = brute_nats(TEXTS, order, text, end)
        assert model.nats(text, end=end) == pytest.approx(expected, abs=1e-12)


def test_every_context_has_a_distribution_over_bytes_and_the_end_that_sums_to_one():
    draw = random.Random(3)
    model = NGram.fit(list(topics.values())[:20])
    for _ in range(50):
        context = bytes(draw.choice([draw.randrange(256), *b"the and "]) for _ in range(7))
        distribution = model.distribution(context[: draw.randrange(8)])
        assert distribution.shape == (SYMBOLS,)
        assert (distribution > 0).all()
        assert abs(distribution.sum() - 1) < 1e-12


def test_nats_multiply_up_the_distributions_of_the_chain_rule():
    model = NGram.fit(TEXTS, 4)
    symbols = symbols_of("ab ba")
    steps = [model.distribution(bytes(symbols[:i]))[symbol] for i, symbol in enumerate(symbols)]
    assert model.nats("ab ba") == pytest.approx(-np.log(steps).sum(), abs=1e-12)


def test_a_longer_memory_reads_held_out_english_better():
    documents = [topics[name] for name in sorted(topics)]
    train, held_out = documents[0::4], documents[1:40:4]
    nats = [sum(NGram.fit(train, order).nats(text) for text in held_out) for order in (1, 2, 3, 6)]
    assert nats == sorted(nats, reverse=True)
    size = sum(len(symbols_of(text)) for text in held_out)
    assert nats[-1] / size / math.log(2) < 2.8
    assert nats[0] / size / math.log(2) > 4


def test_texts_are_scored_alike_alone_and_together_and_counted_in_symbols():
    model = NGram.fit(TEXTS, 3)
    texts = ["abba", "", "ab ab", "é"]
    together = model.score(texts)
    assert [count for _, count in together] == [5, 1, 6, 3]
    for (nats, _), text in zip(together, texts, strict=True):
        assert nats == pytest.approx(model.nats(text), abs=1e-12)
    assert [count for _, count in model.score(texts, end=False)] == [4, 0, 5, 2]
    assert model.score(["", ""], end=False) == [(0.0, 0), (0.0, 0)]
    assert model.score([]) == []


@pytest.mark.parametrize(("texts", "order"), [(TEXTS, 0), ([], 3), (["", ""], 3)])
def test_a_model_without_order_or_text_is_refused(texts, order):
    with pytest.raises(ValueError, match="n-gram"):
        NGram.fit(texts, order)
