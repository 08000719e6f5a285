"""Promises of rounding weights for what a layer reads: oracles by enumeration and elimination."""

import itertools

import numpy as np
import pytest
import torch

from unison.compress import rounding
from unison.engine.quantised import grid


def drawn(rows: int, width: int, seed: int, *, correlated: float = 0.9):
    """Weights, and second moments of inputs whose columns depend on one another."""
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(rows, width))
    shared = generator.normal(size=(4 * width, 1))
    x = correlated * shared + (1 - correlated) * generator.normal(size=(4 * width, width))
    x = x * generator.uniform(0.2, 2, size=width)
    return torch.tensor(weight).float(), torch.tensor(x.T @ x / len(x))


def eliminated(weight: np.ndarray, second: np.ndarray, value) -> np.ndarray:
    """Round column after column, each where it is best once all later ones answer for it freely.

    With the columns before k fixed, the free ones minimise the quadratic by solving for them.
    """
    width = weight.shape[1]
    fixed = np.zeros_like(weight)
    for k in range(width):
        change = fixed[:, :k] - weight[:, :k]
        free = -change @ second[:k, k:] @ np.linalg.inv(second[k:, k:])
        fixed[:, k] = value(weight[:, k] + free[:, 0])
    return fixed


@pytest.mark.parametrize("width", [2, 7, 20])
def test_columns_in_turn_are_what_elimination_gives(width: int) -> None:
    weight, second = drawn(5, width, seed=width)
    turned, [scales] = rounding.in_turn(weight, second.float(), 4)

    def value(x: np.ndarray) -> np.ndarray:
        return scales.value(torch.tensor(x).float()).double().numpy()

    want = eliminated(weight.double().numpy(), second.numpy(), value)
    assert np.abs(turned.numpy() - want).max() < 1e-6


def test_inputs_that_do_not_depend_on_one_another_leave_every_weight_at_its_nearest_level() -> None:
    weight, _ = drawn(6, 20, seed=3)
    second = torch.diag(torch.linspace(0.1, 2, 20))
    turned, [scales] = rounding.in_turn(weight, second, 4)
    assert torch.equal(turned, scales.value(weight))


def test_the_best_of_all_roundings_is_found_or_nearly_so() -> None:
    found, best, plain = [], [], []
    for seed in range(12):
        weight, second = drawn(1, 4, seed, correlated=0.5)
        turned, [scales] = rounding.in_turn(weight, second.float(), 4)
        ours = rounding.improved(turned, weight, second.float(), [scales])
        levels = torch.tensor(list(itertools.product(range(16), repeat=4)))
        every = (scales.step * levels + scales.minimum).double()
        errors = (((every - weight.double()) @ second) * (every - weight.double())).sum(1)
        best.append(float(errors.min()))
        found.append(float(rounding.error(ours - weight, second)))
        plain.append(float(rounding.error(scales.value(weight) - weight, second)))
    assert all(one >= least * (1 - 1e-6) for one, least in zip(found, best, strict=True))
    exact = sum(one <= least * (1 + 1e-6) for one, least in zip(found, best, strict=True))
    assert exact >= 10  # of 12; of 65536 roundings each
    assert np.mean(found) < 1.2 * np.mean(best)
    assert np.mean(found) < 0.9 * np.mean(plain)


def test_no_single_weight_would_do_better_at_another_level() -> None:
    weight, second = drawn(3, 12, seed=5)
    turned, [scales] = rounding.in_turn(weight, second.float(), 4)
    ours = rounding.improved(turned, weight, second.float(), [scales], sweeps=50)
    least = (((ours - weight).double() @ second) * (ours - weight).double()).sum(1)
    for k, level in itertools.product(range(12), range(16)):
        other = ours.clone()
        other[:, k] = scales.step * level + scales.minimum
        errors = (((other - weight).double() @ second) * (other - weight).double()).sum(1)
        assert bool((errors >= least * (1 - 1e-5)).all())


def test_sweeps_never_raise_the_error() -> None:
    weight, second = drawn(8, 64, seed=6)
    values, scales = rounding.in_turn(weight, second.float(), 4)
    errors = [
        float(
            rounding.error(
                rounding.improved(values, weight, second.float(), scales, n) - weight, second
            )
        )
        for n in range(4)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("correlated", [0.0, 0.5, 0.95])
def test_rounding_is_never_worse_than_the_nearest(bits: int, correlated: float) -> None:
    for seed in range(4):
        weight, second = drawn(6, 64, seed, correlated=correlated)
        ours = rounding.rounded(weight, second, bits)
        nearest = rounding.dense(grid.nearest(weight, bits))
        mine, theirs = (float(rounding.error(one - weight, second)) for one in (ours, nearest))
        assert mine <= theirs
        assert correlated < 0.9 or mine < 0.5 * theirs


def awkward() -> dict[str, torch.Tensor]:
    """Weights that make it hard to read a grid back from its values."""
    weight, _ = drawn(16, 64, seed=8)
    constant = weight.clone()
    constant[:, :32] = 0.123456789
    sparse = weight.where(weight.abs() > 1.5, torch.tensor(0.0))
    return {
        "normal": weight,
        "tiny": weight * 1e-4,
        "tinier": weight * 1e-7,
        "far from 0": weight * 1e-3 + 1.2345678,
        "barely varied": weight * 1e-6 + 3.1415927,
        "one sided": weight.abs() + 1e-5,
        "large": weight * 5e3,
        "constant": constant,
        "sparse": sparse,
        "zero": weight * 0,
    }


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", awkward())
def test_every_value_lies_exactly_on_the_grid_and_is_read_back_from_it(
    bits: int, kind: str
) -> None:
    weight = awkward()[kind]
    _, second = drawn(1, 64, seed=9)
    ours = rounding.rounded(weight, second, bits)
    fitted = grid.nearest(ours, bits)
    assert bool(fitted.exact.all())
    assert torch.equal(rounding.dense(fitted), ours)


def test_columns_that_are_never_read_cost_nothing_and_break_nothing() -> None:
    weight, second = drawn(4, 64, seed=10)
    second[10:20] = 0
    second[:, 10:20] = 0
    assert bool(rounding.rounded(weight, second, 4).isfinite().all())
    assert bool(rounding.rounded(weight, second * 0, 4).isfinite().all())
