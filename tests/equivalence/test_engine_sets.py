"""Which positions are computed, worked out by hand over one short decode."""

import caching
import pytest
import torch
from caching import NETWORKS, VOCAB

from unison.denoising import evaluated
from unison.engine import CACHES, CachedDenoiser, grouping
from unison.engine import cached as make
from unison.models import KeyValues, Transformer
from unison.process import Absorbing
from unison.types import Focus

MASK, LENGTH = VOCAB, 12
ALL = range(LENGTH)

# Four tokens of prompt and two blocks of four. At each call: what is undecided in the active
# block. Position 5 is written after the first call, then 4, 6, 7, and 8 in the second block.
CALLS = [(4, (4, 5, 6, 7)), (4, (4, 6, 7)), (4, (6, 7)), (4, (7,)), (8, (8, 9, 10, 11)),
         (8, (9, 10, 11))]  # fmt: skip

EXPECTED = {
    "prefix": [ALL, range(4, 12), range(4, 12), range(4, 12), ALL, range(8, 12)],
    "prefix, every second": [ALL, range(4, 12), ALL, range(4, 12), ALL, range(8, 12)],
    "dual": [ALL, range(4, 8), range(4, 8), range(4, 8), ALL, range(8, 12)],
    "dual, every third": [ALL, range(4, 8), range(4, 8), ALL, ALL, range(8, 12)],
    "free": [ALL, range(4, 12), range(4, 12), range(4, 12), range(4, 12), range(8, 12)],
    "free, as published": [ALL, range(4, 12), range(4, 12), range(4, 12), range(8, 12),
                           range(8, 12)],
    "dkv": [ALL, ALL, (4, *range(6, 12)), range(6, 12), ALL, ALL],
    "dkv, every third": [ALL, ALL, (4, *range(6, 12)), ALL, ALL, ALL],
    "dkv, prompt frozen": [ALL, range(4, 12), (4, *range(6, 12)), range(6, 12), range(4, 12),
                           range(4, 12)],
    "greedy": [ALL, range(4, 10), (4, *range(6, 10)), range(6, 10), ALL, range(8, 12)],
    "greedy, no window": [ALL, range(4, 8), (4, 6, 7), (6, 7), ALL, range(8, 12)],
    "exact, causal": [range(8), range(4, 8), range(4, 8), (6, 7), range(7, 12), range(8, 12)],
    "exact, causal blocks": [range(8), range(4, 8), range(4, 8), range(4, 8), range(4, 12),
                             range(8, 12)],
    "dual, shifted": [ALL, range(3, 8), range(4, 8), range(4, 8), ALL, range(8, 12)],
    "greedy, shifted": [ALL, range(3, 8), range(4, 8), (6, 7), ALL, range(8, 12)],
}  # fmt: skip

CASES = {
    "prefix": ("prefix", {}, {}),
    "prefix, every second": ("prefix", {"refresh": 2}, {}),
    "dual": ("dual", {}, {}),
    "dual, every third": ("dual", {"refresh": 3}, {}),
    "free": ("free", {}, {}),
    "free, as published": ("free", {"settle": False}, {}),
    "dkv": ("dkv", {}, {}),
    "dkv, every third": ("dkv", {"refresh": 3}, {}),
    "dkv, prompt frozen": ("dkv", {"freeze_prompt": True}, {}),
    "greedy": ("dkv_greedy", {"refresh": 0}, {}),
    "greedy, no window": ("dkv_greedy", {"refresh": 0, "window": 0}, {}),
    "exact, causal": ("exact", {}, NETWORKS["causal"]),
    "exact, causal blocks": ("exact", {}, NETWORKS["block_causal"]),
    "dual, shifted": ("dual", {}, {"shifted": True}),
    "greedy, shifted": ("dkv_greedy", {"refresh": 0, "window": 0}, {"shifted": True}),
}


class Spy(Transformer):
    """Notes what passes through it."""

    def forward(self, inputs, sigma, valid=None, earlier=None, view=None):
        everything = torch.arange(inputs.shape[1])[None]
        self.computed.append((everything if view.compute is None else view.compute)[0].tolist())
        return super().forward(inputs, sigma, valid, earlier, view)


def spy(**changes):
    net = Spy(caching.network(**changes).config)
    net.computed = []
    return net.eval()


def script(begin=4):
    """Tokens and focus of every call, one row.

    Args:
        begin: Where the first block is said to begin.
    """
    tokens = torch.full((1, LENGTH), MASK)
    tokens[:, :4] = torch.arange(4)
    for first, open_ in CALLS:
        now = tokens.clone()
        written = [p for p in range(4, first + 4) if p not in open_]
        now[0, written] = 5
        bounds = [begin if first == 4 else first, first + 4]
        yield now, Focus(torch.tensor([open_]), torch.tensor([bounds]))


@pytest.mark.parametrize("case", CASES)
def test_exactly_these_positions_are_computed(case):
    name, settings, changes = CASES[case]
    net = spy(**changes)
    denoise = make(net, Absorbing(VOCAB), CACHES[name](**settings))
    for tokens, focus in script():
        denoise(tokens, torch.tensor([0.5]), focus)
    assert net.computed == [list(positions) for positions in EXPECTED[case]]
    assert denoise.tally.computed == {0: sum(map(len, EXPECTED[case]))}
    assert denoise.tally.whole == {0: LENGTH * len(CALLS)}


@pytest.mark.parametrize("name", ["prefix", "dual", "free"])
def test_a_prompt_in_front_of_the_first_block_is_no_part_of_it(name):
    """Blocks counted from the answer begin the first one at the canvas's first position."""
    net = spy()
    denoise = make(net, Absorbing(VOCAB), CACHES[name]())
    for tokens, focus in script(begin=0):
        denoise(tokens, torch.tensor([0.5]), focus)
    assert net.computed == [list(positions) for positions in EXPECTED[name]]


def test_without_a_focus_the_undecided_are_computed_and_the_rest_is_certain():
    net = spy()
    denoise = make(net, Absorbing(VOCAB), CACHES["dkv"](refresh=0))
    answers = [denoise(tokens, torch.tensor([0.5])) for tokens, _ in script()]
    # One block: everything twice, then what is undecided and what was written last.
    assert net.computed[2:] == [[4, *range(6, 12)], list(range(6, 12)), list(range(7, 12)),
                                list(range(8, 12))]  # fmt: skip
    said = answers[3].exp()
    assert torch.equal(said[0, :4], torch.eye(VOCAB)[:4])
    assert torch.equal(said[0, 4:7], torch.eye(VOCAB)[5].expand(3, -1))
    torch.testing.assert_close(said.sum(-1), torch.ones(1, LENGTH))
    assert (said[0, 7:].amax(-1) < 1).all()


# A group of rows on a GPU.


def test_what_shape_a_row_is_computed_in_depends_on_the_row_alone():
    counts, lengths = [3, 512, 70, 3, 64, 65] * 7, [512] * 42
    groups = grouping.alike(counts, lengths, 512)
    assert all(len(group.rows) == 16 for group in groups)
    of_row = {row: group.width for group in groups for row in group.rows}
    assert [of_row[row] for row in range(6)] == [64, None, 128, 64, 64, 128]
    assert sorted(of_row) == list(range(42))
    for group in groups:
        for row in group.rows:
            (alone,) = grouping.alike([counts[row]], [512], 512)
            assert (alone.width, len(alone.rows)) == (group.width, 16)


def test_answers_come_back_in_the_order_of_the_rows():
    groups = grouping.alike([3, 100, 4, 100], [512] * 4, 512)
    assert [group.rows[:2] for group in groups] == [[0, 2], [1, 3]]
    answers = [torch.tensor(group.rows).float()[:, None, None] for group in groups]
    assert grouping.in_order(answers, groups).flatten().tolist() == [0, 1, 2, 3]


def test_rows_that_are_no_neighbours_bring_their_memory_back():
    part = torch.arange(5.0)[:, None, None, None].expand(5, 1, 2, 1).clone()
    memory = KeyValues((part,), (-part,))
    for rows in ([3, 1, 3], [1, 2]):
        some = grouping.borrowed(memory, rows)
        assert some.keys[0][:, 0, 0, 0].tolist() == [memory.keys[0][row, 0, 0, 0] for row in rows]
        some.keys[0].add_(10)
        some.values[0].add_(-10)
        grouping.give_back(memory, some, rows)
    assert memory.keys[0][:, 0, 1, 0].tolist() == [0, 21, 12, 13, 4]
    assert memory.values[0][:, 0, 0, 0].tolist() == [0, -21, -12, -13, -4]


@pytest.mark.parametrize("name", [name for name in CACHES if name != "none"])
def test_groups_of_rows_answer_as_rows_by_themselves(name, monkeypatch):
    """The way of a GPU, taken on a CPU: rows at different points pass through together."""
    net = caching.network(**NETWORKS["block_causal"])
    policy = CACHES[name]()
    steps = list(script())
    ahead = [steps[i] for i in (0, 2, 3, 4, 5)]
    behind = [steps[i] for i in (0, 1, 2, 3, 3)]
    calls = [
        tuple(torch.cat([a, b, a]) for a, b in ((one[0], other[0]), (one[1].block, other[1].block)))
        for one, other in zip(ahead, behind, strict=True)
    ]

    def answers():
        denoise = CachedDenoiser(net, Absorbing(VOCAB), policy)
        place = torch.arange(4)
        t = torch.full((3,), 0.5)
        return [
            denoise(xt, t, Focus(block[:, :1] + place, block)) for xt, block in calls
        ]  # the same number of positions in every row

    alone = answers()
    monkeypatch.setattr("unison.engine.denoiser.answered", evaluated)
    monkeypatch.setattr(grouping, "_STRIDE", 2)
    monkeypatch.setattr(
        grouping, "alone", lambda computed, lengths: grouping.alike(computed, lengths, LENGTH)
    )
    for together, by_itself in zip(answers(), alone, strict=True):
        torch.testing.assert_close(together, by_itself, rtol=1e-4, atol=1e-5)
