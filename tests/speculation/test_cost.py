import itertools
import json
from pathlib import Path

import causal
import pytest
import torch

from unison.speculation import cost
from unison.speculation.cost import CostError, CostModel, Grid, linear, load, profiled


class Clock:
    """A clock that only goes on when a target is read, by what the reading costs."""

    def __init__(self, inner, price):
        self.inner, self.price, self.now, self.noise = inner, price, 0.0, itertools.cycle((3, 1, 2))

    def __call__(self) -> float:
        return self.now

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def open(self, rows, taps=()):
        return Read(self, self.inner.open(rows, taps), rows)


class Read:
    def __init__(self, clock, inner, rows):
        self.clock, self.inner, self.rows, self.length = clock, inner, rows, 0

    def read(self, tokens, count, logits=False):
        self.length += tokens.shape[1]
        return self.inner.read(tokens, count, logits)

    def score(self, tree, since=0):
        exact = self.clock.price(tree.tokens.shape[1], self.rows, self.length)
        self.clock.now += exact * next(self.clock.noise)
        return self.inner.score(tree, since)

    def commit(self, path): ...

    def cut(self, length): ...

    def keep(self, rows): ...


def test_what_is_measured_is_the_least_of_several_times_and_never_falls():
    def price(tokens: int, rows: int, context: int) -> float:
        return (1.0 + 0.1 * tokens + 0.01 * context) * rows

    clock = Clock(causal.target(1), price)
    grid = Grid((1, 2, 4), (5, 10), (1, 2), 3)
    model = profiled(clock, grid, "toy", clock)  # type: ignore
    for tokens, context, batch in itertools.product(grid.tokens, grid.contexts, grid.batches):
        want = price(tokens, batch, context)
        assert model.target(tokens, batch, context) == pytest.approx(want)
    bumpy = Clock(
        causal.target(1), lambda tokens, rows, context: 5.0 if tokens == 2 else 1.0 * tokens
    )
    model = profiled(bumpy, Grid((1, 2, 4), (5,), (1,), 3), "toy", bumpy)  # type: ignore
    assert [model.target(tokens) for tokens in (1, 2, 4)] == [1, 4, 4]


def test_a_network_is_measured_on_one_thread_and_the_threads_come_back():
    before = torch.get_num_threads()
    model = profiled(causal.target(1), Grid((1, 8), (16,), (1,), 2), "tiny")
    assert 0 < model.target(1) <= model.target(8) < 10
    assert torch.get_num_threads() == before
    assert model.machine["threads"] == "1"
    with pytest.raises(ValueError, match="64 inputs and the measurement needs 264"):
        profiled(causal.target(1), Grid((8,), (256,)))


def test_between_measurements_time_is_a_straight_line_and_beyond_them_goes_on():
    model = CostModel((1, 4, 8), (10, 20), (1, 3), seconds())
    assert model.target(4, 1, 10) == 4
    assert model.target(6, 1, 10) == 5
    assert model.target(12, 1, 10) == 8
    assert model.target(0, 1, 10) == 1
    assert model.target(4, 1, 15) == 6
    assert model.target(4, 2, 10) == 8
    assert model.target(4) == 4


def seconds():
    return tuple(
        tuple(tuple(scale * batch * t for t in (1.0, 4.0, 6.0)) for scale in (1, 2))
        for batch in (1, 3)
    )


def test_speedup_is_tokens_over_time():
    model = CostModel((1, 5), (0,), (1,), (((2.0, 3.0),),), draft=0.1, overhead=0.2)
    assert model.round(4, 4) == pytest.approx(3.0 + 0.4 + 0.2)
    assert model.speedup(2.5, 4, 4) == pytest.approx(2.5 * 2.0 / 3.6)
    assert linear(0.25).speedup(3, 4, 4) == pytest.approx(3 / 2)


def test_a_cost_model_is_read_as_it_was_written(tmp_path: Path):
    path = tmp_path / "cost.json"
    model = CostModel((1, 4, 8), (10, 20), (1, 3), seconds(), 0.1, 0.2, "m", cost.machine())
    model.save(path)
    assert load(path) == model
    assert load(path, "m") == model
    assert json.loads(path.read_text())["machine"]["torch"] == torch.__version__


def test_a_file_that_is_none_or_of_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "cost.json"
    with pytest.raises(CostError, match="no cost model at"):
        load(path)
    model = CostModel((1, 4, 8), (10, 20), (1, 3), seconds(), 0.1, 0.2, "m", cost.machine())
    model.save(path)
    with pytest.raises(CostError, match="speaks of 'm' and not of 'other'"):
        load(path, "other")
    good = json.loads(path.read_text())
    for change, message in (
        ({"machine": {**good["machine"], "processor": "abacus"}}, "another machine.*'abacus'"),
        ({"format": "unison-drafter"}, "is no cost model"),
        ({"format_version": 99}, "format version 99"),
        ({"tokens": [4, 1]}, "damaged .*rising"),
        ({"seconds": [[[1.0]]]}, "damaged .*one for each"),
        ({"seconds": 3}, "damaged"),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(CostError, match=message):
            load(path)
    del good["draft"]
    path.write_text(json.dumps(good))
    with pytest.raises(CostError, match="'draft'"):
        load(path)
    path.write_text(path.read_text()[:40])
    with pytest.raises(CostError, match="damaged"):
        load(path)


def test_numbers_that_are_no_costs_are_refused():
    with pytest.raises(CostError, match="rising"):
        CostModel((2, 1), (0,), (1,), (((1.0, 2.0),),))
    with pytest.raises(CostError, match="above 0"):
        CostModel((1, 2), (0,), (1,), (((1.0, 0.0),),))
    with pytest.raises(CostError, match="at least 0"):
        CostModel((1, 2), (0,), (1,), (((1.0, 2.0),),), draft=-1.0)
