"""The best possible acceptance is that of the linear program; each rule's is its exact sum."""

import itertools

import numpy as np
import pytest
import torch
from oracle import speculation as oracle

import unison
from unison.speculation.optimal import RULES, acceptance, optimal_acceptance

PAIRS = [(seed, size, sharp, zeros) for seed, (size, sharp, zeros) in enumerate(
    [(3, 1.0, False), (4, 2.0, False), (5, 1.0, False), (6, 0.5, False), (4, 6.0, False),
     (5, 2.0, True), (6, 1.0, True)]
)]  # fmt: skip
pairs = pytest.mark.parametrize("pair", [oracle.random_pair(*one) for one in PAIRS])
both = pytest.mark.parametrize("k", [2, 3])


def tensors(pair):
    return [torch.tensor(law, dtype=torch.float64) for law in pair]


@pairs
@both
@pytest.mark.parametrize("replacement", [True, False])
def test_the_optimum_is_that_of_the_linear_program(pair, k, replacement):
    p, q = pair
    k = min(k, sum(x > 0 for x in q))
    drafts = oracle.draws(q, k, replacement)
    found = float(optimal_acceptance(*tensors(pair), k, replacement=replacement))
    assert found == pytest.approx(oracle.transport(p, drafts), abs=1e-9)
    assert found == pytest.approx(oracle.cut(p, drafts), abs=1e-9)


@pairs
@both
def test_the_optimum_of_greedy_drafts_is_that_of_the_linear_program_and_reached(pair, k):
    p, q = pair
    k = min(k, sum(x > 0 for x in q))
    found = float(optimal_acceptance(*tensors(pair), k, greedy=True))
    assert found == pytest.approx(oracle.transport(p, oracle.greedy_draws(q, k)), abs=1e-9)
    written, passed = oracle.greedy_rule(p, q, k)
    assert written == pytest.approx(p, abs=1e-12)
    assert passed == pytest.approx(found, abs=1e-12)


@pairs
@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_each_rule_accepts_is_the_exact_sum_over_its_drafts(pair, k):
    p, q = pair
    k = min(k, sum(x > 0 for x in q))
    rho = oracle.best_rho(p, q, k)
    want = {
        "token": oracle.recursive(p, q, 1, True),
        "rrs": oracle.recursive(p, q, k, True),
        "rsd": oracle.recursive(p, q, k, False),
        "kseq": oracle.k_seq(p, q, k, rho),
        "greedy": oracle.greedy_rule(p, q, k),
    }
    for rule, (written, passed) in want.items():
        assert written == pytest.approx(p, abs=1e-12), rule
        assert float(acceptance(rule, *tensors(pair), k)) == pytest.approx(passed, abs=1e-8), rule
    likeliest = sorted(q)[-k]
    match = sum(a for a, b in zip(p, q, strict=True) if b >= likeliest)
    if q.count(likeliest) == 1:
        assert float(acceptance("match", *tensors(pair), k)) == pytest.approx(match, abs=1e-12)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_no_rule_beats_the_optimum_and_two_reach_bounds(k):
    p, q = torch.tensor([oracle.random_pair(s, 7, 1.5) for s in range(20)]).double().unbind(1)
    ceiling = {
        "rrs": optimal_acceptance(p, q, k),
        "kseq": optimal_acceptance(p, q, k),
        "rsd": optimal_acceptance(p, q, k, replacement=False),
        "greedy": optimal_acceptance(p, q, k, greedy=True),
    }
    for rule, best in ceiling.items():
        assert (acceptance(rule, p, q, k) <= best + 1e-9).all(), rule
    share = acceptance("kseq", p, q, k) / ceiling["kseq"]
    assert share.min() >= 1 - (1 - 1 / k) ** k
    assert (acceptance("greedy", p, q, k) - ceiling["greedy"]).abs().max() < 1e-12


def test_one_draft_is_accepted_as_often_as_the_laws_overlap():
    p, q = tensors(oracle.random_pair(3, 9))
    overlap = float(torch.minimum(p, q).sum())
    for replacement in (True, False):
        found = optimal_acceptance(p, q, 1, replacement=replacement)
        assert float(found) == pytest.approx(overlap, abs=1e-12)


def test_equal_laws_always_pass_and_disjoint_ones_never():
    p = torch.tensor([0.5, 0.5, 0.0, 0.0]).double()
    q = torch.tensor([0.0, 0.0, 0.3, 0.7]).double()
    for rule in RULES:
        if rule != "match":
            assert float(acceptance(rule, p, p, 2)) == pytest.approx(1, abs=1e-12), rule
        assert float(acceptance(rule, p, q, 2)) == pytest.approx(0, abs=1e-12), rule
    for kind in ({}, {"replacement": False}, {"greedy": True}):
        assert float(optimal_acceptance(p, p, 2, **kind)) == pytest.approx(1, abs=1e-9)
        assert float(optimal_acceptance(p, q, 2, **kind)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("k", [2, 4, 8])
def test_sets_are_drawn_from_without_replacement_as_an_exact_recursion_says(k):
    """Tokens of hugely different rates: all but some in a set, in closed form by symmetry."""
    tiny, few = 1e-9, k - 1
    q = torch.tensor([(1 - 4 * tiny) / few] * few + [tiny] * 4).double()
    p = torch.tensor([0.0] * few + [0.1, 0.1, 0.1, 0.7]).double()
    # The drafts are the few big tokens and one of four small ones: accepted with that one alone,
    # but for the chance of some 1e-9 that more than one small token is drawn.
    found = float(optimal_acceptance(p, q, k, replacement=False))
    assert found == pytest.approx(0.1 * 3 + 0.25, abs=1e-6)


def test_a_batch_is_as_good_as_each_of_its_rows():
    laws = torch.tensor([oracle.random_pair(s, 5, 2.0) for s in range(6)]).double()
    p, q = laws.unflatten(0, (2, 3)).unbind(2)
    for kind in ({}, {"replacement": False}, {"greedy": True}):
        whole = optimal_acceptance(p, q, 3, **kind)
        alone = [
            optimal_acceptance(a, b, 3, **kind)
            for a, b in zip(p.flatten(0, 1), q.flatten(0, 1), strict=True)
        ]
        assert whole.shape == (2, 3)
        assert whole.flatten().tolist() == pytest.approx([float(x) for x in alone], abs=1e-10)


def test_a_row_that_always_passes_does_not_change_its_neighbours():
    other = [torch.tensor(law).double() for law in ([0.2, 0.3, 0.5], [0.7, 0.2, 0.1])]
    p = torch.stack([other[0], other[1]])
    q = torch.stack([other[1], other[1]])
    alone = float(optimal_acceptance(*other, 2, replacement=False))
    assert alone < 0.9
    found = optimal_acceptance(p, q, 2, replacement=False).tolist()
    assert found == pytest.approx([alone, 1.0], abs=1e-12)


@pytest.mark.parametrize("k", [2, 4, 7])
@pytest.mark.parametrize(("size", "sharp"), [(50, 1.0), (300, 2.0), (300, 6.0)])
def test_without_replacement_it_is_the_least_cut_of_all_prefixes(size, sharp, k):
    """Most prefixes are only bounded; none of them may be the least."""
    for seed in range(4):
        pair = oracle.random_pair(seed, size, sharp)
        found = float(optimal_acceptance(*tensors(pair), k, replacement=False))
        assert found == pytest.approx(oracle.cut_of_prefixes(*pair, k), abs=1e-11), seed


def test_without_replacement_late_arrivals_count_where_a_drafter_is_almost_sure():
    found = []
    for seed in range(24):
        p, q = oracle.random_pair(seed, 33, 8.0)
        q = (np.sqrt(p) * q / np.dot(np.sqrt(p), q)).tolist()
        want = oracle.cut_of_prefixes(p, q, 12)
        assert float(optimal_acceptance(*tensors((p, q)), 12, replacement=False)) == pytest.approx(
            want, abs=1e-9
        ), seed
        found.append(want)
    assert sum(one < 0.99 for one in found) > 5  # of some the answer is not simply 1


@pytest.mark.parametrize("k", [2, 3, 4])
def test_what_a_token_adds_for_its_share_grows_with_the_set(k):
    """Why prefixes are enough and bounds inside blocks hold: q-convexity, by enumeration."""
    for seed in range(4):
        _, q = oracle.random_pair(seed, 6, 2.0)
        chance = {
            held: sum(c for t, c in oracle.draws(q, k, False).items() if set(t) <= set(held))
            for size in range(7)
            for held in itertools.combinations(range(6), size)
        }
        for held, inside in chance.items():
            if 0 < len(held) < 6:
                without = [tuple(x for x in held if x != y) for y in held]
                last = [(inside - chance[w]) / q[y] for y, w in zip(held, without, strict=True)]
                others = [y for y in range(6) if y not in held]
                first = [(chance[tuple(sorted((*held, y)))] - inside) / q[y] for y in others]
                assert max(last) <= min(first) + 1e-12


def test_random_drafts_of_a_large_vocabulary_give_the_exact_rate(monkeypatch):
    p, q = tensors(oracle.random_pair(5, 12, 2.0))
    exact = float(acceptance("rsd", p, q, 3))
    monkeypatch.setattr("unison.speculation.optimal._EXACTLY", 1)
    assert float(acceptance("rsd", p, q, 3)) == pytest.approx(exact, abs=0.01)
    assert float(acceptance("rsd", p, q, 3)) != exact


def test_the_means_of_the_papers_toys():
    """V = 5, k = 2 and 3: mean acceptance over random laws, ordered as the theory has it."""
    laws = torch.tensor([oracle.random_pair(s, 5, 1.0) for s in range(40)]).double()
    p, q = laws.unbind(1)
    mean = {
        rule: np.mean([float(acceptance(rule, p, q, k).mean()) for k in (2, 3)]) for rule in RULES
    }
    iid = np.mean([float(optimal_acceptance(p, q, k).mean()) for k in (2, 3)])
    without = np.mean(
        [float(optimal_acceptance(p, q, k, replacement=False).mean()) for k in (2, 3)]
    )
    assert mean["token"] < mean["rrs"] < mean["kseq"] < iid < without
    assert mean["rrs"] < mean["rsd"] < without
    assert 0.9 < mean["kseq"] / iid < 1


def test_the_optimum_over_32_000_tokens_is_the_least_cut_of_all_prefixes():
    p, q = torch.randn(2, 32_000, generator=torch.Generator().manual_seed(0)).mul(3).softmax(1)
    first, second = p.double().numpy(), q.double().numpy()
    order = np.argsort(first / second)
    cuts = np.cumsum(first[order]) - np.cumsum(second[order]) ** 4
    assert abs(float(optimal_acceptance(p, q, 4)) - (1 + min(cuts.min(), 0.0))) < 1e-6


@pytest.mark.parametrize(
    ("p", "q", "k", "says"),
    [
        ([0.5, 0.5], [0.2, 0.3, 0.5], 2, "one shape"),
        ([0.5, 0.5], [0.9, 0.3], 2, "add up to 1"),
        ([0.5, 0.5], [1.5, -0.5], 2, "add up to 1"),
        ([0.5, 0.5], [0.5, 0.5], 0, "at least 1"),
    ],
)
def test_what_is_no_law_is_refused(p, q, k, says):
    with pytest.raises(ValueError, match=says):
        unison.optimal_acceptance(torch.tensor(p), torch.tensor(q), k)


def test_an_unknown_rule_is_refused_by_name():
    with pytest.raises(ValueError, match="kseq"):
        acceptance("k-seq", torch.ones(2) / 2, torch.ones(2) / 2, 2)
