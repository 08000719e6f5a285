"""Searches of text against laws that are enumerated: three tokens, three positions, three steps."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from laws import assert_law
from oracle import decoding as oracle
from scipy import stats

from unison.decode.api import Canvas, decode, start
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.first_hitting import FirstHitting
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import PROCESSES
from unison.process.schedule import LogLinear
from unison.search import SVDD, BestOf, Given, Guessed, Particles, Paths, TextRun, ZeroOrder

VOCAB, LENGTH, STEPS, TEMPERATURE = 3, 3, 3, 0.5
FAR = float(stats.norm.isf(5e-7))
KINDS = ["absorbing", "uniform"]
PRIZE = np.random.default_rng(11).normal(size=(VOCAB,) * LENGTH)  # no two texts are worth the same


def reward(tokens):
    return torch.from_numpy(PRIZE)[tuple(tokens.unbind(1))]


class Toy:
    """A sampler small enough to enumerate, and what searches should make of it."""

    def __init__(self, kind, as_denoiser, steps=STEPS, seed=4):
        self.family = oracle.FAMILIES[kind](VOCAB)
        states = len(self.family.prior)
        self.tables = oracle.random_tables(states, VOCAB, LENGTH, seed)
        self.process = PROCESSES[kind](VOCAB, LogLinear())
        blank = torch.zeros(1, LENGTH, dtype=torch.int64)
        self.canvas = Canvas(blank, torch.zeros(1, LENGTH, dtype=torch.bool))
        self.strategy, self.denoise = Ancestral(steps), as_denoiser(self.tables)
        times = oracle.even(steps)
        self.kernels = [self.kernel(t, s) for t, s in pairwise(times)]
        self.first = oracle.start(self.family, {}, LENGTH)
        law = self.first.flatten()
        for kernel in self.kernels:
            law = law @ kernel
        self.law = law.reshape(self.first.shape)[(slice(VOCAB),) * LENGTH]
        weighed = self.law * np.exp(PRIZE / TEMPERATURE)
        self.normaliser = float(weighed.sum())
        self.tilted = weighed / self.normaliser
        self.values = self.backwards()

    def kernel(self, t, s):
        states = len(self.family.prior)
        alphas = oracle.log_linear(s), oracle.log_linear(t)
        rows = []
        for x in product(range(states), repeat=LENGTH):
            belief = self.tables.belief(x, t)
            moves = [self.family.posterior(v, belief[i], *alphas) for i, v in enumerate(x)]
            rows.append(oracle.outer(moves).flatten())
        return np.stack(rows)

    def backwards(self):
        """log E[exp(r / T) | x] before each step and after the last; -inf where masks are left."""
        end = np.full(self.first.shape, -np.inf)
        end[(slice(VOCAB),) * LENGTH] = PRIZE / TEMPERATURE
        values = [np.exp(end.flatten())]
        for kernel in reversed(self.kernels):
            values.insert(0, kernel @ values[0])
        with np.errstate(divide="ignore"):
            logs = [np.log(value).reshape(self.first.shape) for value in values]
        return [torch.from_numpy(value) for value in logs]

    def value(self, state):
        return TEMPERATURE * self.values[state.step][tuple(state.tokens.unbind(1))]

    def run(self, rows):
        canvas = Canvas(*(part.expand(rows, -1) for part in self.canvas[:2]))
        return TextRun(self.strategy, self.process, self.denoise, canvas)

    def find(self, search, rows, seed, number=0):
        return search.search(self.run(rows), reward, Key(rng.rows(seed, number, rows)))


@pytest.fixture(params=KINDS)
def toy(request, as_denoiser):
    return Toy(request.param, as_denoiser)


def texts(found):
    return list(map(tuple, found.sample.tolist()))


def gap(found, law):
    """Total variation between samples and a law."""
    counts = np.zeros_like(law)
    np.add.at(counts, tuple(found.sample.T.numpy()), 1)
    return float(np.abs(counts / counts.sum() - law).sum() / 2)


def test_a_run_is_what_decode_writes(toy, seed):
    key = Key(rng.rows(seed, 0, 50))
    run = toy.run(50)
    state = run.start(key, torch.arange(50))
    nfe = torch.zeros(50, dtype=torch.int64)
    for _ in range(run.steps):
        state, cost = run.advance(state, key)
        nfe += cost
    canvas = start(toy.process, run.canvas.tokens, run.canvas.given, key)
    decoded = decode(toy.strategy, toy.process, toy.denoise, canvas, key)
    assert torch.equal(run.finish(state), decoded.tokens)
    assert torch.equal(nfe, decoded.nfe)


@pytest.mark.parametrize("value", ["guess", "exact"])
def test_one_candidate_is_the_sampler(toy, seed, value):
    rule = Guessed() if value == "guess" else Given(toy.value)
    assert_law(texts(toy.find(SVDD(1, TEMPERATURE, rule), 6000, seed)), oracle.as_dict(toy.law))


def test_many_particles_follow_the_tilted_law(toy, seed):
    one = toy.find(Particles(64, TEMPERATURE, value=Given(toy.value)), 1500, seed)
    assert_law(texts(one), oracle.as_dict(toy.tilted))
    with pytest.raises(AssertionError):
        assert_law(texts(one), oracle.as_dict(toy.law))


def test_many_children_follow_the_tilted_law(toy, seed):
    one = toy.find(SVDD(64, TEMPERATURE, Given(toy.value)), 1500, seed)
    if toy.family.masked:  # else the first canvas is chosen by nobody, and holds a little
        assert_law(texts(one), oracle.as_dict(toy.tilted))
    assert gap(one, toy.tilted) < 0.1 < gap(one, toy.law)


def test_the_exact_value_leads_monotonically_to_the_tilted_law(toy, seed):
    gaps = [
        gap(toy.find(SVDD(m, TEMPERATURE, Given(toy.value)), 4000, seed), toy.tilted)
        for m in (1, 3, 12)
    ]
    assert gaps[0] > 1.5 * gaps[1] > 2 * gaps[2]


def test_two_children_of_one_step_have_the_enumerated_law(as_denoiser, seed):
    """Of a pair x, y each is kept in proportion to exp(r / T); pairs are independent draws."""
    toy = Toy("absorbing", as_denoiser, steps=1)
    law, tilt = toy.law.flatten(), np.exp(PRIZE.flatten() / TEMPERATURE)
    kept = (law[:, None] * law * tilt[:, None] / (tilt[:, None] + tilt)).sum(1) * 2
    one = toy.find(SVDD(2, TEMPERATURE), 8000, seed)
    assert_law(texts(one), oracle.as_dict(kept.reshape(toy.law.shape)))


def test_weights_make_up_for_any_value_and_any_number(toy, seed):
    for search in (
        SVDD(2, TEMPERATURE),
        SVDD(3, TEMPERATURE, Guessed(2)),
        Particles(3, TEMPERATURE),
        Particles(4, TEMPERATURE, 1.0, Given(toy.value)),
    ):
        one = toy.find(search, 4000, seed)
        weight = one.log_weight.exp()
        best = torch.from_numpy(toy.tilted).argmax()
        chosen = torch.from_numpy(np.ravel_multi_index(one.sample.T.numpy(), toy.law.shape)) == best
        for term, exact in (
            (weight, toy.normaliser),
            (weight * chosen, toy.normaliser * float(toy.tilted.max())),
            (weight * one.reward, toy.normaliser * float((toy.tilted * PRIZE).sum())),
        ):
            error = float(term.std()) / len(term) ** 0.5
            assert abs(float(term.mean()) - exact) < FAR * error, search
            assert error < 0.15 * toy.normaliser, f"no power: {search}"


@pytest.mark.parametrize("n", [2, 5])
def test_best_of_n_has_the_order_statistics_of_the_sampler(toy, seed, n):
    """P(best = x) = F(r_x)^N - F(below r_x)^N."""
    order = np.argsort(PRIZE.flatten())
    below = np.concatenate([[0.0], toy.law.flatten()[order].cumsum()])
    best = np.empty(order.shape)
    best[order] = np.diff(below.clip(max=1) ** n)
    assert_law(texts(toy.find(BestOf(n), 8000, seed)), oracle.as_dict(best.reshape(toy.law.shape)))


def test_guesses_are_draws_from_the_belief(toy, seed):
    """p(x_0 | x_t), each position by itself: the posterior at survival 1, whatever the process."""
    rows, key = 8000, Key(rng.rows(seed, 0, 8000))
    run = toy.run(rows)
    one = run.advance(run.start(Key(key.seed[:1]), torch.arange(1)), Key(key.seed[:1])).state
    state = run.fork(run.look(one, Key(key.seed[:1])).state, torch.zeros(rows, dtype=torch.int64))
    x, t = tuple(state.tokens[0].tolist()), 1 - 1 / STEPS
    belief, alphas = toy.tables.belief(x, t), (1.0, oracle.log_linear(t))
    laws = [toy.family.posterior(v, belief[i], *alphas)[:VOCAB] for i, v in enumerate(x)]
    drawn = run.guess(state, key)
    assert_law(list(map(tuple, drawn.tolist())), oracle.as_dict(oracle.outer(laws)))
    assert run.guess(state)[0].tolist() == [int(law.argmax()) for law in laws]


def test_neighbours_of_a_first_text_are_first_texts(as_denoiser, seed):
    toy = Toy("uniform", as_denoiser)
    rows, key = 9000, Key(rng.rows(seed, 0, 9000))
    run = toy.run(rows)
    first = run.start(key, torch.arange(rows))
    moved = run.near(first, 0.4, Key(rng.derived(key.seed, 1)))
    assert_law(list(map(tuple, moved.tokens.tolist())), oracle.as_dict(toy.first))
    same = int((moved.tokens == first.tokens).sum())
    assert stats.binomtest(same, rows * LENGTH, 0.6 + 0.4 / VOCAB).pvalue > 1e-6


def test_a_canvas_of_masks_has_no_neighbours(as_denoiser, seed):
    with pytest.raises(ValueError, match="always the same; use paths"):
        Toy("absorbing", as_denoiser).find(ZeroOrder(), 2, seed)


def test_going_back_is_the_process_itself(toy, seed):
    """From the end to step 1: every token survives or not, as q(x_t | x_0) has it."""
    rows, key = 9000, Key(rng.rows(seed, 0, 9000))
    run = toy.run(rows)
    state = run.start(key, torch.arange(rows))
    for _ in range(STEPS):
        state = run.advance(state, key).state
    back = run.back(state, 1, Key(rng.derived(key.seed, 1)))
    alpha = oracle.log_linear(1 - 1 / STEPS)
    states = len(toy.family.prior)
    keep = alpha * np.eye(states) + (1 - alpha) * toy.family.prior
    whole = np.zeros(toy.first.shape)
    whole[(slice(VOCAB),) * LENGTH] = toy.law
    for axis in range(LENGTH):
        whole = np.moveaxis(np.tensordot(whole, keep, (axis, 0)), -1, axis)
    assert_law(list(map(tuple, back.tokens.tolist())), oracle.as_dict(whole))
    with pytest.raises(ValueError, match="can go back to 0 to 1"):
        run.back(back, 2, key)


def test_what_is_given_stays_through_every_search(toy, seed):
    tokens = torch.tensor([[2, 0, 0], [0, 1, 1]])
    canvas = Canvas(tokens, torch.tensor([[True, False, False], [False, True, True]]))
    run = TextRun(toy.strategy, toy.process, toy.denoise, canvas)
    for search in (BestOf(3), SVDD(3), Particles(3), Paths(2, 2, 2, 2, 1)):
        sample = search.search(run, reward, Key(rng.rows(seed, 0, 2))).sample
        assert sample[0, 0] == 2
        assert sample[1, 1:].tolist() == [1, 1]


def test_paths_that_start_over_are_random_search(as_denoiser, seed):
    """One path that goes back to masks and on to the end: the best of as many samples."""
    toy = Toy("absorbing", as_denoiser)
    search = Paths(1, 4, 0, 0, STEPS)
    order = np.argsort(PRIZE.flatten())
    below = np.concatenate([[0.0], toy.law.flatten()[order].cumsum()])
    best = np.empty(order.shape)
    best[order] = np.diff(below.clip(max=1) ** 4)
    assert_law(texts(toy.find(search, 8000, seed)), oracle.as_dict(best.reshape(toy.law.shape)))


def test_answers_serve_copies_at_other_times_only_where_a_model_ignores_the_time(as_denoiser, seed):
    """First hitting draws its times: a model that reads them must be asked again."""
    toy = Toy("absorbing", as_denoiser)
    toy.strategy = FirstHitting()
    key, costs = Key(rng.rows(seed, 0, 6)), []
    for timeless in (False, True):
        run = toy.run(6)
        run = TextRun(run.strategy, run.process, run.denoise, run.canvas, timeless)
        one = SVDD(4, 0.0, Given(lambda state: reward(state.tokens % VOCAB))).search(
            run, reward, key
        )
        costs.append(one.evaluations)
    assert (costs[1] == LENGTH).all()
    assert (costs[0] == LENGTH + 4 * LENGTH).all()


def test_the_likelihood_of_the_best_text_is_that_of_the_order_statistics(toy, seed):
    """What a verifier costs: the sampler's own log-probability of what was chosen, for any N."""
    log_law = torch.from_numpy(np.log(toy.law))

    for n in (1, 4, 16):
        found = toy.find(BestOf(n), 3000, seed)
        fell = float(log_law[tuple(found.sample.unbind(1))].mean())
        order = np.argsort(PRIZE.flatten())
        below = np.concatenate([[0.0], toy.law.flatten()[order].cumsum()])
        shares = np.diff(below.clip(max=1) ** n)
        exact = float((shares * np.log(toy.law.flatten()[order])).sum())
        spread = float((shares * np.log(toy.law.flatten()[order]) ** 2).sum() - exact**2)
        assert abs(fell - exact) < FAR * math.sqrt(spread / 3000)
