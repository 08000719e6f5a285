import numpy as np
import torch

from unison.speculation.tree import (
    How,
    Level,
    ancestors,
    child,
    child_with,
    grown,
    law_of,
    planted,
    sized,
    told,
)


def random_tree(seed: int, rows: int = 3, nodes: int = 12):
    draw = np.random.default_rng(seed)
    tree = planted(torch.arange(rows), 5)
    for number in range(nodes):
        parent = torch.tensor(draw.integers(0, number + 1, (rows, 1)))
        tokens = torch.tensor(draw.integers(0, 5, (rows, 1)))
        zero = torch.zeros_like(tokens)
        rank = ((tree.parent == parent).sum(1, keepdim=True)).long()
        real = torch.zeros(rows, 1)
        tree = grown(tree, Level(tokens, parent, rank, zero, real, real + 1, zero == 0))
    return sized(tree, nodes, nodes)


def test_ancestors_are_those_met_on_the_way_up():
    for seed in range(20):
        tree = random_tree(seed)
        sees = ancestors(tree)
        for row in range(3):
            for node in range(tree.tokens.shape[1]):
                way, at = set(), node
                while at >= 0:
                    way.add(at)
                    at = int(tree.parent[row, at])
                assert set(sees[row, node].nonzero()[:, 0].tolist()) == way
                assert int(tree.depth[row, node]) == len(way) - 1


def test_children_are_found_by_rank_and_by_token_and_probes_never():
    tree = planted(torch.tensor([1, 1]), 5)
    how = torch.tensor([[How.FIXED, How.PROBE, How.FIXED], [How.FIXED, How.FIXED, How.FIXED]])
    zero = torch.zeros(2, 3, dtype=torch.int64)
    live = torch.tensor([[True, True, True], [True, True, False]])
    tokens = torch.tensor([[3, 4, 4], [2, 3, 4]])
    level = Level(tokens, zero, torch.tensor([[0, 1, 2]] * 2), how, zero.float(), zero + 1.0, live)
    tree = grown(tree, level)
    root = torch.zeros(2, dtype=torch.int64)
    assert [part.tolist() for part in child(tree, root, 1)] == [[0, 2], [False, True]]
    node, found = child_with(tree, root, torch.tensor([4, 4]))
    assert found.tolist() == [True, False]
    assert int(node[0]) == 3


def test_laws_belong_to_the_parents_they_were_told_for():
    tree = random_tree(0, rows=2, nodes=4)
    laws = torch.randn(2, 2, 5).log_softmax(-1)
    tree = told(tree, torch.tensor([[2, 0], [1, 3]]), laws)
    assert torch.equal(law_of(tree, torch.tensor([0, 3])), laws[:, 1])
    assert torch.equal(law_of(tree, torch.tensor([2, 1])), laws[:, 0])
