"""Texts someone wants most: whole models, written as ``generate`` writes, chosen by a reward."""

from dataclasses import replace

import pytest
import tiny
import torch

from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.revise import WINO
from unison.decode.select import Threshold
from unison.decode.temper import Temper
from unison.evaluate.judge import NGramJudge
from unison.evaluate.ngram import NGram
from unison.generation import Sampling
from unison.generation.ordering import Asked, ordered
from unison.generation.write import together
from unison.prob import rng
from unison.prob.rng import Key
from unison.search import SVDD, BestOf, Particles, Paths, ZeroOrder
from unison.search.rewards import Classified, Length, Likely, Near, Satisfied, reward_named
from unison.search.writing import searched

MODELS = {family: tiny.model(family, strength=0.5) for family in tiny.FAMILIES}
BLOCKS = Composed(steps=4, block_length=3, select=Threshold(0.3), temper=Temper(1.0))


def vowels(texts):
    return [float(sum(text.count(letter) for letter in "aeiou")) for text in texts]


@pytest.mark.parametrize("family", MODELS)
def test_a_candidate_is_what_generate_writes(family):
    model = MODELS[family]
    found = searched(model, "the ", reward=vowels, search=BestOf(1), new_tokens=7, num=3, seed=5)
    order = ordered(model, Asked("the ", new_tokens=7, num=3, seed=5), Sampling())
    seed = rng.derived(rng.derived(order.key.seed, 0), 0)
    written = list(together(replace(order, key=Key(seed))))
    assert [one.tokens for one in found] == [one.tokens for one in written]
    assert [one.text for one in found] == [one.text for one in written]
    assert [one.nfe for one in found] == [one.nfe for one in written]


@pytest.mark.parametrize(
    ("family", "search", "strategy"),
    [
        ("mdlm", SVDD(3, 0.5), None),
        ("mdlm", SVDD(3), BLOCKS),
        ("mdlm", Paths(2, 2), "first_hitting"),
        ("duo", Particles(3), None),
        ("duo", ZeroOrder(2, 2), None),
        ("ar", BestOf(3), None),
    ],
)
def test_a_text_is_the_same_alone_and_in_any_company(family, search, strategy):
    model, prompts = MODELS[family], ["the quick", "", "fox "]
    how = {"reward": vowels, "search": search, "new_tokens": 5, "strategy": strategy}
    whole = searched(model, prompts, num=2, batch_size=4, **how)
    for number, prompt in enumerate(prompts):
        mine = searched(model, prompt, num=1, **how)
        assert [replace(one, prompt=number) for one in mine] == whole[2 * number : 2 * number + 1]
        assert mine[0].reward == vowels([mine[0].text])[0]
        assert mine[0].text.startswith(prompt)


@pytest.mark.parametrize("strategy", [Ancestral(5), BLOCKS])
def test_searching_finds_what_is_looked_for(strategy):
    model = MODELS["mdlm"]
    means = []
    for search in (BestOf(1), BestOf(6), SVDD(6)):
        found = searched(model, reward=vowels, search=search, length=10, num=8, strategy=strategy)
        means.append(sum(one.reward for one in found) / 8)
    assert means[0] + 0.5 < means[1]
    assert means[0] + 0.5 < means[2]


def test_guidance_asks_twice_and_is_counted():
    found = searched(
        MODELS["mdlm"], "the ", reward=vowels, search="best_of:n=2", new_tokens=4, cfg=1.0, steps=2
    )
    assert found[0].nfe % 2 == 0
    assert 4 <= found[0].nfe <= 8


def test_what_cannot_be_searched_is_refused():
    model = MODELS["mdlm"]
    for settings, message in (
        ({"search": "zero_order"}, "zero-order search moves the noise"),
        ({"search": "bestof"}, "unknown search 'bestof'; did you mean 'best_of'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"reward": lambda texts: [1.0]}, "the reward was asked about 8 candidates"),
        ({"strategy": "ancestrall"}, "unknown strategy"),
    ):
        with pytest.raises(ValueError, match=message):
            searched(model, **{"reward": vowels, "new_tokens": 3, **settings})
    with pytest.raises(ValueError, match="no belief about the rest of a text"):
        searched(MODELS["ar"], reward=vowels, search="svdd", new_tokens=3)
    shadows = Composed(steps=3, revise=WINO(), temper=Temper(1.0))
    with pytest.raises(ValueError, match="choose another revision"):
        searched(model, reward=vowels, search="svdd", new_tokens=3, strategy=shadows)


def test_rewards_of_texts():
    judge = NGramJudge(NGram.fit(["abab" * 30], order=2))
    likely, unlikely = Likely(judge)(["abab", "zzzz"])
    assert likely > unlikely
    nats, count = judge.nats(["abab"])[0]
    assert likely == -nats / count
    assert Likely(judge, per_token=False)(["abab"]) == [-nats]
    assert Likely(judge)([""]) == [0.0]
    assert Satisfied(("[0-9]", "^a", "b$"))(["a1b", "xb", "xx"]) == [3.0, 1.0, 0.0]
    assert Length(5)(["abc", "abcde", "abcdefg"]) == [-2.0, 0.0, -2.0]
    with pytest.raises(ValueError, match="no regular expression"):
        Satisfied(("(",))
    with pytest.raises(ValueError, match="at least one condition"):
        Satisfied(())


def test_rewards_of_events():
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    assert Near(torch.tensor([1.0, 0.0]))(x).tolist() == [-2.0, -0.5]
    with pytest.raises(ValueError, match="must be alike"):
        Near(torch.zeros(3))(x)
    wanted = Classified(lambda x: torch.stack([x[:, 0], x[:, 1]], 1), 1)(x)
    assert torch.allclose(wanted, torch.tensor([-0.3132617, -0.6931472]))
    with pytest.raises(ValueError, match="classes 0 to 1, got label 2"):
        Classified(lambda x: x, 2)(x)


def test_a_reward_of_ones_own_is_found_by_its_path():
    assert reward_named("os.path:getsize") is __import__("os").path.getsize
    for path, message in (
        ("nowhere", "named package.module:function"),
        ("no_such_module:f", "no module 'no_such_module'"),
        ("os.path:sep", "has no function 'sep'"),
    ):
        with pytest.raises(ValueError, match=message):
            reward_named(path)
