"""What told numbers give away of a prompt, against closed forms and brute force."""

import itertools
import math
from collections import defaultdict
from functools import cache, partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unison.serve.leaks import OFF, Knobs, floored, floored_one, told
from unison.serve.leaks.attacker import leaks
from unison.serve.leaks.talk import drawn, listed
from unison.serve.leaks.toy import Toy, following

LAW = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]], dtype=torch.float64)
SMALL = Toy(vocab=4, prompt=2, width=2, strength=2.0)


def of_first(law):
    """A model whose tokens follow a law that the first token of the prompt names."""
    return lambda tokens: law.log()[tokens[:, 0]]


def said_of(law, turns):
    prompts = torch.arange(len(law))[:, None]
    return listed(of_first(law), prompts, turns), prompts


def said_by(toy, turns):
    return listed(partial(following, toy.network()), toy.prompts, turns)


def test_numbers_are_rounded_down_to_their_decimals():
    numbers = torch.tensor([-0.12345, -2.0, -0.0001, 0.0, -math.inf], dtype=torch.float64)
    assert floored(numbers, 3).tolist() == [-0.124, -2.0, -0.001, 0.0, -math.inf]
    assert floored(numbers, 0).tolist() == [-1.0, -2.0, -1.0, 0.0, -math.inf]
    assert floored(numbers, None).tolist() == numbers.tolist()
    assert floored_one(-0.12345, 3) == -0.124


@settings(deadline=None, max_examples=100)
@given(st.floats(-1e3, 0), st.integers(0, 12), st.integers(0, 12))
def test_fewer_digits_are_a_function_of_more(number, one, other):
    few, many = sorted((one, other))
    fine, coarse = (round(floored_one(number, digits) * 10**digits) for digits in (many, few))
    assert coarse == fine // 10 ** (many - few)
    assert floored_one(number, few) <= number + 1e-9


def test_the_nearest_decimals_would_not_be_nested():
    """Why numbers are rounded down: two digits of the nearest are no function of three."""
    low, high = -0.1246, -0.1254
    assert round(low, 3) == round(high, 3)
    assert round(low, 2) != round(high, 2)


def test_of_equals_the_first_tokens_are_told():
    logp = torch.tensor([-2.0, -1.01, -3.0, -1.04, -1.02], dtype=torch.float64)
    assert told(logp, 2, None).tokens.tolist() == [1, 4]
    assert told(logp, 2, 1).tokens.tolist() == [1, 3]  # all three are -1.1
    assert told(logp, 2, 1).logp.tolist() == [-1.1, -1.1]
    assert told(logp, None, 1).tokens.tolist() == [1, 3, 4, 0, 2]
    assert told(logp, 9, None).tokens.tolist() == [1, 4, 3, 0, 2]
    assert told(logp, 0, None).tokens.shape == (0,)


def test_what_is_told_depends_on_the_rounded_numbers_alone():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(50, 12, generator=generator).double().log_softmax(-1)
    cells = floored(one, 1)
    other = cells + 0.09 * torch.rand(50, 12, generator=generator).double() + 1e-6
    assert (floored(other, 1) == cells).all()
    for top_k in (1, 5, None):
        first, second = told(one, top_k, 1), told(other, top_k, 1)
        assert (first.tokens == second.tokens).all()
        assert (first.logp == second.logp).all()


def test_fewer_tokens_are_the_beginning_of_more():
    generator = torch.Generator().manual_seed(1)
    logp = torch.randn(50, 12, generator=generator).double().log_softmax(-1)
    for digits in (0, 1, None):
        whole = told(logp, None, digits)
        for top_k in range(1, 12):
            some = told(logp, top_k, digits)
            assert (some.tokens == whole.tokens[:, :top_k]).all()
            assert (some.logp == whole.logp[:, :top_k]).all()


@pytest.mark.parametrize("knobs", [{"top_k": -1, "digits": None}, {"top_k": None, "digits": -1}])
def test_negative_knobs_are_refused(knobs):
    with pytest.raises(ValueError, match="at least 0"):
        told(torch.zeros(3), **knobs)


def test_the_best_guess_from_a_text_has_its_closed_form():
    said, prompts = said_of(LAW, 2)
    one, two = leaks(said, OFF, prompts)
    assert one.prompts.value == pytest.approx((0.7 + 0.6 + 0.6) / 3)
    pairs = itertools.product(range(3), repeat=2)
    expected = sum(max(float(law[a] * law[b]) for law in LAW) for a, b in pairs) / 3
    assert two.prompts.value == pytest.approx(expected)
    assert (one.prompts.stderr, two.prompts.stderr) == (0, 0)
    assert two.tokens == pytest.approx(two.prompts.value)  # a prompt is one token


def test_what_a_text_tells_in_bits_has_its_closed_form():
    said, prompts = said_of(LAW, 1)
    mean = LAW.mean(0)
    expected = float((LAW * (LAW / mean).log2()).sum() / 3)
    assert leaks(said, OFF, prompts)[0].bits == pytest.approx(expected)


def test_exact_numbers_name_the_prompt_and_all_its_bits():
    said, prompts = said_of(LAW, 1)
    leak = leaks(said, Knobs(), prompts)[0]
    assert leak.prompts.value == pytest.approx(1)
    assert leak.bits == pytest.approx(math.log2(3))


def test_the_own_number_tells_prompts_apart_where_it_differs():
    """The second token is as likely after prompts 0 and 2, so it leaves a guess between them."""
    said, prompts = said_of(LAW, 1)
    leak = leaks(said, Knobs(0), prompts)[0]
    assert leak.prompts.value == pytest.approx(1 - 0.2 / 3)
    assert leak.bits == pytest.approx(math.log2(3) - 2 * 0.2 / 3)


def test_rounding_joins_prompts_whose_numbers_fall_together():
    """ln 0.7 .. ln 0.1 are -0.36, -1.61, -2.30; a whole digit leaves -1, -2, -3; -3, -1, -2;
    -2, -2, -1: still all different, so the likeliest token alone is told."""
    said, prompts = said_of(LAW, 1)
    assert leaks(said, Knobs(None, 0), prompts)[0].prompts.value == pytest.approx(1)
    near = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5]], dtype=torch.float64)
    said, prompts = said_of(near, 1)
    # floors: (-1, -2, -2), (-1, -2, -2), (-2, -2, -1): 0 and 1 are told apart by the text alone
    leak = leaks(said, Knobs(None, 0), prompts)[0]
    assert leak.prompts.value == pytest.approx((1 + 0.5 + 0.3 + 0.3) / 3)


@cache
def law_after(toy, *ids):
    return following(toy.network(), torch.tensor([ids]))[0].double()


def brute(toy, knobs, turns):
    """Recovery of prompts and tokens by a dictionary of all that can be heard."""
    heard = defaultdict(lambda: defaultdict(float))
    share = 1 / len(toy.prompts)
    for prompt in toy.prompts.tolist():
        for text in itertools.product(range(toy.vocab), repeat=turns):
            mass, seen = share, []
            for n, token in enumerate(text):
                logp = law_after(toy, *prompt, *text[:n])
                mass *= float(logp[token].exp())
                if not knobs.off:
                    tokens, numbers = told(logp, knobs.top_k, knobs.digits)
                    own = floored_one(float(logp[token]), knobs.digits) if knobs.own else None
                    seen.append((tuple(tokens.tolist()), tuple(numbers.tolist()), own))
            heard[(text, tuple(seen))][tuple(prompt)] += mass
    prompts = sum(max(by.values()) for by in heard.values())
    tokens = 0.0
    for place in range(toy.prompt):
        for by in heard.values():
            of = defaultdict(float)
            for prompt, mass in by.items():
                of[prompt[place]] += mass
            tokens += max(of.values()) / toy.prompt
    return prompts, tokens


@pytest.mark.parametrize(
    "knobs", [OFF, Knobs(0, 0), Knobs(1, 0, own=False), Knobs(2, 0), Knobs(None, 0)], ids=str
)
def test_the_best_attacker_does_as_brute_force_does(knobs):
    leak = leaks(said_by(SMALL, 2), knobs, SMALL.prompts)[-1]
    prompts, tokens = brute(SMALL, knobs, 2)
    assert leak.prompts.value == pytest.approx(prompts, abs=1e-6)
    assert leak.tokens == pytest.approx(tokens, abs=1e-6)


CHAINS = [
    [Knobs(), *(Knobs(None, digits) for digits in (4, 3, 2, 1, 0))],
    [Knobs(0), *(Knobs(0, digits) for digits in (4, 3, 2, 1, 0)), OFF],
    *([*(Knobs(top_k, digits) for top_k in (None, 5, 1, 0)), OFF] for digits in (None, 2, 1, 0)),
]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: f"{chain[0]} down to {chain[-1]}")
def test_turning_a_knob_down_never_tells_more(chain):
    """The data processing inequality, exactly: each setting is a function of the one before."""
    said = said_by(Toy(vocab=6, prompt=2, width=4), 2)
    prompts = Toy(vocab=6, prompt=2, width=4).prompts
    by_knobs = [leaks(said, knobs, prompts) for knobs in chain]
    for more, less in itertools.pairwise(by_knobs):
        for a, b in zip(more, less, strict=True):
            assert b.prompts.value <= a.prompts.value + 1e-12
            assert b.tokens <= a.tokens + 1e-12
            assert b.bits <= a.bits + 1e-12
    first, last = by_knobs[0][-1], by_knobs[-1][-1]
    assert last.prompts.value < first.prompts.value


def test_hearing_more_tokens_never_tells_less():
    said = said_by(SMALL, 3)
    for knobs in (OFF, Knobs(0, 0), Knobs(1, 1)):
        heard = leaks(said, knobs, SMALL.prompts)
        for before, after in itertools.pairwise(heard):
            assert after.prompts.value >= before.prompts.value - 1e-12
            assert after.bits >= before.bits - 1e-12


def test_drawn_conversations_estimate_what_listed_ones_say():
    toy = SMALL

    def beliefs(x, said):
        prompt = toy.prompts[x].tolist()
        return torch.stack([law_after(toy, *prompt, *said[:n]) for n in range(len(said) + 1)])

    some = drawn(beliefs, len(toy.prompts), 2, 12, seed=4)
    whole = said_by(toy, 2)
    for knobs in (OFF, Knobs(1, 0)):
        found, exact = leaks(some, knobs)[-1], leaks(whole, knobs)[-1]
        assert 0 < found.prompts.stderr < 0.05
        off = abs(found.prompts.value - exact.prompts.value)
        assert off < 4.9 * found.prompts.stderr  # false alarms: 1e-6
        assert found.tokens is None
    assert leaks(some, Knobs())[-1].prompts.value == pytest.approx(1)


def test_the_toys_weights_are_those_of_its_seed():
    assert torch.equal(SMALL.network().embed.weight, SMALL.network().embed.weight)
    other = Toy(vocab=4, prompt=2, width=2, strength=2.0, seed=1)
    assert not torch.equal(SMALL.network().embed.weight, other.network().embed.weight)


def test_a_toy_of_no_tokens_is_refused():
    with pytest.raises(ValueError, match="at least 2 tokens"):
        Toy(vocab=1)
