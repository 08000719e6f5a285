import itertools
import math

import numpy as np
import pytest
import torch
from speculating import TableDrafter, random_law

from unison.prob import rng
from unison.speculation import Table, Text
from unison.speculation.builders import BUILDERS
from unison.speculation.builders.beam import Beam
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.greedy import Greedy
from unison.speculation.builders.gumbel import Gumbel
from unison.speculation.builders.multi import Multi
from unison.speculation.builders.static import Static, best_paths
from unison.speculation.builders.top_k import TopK
from unison.speculation.choosing import Keyed
from unison.speculation.parts import Plan
from unison.speculation.tree import How, Tree, ancestors, planted

V = 5
Q = random_law(3, V)
LAWFUL = {
    "chain": Chain(sampled=True),
    "static": Static(),
    "top_k": TopK(3, 9),
    "multi": Multi((3, 2, 1)),
    "gumbel": Gumbel((3, 2, 1)),
    "beam": Beam(3),
    "greedy": Greedy((3, 2, 1)),
}


def built(builder, plan: Plan, texts=None, seeds=None, drafter=None, go_on=None) -> Tree:
    rows = len(plan.depth)
    texts = [[1]] * rows if texts is None else texts
    drafter = TableDrafter(Q, V) if drafter is None else drafter
    drafting = drafter.open(Table(Q, V), rows)
    length = torch.tensor([1 + len(text) for text in texts])
    tokens = torch.zeros(rows, int(length.max())).long()
    for row, text in enumerate(texts):
        tokens[row, 1 : 1 + len(text)] = torch.tensor(text)
    drafting.begin(Text(tokens, length), None)  # type: ignore
    seeds = rng.rows(5, 0, rows) if seeds is None else seeds
    choose = Keyed(seeds, torch.zeros(rows).long(), torch.zeros(rows).long())
    root = planted(torch.tensor([text[-1] for text in texts]), V, torch.float64)
    on = (lambda tree: tree.live[:, 0]) if go_on is None else go_on
    return builder.build(root, drafting, plan, choose, on)


def nodes_of(tree: Tree, row: int) -> list[tuple]:
    """Return the nodes of a row as ways of (rank, token), with what else is said of them."""
    ways, said = [], []
    for node in range(tree.tokens.shape[1]):
        up = int(tree.parent[row, node])
        own = (int(tree.rank[row, node]), int(tree.tokens[row, node]))
        ways.append(() if node == 0 else (*ways[up], own))
        if bool(tree.live[row, node]) and node:
            said.append((ways[node], int(tree.how[row, node]), float(tree.logq[row, node])))
    return said


def test_every_builder_of_laws_is_examined():
    assert {name for name, kind in BUILDERS.items() if not kind.copies} == set(LAWFUL)


@pytest.mark.parametrize("name", LAWFUL)
def test_a_row_has_the_tree_it_has_alone(name: str):
    texts = [[1], [2, 0], [4, 4, 3], [0]]
    plan = Plan((3, 2, 0, 1), (7, 30, 5, 2))
    seeds = rng.rows(9, 0, 4)
    together = built(LAWFUL[name], plan, texts, seeds)
    for row in range(4):
        one = Plan(plan.depth[row : row + 1], plan.nodes[row : row + 1])
        alone = built(LAWFUL[name], one, texts[row : row + 1], seeds[row : row + 1])
        assert nodes_of(alone, 0) == nodes_of(together, row)


@pytest.mark.parametrize("name", LAWFUL)
def test_a_tree_is_a_tree_and_no_larger_than_planned(name: str):
    builder = LAWFUL[name]
    for depth, nodes in itertools.product((0, 1, 3), (0, 1, 4, 100)):
        plan = Plan((depth, 2), (nodes, 5))
        tree = built(builder, plan)
        live = tree.live
        assert (live.sum(1) - 1 <= torch.tensor([nodes, 5])).all()
        assert (torch.where(live, tree.depth, 0).amax(1) <= torch.tensor([depth, 2])).all()
        assert int(live.sum(1)[0]) - 1 <= builder.size(depth)
        if nodes == 100:
            assert int(live.sum(1)[0]) - 1 == min(builder.size(depth), nodes)
        assert (tree.parent[:, 1:] < torch.arange(1, tree.tokens.shape[1])).all()
        up = tree.parent.clamp(min=0)
        assert (live.gather(1, up) | ~live).all()
        assert (tree.depth == ancestors(tree).sum(2) - 1)[live].all()
        assert int(torch.where(live, tree.rank, 0).max()) < max(tree.width, 1)
        assert int(torch.where(live, tree.depth, 0).max()) <= tree.height


@pytest.mark.parametrize("name", LAWFUL)
def test_siblings_are_ranked_from_0_without_a_gap(name: str):
    tree = built(LAWFUL[name], Plan((3,) * 6, (8,) * 6))
    for row in range(6):
        families: dict[int, list[int]] = {}
        for node in range(1, tree.tokens.shape[1]):
            if bool(tree.live[row, node]):
                families.setdefault(int(tree.parent[row, node]), []).append(
                    int(tree.rank[row, node])
                )
        assert all(sorted(ranks) == list(range(len(ranks))) for ranks in families.values())


@pytest.mark.parametrize("name", LAWFUL)
def test_what_was_drawn_can_be_looked_up_in_the_law_it_was_drawn_from(name: str):
    tree = built(LAWFUL[name], Plan((2, 3), (40, 6)), [[1], [3, 2]])
    checked = 0
    for row, text in enumerate(([1], [3, 2])):
        ways: list[tuple[int, ...]] = [()]
        for node in range(1, tree.tokens.shape[1]):
            up, token = int(tree.parent[row, node]), int(tree.tokens[row, node])
            ways.append((*ways[up], token))
            if not bool(tree.live[row, node]):
                continue
            law = Q((*text, *ways[up]))
            assert float(tree.logq[row, node]) == pytest.approx(math.log(law[token]), abs=1e-5)
            if int(tree.how[row, node]) in (How.IID, How.WITHOUT, How.LAST):
                told = tree.laws[row, int(tree.law[row, up])]
                assert told.exp().tolist() == pytest.approx(law)
            checked += 1
    assert checked >= 4


@pytest.mark.parametrize("name", LAWFUL)
def test_rows_stop_where_the_scheduler_stops_them(name: str):
    def go_on(tree: Tree):
        deep = torch.where(tree.live, tree.depth, 0).amax(1)
        return deep < torch.tensor([1, 0, 9])

    tree = built(LAWFUL[name], Plan((3,) * 3, (50,) * 3), go_on=go_on)
    deep = torch.where(tree.live, tree.depth, 0).amax(1)
    assert deep.tolist()[:2] == [1, 0]
    assert int(deep[2]) >= 2


@pytest.mark.parametrize("name", LAWFUL)
def test_tokens_that_cannot_come_are_not_drafted(name: str):
    def law(text: tuple[int, ...]):
        few = [0.0] * V
        few[(sum(text) + 1) % V] = 1.0
        if len(text) % 2:
            few[(sum(text) + 1) % V], few[(sum(text) + 3) % V] = 0.75, 0.25
        return few

    tree = built(LAWFUL[name], Plan((3,), (50,)), drafter=TableDrafter(law, V))
    assert bool(tree.live[0, 1])
    for way, _, logq in nodes_of(tree, 0):
        tokens = [1, *(token for _, token in way)]
        told = law(tuple(tokens[:-1]))[tokens[-1]]
        assert told > 0
        assert logq == pytest.approx(math.log(told), abs=1e-6)


@pytest.mark.parametrize("name", LAWFUL)
def test_confidence_is_the_drafters_for_the_first_child_and_its_rest_for_others(name: str):
    drafter = TableDrafter(Q, V, lambda text: 1 / (1 + len(text)))
    tree = built(LAWFUL[name], Plan((2,), (20,)), drafter=drafter)
    for node in range(1, tree.tokens.shape[1]):
        first = 1 / (2 + int(tree.depth[0, node]) - 1)
        want = first if int(tree.rank[0, node]) == 0 else 1 - first
        assert float(tree.confidence[0, node]) == pytest.approx(want)


def test_the_most_probable_nodes_are_the_best_tree_of_their_number():
    law = Q

    def small(text: tuple[int, ...]):  # three tokens, so that all trees can be tried
        few = law(text)[:3]
        return [*(x / sum(few) for x in few), 0.0, 0.0]

    def worth(tree: Tree) -> float:
        total = {0: 0.0}
        for node in range(1, tree.tokens.shape[1]):
            total[node] = total[int(tree.parent[0, node])] + float(tree.logq[0, node])
        return sum(math.exp(x) for node, x in total.items() if node)

    ways = [way for n in (1, 2, 3) for way in itertools.product(range(3), repeat=n)]
    value = {(): 1.0}
    for way in ways:
        value[way] = value[way[:-1]] * small((1, *way[:-1]))[way[-1]]
    closed = [{()}]
    for nodes in range(1, 6):
        longer = {
            frozenset(have | {way})
            for have in closed
            for way in ways
            if way not in have and way[:-1] in have
        }
        closed = [set(one) for one in longer]
        best = max(sum(value[way] for way in one) - 1 for one in closed)
        tree = built(TopK(9, nodes), Plan((3,), (99,)), drafter=TableDrafter(small, V))
        assert int(tree.live.sum()) == nodes + 1 or nodes == 0
        tree = built(TopK(9, 99), Plan((3,), (nodes,)), drafter=TableDrafter(small, V))
        assert int(tree.live.sum()) == nodes + 1
        assert worth(tree) == pytest.approx(best, abs=1e-6)


def test_only_the_likeliest_nodes_of_a_level_are_looked_into():
    tree = built(TopK(2, 99), Plan((3,), (99,)))
    by_level: list[list[tuple[int, ...]]] = [[()]]
    seen: list[tuple[int, ...]] = []
    for _ in range(3):
        score = {}
        for way in by_level[-1]:
            law = Q((1, *way))
            for token in np.argsort(law)[::-1][:2].tolist():
                base = 1.0
                for i in range(len(way)):
                    base *= Q((1, *way[:i]))[way[i]]
                score[(*way, token)] = base * law[token]
        seen += score
        by_level.append(sorted(score, key=lambda way: -score[way])[:2])
    found = [tuple(token for _, token in way) for way, _, _ in nodes_of(tree, 0)]
    assert sorted(found) == sorted(seen)
    assert len(found) == TopK(2, 99).size(3)


def test_paths_are_chosen_as_trying_all_sets_would_choose_them():
    rng_ = np.random.default_rng(4)
    accuracy = [np.sort(rng_.dirichlet(np.ones(3)))[::-1].tolist() for _ in range(3)]
    ways = [way for n in (1, 2, 3) for way in itertools.product(range(3), repeat=n)]
    worth = {way: math.prod(accuracy[i][rank] for i, rank in enumerate(way)) for way in ways}
    for nodes in (1, 4, 9):
        chosen = best_paths(accuracy, nodes)
        best = sorted(worth.values(), reverse=True)[:nodes]
        assert [worth[path] for path in chosen] == pytest.approx(best)
        Static(chosen)
    assert best_paths([[0.5, 0.0]], 5) == ((0,),)
    with pytest.raises(ValueError, match="probabilities"):
        best_paths([[1.5]], 2)


def test_a_static_tree_holds_the_ranks_it_names():
    paths = ((0,), (2,), (2, 1), (0, 0), (2, 1, 0))
    tree = built(Static(paths), Plan((3,), (99,)))
    want = set()
    for path in paths:
        text: tuple[int, ...] = (1,)
        for rank in path:
            text = (*text, int(np.argsort(Q(text))[::-1][rank]))
        want.add(text[1:])
    assert {tuple(token for _, token in way) for way, _, _ in nodes_of(tree, 0)} == want
    short = built(Static(paths), Plan((3,), (3,)))
    kept = [tuple(rank for rank, _ in way) for way, _, _ in nodes_of(short, 0)]
    assert sorted(kept) == sorted(paths[:3])


def test_a_greedy_family_has_its_likeliest_and_one_drawn_from_the_rest():
    rows = 400
    tree = built(Greedy((3,)), Plan((1,) * rows, (3,) * rows), seeds=rng.rows(1, 0, rows))
    q = Q((1,))
    order = np.argsort(q)[::-1].tolist()
    assert tree.tokens[:, 1:3].tolist() == [order[:2]] * rows
    assert tree.how[0].tolist() == [How.FIXED, How.FIXED, How.FIXED, How.LAST]
    last = tree.tokens[:, 3].tolist()
    assert set(last) == set(order[2:])
    share = q[order[2]] / (q[order[2]] + q[order[3]] + q[order[4]])
    assert abs(last.count(order[2]) / rows - share) < 5 * math.sqrt(share * (1 - share) / rows)


def test_shapes_that_are_none_are_refused():
    for make in (
        lambda: Multi(()),
        lambda: Gumbel((2, 0)),
        lambda: Greedy((0,)),
        lambda: Beam(0),
        lambda: TopK(0),
        lambda: TopK(3, 0),
    ):
        with pytest.raises(ValueError, match="at least 1"):
            make()
    for paths in (((0, 0),), ((0,), (0,)), ((),), ((-1,),)):
        with pytest.raises(ValueError, match="name every node once"):
            Static(paths)
