"""The dynamic sparse tree, against every tree there is."""

import itertools

import inside
import numpy as np
import pytest
import torch

from unison.drafters.ahead import last_node
from unison.drafters.futures import Futures, ranked
from unison.drafters.medusa import Medusa
from unison.drafters.ppd import Ppd
from unison.drafters.ppd_tree import (
    Shape,
    Sparse,
    allotted,
    candidates,
    designed,
    fastest,
    stationary,
    transitions,
)
from unison.speculation.builders.chain import Chain
from unison.speculation.loop import Speculation, speculate
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.tree import How

ACCURACY = [[0.5, 0.2, 0.1], [0.4, 0.15, 0.1], [0.3, 0.2, 0.05]]


def accuracies(seed: int, depth: int = 3, ranks: int = 3):
    draws = np.random.default_rng(seed).dirichlet(np.ones(ranks + 1), depth)
    return [sorted(row[:-1].tolist(), reverse=True) for row in draws]


def chance(path, accuracy):
    return float(np.prod([accuracy[i][rank] for i, rank in enumerate(path)]))


def every_tree(accuracy, nodes: int, depth: int):
    """All sets of so many paths that hold every path's beginning."""
    ranks = range(len(accuracy[0]))
    paths = [p for d in range(1, depth + 1) for p in itertools.product(ranks, repeat=d)]
    for tree in itertools.combinations(paths, nodes):
        if all(len(path) == 1 or path[:-1] in tree for path in tree):
            yield tree


def accepted(tree, accuracy, outcome):
    """The last node accepted when the right guess of each depth is known; -1 for none of them."""
    path = ()
    for rank in outcome:
        if (*path, rank) not in tree:
            break
        path = (*path, rank)
    return path


def outcomes(accuracy):
    """Which guess of each depth is right, with its chance."""
    rows = [[*row, 1 - sum(row)] for row in accuracy]
    for ranks in itertools.product(*(range(len(row)) for row in rows)):
        weight = float(np.prod([row[rank] for row, rank in zip(rows, ranks, strict=True)]))
        yield [rank if rank < len(rows[0]) - 1 else -1 for rank in ranks], weight


@pytest.mark.parametrize("seed", range(6))
def test_no_tree_of_the_size_has_more_drafts_accepted(seed):
    accuracy = accuracies(seed, 3, 2)
    for nodes, depth in ((1, 1), (3, 2), (4, 3), (5, 3)):
        found = candidates(accuracy, nodes, depth)
        best = max(
            sum(chance(path, accuracy) for path in tree)
            for tree in every_tree(accuracy, min(nodes, 2 if depth == 1 else nodes), depth)
        )
        assert found.gain == pytest.approx(best, abs=1e-12)
        assert set(found.paths) in [set(tree) for tree in every_tree(accuracy, nodes, depth)]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_expected_is_the_mean_over_all_that_can_happen(seed):
    accuracy = accuracies(seed)
    tree = candidates(accuracy, 8, 3)
    mean, last = 0.0, dict.fromkeys([(), *tree.paths], 0.0)
    for outcome, weight in outcomes(accuracy):
        path = accepted(tree.paths, accuracy, outcome)
        mean += weight * len(path)
        last[path] += weight
    assert tree.gain == pytest.approx(mean, abs=1e-12)
    assert tree.last == pytest.approx(tuple(last.values()), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [0, 1, 3, 6, 8])
def test_no_other_prompt_tokens_are_worth_more_where_each_gains_less_than_the_last(seed, most):
    last = np.random.default_rng(seed).dirichlet(np.ones(4)).tolist()
    gains = [0.0, 0.9, 1.3]
    count = allotted(last, gains, most)
    worth = sum(chance * gains[n] for chance, n in zip(last, count, strict=True))
    best = max(
        sum(chance * gains[n] for chance, n in zip(last, way, strict=True))
        for way in itertools.product(range(3), repeat=4)
        if sum(way) <= most
    )
    assert sum(count) == most
    assert worth == pytest.approx(best, abs=1e-12)


def test_the_shares_of_states_are_those_of_a_long_walk():
    moves = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3], [0.05, 0.05, 0.9]])
    shares = stationary(moves)
    np.testing.assert_allclose(shares @ moves, shares, atol=1e-12)
    rng, state, seen = np.random.default_rng(0), 0, np.zeros(3)
    for u in rng.random(40_000):
        state = int(np.searchsorted(np.cumsum(moves[state]), u))
        seen[state] += 1
    # Visits of a state come in runs of at most 14 or so: a standard error below 0.01.
    np.testing.assert_allclose(seen / seen.sum(), shares, atol=0.05)


def test_a_chain_that_only_alternates_or_never_leaves_has_shares_too():
    np.testing.assert_allclose(stationary(np.array([[0.0, 1.0], [1.0, 0.0]])), [0.5, 0.5])
    np.testing.assert_allclose(stationary(np.eye(3)), [1.0, 0.0, 0.0])


def test_states_follow_each_other_as_the_last_nodes_have_prompt_tokens():
    moves = transitions([[1.0], [0.25, 0.5, 0.25]], [[1], [0, 1, 1]])
    np.testing.assert_allclose(moves, [[0.0, 1.0], [0.25, 0.75]])


def test_what_a_design_writes_is_what_a_simulation_of_it_writes():
    design = designed(ACCURACY, 9)
    rng = np.random.default_rng(1)
    state, written, seen = 0, [], np.zeros(4)
    for _ in range(10_000):
        seen[state] += 1
        paths, probes = design.shapes[state]
        outcome = []
        for row in ACCURACY:
            rank = int(np.searchsorted(np.cumsum(row), rng.random()))
            outcome.append(rank if rank < len(row) else -1)
        path = accepted(paths, ACCURACY, outcome)
        written.append(1 + len(path))
        state = dict(zip([(), *paths], probes, strict=True))[path]
    # Standard error: below 1 / sqrt(10 000) = 0.01, times 1.5 for runs; 6 of them.
    assert np.mean(written) == pytest.approx(design.written, abs=0.09)
    np.testing.assert_allclose(seen / seen.sum(), design.shares, atol=0.04)


@pytest.mark.parametrize(("seed", "members"), [(0, 1), (1, 1), (2, 2), (3, 1)])
def test_no_other_sizes_of_the_trees_write_more(seed, members):
    accuracy = accuracies(seed, 2, 2)
    read = 7
    best = 0.0
    for sizes in itertools.product(range(read), repeat=2):
        trees = [candidates(accuracy, n, s) for s, n in enumerate((0, *sizes))]
        gains = [tree.gain for tree in trees]
        probes = [
            allotted(tree.last, gains, (read - 1 - len(tree.paths)) // members) for tree in trees
        ]
        shares = stationary(transitions([tree.last for tree in trees], probes))
        best = max(best, 1 + float(shares @ gains))
    design = designed(accuracy, read, members)
    assert design.written == pytest.approx(best, abs=1e-9)
    for shape in design.shapes:
        assert 1 + len(shape.paths) + members * sum(shape.probes) <= read


def test_more_room_writes_more_and_the_machine_decides_what_is_worth_it():
    reads, accuracy = (1, 3, 6, 9), ACCURACY[:2]
    worths = {read: designed(accuracy, read).written for read in reads}
    assert worths[1] == 1.0
    assert all(a < b for a, b in itertools.pairwise(worths.values()))
    assert fastest(accuracy, dict.fromkeys(reads, 1.0)).read == 9
    assert fastest(accuracy, {read: float(read) for read in reads}).read == 1
    seconds = {1: 1.0, 3: 1.05, 6: 1.1, 9: 3.0}
    assert max(reads, key=lambda read: worths[read] / seconds[read]) == 6
    assert fastest(accuracy, seconds).read == 6


@pytest.mark.parametrize("kind", [Ppd(tokens=3, places=4), Ppd(tokens=2, members=2, places=4)])
def test_each_round_drafts_the_tree_of_the_state_the_last_accepted_node_left(kind):
    net = inside.network()
    target, drafter = inside.fitted(kind, net)
    design = designed(ACCURACY[: kind.tokens], 10, kind.members)
    rounds = []
    prompts = [[1, 2, 3], [4], [0, 0]]
    how = Speculation(drafter, Sparse(design.shapes), scheduler=Fixed(3), policy=Plain())
    ask = inside.asked(target.begin, prompts, 12)
    speculate(how, target, ask, rounds.append)
    state, met = [0, 0, 0], set()
    for one in rounds[:6]:
        tree, last = one.outcome.tree, last_node(one.outcome).tolist()
        for row, number in enumerate(one.rows):
            paths, probes = design.shapes[state[number]]
            live, how_made = tree.live[row], tree.how[row]
            real = live & (how_made == How.FIXED)
            assert _paths(tree, row, real) == {(), *paths}
            assert int((live & (how_made == How.PROBE)).sum()) == kind.members * sum(probes)
            node = _path(tree, row, last[row])
            state[number] = dict(zip([(), *paths], probes, strict=True))[node]
            met.add(state[number])
    assert len(met) > 1


def _path(tree, row, node):
    ranks = []
    while tree.parent[row, node] >= 0:
        ranks.append(int(tree.rank[row, node]))
        node = int(tree.parent[row, node])
    return tuple(ranks[::-1])


def _paths(tree, row, which):
    return {_path(tree, row, node) for node in which.nonzero()[:, 0].tolist()}


def test_a_tree_keeps_to_the_room_and_nodes_planned():
    net = inside.network()
    target, drafter = inside.fitted(Medusa(heads=3, places=4), net)
    shapes = tuple(
        Shape(tree.paths, (0,) * (len(tree.paths) + 1))
        for tree in (candidates(ACCURACY, 9, depth) for depth in range(4))
    )
    rounds = []
    how = Speculation(drafter, Sparse(shapes), scheduler=Fixed(2, nodes=4), policy=Plain())
    speculate(how, target, inside.asked(6, [[1, 2], [3]], 8), rounds.append)
    for one in rounds:
        assert int(one.outcome.tree.live.sum(1).max()) <= 5
        assert int((one.outcome.tree.depth * one.outcome.tree.live).max()) <= 2
    assert int(rounds[0].outcome.tree.live.sum(1).min()) == 5


def test_shapes_deeper_than_their_state_and_bad_accuracies_are_refused():
    with pytest.raises(ValueError, match="no deeper"):
        Sparse((Shape(((0,),), (0, 0)),))
    with pytest.raises(ValueError, match="no deeper"):
        Sparse(())
    with pytest.raises(ValueError, match="do not increase"):
        designed([[0.1, 0.2]], 4)
    with pytest.raises(ValueError, match="at most 1"):
        designed([[0.7, 0.6]], 4)
    with pytest.raises(ValueError, match="room for 0"):
        designed(ACCURACY, 0)
    with pytest.raises(ValueError, match="no times"):
        fastest(ACCURACY, {})
    with pytest.raises(ValueError, match="no accuracies"):
        designed([], 4)


def test_a_drafter_that_guesses_token_by_token_is_refused():
    import speculating

    from unison.speculation import Table

    law = speculating.random_law(0)
    drafter = speculating.TableDrafter(law)
    how = Speculation(drafter, Sparse((Shape((), (0,)),)))
    with pytest.raises(ValueError, match="side by side"):
        speculate(how, Table(law, 3), inside.asked(0, [[1]], 3))
    assert Speculation(drafter, Chain()).lossless


def test_measured_accuracies_never_increase_from_rank_to_rank():
    truth = torch.tensor([0, 0, 1, 2, 2, 2]).view(1, 6, 1)
    guesses = torch.tensor([3.0, 2.0, 1.0]).expand(1, 6, 1, 3)
    futures = Futures(guesses, torch.nn.functional.one_hot(truth, 3).float(), truth)
    found = ranked(futures, 3)  # right two, one and three times out of six
    np.testing.assert_allclose(found.numpy(), [[2 / 6, 1 / 6, 1 / 6]])
    assert designed(found.tolist(), 4).written > 1
