"""Novelty and compression are what looking through the whole training text would find."""

import lzma
import math
import zlib

import numpy as np
import pytest

from unison.evaluate import novelty as room
from unison.evaluate.compression import compression_ratio, relative_compression
from unison.evaluate.novelty import novelty


def split(text, unit):
    return list(text) if unit == "chars" else text.split()


def brute(texts, training, unit, n):
    """Lacking n-grams and n-grams of each sample, looked up in a set of tuples."""
    held = set()
    for document in training:
        document = split(document, unit)
        held |= {tuple(document[i : i + n]) for i in range(len(document) - n + 1)}
    counts = []
    for text in texts:
        text = split(text, unit)
        grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
        counts.append((sum(gram not in held for gram in grams), len(grams)))
    return counts


def brute_longest(text, training, unit):
    return max(n for n in range(len(text) + 1) if n == 0 or any(
        lacking < grams for lacking, grams in brute([text], training, unit, n)
    ))  # fmt: skip


def random_texts(seed, count, length, alphabet="abc"):
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list(alphabet), draw.integers(0, length))) for _ in range(count)]


CASES = [
    (random_texts(0, 12, 30), random_texts(1, 5, 80), "chars"),
    (random_texts(2, 12, 40, "ab  "), random_texts(3, 4, 200, "ab  "), "words"),
    (["", "x"], ["abc", ""], "chars"),
    (["naïve 🙂🙂 \ud800", "🙂"], ["🙂🙂 \ud800!", "a naïve one"], "chars"),
    (random_texts(4, 6, 60, "aaab"), ["a" * 50, "b"], "chars"),
]


@pytest.mark.parametrize(("texts", "training", "unit"), CASES)
@pytest.mark.parametrize("block", [3, 1 << 22])
def test_every_number_equals_a_look_through_all_grams(monkeypatch, texts, training, unit, block):
    monkeypatch.setattr(room, "_BLOCK", block)
    got = novelty(texts, training, unit=unit, largest=4, span=3)
    for n in range(1, 5):
        counts = np.array(brute(texts, training, unit, n), dtype=float)
        lacking, grams = counts.sum(axis=0)
        if grams:
            assert got[f"novel_{n}"].value == pytest.approx(lacking / grams, abs=1e-12)
        else:
            assert math.isnan(got[f"novel_{n}"].value)
    longest = [brute_longest(text, training, unit) for text in texts]
    assert got["longest_copy"].value == pytest.approx(np.mean(longest))
    assert got["longest_copy"].stderr == pytest.approx(np.std(longest, ddof=1) / len(texts) ** 0.5)
    assert got["longest_copy_max"].value == max(longest)
    assert got["copied"].value == pytest.approx(np.mean(np.array(longest) >= 3))


def test_a_verbatim_sample_is_copied_whole_and_a_new_one_not_at_all():
    training = ["the quick brown fox jumps over the lazy dog " * 3]
    got = novelty(["quick brown fox jumps over the lazy dog the", "of mice and men"], training)
    assert got["novel_1"].value == pytest.approx(4 / 13)
    assert got["longest_copy"].value == pytest.approx(9 / 2)
    assert got["longest_copy_max"][0] == 9
    assert got["copied"].value == 0.5
    assert got["longest_copy"].unit == "words"


def test_no_span_crosses_from_one_document_to_the_next():
    assert novelty(["a b"], ["a", "b"])["novel_2"].value == 1
    assert novelty(["a b"], ["a b"])["novel_2"].value == 0
    assert novelty(["a", "b"], ["a b"])["longest_copy_max"].value == 1


def test_the_error_of_a_share_is_the_spread_of_repeated_experiments():
    draw, training = np.random.default_rng(0), ["a b"]

    def experiment():
        texts = [
            " ".join(draw.choice(["a", "x"], draw.integers(5, 30), p=(p, 1 - p)))
            for p in draw.random(80)
        ]
        return novelty(texts, training, largest=1)["novel_1"]

    estimates = [experiment() for _ in range(150)]
    claimed = np.mean([estimate.stderr for estimate in estimates])
    # A spread of 150 draws has a relative error of 6 %; five of them are allowed.
    assert np.std([estimate.value for estimate in estimates]) == pytest.approx(claimed, rel=0.3)


@pytest.mark.parametrize(
    ("texts", "training", "settings", "message"),
    [
        ([], ["a"], {}, "no samples"),
        (["a"], [], {}, "no training"),
        (["a"], [""], {}, "no training"),
        (["a"], ["a"], {"largest": 0}, "largest"),
        (["a"], ["a"], {"span": 0}, "span"),
    ],
)
def test_what_cannot_be_compared_is_refused(texts, training, settings, message):
    with pytest.raises(ValueError, match=message):
        novelty(texts, training, **settings)


def test_ratios_are_bytes_in_over_bytes_out():
    texts = random_texts(7, 30, 80)
    data = "\n".join(texts).encode()
    assert compression_ratio(texts).value == len(data) / len(lzma.compress(data))
    assert compression_ratio(texts, by="zlib").value == len(data) / len(zlib.compress(data, 9))


def test_the_error_of_a_ratio_leaves_out_a_tenth_of_the_texts_at_a_time():
    texts = random_texts(8, 33, 300)

    def ratio(some):
        data = "\n".join(some).encode()
        return len(data) / len(lzma.compress(data))

    left_out = [ratio([t for i, t in enumerate(texts) if i % 10 != g]) for g in range(10)]
    assert compression_ratio(texts).stderr == pytest.approx(math.sqrt(9 * np.var(left_out)))
    assert math.isnan(compression_ratio(texts[:1]).stderr)
    assert math.isnan(compression_ratio(["a", ""]).stderr)


def test_only_what_repeats_itself_compresses_better_than_the_reference():
    reference = random_texts(9, 400, 200, "abcdefgh ")
    alike, one = random_texts(10, 40, 200, "abcdefgh "), [reference[0] + "..."] * 40
    assert relative_compression(alike, reference).value == pytest.approx(1, abs=0.05)
    assert relative_compression(one, reference).value > 5
    data, cut = ("\n".join(some).encode() for some in (alike, reference))
    wanted = len(lzma.compress(cut[: len(data)])) / len(lzma.compress(data))
    assert relative_compression(alike, reference).value == pytest.approx(wanted)


def test_texts_that_cannot_be_compressed_are_refused():
    for call, message in (
        (lambda: compression_ratio(["", ""]), "empty"),
        (lambda: compression_ratio(["a"], by="gzip"), "lzma, zlib"),
        (lambda: relative_compression(["abc"], ["a"]), "longer reference"),
        (lambda: relative_compression(["abc"], []), "empty"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
