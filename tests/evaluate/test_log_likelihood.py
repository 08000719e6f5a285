"""Scores of named texts: what is scored given what, honestly ended, alone, or refused."""

import dataclasses
import math

import pytest
import tiny
import torch
from scipy import stats

import unison
from unison.data import train_tokenizer
from unison.evaluate import windows
from unison.evaluate.choosing import choose
from unison.evaluate.estimators import ESTIMATORS, AnyOrder, Asked, Exact, Nelbo
from unison.models import Transformer
from unison.types import Estimate

TEXTS = ["quick fox", "lazy", "jumps dogs"]


def model(family="mdlm", tokenizer=None, length=16, strength=2.0, **changes):
    """Random weights that depend on what they see."""
    made = tiny.model(family, length=length)
    config = dataclasses.replace(made.network.config, **changes)
    if tokenizer is not None:
        size = tokenizer.vocab_size
        process = type(made.process)(size)
        config = dataclasses.replace(config, vocab_size=size, num_states=process.num_states)
        made = dataclasses.replace(made, tokenizer=tokenizer, process=process)
    network = Transformer(config)
    tiny.randomise(network, strength, seed=1)
    return dataclasses.replace(made, network=network.eval())


def blocky(length=16, block=8):
    return model(length=length, attention="block_causal", block_length=block)


def chain(made, ids):
    """log p(x_i | x_<i) of every token of an autoregressive model, by its definition."""
    begin = torch.tensor([[made.process.bos_id, *ids[:-1]]])
    with torch.no_grad():
        log_p = made.network(begin, torch.zeros(1))[0].double().log_softmax(-1)
    return log_p[torch.arange(len(ids)), torch.tensor(ids)]


def test_the_chain_rule_scores_the_text_after_its_context():
    made = model("ar")
    (found,) = unison.log_likelihood(made, ["fox"], "quick ")
    ids = made.tokenizer.encode("quick fox")
    assert found.log_p.value == pytest.approx(float(chain(made, ids)[5:].sum()), abs=1e-4)
    assert found.log_p[1:] == (0.0, 1, "nats")
    assert (found.num_tokens, found.num_bytes, found.method) == (4, 3, "ar")
    assert (found.bound, found.evaluations, found.reached) == (False, 1, True)
    assert math.isnan(found.gain)
    assert found.interval == (found.log_p.value, found.log_p.value)
    assert found.bits_per_byte.value == pytest.approx(-found.log_p.value / math.log(2) / 3)


MODELS = {
    "ar": lambda: model("ar"),
    "mdlm": model,
    "timed": lambda: model(time="adaln"),
    "self-conditioned": lambda: model(self_conditioning=True),
    "block": blocky,
    "duo": lambda: model("duo"),
}


@pytest.mark.parametrize("family", MODELS)
def test_a_text_is_scored_the_same_in_any_company_and_order(family):
    """To the last bit, on a CPU; ``exact`` and any-order among them where they apply."""
    made = MODELS[family]()
    names = [name for name, kind in ESTIMATORS.items() if not kind().refusal(made)]
    for method in names:
        if method == "exact" and family in ("duo", "mdlm", "self-conditioned"):
            continue
        together = unison.log_likelihood(made, TEXTS, "the ", method=method)
        turned = unison.log_likelihood(made, TEXTS[::-1], ["the "] * 3, method=method)[::-1]
        alone = [unison.log_likelihood(made, [text], "the ", method=method)[0] for text in TEXTS]
        assert [s._replace(gain=0) for s in together] == [s._replace(gain=0) for s in turned]
        assert [s._replace(gain=0) for s in together] == [s._replace(gain=0) for s in alone]


def test_another_seed_is_other_noise_and_the_same_text():
    made = model()
    one, other = (unison.log_likelihood(made, ["quick fox"], seed=s)[0] for s in (0, 1))
    assert one.log_p.value != other.log_p.value
    assert abs(one.log_p.value - other.log_p.value) < 6 * math.hypot(
        one.log_p.stderr, other.log_p.stderr
    )


@pytest.mark.parametrize(
    ("family", "method"), [("ar", "ar"), ("mdlm", "exact"), ("block", "exact")]
)
def test_what_stands_before_matters_and_is_not_scored(family, method):
    """Exact values: of five tokens after none, after eight, and as a part of thirteen."""
    made = MODELS[family]()
    (alone,), (after,), (before,), (both,) = (
        unison.log_likelihood(made, [text], context, method=method)
        for text, context in (
            ("dogs.", ""),
            ("dogs.", "the lazy"),
            ("the lazy", ""),
            ("the lazydogs.", ""),
        )
    )
    assert alone.num_tokens == after.num_tokens == 5
    assert abs(alone.log_p.value - after.log_p.value) > 0.01
    gap = abs(before.log_p.value + after.log_p.value - both.log_p.value)
    assert gap > 0.01 if family == "mdlm" else gap < 1e-3  # left to right, parts add up


@pytest.mark.parametrize(
    ("family", "method"),
    [("ar", "ar"), ("mdlm", "nelbo"), ("timed", "nelbo"), ("block", "block"), ("duo", "nelbo")],
)
def test_auto_takes_the_way_the_model_was_trained(family, method):
    (found,) = unison.log_likelihood(MODELS[family](), ["fox"])
    assert found.method == method
    assert found.bound == (family != "ar")


def test_sampling_stops_at_the_wanted_precision_or_says_that_it_did_not():
    made = model()
    rough, fine, cut = (
        unison.log_likelihood(made, ["quick fox"], precision=p, max_draws=most)[0]
        for p, most in ((10.0, 4096), (0.05, 4096), (1e-6, 100))
    )
    assert rough.evaluations == 32
    assert fine.evaluations > 32
    low, high = fine.interval
    assert (high - low) / 2 <= 0.05 * math.log(2) * 9
    assert (rough.reached, fine.reached, cut.reached) == (True, True, False)
    assert 96 <= cut.evaluations <= 100


def test_more_draws_are_worth_their_number():
    made = model()
    some, many = (unison.log_likelihood(made, ["quick fox"], draws=n)[0] for n in (64, 1024))
    assert many.log_p.stderr < 0.4 * some.log_p.stderr
    assert abs(many.log_p.value - some.log_p.value) < 5 * some.log_p.stderr


@pytest.mark.parametrize("family", ["mdlm", "duo"])
def test_the_gain_is_one_for_plain_monte_carlo_and_large_by_default(family):
    made = model(family, strength=1.0)
    plain, ours = (
        unison.log_likelihood(made, ["quick fox"], draws=256, variance_reduction=reduced)[0]
        for reduced in (False, True)
    )
    assert plain.gain == pytest.approx(1.0, rel=1e-9)
    assert ours.gain > 10
    assert ours.log_p.stderr < plain.log_p.stderr / 3


def scores_by_hand(made, ids, longest):
    """Every token once, its window beginning half the length before."""
    total, scored, start = 0.0, 0, 0
    while scored < len(ids):
        end = min(start + longest, len(ids))
        total += float(chain(made, ids[start:end])[scored - start :].sum())
        scored, start = end, end - longest // 2
    return total


@pytest.mark.parametrize("letters", [16, 17, 30, 41])
def test_a_long_text_is_scored_in_windows_each_token_once(letters):
    made, text = model("ar"), (tiny.TEXT * 2)[:letters]
    (found,) = unison.log_likelihood(made, [text], rolling=True)
    ids = made.tokenizer.encode(text)
    assert found.num_tokens == len(ids)
    assert found.log_p.value == pytest.approx(scores_by_hand(made, ids, 16), abs=1e-3)


@pytest.mark.parametrize("block", [None, 4])
@pytest.mark.parametrize("context", [0, 5, 16, 23, 40])
def test_windows_cover_the_text_and_begin_where_blocks_do(context, block):
    made = model() if block is None else blocky(16, block)
    text = tiny.TEXT[: context + 37]
    rows = windows.rows_of(made, text[:context], text[context:], rolling=True, seed=0)
    before, after = windows.encoded(made, text[:context], text[context:])
    scored = [token for row in rows for token in row.clean.tolist()]
    assert scored == after
    place = len(before)
    for row in rows:
        assert len(row.tokens) <= 16
        start = place - row.first
        assert start % (block or 1) == 0
        assert (before + after)[start : start + len(row.tokens)] == row.tokens.tolist()
        assert row.first >= min(place, 8 - (block or 1))
        place += len(row.clean)
    assert len({row.name for row in rows}) == len(rows)


def test_windows_add_up_with_their_errors():
    made = model()
    text = tiny.TEXT[:40]
    (found,) = unison.log_likelihood(made, [text], rolling=True)
    parts = [
        Nelbo()(made, row, Asked()) for row in windows.rows_of(made, "", text, rolling=True, seed=0)
    ]
    assert found.evaluations == 32 * len(parts) == 32 * 4
    assert found.log_p.value == pytest.approx(sum(float(p.values.mean()) for p in parts))
    variance = sum(float(p.values.var()) / len(p.values) for p in parts)
    assert found.log_p.stderr == pytest.approx(math.sqrt(variance))
    (wide,) = unison.log_likelihood(made, [text], rolling=True, precision=0.2)
    low, high = wide.interval
    assert (high - low) / 2 <= 0.2 * math.log(2) * 40
    assert wide.reached


def test_spaces_at_the_end_of_the_context_go_to_the_text():
    made = model("ar")
    (late,) = unison.log_likelihood(made, ["fox"], "quick ")
    (early,) = unison.log_likelihood(made, [" fox"], "quick")
    assert late.log_p == early.log_p
    assert (late.num_tokens, late.num_bytes, early.num_bytes) == (4, 3, 4)


def test_tokens_merged_across_the_boundary_are_cut_where_the_context_ends():
    """As lm-evaluation-harness cuts: both encoded as one, less as many as the context has."""
    tokenizer = train_tokenizer("bpe", ["abc abc abc abcd " * 20], 261)
    made = model("ar", tokenizer)
    ids = tokenizer.encode
    pairs = [(a, b) for a in ("a", "ab", "x a", "abc") for b in ("b", "bc", "c abc", "d")]
    merged = 0
    for before, text in pairs:
        context, continuation = windows.encoded(made, before, text)
        whole = ids(before + text)
        assert context == ids(before)
        merged += whole[: len(context)] != context
        assert continuation == (whole[len(context) :] or ids(text))
    assert merged > 3


def test_exact_values_and_bounds_are_ordered():
    made = model()
    (bound,), (law,) = (
        unison.log_likelihood(made, ["a dog."], method=m) for m in (Exact(bound=True), "exact")
    )
    assert (bound.bound, law.bound) == (True, False)
    assert bound.log_p.value < law.log_p.value < 0
    assert bound.log_p.stderr == law.log_p.stderr == 0
    assert law.evaluations == 63
    (near,) = unison.log_likelihood(made, ["a dog."], method=AnyOrder(16), max_draws=8192)
    assert abs(near.log_p.value - law.log_p.value) < 1.0


REFUSED = {
    "unknown": ({"method": "nelb0"}, "unknown method 'nelb0'; did you mean 'nelbo'"),
    "chain rule": ({"method": "ar"}, "cannot be scored by method 'ar'.*it can by nelbo"),
    "blocks": ({"method": "block"}, "cannot be scored by method 'block'.*no blocks"),
    "precision": ({"precision": 0.0}, "precision must be above 0 bits per byte, got 0.0"),
    "draws": ({"draws": 0}, "draws must be at least 1 and at most max_draws=4096, got 0"),
    "max_draws": ({"draws": 8, "max_draws": 4}, "at most max_draws=4, got 8"),
    "contexts": ({"context": ["a", "b"]}, "1 texts and 2 contexts"),
    "orders": ({"method": "any-order", "max_draws": 32}, "any-order.*36 evaluations for 18"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_scored_is_said_in_one_sentence(case):
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        unison.log_likelihood(model(length=32), ["jumps over 3 lazy."], **settings)


def test_texts_that_cannot_be_scored_are_refused():
    made = model()
    with pytest.raises(ValueError, match="a text to score is empty"):
        unison.log_likelihood(made, ["fox", ""], "the")
    with pytest.raises(ValueError, match=r"17 tokens and the model reads 16.*rolling"):
        unison.log_likelihood(made, ["a" * 12], "quick")
    with pytest.raises(ValueError, match="does not know 'ß'"):
        unison.log_likelihood(made, ["fuß"])
    with pytest.raises(ValueError, match="texts must be a list"):
        unison.log_likelihood(made, "fox")


def test_models_name_what_they_can_be_scored_by():
    with pytest.raises(ValueError, match="undoes no noise; it can by ar or exact"):
        unison.log_likelihood(model("ar"), ["fox"], method="nelbo")
    with pytest.raises(ValueError, match=r"reads the time.*it can by nelbo or fixed-count"):
        unison.log_likelihood(model(time="adaln"), ["fox"], method="exact")
    with pytest.raises(ValueError, match="the process does not"):
        unison.log_likelihood(model("duo"), ["fox"], method="fixed-count")
    timed = model(time="adaln", attention="block_causal", block_length=4)
    with pytest.raises(ValueError, match="network reads one level"):
        unison.log_likelihood(timed, ["fox"], method="block")
    with pytest.raises(ValueError, match=r"'exact' would take .* evaluations"):
        unison.log_likelihood(model("duo"), ["lazy dogs"], method="exact")
    with pytest.raises(ValueError, match=r"5\.24e\+05 evaluations for 19 tokens"):
        unison.log_likelihood(model(length=32), ["jumps over 3 lazy d"], method="exact")


def test_settings_of_any_order_are_checked():
    with pytest.raises(ValueError, match="group must be at least 1, got 0"):
        AnyOrder(0)
    with pytest.raises(ValueError, match="group=2 needs whole orders"):
        AnyOrder(2, steps=4)


def test_progress_is_told_text_by_text():
    seen = []
    found = unison.log_likelihood(
        model("ar"), TEXTS, on_progress=lambda number, score: seen.append((number, score))
    )
    assert [number for number, _ in seen] == [0, 1, 2]
    assert [score.log_p for _, score in seen] == [score.log_p for score in found]


def test_the_best_choice_is_the_one_scored_highest():
    made = model("ar")
    choices = [" fox", " lazy dog", "."]
    found = choose(made, "quick", choices)
    alone = unison.log_likelihood(made, choices, "quick")
    assert [s.value for s in found.scores] == [s.log_p.value for s in alone]
    assert found.best == max(range(3), key=lambda i: alone[i].log_p.value)
    assert (found.probability, found.evaluations) == (1.0, 3)
    for unit, sizes in (("tokens", (4, 9, 1)), ("bytes", (4, 9, 1))):
        scaled = unison.choose(made, "quick", choices, normalise=unit)
        want = [s.log_p.value / size for s, size in zip(alone, sizes, strict=True)]
        assert [s.value for s in scaled.scores] == pytest.approx(want)
        assert scaled.scores[0].unit == f"nats/{unit[:-1]}"


def test_choices_of_one_length_share_their_noise():
    """The same text twice is a tie with no error in the difference; scored apart it has one."""
    made = model()
    twice = choose(made, "the ", ["lazy dogs", "lazy dogs", "foxes run"])
    assert twice.scores[0] == twice.scores[1]
    assert twice.scores[0].stderr > 0


def test_the_probability_that_the_best_is_best_counts_on_shared_noise():
    """Of two, by Student's law of their paired differences, not of their separate errors."""
    made = model()
    texts = [" lazy dog", " lazy doe"]
    rows = [windows.rows_of(made, "the", t, rolling=False, seed=0, shared=True)[0] for t in texts]
    a, b = (Nelbo()(made, row, Asked()).values for row in rows)
    found = choose(made, "the", texts, seed=0)
    gap = (a - b) * (1 if found.best == 0 else -1)
    paired, apart = (
        float(stats.t.cdf(float(gap.mean()) / (math.sqrt(float(v) / len(a))), len(a) - 1))
        for v in (gap.var(), a.var() + b.var())
    )
    assert found.probability == pytest.approx(paired, abs=0.015)
    assert abs(paired - apart) > 0.03


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"choices": ["a"]}, "at least two choices, got 1"),
        ({"normalise": "words"}, "normalise must be none, tokens, bytes, got 'words'"),
        ({"draws": 0}, "draws must be at least 1, got 0"),
        ({"choices": ["a", ""]}, "empty"),
    ],
)
def test_choices_that_cannot_be_compared_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        choose(model(), **{"context": "the", "choices": ["a", "b"], **settings})


def test_estimates_keep_their_unit():
    (found,) = unison.log_likelihood(model(), ["quick fox"])
    assert found.log_p.unit == "nats"
    assert found.bits_per_byte.unit == "bits/byte"
    assert found.bits_per_byte.stderr == pytest.approx(found.log_p.stderr / math.log(2) / 9)
    assert isinstance(found.log_p, Estimate)
