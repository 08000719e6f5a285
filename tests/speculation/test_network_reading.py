import causal
import pytest
import tiny
import torch
from test_speculation_tree import random_tree

from unison.engine.reading import NetworkTarget, target_of
from unison.speculation import Ask, Speculation, Text, speculate
from unison.speculation.policies.plain import Plain
from unison.speculation.tree import planted

SHAPES = {
    "rotary": {},
    "learned": {"positions": "learned", "norm": "layer", "mlp": "gelu", "kv_heads": None},
    "qk norm, tied": {"qk_norm": True, "tied": True},
}


def ways(tree, row: int) -> list[list[int]]:
    """Return the tokens from the root to each node."""
    found: list[list[int]] = []
    for token, parent in zip(tree.tokens[row].tolist(), tree.parent[row].tolist(), strict=True):
        found.append([*(found[parent] if parent >= 0 else []), token])
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_each_node_of_a_tree_is_read_as_its_own_text(shape: str):
    target = causal.target(1, **SHAPES[shape])
    prompts = [[0, 3, 4, 1], [0, 2]]
    reading = target.open(2, (1,))
    tokens = torch.tensor([[0, 3, 4, 1], [0, 2, 5, 5]])
    reading.read(tokens, torch.tensor([4, 2]))
    tree = random_tree(4, rows=2, nodes=9)
    scores = reading.score(tree)
    assert scores.logits is not None
    for row in range(2):
        for node, way in enumerate(ways(tree, row)):
            want = causal.logits(target.network, prompts[row] + way)[-1]
            assert torch.allclose(scores.logits[row, node].double(), want, atol=1e-4)


def test_a_tree_read_level_by_level_is_the_tree_read_at_once():
    target = causal.target(2)
    tree = random_tree(5, rows=2, nodes=8)
    tokens, count = torch.tensor([[0, 3, 4], [0, 2, 1]]), torch.tensor([3, 2])
    whole, parts = target.open(2), target.open(2)
    whole.read(tokens, count)
    parts.read(tokens, count)
    at_once = whole.score(tree).logits
    assert at_once is not None
    said = []
    for first, past in ((0, 1), (1, 4), (4, 9)):
        some = tree._replace(**{name: getattr(tree, name)[:, :past] for name in tree._fields[:8]})
        said.append(parts.score(some, first).logits)
    assert torch.allclose(torch.cat(said, dim=1), at_once, atol=1e-5)


def test_what_is_committed_is_what_a_fresh_reading_of_the_text_remembers():
    target = causal.target(3)
    reading = target.open(2)
    texts = [[0, 3, 4, 1], [0, 2]]
    reading.read(torch.tensor([[0, 3, 4, 1], [0, 2, 6, 6]]), torch.tensor([4, 2]))
    for seed in range(5):
        tree = random_tree(seed, rows=2, nodes=9)
        reading.score(tree)
        path = torch.full((2, 10), -1)
        for row in range(2):
            way, at = [], int(tree.depth[row].argmax())
            while at >= 0:
                way.append(at)
                at = int(tree.parent[row, at])
            way = way[::-1][: 3 + row]
            path[row, : len(way)] = torch.tensor(way)
            texts[row] += [int(tree.tokens[row, node]) for node in way]
        reading.commit(path)
        assert reading.length.tolist() == [len(text) for text in texts]
        after = reading.score(planted(torch.tensor([5, 6]), 7)).logits
        assert after is not None
        for row, last in enumerate((5, 6)):
            want = causal.logits(target.network, [*texts[row], last])[-1]
            assert torch.allclose(after[row, 0].double(), want, atol=1e-4)


def test_a_text_that_is_cut_is_forgotten_from_there_on():
    target = causal.target(3)
    reading = target.open(1)
    reading.read(torch.tensor([[0, 3, 4, 1, 2]]), torch.tensor([5]))
    reading.cut(torch.tensor([2]))
    after = reading.score(planted(torch.tensor([6]), 7)).logits
    assert after is not None
    want = causal.logits(target.network, [0, 3, 6])[-1]
    assert torch.allclose(after[0, 0].double(), want, atol=1e-4)


def test_taps_are_the_streams_before_the_blocks_and_after_the_last():
    target = causal.target(0)
    reading = target.open(1, (0, 3))
    scores = reading.read(torch.tensor([[0, 3, 4]]), torch.tensor([3]))
    network = target.network
    assert torch.equal(scores.taps[0], network.embed(torch.tensor([[0, 3, 4]])))
    assert torch.allclose(network.norm(scores.taps[3]), scores.hidden, atol=1e-6)
    with pytest.raises(ValueError, match="no stream before block 4"):
        target.open(1, (4,))


def test_plain_rounds_write_the_greedy_text_beyond_the_first_memory():
    target = causal.target(4, max_length=400)
    ask = Ask(Text(torch.tensor([[0, 3]]), torch.tensor([2])), [320], torch.zeros(1).long())
    spoken = speculate(Speculation(policy=Plain(0.0)), target, ask)
    text = [0, 3, *spoken.tokens[0]]
    best = causal.logits(target.network, text).argmax(-1)
    assert best[1:-1].tolist() == spoken.tokens[0]


def test_networks_that_cannot_be_targets_are_refused():
    with pytest.raises(ValueError, match="causal network without a noise level"):
        NetworkTarget(causal.network(attention="bidirectional"), 0)

    model = tiny.model("mdlm")
    with pytest.raises(ValueError, match="a target of speculation is autoregressive"):
        target_of(model)
