"""Scores of held-out text are right, carry honest errors, and do not depend on how they ran."""

import math
from itertools import product

import pytest
import tiny
import torch
from scipy import stats

import unison
from unison import files
from unison.data import Document, encode_split
from unison.evaluate import likelihood
from unison.evaluate.likelihood import Scored, interval, per_token, report, rescale, score
from unison.models import Transformer
from unison.process import Absorbing, Sequential, Uniform
from unison.types import Estimate

FALSE_ALARM = 1e-6


def scored(nats, counts, weights=None):
    rows = (nats, counts, [1.0] * len(nats) if weights is None else weights)
    return Scored(*(torch.tensor(row, dtype=torch.float64) for row in rows))


def constant(logits):
    """A network that answers the same everywhere, whatever it reads."""

    def network(x, sigma, valid=None):
        return logits.expand(*x.shape, -1)

    return network


def test_nats_per_token_is_a_ratio_with_the_error_of_a_ratio():
    # Rows of 4, 2 and 2 tokens: mean 16 / 8; residuals 10 - 8, 3 - 4, 3 - 4.
    found = per_token(scored([10.0, 3.0, 3.0], [4, 2, 2]))
    assert found.value == 2.0
    assert found.stderr == pytest.approx(math.sqrt((4 + 1 + 1) * 3 / 2) / 8, rel=1e-12)
    assert (found.n, found.unit) == (3, "nats/token")


def test_rows_that_agree_exactly_have_no_error():
    assert per_token(scored([6.0, 3.0], [4, 2])).stderr == 0


def test_what_only_the_weights_of_times_spread_is_no_error():
    # Every token costs 3 nats at every time; the weights 0.5 and 1.5 are fixed by the strata.
    assert per_token(scored([6.0, 18.0], [4, 4], [0.5, 1.5])) == (3.0, 0.0, 2, "nats/token")


def test_one_row_has_an_unknown_error_not_a_vanishing_one():
    found = per_token(scored([7.0], [4]))
    assert found.value == 1.75
    assert math.isnan(found.stderr)
    assert all(math.isnan(end) for end in interval(found))
    assert '"stderr": null' in files.to_json(found._asdict())


def test_units_are_nats_tokens_bytes_and_characters_and_nothing_else():
    # Four characters in six bytes and, with the end of the document, five tokens.
    tokenizer = tiny.train_tokenizer("char", ["añçé"])
    split = encode_split([Document("a", "añça")], tokenizer)
    assert (split.num_tokens, split.num_bytes, split.num_chars) == (5, 6, 4)
    found = report(scored([7.0, 3.0], [3, 2]), split)
    nats, stderr = 2.0, found["nats_per_token"].stderr
    bits = nats * 5 / math.log(2)
    assert found["bits_per_byte"].value == pytest.approx(bits / 6, rel=1e-12)
    assert found["bits_per_char"].value == pytest.approx(bits / 4, rel=1e-12)
    assert found["perplexity"].value == pytest.approx(math.exp(2), rel=1e-12)
    assert found["bits_per_byte"].stderr == pytest.approx(stderr * 5 / 6 / math.log(2), rel=1e-12)
    assert found["perplexity"].stderr == pytest.approx(stderr * math.exp(2), rel=1e-12)
    assert {name: e.unit for name, e in found.items()} == {
        "bits_per_byte": "bits/byte",
        "bits_per_char": "bits/char",
        "nats_per_token": "nats/token",
        "perplexity": "per token",
    }


def test_an_interval_reaches_the_95_percent_quantile_and_units_rescale_it():
    found = Estimate(10.0, 2.0, 50, "nats/token")
    low, high = interval(found)
    assert stats.norm.cdf((high - 10) / 2) == pytest.approx(0.975, abs=1e-9)
    assert 10 - low == high - 10
    assert rescale(found, 0.5, "x") == Estimate(5.0, 1.0, 50, "x")


def blocks_of(vocab, rows, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab, (rows, length), generator=generator)
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


@pytest.mark.law
@pytest.mark.parametrize("kind", [Absorbing, Uniform])
def test_a_model_that_knows_nothing_scores_log_v(kind, seed):
    # False alarms: 1e-6. The bias is stated: noise that is left at t = 1, times below t_min.
    vocab, blocks = 7, blocks_of(7, 4000, 3)
    found = per_token(score(kind(vocab), constant(torch.zeros(vocab)), blocks, seed=seed))
    reach = stats.norm.isf(FALSE_ALARM / 2) * found.stderr
    bias = 2e-3 * math.log(vocab) + 1e-3
    assert found.stderr < 0.06
    assert abs(found.value - math.log(vocab)) < reach + bias


def test_an_autoregressive_model_that_knows_nothing_scores_log_v_exactly():
    blocks = blocks_of(7, 5, 3)
    found = per_token(score(Sequential(7), constant(torch.zeros(7)), blocks))
    assert found.value == pytest.approx(math.log(7), rel=1e-6)
    assert found.stderr == pytest.approx(0, abs=1e-6)


def test_autoregressive_scores_are_those_of_a_law_over_all_texts():
    process, network = Sequential(3), Transformer(tiny.shape("ar", vocab_size=3, num_states=4))
    tiny.randomise(network.eval())
    texts = torch.tensor(list(product(range(3), repeat=4)))
    found = score(process, network, (texts, torch.ones_like(texts, dtype=torch.bool)))
    assert float((-found.nats).exp().sum()) == pytest.approx(1, abs=1e-5)
    # One text by hand: every token from its own prefix, nothing to its right.
    text, total = [2, 0, 1, 1], 0.0
    for i, token in enumerate(text):
        prefix = torch.tensor([[3, *text[:i]]])
        with torch.no_grad():
            logits = network(prefix, torch.zeros(1))[0, -1]
        total -= float(logits.log_softmax(-1)[token])
    row = texts.tolist().index(text)
    assert float(found.nats[row]) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("family", ["duo", "mdlm", "ar"])
def test_a_score_depends_on_the_seed_and_not_on_the_batch_size(family):
    made = tiny.model(family)
    tokens, valid = blocks_of(30, 11, 16)
    valid[-1, 5:] = False

    def ask(**settings):
        return score(made.process, made.network, (tokens, valid), passes=2, **settings).nats

    whole = ask(batch_size=11)
    for size in (1, 2, 5, 64):
        torch.testing.assert_close(ask(batch_size=size), whole, rtol=1e-6, atol=1e-5)
    if family != "ar":
        assert float((ask(seed=1) - whole).abs().max()) > 0.1


@pytest.mark.parametrize("family", ["duo", "mdlm", "ar"])
def test_padding_costs_nothing_and_counts_nothing(family):
    made = tiny.model(family)
    tokens, valid = blocks_of(30, 3, 16)
    valid[2, 5:] = False
    other = torch.where(valid, tokens, (tokens + 1) % 30)
    one, two = (score(made.process, made.network, (x, valid)) for x in (tokens, other))
    assert torch.equal(one.nats, two.nats)
    assert one.counts.tolist() == [16, 16, 5]


def test_more_passes_give_the_mean_of_single_ones_and_a_smaller_error():
    made = tiny.model("mdlm")
    blocks = blocks_of(30, 64, 16)
    one = per_token(score(made.process, made.network, blocks, passes=1))
    many = per_token(score(made.process, made.network, blocks, passes=16))
    assert many.stderr < one.stderr / 2
    assert many.n == one.n == 64


@pytest.mark.law
@pytest.mark.parametrize("kind", [Absorbing, Uniform])
def test_the_95_percent_interval_covers_the_truth_as_often_as_it_says(kind, seed):
    """Over 300 repeated scorings of fresh text by a network that always says the same.

    False alarms: at a true coverage of 0.93, one in a million. Power: a standard error 0.6 times
    too small (coverage 0.76) is caught 999 times in 1000. Uniform times cover 0.89 here.
    """
    vocab, rows, length, trials = 5, 128, 16, 300
    generator = torch.Generator().manual_seed(seed)
    source = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])
    logits = torch.tensor([0.4, 1.0, -0.3, 0.2, -1.0])
    process = kind(vocab)
    truth = truth_of(process, source, logits)
    covered = 0
    for trial in range(trials):
        tokens = torch.multinomial(source, rows * length, True, generator=generator)
        tokens = tokens.reshape(rows, length)
        blocks = tokens, torch.ones_like(tokens, dtype=torch.bool)
        found = per_token(score(process, constant(logits), blocks, seed=trial, batch_size=rows))
        low, high = interval(found)
        covered += low <= truth <= high
    below = stats.binomtest(covered, trials, 0.93, alternative="less").pvalue
    assert below > FALSE_ALARM, f"{covered} of {trials} intervals cover {truth:.4f}"


def truth_of(process, source, logits):
    """The expected bound, integrated over time and every noisy token."""
    t = 1e-3 + (1 - 1e-3) * (torch.arange(20_000).double() + 0.5) / 20_000
    alpha, dalpha = process.schedule.alpha(t), process.schedule.dalpha(t)
    log_p, vocab = logits.double().log_softmax(-1), len(source)
    if isinstance(process, Absorbing):
        return float((-dalpha).mean() * -(source.double() * log_p).sum())
    total = 0.0
    belief = vocab * alpha[:, None] * log_p.exp() + 1 - alpha[:, None]
    for clean, noisy in product(range(vocab), repeat=2):
        known = (1 - alpha[:, None]).expand(-1, vocab).clone()
        known[:, clean] += vocab * alpha
        r, hat = known / known[:, [noisy]], belief / belief[:, [noisy]]
        inside = (hat - r + r * (r / hat).log()).sum(-1) * -dalpha / (vocab * alpha)
        chance = (1 - alpha) / vocab + alpha * (clean == noisy)
        total += float(source[clean]) * float((chance * inside).mean())
    return total


@pytest.mark.parametrize("family", ["duo", "mdlm", "ar"])
def test_evaluating_a_text_reads_every_byte_of_it(family, tmp_path):
    text = tiny.corpus(tmp_path)
    made = tiny.model(family)
    found = unison.evaluate(made, [text], split="blank", passes=1)
    split = encode_split(
        [Document(str(i), part) for i, part in enumerate(tiny.TEXT.split("\n\n"))], made.tokenizer
    )
    assert found["nats_per_token"].n == math.ceil(split.num_tokens / 16)
    ratio = found["bits_per_byte"].value / found["nats_per_token"].value
    assert ratio == pytest.approx(split.num_tokens / split.num_bytes / math.log(2), rel=1e-12)


@pytest.mark.parametrize("setting", [{"passes": 0}, {"batch_size": 0}])
def test_settings_of_an_evaluation_are_checked(setting, tmp_path):
    name = next(iter(setting))
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        unison.evaluate(tiny.model(), [tiny.corpus(tmp_path)], **setting)


def test_blocks_can_be_limited_to_the_first():
    split = encode_split([Document("a", tiny.TEXT)], tiny.model().tokenizer)
    whole, _ = likelihood.split_blocks(split, 16)
    some, valid = likelihood.split_blocks(split, 16, 5)
    assert torch.equal(some, whole[:5])
    assert valid.shape == (5, 16)
