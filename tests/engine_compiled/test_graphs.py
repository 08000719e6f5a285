"""Graphs are one per shape, whole or not at all; buckets are few and the canvas decides."""

import pytest
import torch

from unison.engine.compiled import Buckets, Graphs, Trial, tried


def spying(made):
    def compiler(function):
        made.append(0)
        number = len(made) - 1

        def graph(*arguments):
            made[number] += 1
            return function(*arguments)

        return graph

    return compiler


def test_each_shape_is_compiled_once_and_modes_are_part_of_it():
    made = []
    graphs = Graphs(lambda x, mask: x + 1, spying(made), pytest.fail)
    one, two = torch.zeros(2, 3), torch.zeros(2, 4)
    for x in (one, two, one + 1, two):
        assert torch.equal(graphs(x, None), x + 1)
    assert made == [2, 2]
    graphs(one, torch.ones(2, 3, dtype=torch.bool))
    with torch.no_grad():
        graphs(one, None)
    with torch.autocast("cpu", torch.bfloat16):
        graphs(one, None)
    graphs(one.double(), None)
    graphs(torch.zeros(3, 2).T, None)
    assert made == [2, 2, 1, 1, 1, 1, 1]
    assert graphs.compiled == 7
    assert graphs.failed == 0


def test_a_shape_that_cannot_be_compiled_runs_as_written_and_others_do_not_mind():
    said = []

    def compiler(function):
        def graph(x):
            if x.shape[0] == 2:
                raise RuntimeError("\n  an operation is unknown\n  at line 7")
            return function(x)

        return graph

    graphs = Graphs(lambda x: 2 * x, compiler, said.append)
    for _ in range(2):
        assert torch.equal(graphs(torch.ones(2)), 2 * torch.ones(2))
        assert torch.equal(graphs(torch.ones(3)), 2 * torch.ones(3))
    assert said == ["not compiled, runs as it is: RuntimeError: an operation is unknown"]
    assert (graphs.compiled, graphs.failed) == (1, 1)


def test_an_error_of_the_function_itself_stays_an_error():
    def wrong(x):
        raise ValueError("too long a canvas")

    with pytest.raises(ValueError, match="too long"):
        Graphs(wrong, lambda function: function, pytest.fail)(torch.ones(1))

    def failing(x):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="do not fit"):
        Graphs(failing, lambda function: function, pytest.fail)(torch.ones(1))


@pytest.mark.parametrize("longest", [1, 5, 16, 17, 100, 128, 1000, 1024, 4096])
def test_a_handful_of_lengths_serves_every_canvas_and_wastes_less_than_half(longest):
    buckets = Buckets(1, longest)
    assert buckets.lengths == tuple(sorted(set(buckets.lengths)))
    assert buckets.lengths[-1] == longest
    assert len(buckets.lengths) <= 2 * longest.bit_length()
    for length in range(1, longest + 1):
        room = buckets.of(1, length)
        assert room in buckets.lengths
        assert length <= room
        assert length <= 16 or room < 1.5 * length
    assert buckets.of(1, longest + 1) is None
    assert buckets.of(2, 1) is None


def test_buckets_of_nothing_are_refused():
    with pytest.raises(ValueError, match="longest must be at least 1, got 0"):
        Buckets(1, 0)


def test_compiling_pays_only_if_it_wins_every_turn_and_by_enough():
    assert Trial((1.2, 1.1, 1.3)).pays
    assert not Trial((1.2, 0.99, 1.3)).pays
    assert not Trial((1.01, 1.01, 1.02)).pays
    assert "1.20 times as fast (1.10 to 1.30 in 3 turns)" in str(Trial((1.2, 1.1, 1.3)))


def test_both_ways_take_turns_after_a_first_go_that_is_not_timed():
    now, log = [0.0], []

    def work(name, seconds):
        def run():
            log.append(name)
            now[0] += seconds

        return run

    trial = tried(work("plain", 3.0), work("made", 2.0), lambda: now[0], rounds=4)
    assert trial.ratios == (1.5,) * 4
    assert log == ["plain", "made"] * 5
