"""Every search in the table, on text and on events, held to what all searches promise."""

import dataclasses
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from unison.decode.api import Canvas
from unison.decode.continuous import SOLVERS, solve
from unison.decode.continuous.api import State, asked
from unison.decode.continuous.ddim import DDIM
from unison.decode.diffusion.ancestral import Ancestral
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Sequential, Uniform
from unison.search import SEARCHES, SVDD, BestOf, EventRun, Given, Guessed, TextRun, search_named
from unison.search.api import Found, Run, Search
from unison.types import Law

VOCAB, LENGTH, ROWS = 5, 4, 3
LEVELS = (5.0, 2.0, 1.0, 0.4, 0.1, 0.0)


@dataclass(frozen=True)
class Noisy:
    """A solver with noise in its steps, element by element."""

    law: ClassVar[Law] = Law.EXACT

    def evaluations(self, intervals):
        return intervals

    def step(self, levels, denoise, state, key):
        level, after = levels[key.step : key.step + 2]
        past = asked(denoise, state.x, level)
        share = after**2 / level**2
        noise = rng.normal(key, 9, state.x[0].numel()).view_as(state.x)
        x = past.mean + share * (state.x - past.mean) + after * (1 - share) ** 0.5 * noise
        return State(x, (past,))


class Events:
    """A bent Gaussian belief, each element by itself; counts the rows it is asked about."""

    def __init__(self):
        self.rows = 0

    def __call__(self, x, level):
        self.rows += len(x)
        return (x + 0.4 * x.sin()) / (1 + level[:, None].square())

    def moments(self, x, level):
        mean = self(x, level)
        return mean, level[:, None].square() / (1 + level[:, None].square()) + 0 * x


class Texts:
    """A belief that hangs on the whole canvas and the time; counts the rows it is asked about."""

    def __init__(self, offset=None):
        self.rows, self.offset, self.whole = 0, offset, self

    def __call__(self, xt, t, focus=None, earlier=None):
        self.whole.rows += len(xt)
        own = 0 if self.offset is None else self.offset[:, None, None]
        place = torch.arange(1, LENGTH + 1)
        said = (place * (xt + 1)).sum(1)[:, None, None] + own
        logits = torch.cos(said * (torch.arange(VOCAB) + 2.0) + place[:, None] + t[:, None, None])
        return (2 * logits).float().log_softmax(-1)


class Own(Texts):
    """The same with something of its own for each row."""

    def keep(self, rows):
        kept = Own(self.offset[rows])
        kept.whole = self.whole
        return kept


def text(process):
    canvas = Canvas(
        torch.zeros(ROWS, LENGTH, dtype=torch.int64),
        torch.tensor([[True, False, False, False], [False] * 4, [False, False, True, True]]),
    )
    return TextRun(Ancestral(4), process, Own(torch.tensor([3, 1, 4])), canvas)


def events(solver=None):
    return EventRun(solver or Noisy(), LEVELS, Events(), (2,), draws=True)


def text_reward(tokens):
    return (tokens * torch.tensor([1.0, -2.0, 3.0, 0.5])).sum(1).sin()


def event_reward(x):
    return -(x - 0.3).square().sum(1)


RUNS = {
    "absorbing": (lambda: text(Absorbing(VOCAB)), text_reward),
    "uniform": (lambda: text(Uniform(VOCAB)), text_reward),
    "events": (events, event_reward),
    "events of an ODE": (lambda: events(DDIM()), event_reward),
}
SETTINGS = {
    "best_of": [{"n": 1}, {"n": 3}],
    "particles": [{"n": 3}, {"n": 2, "threshold": 1.0, "value": Guessed(2)}, {"threshold": 0.0}],
    "paths": [{}, {"n": 2, "branches": 2, "first": 0, "back": 2, "ahead": 1}, {"first": 9}],
    "svdd": [{"candidates": 3}, {"candidates": 2, "temperature": 0.7, "value": Guessed(2)}],
    "zero_order": [{"rounds": 2, "neighbours": 2}],
}
REFUSED = {
    "best_of": [{"n": 0}],
    "particles": [{"n": 0}, {"temperature": 0.0}, {"threshold": 1.5}],
    "paths": [{"n": 0}, {"branches": 0}, {"ahead": 0}, {"first": -1}, {"back": -1}],
    "svdd": [{"candidates": 0}, {"temperature": -1.0}, {"temperature": float("inf")}],
    "zero_order": [{"rounds": 0}, {"neighbours": 0}, {"spread": 0.0}, {"spread": 1.5}],
}
CASES = [
    pytest.param(SEARCHES[name](**settings), kind, id=f"{name}-{number}-{kind}")
    for name in SEARCHES
    for number, settings in enumerate(SETTINGS[name])
    for kind in RUNS
    if (name, kind) != ("zero_order", "absorbing")
]


def keys(first=0, count=ROWS):
    return Key(rng.rows(7, first, count))


def same(one: Found, other: Found) -> bool:
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, other, strict=True)
    )


def test_the_table_and_these_tests_name_the_same_searches():
    assert set(SETTINGS) == set(REFUSED) == set(SEARCHES)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_is_its_configuration(name):
    search = SEARCHES[name]()
    assert isinstance(search, Search)
    assert search == SEARCHES[name]()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(search, dataclasses.fields(search)[0].name, 3)  # pyright: ignore


@pytest.mark.parametrize(("name", "wrong"), [(n, w) for n in REFUSED for w in REFUSED[n]])
def test_nonsense_is_refused_by_name(name, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        SEARCHES[name](**wrong)


@pytest.mark.parametrize(("search", "kind"), CASES)
def test_a_search_is_pure_and_its_reward_is_that_of_its_sample(search, kind):
    make, reward = RUNS[kind]
    run = make()
    assert isinstance(run, Run)
    one = search.search(run, reward, keys())
    assert same(one, search.search(run, reward, keys()))
    assert torch.equal(one.reward, reward(one.sample).double())
    other = search.search(run, reward, Key(rng.rows(8, 0, ROWS)))
    assert not torch.equal(one.sample, other.sample), "seeds matter"


@pytest.mark.parametrize(("search", "kind"), CASES)
def test_every_evaluation_is_counted(search, kind):
    make, reward = RUNS[kind]
    run, judged = make(), []

    def watched(sample):
        judged.append(len(sample))
        return reward(sample)

    found = search.search(run, watched, keys())
    assert int(found.evaluations.sum()) == run.denoise.rows > 0
    assert found.judged * ROWS == sum(judged)


@pytest.mark.parametrize(("search", "kind"), CASES)
def test_a_row_is_the_same_alone_and_in_company(search, kind):
    make, reward = RUNS[kind]
    whole = search.search(make(), reward, keys())
    for row in range(ROWS):
        run = make()
        if isinstance(run, TextRun):
            one = torch.tensor([row])
            canvas = Canvas(run.canvas.tokens[one], run.canvas.given[one])
            run = replace(run, canvas=canvas, denoise=run.denoise.keep(one))
        alone = search.search(run, reward, keys(row, 1))
        mine = Found(*(part[row : row + 1] for part in whole[:4]), whole.judged)
        assert same(alone, mine), row


@pytest.mark.parametrize("name", SOLVERS)
def test_a_run_is_what_its_solver_draws_looked_at_copied_or_not(name):
    """What was looked at is not asked again, unless the solver asks somewhere else."""
    one, key = EventRun(SOLVERS[name](), LEVELS, Events(), (2,)), keys()
    plain = looked = one.start(key, torch.arange(ROWS))
    costs = torch.zeros(2, dtype=torch.int64)
    drawn = solve(one.solver, LEVELS, Events(), plain.x, key)
    for _ in range(one.steps):
        plain, cost = one.advance(plain, key)
        looked, first = one.look(looked, key)
        looked, second = one.advance(one.fork(looked, torch.arange(ROWS)), key)
        costs += torch.stack([cost[0], first[0] + second[0]])
    assert torch.equal(one.finish(plain), drawn.x)
    assert torch.equal(one.finish(looked), drawn.x)
    assert costs[0] == drawn.nfe
    assert costs[0] <= costs[1] <= drawn.nfe + one.steps
    again = one.back(plain, 2, key)
    for _ in range(one.steps - 2):
        again = one.advance(again, key).state
    assert again.step == one.steps
    assert again.x.isfinite().all()
    assert not torch.equal(again.x, plain.x)


def test_costs_are_those_the_searches_state():
    run = events()
    n = run.steps
    for search, cost in (
        (BestOf(3), 3 * n),
        (SVDD(4), 1 + 4 * (n - 1)),
        (SVDD(4, 0.0, Given(lambda state: -state.x.abs().sum(1))), n),
        (SEARCHES["zero_order"](2, 3), n * (1 + 2 * 3)),
        (SEARCHES["particles"](5), 5 * n),
    ):
        assert search.search(run, event_reward, keys()).evaluations.tolist() == [cost] * ROWS


def test_samples_nobody_wants_are_avoided_and_never_break_a_search():
    """A reward of -infinity forbids; where all is forbidden, weights are 0."""

    def forbidding(tokens):
        return torch.where(tokens[:, 1] == 0, -torch.inf, tokens.double().sum(1))

    def forbidding_all(tokens):
        return torch.full((len(tokens),), -torch.inf)

    run = text(Absorbing(VOCAB))
    for search in (BestOf(12), SVDD(12, 0.5), SVDD(12), SEARCHES["particles"](16)):
        assert (search.search(run, forbidding, keys()).sample[:, 1] != 0).all()
        hopeless = search.search(run, forbidding_all, keys())
        assert (hopeless.reward == -torch.inf).all()
    for search in (SVDD(3, 0.5), SEARCHES["particles"](4)):
        weights = search.search(run, forbidding_all, keys())
        assert (weights.log_weight == -torch.inf).all()


@pytest.mark.parametrize("search", [BestOf(2), SVDD(2), SEARCHES["particles"](2)])
def test_rewards_that_are_no_numbers_are_refused(search):
    run = events()
    with pytest.raises(ValueError, match="answered with shape"):
        search.search(run, lambda x: x, keys())
    with pytest.raises(ValueError, match="NaN or \\+infinity"):
        search.search(run, lambda x: x.sum(1) * torch.nan, keys())


def test_guesses_are_refused_where_there_is_no_belief():
    run = text(Absorbing(VOCAB))
    with pytest.raises(ValueError, match="look at the states first"):
        run.guess(run.start(keys(), torch.arange(ROWS)))
    one = events()
    with pytest.raises(ValueError, match="look at the states first"):
        one.guess(one.start(keys(), torch.arange(ROWS)))
    with pytest.raises(ValueError, match="knows its variance"):
        EventRun(DDIM(), LEVELS, lambda x, level: x, (2,), draws=True)
    plain = EventRun(DDIM(), LEVELS, Events(), (2,))
    with pytest.raises(ValueError, match="draws=True"):
        SVDD(2, 0.5, Guessed(2)).search(plain, event_reward, keys())
    with pytest.raises(ValueError, match="one length, without padding"):
        replace(run, canvas=run.canvas._replace(valid=~run.canvas.given))
    sequential = text(Sequential(VOCAB))
    with pytest.raises(ValueError, match="left-to-right"):
        sequential.guess(sequential.start(keys(), torch.arange(ROWS)))


def test_searches_are_read_from_a_line():
    assert search_named("best_of") == BestOf()
    assert search_named("best_of:n=3") == BestOf(3)
    assert search_named("svdd:candidates=4, temperature=0.5,draws=2") == SVDD(4, 0.5, Guessed(2))
    for line, message in (
        ("best_off", "unknown search 'best_off'; did you mean 'best_of'"),
        ("best_of:m=2", "best_of has no setting 'm'"),
        ("best_of:n=two", "n must be a whole number, got 'two'"),
        ("svdd:temperature=hot", "temperature must be a number, got 'hot'"),
        ("best_of:n=0", "n must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            search_named(line)
