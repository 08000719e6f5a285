"""Groups are as fine as pays: the best grids that a budget of bits allows."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unison.engine.quantised import adaptive, from_dense, grid, linear, packed
from unison.engine.quantised.adaptive import Choice


def draw(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def error(weight, fitted):
    return float((linear.from_grid(fitted).weight - weight).square().sum())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("span", [1, 2, 3, 6])
@pytest.mark.parametrize("rows", [1, 5])
def test_the_product_with_wide_groups_is_that_with_the_dense_weight(bits, span, rows):
    weight, x, bias = draw(0, 33, 192), draw(1, rows, 192), draw(2, 33)
    layer = linear.from_grid(grid.nearest(weight, bits, span), bias)
    assert packed.span(layer.weights, bits) == span
    assert layer.in_features == 192
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, bias), rtol=1e-4, atol=1e-4)
    off = (layer.weight - weight).norm() / weight.norm()
    assert float(off) < {4: 0.13, 8: 0.01}[bits]


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_a_table_of_wide_groups_are_those_of_the_dense_one(bits):
    fitted = grid.nearest(draw(0, 40, 128), bits, 2)
    table = linear.QuantisedEmbedding(packed.packed(fitted), bits, 40)
    tokens = torch.tensor([[3, 39], [17, 3]])
    assert torch.equal(table(tokens), table.weight[tokens])


@pytest.mark.parametrize("bits", [4, 8])
def test_what_lies_on_a_wide_grid_stays_there(bits):
    weight = linear.from_grid(grid.nearest(draw(0, 20, 128), bits, 4, clipped=True)).weight
    again = grid.nearest(weight, bits, 4, clipped=True)
    assert bool(again.exact.all())
    assert torch.equal(linear.from_grid(again).weight, weight)
    assert torch.equal(from_dense(weight, bits).weight, weight)  # in groups of 32, too


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("span", [1, 4])
def test_cutting_ends_off_is_done_where_it_helps_and_nowhere_else(bits, span):
    weight = draw(0, 60, 128)
    weight[::3, 5] *= 4  # one weight far off in every third row
    plain = grid.nearest(weight, bits, span)
    clipped = grid.nearest(weight, bits, span, clipped=True)
    losses = [
        (linear.from_grid(one).weight - weight).square().unflatten(1, (-1, 32 * span)).sum(2)
        for one in (plain, clipped)
    ]
    assert (losses[1] <= losses[0] * (1 + 1e-6)).all()
    if bits == 4:
        assert float(losses[1].sum()) < 0.9 * float(losses[0].sum())


def test_the_clipped_grid_is_near_the_best_of_all_grids():
    weight = draw(0, 4, 32)
    found = error(weight, grid.nearest(weight, 4, clipped=True))
    best = 0.0
    for row in weight.double():
        tries = []
        for low, high in itertools.product(np.linspace(0.5, 1.1, 61), repeat=2):
            start, end = float(row.min()) * low, float(row.max()) * high
            step = (end - start) / 15
            levels = ((row - start) / step).round().clamp(0, 15)
            tries.append(float((levels * step + start - row).square().sum()))
        best += min(tries)
    assert found <= 1.15 * best


@pytest.mark.parametrize(
    ("groups", "found"),
    [(1, [1]), (8, [8, 4, 2, 1]), (10, [10, 5, 1]), (12, [12, 6, 3, 1]), (7, [7, 1])],
)
def test_groups_are_halved_down_to_one_of_32(groups, found):
    assert adaptive.spans(groups) == found


def layers(seed):
    """Three layers with four choices each, in no order."""
    drawn = np.random.default_rng(seed).random((3, 4, 2))
    return [[Choice(4, 1, float(a), float(b)) for a, b in one] for one in drawn]


def totals(chosen):
    return sum(one.size for one in chosen), sum(one.error for one in chosen)


def best(choices, budget):
    every = [totals(one) for one in itertools.product(*choices)]
    return min(loss for size, loss in every if size <= budget + 1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_what_a_price_leads_to_has_the_least_error_of_its_size(seed):
    choices = layers(seed)
    for price in np.random.default_rng(seed).exponential(size=8):
        priced = [min(one, key=lambda c: c.error + price * c.size) for one in choices]
        size, loss = totals(priced)
        assert loss == pytest.approx(best(choices, size))
        found = totals(adaptive.spent(choices, size + 1e-9))
        assert found == pytest.approx((size, loss))


@pytest.mark.parametrize("seed", range(20))
def test_any_budget_is_kept_and_spent_to_within_a_step(seed):
    choices = layers(seed)
    steps = [pair for one in choices for pair in itertools.pairwise(adaptive.hull(one))]
    step = max((coarse.error - fine.error for coarse, fine in steps), default=0.0)
    least = sum(adaptive.hull(one)[0].size for one in choices)
    for more in (0.0, 0.2, 0.5, 1.0, 3.0):
        size, loss = totals(adaptive.spent(choices, least + more))
        assert size <= least + more + 1e-12
        assert loss <= best(choices, least + more) + step + 1e-12


def test_a_budget_below_the_coarsest_grids_is_refused():
    with pytest.raises(ValueError, match=r"one grid of 4 bits a row takes .* bytes and the budget"):
        adaptive.fitted({"one": draw(0, 32, 64)}, budget=4.0)


@pytest.mark.parametrize("budget", [4.6, 5.12, 7.0])
def test_more_bits_make_less_error_and_never_more_than_allowed(budget):
    weights = {"wide": draw(0, 64, 512), "small": draw(1, 48, 64), "outliers": draw(2, 64, 128)}
    weights["outliers"][::5, 3] *= 10
    found = adaptive.fitted(weights, budget)
    stored = {name: packed.packed(one) for name, one in found.items()}
    bits = 8 * sum(one.numel() for one in stored.values())
    assert bits <= budget * sum(one.numel() for one in weights.values())
    coarse = adaptive.fitted(weights, 4.55)

    def lost(grids):
        return sum(error(w, grids[n]) / float(w.square().sum()) for n, w in weights.items())

    assert lost(found) <= lost(coarse)
    assert lost(adaptive.fitted(weights, 12.0)) < 1e-3
