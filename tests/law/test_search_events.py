"""Searches of continuous data against exactly tilted mixtures.

The reward is -|x - a|^2 / 2, so the law of the data times exp(reward / T) is a mixture again, and
so is the soft value: the mixture's evidence at a, seen from each noisy point. The solver of these
tests draws from the exact p(x_s' | x_s), so that coarse grids sample the law itself.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from scipy import stats

from unison.decode.continuous.api import State, asked
from unison.exact.mixtures import Mixture, gaussian
from unison.exact.zoo import gmm5
from unison.prob import rng
from unison.prob.rng import Key
from unison.search import SVDD, BestOf, EventRun, Given, Guessed, Particles, Paths, ZeroOrder
from unison.search.regression import quadratic, regressed
from unison.types import Law

TARGET = torch.tensor([0.6, -0.4], dtype=torch.float64)
TEMPERATURE = 0.5
LEVELS = (12.0, 4.0, 2.0, 1.2, 0.7, 0.4, 0.2, 0.08, 0.0)
SITE_FIRST, SITE_WITHIN, SITE_STEP = 70, 71, 72
LAW = gmm5()


def seen_from(law, x, level):
    """The components of p(x_0 | x): shares, means, covariances; for one level."""
    eye = torch.eye(x.shape[1], dtype=torch.float64)
    total = law.covariances + level**2 * eye
    gain = law.covariances @ torch.linalg.inv(total)
    off = x[:, None] - law.means
    means = law.means + (gain @ off[..., None])[..., 0]
    normal = torch.distributions.MultivariateNormal(law.means, total)
    shares = (law.log_weights + normal.log_prob(x[:, None])).softmax(1)
    return shares, means, law.covariances - gain @ law.covariances


@dataclass(frozen=True)
class Exact:
    """Draw x_0 from the exact posterior, then x_s' from the bridge between both."""

    law: ClassVar[Law] = Law.EXACT
    data: Mixture = LAW

    def evaluations(self, intervals):
        return intervals

    def step(self, levels, denoise, state, key):
        level, after = levels[key.step : key.step + 2]
        asked(denoise, state.x, level)  # counted, as any step is
        size = state.x.shape[1]
        clean = draw(self.data, state.x, level, key)
        share = after**2 / level**2
        noise = rng.normal(key, SITE_STEP, size)
        return State(clean + share * (state.x - clean) + after * math.sqrt(1 - share) * noise)


def draw(law, x, level, key):
    shares, means, covariances = seen_from(law, x, level)
    u = rng.uniform(key, SITE_FIRST, 1).contiguous()
    which = torch.searchsorted(shares.cumsum(1), u)[:, 0].clamp(max=shares.shape[1] - 1)
    values, axes = torch.linalg.eigh(covariances)
    roots = axes * values.clamp(min=0).sqrt()[:, None, :]
    noise = rng.normal(key, SITE_WITHIN, x.shape[1])
    return means[torch.arange(len(x)), which] + (roots[which] @ noise[..., None])[..., 0]


def reward(x):
    return -(x - TARGET).square().sum(1) / 2


def soft_value(state):
    """T log E[exp(r / T) | x]: a Gaussian integral for each component."""
    shares, means, covariances = seen_from(LAW, state.x, state.level)
    size = len(TARGET)
    widened = covariances + TEMPERATURE * torch.eye(size, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(
        means, widened[None].expand(len(means), -1, -1, -1)
    )
    inside = (shares.log() + normal.log_prob(TARGET)).logsumexp(1)
    return TEMPERATURE * (inside + size / 2 * math.log(2 * math.pi * TEMPERATURE))


TILTED = LAW.posterior(torch.eye(2, dtype=torch.float64), TARGET, math.sqrt(TEMPERATURE))
LOG_NORMALISER = float(
    LAW.evidence(torch.eye(2, dtype=torch.float64), TARGET, math.sqrt(TEMPERATURE))
    + math.log(2 * math.pi * TEMPERATURE)
)


def expected_reward(law):
    off = law.mean() - TARGET
    return float(-(law.covariance().diagonal().sum() + off @ off) / 2)


def run(levels=LEVELS, **settings):
    return EventRun(Exact(), levels, LAW, (2,), dtype=torch.float64, **settings)


def found(search, rows, seed, levels=LEVELS, **settings):
    return search.search(run(levels, **settings), reward, Key(rng.rows(seed, 0, rows)))


def away(sample, law):
    """Standard errors between the mean reward of samples and that of a law."""
    rewards = reward(sample)
    return float((rewards.mean() - expected_reward(law)) / (rewards.std() / len(rewards) ** 0.5))


FAR = float(stats.norm.isf(5e-7))  # exceeded once in a million, on both sides together


def test_the_solver_of_these_tests_draws_from_the_law(seed):
    one = found(BestOf(1), 6000, seed)
    assert abs(away(one.sample, LAW)) < FAR
    assert torch.equal(one.reward, reward(one.sample))


@pytest.mark.parametrize("value", [Guessed(), Given(soft_value)])
def test_one_candidate_is_the_prior(seed, value):
    one = found(SVDD(1, TEMPERATURE, value), 3000, seed)
    assert abs(away(one.sample, LAW)) < FAR


def test_the_exact_value_leads_monotonically_to_the_tilted_law(seed):
    gaps = []
    for candidates in (1, 2, 6, 16):
        sample = found(SVDD(candidates, TEMPERATURE, Given(soft_value)), 800, seed).sample
        gaps.append(expected_reward(TILTED) - float(reward(sample).mean()))
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3] > -0.05
    assert gaps[3] < 0.15 * gaps[0]


def test_weights_make_up_for_any_value_and_any_number(seed):
    """E[w] is the normaliser and E[w f] the tilted mean, for guesses and two candidates too."""
    for search in (
        SVDD(2, TEMPERATURE, Guessed()),
        SVDD(4, TEMPERATURE, Given(soft_value)),
        Particles(4, TEMPERATURE),
        Particles(6, TEMPERATURE, 1.0, Given(soft_value)),
    ):
        one = found(search, 2500, seed)
        weight = one.log_weight.exp()
        for term, exact in (
            (weight, math.exp(LOG_NORMALISER)),
            (weight * reward(one.sample), math.exp(LOG_NORMALISER) * expected_reward(TILTED)),
        ):
            error = float(term.std()) / len(term) ** 0.5
            assert abs(float(term.mean()) - exact) < FAR * error, search
            assert error < 0.1 * abs(exact), f"no power: {search}"


def test_many_particles_follow_the_tilted_law(seed):
    one = found(Particles(48, TEMPERATURE, value=Given(soft_value)), 500, seed)
    assert abs(away(one.sample, TILTED)) < FAR
    assert abs(away(one.sample, LAW)) > 2 * FAR, "no power"
    assert abs(float(one.log_weight.mean()) - LOG_NORMALISER) < 0.05


def test_guesses_from_the_mean_are_too_sure_and_draws_are_not(seed):
    """r(E x_0) leaves out what is still open: many candidates go past the tilted law."""
    many = 16
    sure = found(SVDD(many, TEMPERATURE), 500, seed).reward.mean()
    drawn = found(SVDD(many, TEMPERATURE, Guessed(8)), 500, seed, draws=True).reward.mean()
    exact = found(SVDD(many, TEMPERATURE, Given(soft_value)), 500, seed).reward.mean()
    assert sure > expected_reward(TILTED) + 0.05
    assert abs(drawn - exact) < 0.5 * abs(sure - exact)


def test_the_mean_guess_is_biased_upwards_everywhere():
    """Jensen: -|E x - a|^2 / 2 = E r + Var / 2, more than the mean reward it stands for."""
    key = Key(rng.rows(3, 0, 400))
    one = run()
    state = one.start(key, torch.arange(400))
    for _ in range(4):
        state = one.advance(state, key).state
    state = one.look(state, key).state
    guess = reward(one.guess(state))
    _, variance = LAW.moments(state.x, torch.full((400,), state.level, dtype=torch.float64))
    shares, means, covariances = seen_from(LAW, state.x, state.level)
    second = covariances.diagonal(dim1=1, dim2=2).sum(1) + (means - TARGET).square().sum(2)
    mean = -(shares * second).sum(1) / 2
    assert torch.allclose(guess - mean, variance.sum(1) / 2, atol=1e-10)
    assert (guess > mean).all()


def test_a_regressed_value_is_the_mean_reward_where_that_is_quadratic(seed):
    """Of Gaussian data E[r | x] is exactly a quadratic function of x at every level."""
    law = gaussian(torch.tensor([0.2, 0.5], dtype=torch.float64), LAW.covariance())
    one = EventRun(Exact(law), LEVELS, law, (2,), dtype=torch.float64)
    value = regressed(one, reward, quadratic, Key(rng.rows(seed, 0, 20_000)))
    key = Key(rng.rows(seed + 1, 0, 500))
    state = one.start(key, torch.arange(500))
    for _ in range(5):
        state = one.advance(state, key).state
        _, means, covariances = seen_from(law, state.x, state.level)
        spread = covariances[0].diagonal().sum()
        exact = -((means[:, 0] - TARGET).square().sum(1) + spread) / 2
        error = float((value(state) - exact).square().mean().sqrt())
        assert error < 0.05 * float(reward(law.sample(key)).std())
    plain = BestOf(1).search(one, reward, key).reward.mean()
    led = SVDD(6, 0.0, Given(value)).search(one, reward, key)
    assert led.reward.mean() > plain + 0.5
    assert (led.evaluations == one.steps).all()
    with pytest.raises(ValueError, match="6 weights need at least as many runs, got 5"):
        regressed(one, reward, quadratic, Key(key.seed[:5]))


def test_temperature_zero_takes_the_best_child(seed):
    cold = found(SVDD(6, 0.0), 300, seed)
    assert cold.reward.mean() > found(SVDD(6, TEMPERATURE), 300, seed).reward.mean()
    assert (cold.log_weight == 0).all()


@pytest.mark.parametrize("n", [2, 8])
def test_best_of_n_has_the_order_statistics_of_the_reward(seed, n):
    """F(max of N) to the power N is uniform, F from a large sample of the law itself."""
    reference = reward(LAW.sample(Key(rng.rows(seed + 5, 0, 400_000)))).sort().values
    best = found(BestOf(n), 2000, seed).reward
    below = torch.searchsorted(reference, best) / len(reference)
    assert stats.kstest((below**n).numpy(), "uniform").pvalue > 1e-6
    assert stats.kstest(below.numpy(), "uniform").pvalue < 1e-9, "no power"


def test_best_of_n_diverges_by_log_n_less_a_little(seed):
    """KL(best of N || law) = log N - (N - 1) / N, from a histogram over the law's quantiles."""
    n, cells = 6, 40
    reference = reward(LAW.sample(Key(rng.rows(seed + 6, 0, 400_000)))).sort().values
    best = found(BestOf(n), 6000, seed).reward
    below = torch.searchsorted(reference, best).double() / len(reference)
    shares = torch.histc(below, cells, 0, 1) / len(below)
    measured = float((shares * (shares * cells).log()).nan_to_num(0).sum())
    edges = torch.linspace(0, 1, cells + 1, dtype=torch.float64) ** n
    exact = edges[1:] - edges[:-1]  # of the histogram: a little below that of the law
    stated = float((exact * (exact * cells).log()).sum())
    assert abs(stated - (math.log(n) - (n - 1) / n)) < 0.02
    error = float(((exact * (exact * cells).log().square()).sum() - stated**2).sqrt()) / 6000**0.5
    assert abs(measured - stated) < FAR * error + cells / 6000  # the plug-in's own bias


def test_neighbours_of_noise_are_noise(seed):
    one = run()
    key = Key(rng.rows(seed, 0, 4000))
    first = one.start(key, torch.arange(4000))
    moved = one.near(first, 0.3, Key(rng.derived(key.seed, 1)))
    whole = (moved.x / LEVELS[0]).flatten()
    assert stats.kstest(whole.numpy(), "norm").pvalue > 1e-6
    together = torch.corrcoef(torch.stack([whole, (first.x / LEVELS[0]).flatten()]))[0, 1]
    assert abs(float(together) - math.sqrt(1 - 0.3**2)) < 0.02


def test_going_back_is_the_process_itself(seed):
    """Noised from step 6 to step 2, rows are as those that never went further than step 2."""
    one = run()
    key = Key(rng.rows(seed, 0, 4000))
    state = one.start(key, torch.arange(4000))
    for _ in range(6):
        state = one.advance(state, key).state
    back = one.back(state, 2, Key(rng.derived(key.seed, 1)))
    direct = LAW.sample(Key(rng.rows(seed + 1, 0, 4000)))
    direct = direct + LEVELS[2] * rng.normal(Key(rng.rows(seed + 2, 0, 4000)), 5, 2)
    assert (back.level, back.step) == (LEVELS[2], 2)
    for axis in range(2):
        both = back.x[:, axis].numpy(), direct[:, axis].numpy()
        assert stats.ks_2samp(*both).pvalue > 1e-6


def test_zero_order_search_never_loses_and_paths_gain(seed):
    plain = found(BestOf(1), 200, seed).reward.mean()
    zero = found(ZeroOrder(3, 3, 0.4), 200, seed)
    assert zero.reward.mean() > plain + 0.5
    shorter = found(ZeroOrder(1, 3, 0.4), 200, seed)
    assert (zero.reward >= shorter.reward).all()
    paths = found(Paths(2, 3), 200, seed)
    assert paths.reward.mean() > plain + 0.5


def test_a_verifier_that_is_hacked_says_so_only_to_others(seed):
    """Two rewards agree on most of the law and part at its edge: past some N the other falls."""

    def hacked(x):
        return x[:, 0]

    def wanted(x):
        return x[:, 0] - 0.9 * (x[:, 0] - 0.6).clamp(min=0).square() * 3

    other, own = [], []
    for n in (1, 3, 60):
        one = BestOf(n).search(run(LEVELS[-4:]), hacked, Key(rng.rows(seed, 0, 400)))
        own.append(float(one.reward.mean()))
        other.append(float(wanted(one.sample).mean()))
    assert own[0] < own[1] < own[2]
    assert other[1] > other[0] + 0.1
    assert other[2] < other[1] - 0.1
