"""Truncations of the model's own law, against their definitions written out."""

import math

import numpy as np
import pytest
import torch
from speculating import TableDrafter, random_law

from unison.prob import truncation
from unison.speculation import Speculation, Table, prove
from unison.speculation.builders.chain import Chain
from unison.speculation.policies.plain import Plain
from unison.speculation.proof import own_law
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.verifiers.token import Token

V = 6


def laws(count: int):
    draw = np.random.default_rng(5)
    return [draw.dirichlet(np.full(V, 0.6)) for _ in range(count)]


def renormalised(law, kept):
    mass = [p if i in kept else 0.0 for i, p in enumerate(law)]
    return np.array(mass) / sum(mass)


def min_p(law, p):
    return renormalised(law, {i for i, one in enumerate(law) if one >= p * max(law)})


def typical(law, mass):
    entropy = -sum(p * math.log(p) for p in law if p > 0)
    surprise = [abs(-math.log(p) - entropy) if p > 0 else math.inf for p in law]
    kept, total = set(), 0.0
    for token in sorted(range(len(law)), key=lambda i: (surprise[i], i)):
        if total < mass:
            kept.add(token)
            total += law[token]
    return renormalised(law, kept)


@pytest.mark.parametrize("amount", [0.05, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("name", ["min_p", "typical"])
def test_a_truncation_keeps_what_its_definition_keeps(name: str, amount: float):
    for law in laws(50):
        logp = torch.tensor(law).log()[None]
        found = getattr(truncation, name)(logp, amount)[0].exp().numpy()
        assert np.allclose(found, globals()[name](law, amount), atol=1e-12)


def test_tokens_without_mass_stay_without():
    logp = torch.tensor([[0.5, 0.0, 0.3, 0.2]], dtype=torch.float64).log()
    for kept in (truncation.typical(logp, 0.9), truncation.min_p(logp, 0.1)):
        assert float(kept[0, 1]) == -math.inf
        assert bool(torch.isfinite(kept[0, [0, 2, 3]]).all())


def test_the_most_typical_token_need_not_be_the_most_probable():
    law = [0.4] + [0.1] * 6
    found = truncation.typical(torch.tensor([law], dtype=torch.float64).log(), 0.05)[0].exp()
    assert found.tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_what_is_set_is_applied_in_the_order_it_is_listed():
    law = random_law(1, V)
    plain = Plain(0.7, top_k=5, top_p=0.95, min_p=0.08, typical=0.8)
    want = np.array(law(())) ** (1 / 0.7)
    want = want / want.sum()
    want = renormalised(want, set(np.argsort(-want)[:5].tolist()))
    order = np.argsort(-want)
    before = np.cumsum(want[order]) - want[order]
    want = renormalised(want, set(order[before < 0.95].tolist()))
    want = typical(min_p(want, 0.08), 0.8)
    found = own_law(plain, Table(law, V), [], 1)
    assert np.allclose([found.get((i,), 0.0) for i in range(V)], want, atol=1e-12)


def test_speculation_keeps_a_truncated_law():
    policy = Plain(0.8, min_p=0.2, typical=0.9)
    how = Speculation(TableDrafter(random_law(2)), Chain(sampled=True), Token(), Fixed(2), policy)
    assert prove(how, Table(random_law(3), 3), [1], 3).error < 1e-12


@pytest.mark.parametrize("settings", [{"min_p": 1.1}, {"min_p": -0.1}, {"typical": 0.0}])
def test_settings_out_of_range_are_refused(settings):
    (name, value), *_ = settings.items()
    with pytest.raises(ValueError, match=f"{name} must be in .*{value}"):
        Plain(**settings)
