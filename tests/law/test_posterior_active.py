"""Active subsampling against the sequential design that is best for a Gaussian, and on digits."""

from dataclasses import dataclass

import pytest
import torch

from unison.decode.continuous.ancestral import Ancestral
from unison.exact.mixtures import Mixture, gaussian
from unison.exact.zoo import gaussian16
from unison.prob import rng
from unison.prob.rng import Key
from unison.search.posterior import Active
from unison.search.posterior.active import chosen, worth

GRID = (*(20 * 0.7**i for i in range(22)), 0.0)
NOISE = 0.1
PIXELS = torch.arange(16)


def smooth16() -> Mixture:
    """A field on a line whose neighbours agree, rough at one end and quiet at the other."""
    place = torch.arange(16).double()
    scale = torch.linspace(0.4, 1.6, 16).double()
    kernel = torch.exp(-(place[:, None] - place).square() / 8) + 1e-3 * torch.eye(16)
    return gaussian(torch.zeros(16).double(), scale[:, None] * kernel * scale)


def left(law, order):
    """The variance that remains after the elements were measured."""
    shown = torch.eye(16).double()[order]
    measured = law.posterior(shown, torch.zeros(len(order)).double(), NOISE)
    return float(measured.covariance().trace())


def optimal(law, count):
    """Sequential D-optimal design: each time the element of most information."""
    order = []
    for _ in range(count):
        spread = law.covariance()
        if order:
            shown = torch.eye(16).double()[order]
            seen = torch.zeros(len(order)).double()
            spread = law.posterior(shown, seen, NOISE).covariance()
        gain = torch.log1p(spread.diagonal() / NOISE**2)
        gain[order] = -1
        order.append(int(gain.argmax()))
    return order


@dataclass(frozen=True)
class Truth:
    """Measures events that are known, with noise that belongs to the element."""

    events: torch.Tensor

    def __call__(self, mask):
        noise = NOISE * rng.normal(Key(rng.rows(1, 0, len(mask))), 5, self.events[0].numel())
        return torch.where(mask, self.events + noise.view_as(self.events), torch.nan)


def test_variance_is_the_information_of_exact_posterior_particles():
    law = gaussian16()
    exact = torch.log1p(law.covariance().diagonal() / NOISE**2) / 2
    thought = law.sample(Key(rng.rows(2, 0, 20_000)))[None]
    found = worth("variance", thought, PIXELS, NOISE)[0]
    assert torch.allclose(found, exact, atol=0.05)
    columns = worth("variance", thought, PIXELS % 4, NOISE)[0]
    assert torch.allclose(columns, found.view(4, 4).sum(0))


def test_pairwise_and_spread_are_their_sums_over_pairs():
    thought = rng.normal(Key(rng.rows(3, 0, 5)), 1, 6)[None]
    lines = torch.tensor([0, 1, 0, 1, 2, 2])
    found = {p: worth(p, thought, lines, 0.7)[0].tolist() for p in ("pairwise", "spread")}
    for line in range(3):
        x = thought[0][:, lines == line]
        apart = (x[:, None] - x).square().sum(2) / (2 * 0.49)
        expected = -(-apart).exp().mean(1).log().mean()
        assert found["pairwise"][line] == pytest.approx(float(expected))
        assert found["spread"][line] == pytest.approx(float(apart.exp().mean().log()))


@pytest.mark.parametrize("policy", ["variance", "pairwise", "spread"])
def test_what_all_particles_agree_on_is_worth_nothing(policy):
    thought = torch.ones(2, 4, 3).double()
    assert torch.allclose(worth(policy, thought, torch.arange(3), 0.5), torch.zeros(2, 3).double())


def test_neighbours_of_a_choice_lose_worth_within_a_batch_only():
    gains = torch.tensor([[1.0, 5.0, 4.9, 1.0, 2.0, 0.5]]).double()
    taken = torch.zeros(1, 6, dtype=torch.bool)
    assert chosen(gains, taken, 2, 0.0).tolist() == [[1, 2]]
    assert chosen(gains, taken, 2, 2.0).tolist() == [[1, 4]]
    taken[0, 1] = True
    assert chosen(gains, taken, 1, 1.0).tolist() == [[2]]


@pytest.mark.law
def test_on_a_gaussian_measuring_actively_leaves_nearly_what_the_optimal_design_leaves():
    law = smooth16()
    events = law.sample(Key(rng.rows(4, 0, 12)))
    active = Active(6, NOISE, particles=32, guide="tweedie", solver=Ancestral())
    out = active.sample(law, Truth(events), PIXELS, GRID, Key(rng.rows(5, 0, 12)))
    assert out.order.shape == (12, 6)
    assert torch.equal(out.mask.sum(1), torch.full((12,), 6))
    mine = sum(left(law, row.tolist()) for row in out.order) / 12
    random = [
        rng.uniform(Key(rng.rows(i, 0, 1)), 9, 16)[0].argsort()[:6].tolist() for i in range(50)
    ]
    chance = sum(left(law, order) for order in random) / 50
    best = left(law, optimal(law, 6))
    assert mine - best < 0.25 * (chance - best)
    off = (out.particles.mean(1) - events)[out.mask]
    assert float(off.abs().mean()) < 2 * NOISE


@pytest.mark.law
@pytest.mark.parametrize("guide", ["pigdm", "tweedie", "dps"])
def test_particles_agree_with_what_was_measured_and_rows_do_not_mix(guide):
    law, lines = smooth16(), PIXELS // 4
    events = law.sample(Key(rng.rows(6, 0, 3)))
    active = Active(2, NOISE, batch=2, particles=8, guide=guide)
    out = active.sample(law, Truth(events), lines, GRID, Key(rng.rows(7, 0, 3)))
    assert torch.equal(out.mask.view(3, 4, 4).all(2).sum(1), torch.full((3,), 2))
    off = (out.particles.mean(1) - events)[out.mask]
    assert float(off.abs().mean()) < (0.8 if guide == "dps" else 0.3)
    alone = active.sample(law, Truth(events[:1]), lines, GRID, Key(rng.rows(7, 0, 1)))
    assert torch.equal(alone.order[0], out.order[0])
    assert torch.allclose(alone.particles[0], out.particles[0], atol=1e-4)


def test_on_digits_chosen_columns_tell_more_than_columns_at_random():
    datasets = pytest.importorskip("sklearn.datasets")
    images = torch.from_numpy(datasets.load_digits().images).double() / 8 - 1
    flat = images.flatten(1)[:1500]
    law = gaussian(flat.mean(0), flat.T.cov() + 1e-3 * torch.eye(64).double())
    columns = (torch.arange(64) % 8).view(8, 8)
    events = images[1500:1530]

    @dataclass(frozen=True)
    class Square:
        def __call__(self, x, level):
            return law(x.flatten(1), level).view_as(x)

    active = Active(3, NOISE, particles=16)
    out = active.sample(Square(), Truth(events), columns, GRID, Key(rng.rows(8, 0, 30)))

    def error(order):
        shown = torch.eye(64).double()[torch.isin(columns.flatten(), torch.tensor(order))]
        return [
            float((law.posterior(shown, shown @ e, NOISE).mean() - e).square().mean())
            for e in events.flatten(1)
        ]

    mine = sum(error(row)[i] for i, row in enumerate(out.order.tolist())) / 30
    random = [
        rng.uniform(Key(rng.rows(i, 0, 1)), 9, 8)[0].argsort()[:3].tolist() for i in range(10)
    ]
    chance = sum(sum(error(order)) for order in random) / 300
    assert mine < 0.8 * chance


def test_what_cannot_be_done_is_refused():
    law, key = smooth16(), Key(rng.rows(9, 0, 2))
    with pytest.raises(ValueError, match="exceeds the 4 lines"):
        Active(5, NOISE).sample(law, Truth(torch.zeros(2, 16)), PIXELS // 4, GRID, key)
    with pytest.raises(ValueError, match="measurements of events"):
        Active(2, NOISE).sample(law, lambda mask: torch.zeros(2, 3), PIXELS, GRID, key)
    with pytest.raises(ValueError, match="batch"):
        Active(2, NOISE, batch=3)
    with pytest.raises(ValueError, match="two particles"):
        Active(2, NOISE, particles=1)
    with pytest.raises(ValueError, match="noise"):
        Active(2, 0.0)
    with pytest.raises(ValueError, match="between"):
        Active(2, NOISE, between=(0.8, 0.2))
