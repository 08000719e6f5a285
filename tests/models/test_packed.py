"""Calls that pass through a network packed are answered as each alone, to the last bit."""

import dataclasses
from typing import NamedTuple

import pytest
import torch

from unison.models import Transformer, TransformerConfig, View, layers, remember
from unison.models.config import MixtureConfig
from unison.models.network import Call
from unison.models.packed import invariant, packed
from unison.models.view import KeyValues
from unison.types import SoftTokens

BASE = TransformerConfig(
    vocab_size=13, num_states=14, hidden=32, depth=2, heads=4, max_length=48, cond_dim=16
)
VARIANTS = {
    "timed": {},
    "timeless": {"time": "none"},
    "level zero": {"time_zeroed": True},
    "causal": {"attention": "causal", "time": "none"},
    "blocks": {"attention": "block_causal", "block_length": 4},
    "shifted": {"shifted": True},
    "learned": {"positions": "learned", "tied": True, "norm_bias": True},
    "grouped": {"norm": "rms", "mlp": "swiglu", "kv_heads": 2, "qk_norm": True, "qkv_bias": True},
    "told": {"self_conditioning": True, "rope_fraction": 0.5},
    "experts": {"mixture": MixtureConfig(experts=4, chosen=2, hidden=16), "time": "none"},
}
variants = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)


def network(**changes):
    torch.manual_seed(0)
    net = Transformer(dataclasses.replace(BASE, **changes)).eval().requires_grad_(False)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.25)
    return net


class Shape(NamedTuple):
    length: int
    computed: int = 0
    read: int = 0
    rows: int = 1
    padded: bool = False


MIXED = [
    *[Shape(24)] * 3,
    Shape(31, read=2),
    *[Shape(40, 8)] * 2,
    *[Shape(40, 1)] * 3,
    Shape(40, 3, 2),
    Shape(33, 5),
    Shape(33, 17, 1),
    Shape(5),
    Shape(3, read=1),
    Shape(30, padded=True),
    Shape(30, 7, padded=True),
    Shape(20, rows=2),
    Shape(20, 3, rows=3),
]


def made(net, shape, draw):
    """A call of that shape; what it does not compute was read with other tokens before."""
    size = (shape.rows, shape.length)
    before, text = (torch.randint(14, size, generator=draw) for _ in range(2))
    sigma = torch.rand(shape.rows, generator=draw) * 2
    valid = torch.arange(shape.length).expand(size) < shape.length - 4 if shape.padded else None
    compute = memory = read = None
    places = torch.arange(shape.length).expand(size)
    if shape.computed:
        memory = remember(net.config, shape.rows, shape.length + 2, net.embed.weight)
        net(before, sigma, valid, None, View(memory=memory))
        order = torch.rand(size, generator=draw).argsort(1)
        compute = places = order[:, : shape.computed].sort(1).values
    if shape.read:
        read = places.flip(1)[:, : shape.read]
    return Call(text, sigma, valid, None, View(read, compute, memory))


def calls(net, shapes=MIXED, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return [made(net, shape, draw) for shape in shapes]


def assert_alike(net, alone, together):
    """Answers and memories of the same calls, evaluated alone and packed."""
    with torch.no_grad():
        want, got = [net(*call) for call in alone], packed(net, together)
    for number, (a, b) in enumerate(zip(want, got, strict=True)):
        assert torch.equal(a, b), number
    for a, b in zip(alone, together, strict=True):
        if a.view is not None and a.view.memory is not None:
            for parts in zip(a.view.memory, b.view.memory, strict=True):
                assert all(torch.equal(one, other) for one, other in zip(*parts, strict=True))


def alone_passes(net, monkeypatch):
    """Count evaluations of the network by itself."""
    seen = []
    forward = net.forward
    monkeypatch.setattr(net, "forward", lambda *call: seen.append(1) or forward(*call))
    return seen


@variants
def test_packed_calls_are_answered_and_remembered_as_each_alone(changes):
    net = network(**changes)
    if not invariant(net):
        pytest.skip("matrix kernels of this machine round few rows and many differently")
    assert_alike(net, calls(net), calls(net))


def test_calls_of_one_shape_are_answered_as_each_alone_with_several_threads_too():
    net = network()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        if not invariant(net):
            pytest.skip("matrix kernels of this machine round few rows and many differently")
        shapes = [*[Shape(33, 1)] * 4, *[Shape(33)] * 3, *[Shape(40, 3)] * 3]
        assert_alike(net, calls(net, shapes), calls(net, shapes))
    finally:
        torch.set_num_threads(before)


def test_calls_are_packed_indeed(monkeypatch):
    net = network()
    asked = calls(net)
    seen = alone_passes(net, monkeypatch)
    packed(net, asked)
    assert not seen


@pytest.mark.parametrize("rows", [(0, 1, 2), (0, 2, 4), (2, 1, 0), (3, 0, 1)], ids=str)
def test_rows_of_one_memory_are_written_each_in_its_place(rows):
    net = network(time="none")
    text = torch.randint(14, (5, 20), generator=torch.Generator().manual_seed(3))
    compute = torch.tensor([[4, 5, 9, 11]])
    results = []
    for evaluate in (packed, lambda net, some: [net(*call) for call in some]):
        whole = remember(net.config, 5, 24, net.embed.weight)
        with torch.no_grad():
            net(text.flip(1), torch.zeros(5), None, None, View(memory=whole))
        some = [
            Call(
                text[row : row + 1],
                torch.zeros(1),
                view=View(
                    compute + row,
                    compute + row,
                    KeyValues(*(tuple(part[row : row + 1] for part in one) for one in whole)),
                ),
            )
            for row in rows
        ]
        with torch.no_grad():
            results.append((evaluate(net, some), whole))
    (got, memory), (want, expected) = results
    exact = invariant(net)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0 if exact else 1e-5)
    for parts in zip(memory, expected, strict=True):
        for one, other in zip(*parts, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0 if exact else 1e-5)


def test_shadows_beside_a_canvas_are_seen_as_their_mask_says():
    net = network()

    def shadowed(seed):
        draw = torch.Generator().manual_seed(seed)
        text = torch.randint(14, (1, 18), generator=draw)
        mask = (torch.rand(1, 18, 18, generator=draw) < 0.5) | torch.eye(18, dtype=torch.bool)
        where = torch.cat([torch.arange(14), torch.tensor([2, 5, 6, 9])])[None]
        return Call(
            text, torch.rand(1, generator=draw), view=View(where[:, :3], None, None, where, mask)
        )

    some = [shadowed(seed) for seed in range(3)] + [Call(torch.ones(1, 9).long(), torch.ones(1))]
    exact = invariant(net)
    with torch.no_grad():
        want = [net(*call) for call in some]
    for one, other in zip(packed(net, some), want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0 if exact else 1e-5)


def test_calls_of_another_kind_are_answered_alone_beside_the_packed(monkeypatch):
    net = network(self_conditioning=True)
    draw = torch.Generator().manual_seed(5)
    soft = SoftTokens(torch.rand(1, 9, 14, generator=draw))
    told = torch.rand(1, 10, 13, generator=draw)
    odd = [
        Call(soft, torch.ones(1)),
        Call(torch.randint(14, (1, 10), generator=draw), torch.ones(1), None, told),
    ]
    plain = calls(net, [Shape(20), Shape(20), Shape(11)])
    asked = [plain[0], odd[0], plain[1], odd[1], plain[2]]
    with torch.no_grad():
        want = [net(*call) for call in asked]
    seen = alone_passes(net, monkeypatch)
    got = packed(net, asked)
    assert len(seen) == 2
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_experts_are_visited_call_by_call(monkeypatch):
    net = network(**VARIANTS["experts"])
    seen = alone_passes(net, monkeypatch)
    packed(net, calls(net, [Shape(9), Shape(12), Shape(9)]))
    assert len(seen) == 3


def test_a_canvas_longer_than_the_learned_places_is_refused():
    net = network(positions="learned")
    long = Call(torch.zeros(1, 49, dtype=torch.long), torch.ones(1))
    with pytest.raises(ValueError, match="49 positions"):
        packed(net, [long, long])


def test_positions_to_compute_without_a_memory_are_refused():
    net = network()
    view = View(compute=torch.tensor([[1, 2]]))
    bad = Call(torch.zeros(1, 9, dtype=torch.long), torch.ones(1), view=view)
    with pytest.raises(ValueError, match=r"view\.memory is missing"):
        packed(net, [bad, Call(bad.inputs, bad.sigma), Call(bad.inputs, bad.sigma)])


def test_kernels_that_round_by_the_number_of_rows_are_noticed(monkeypatch):
    net = network(time="none")

    class Rounding(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1e-6 * (x.numel() // x.shape[-1])

    monkeypatch.setattr(net, "head", Rounding(32, 13))
    assert not invariant(net)


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 9, 11, 13])
def test_a_vector_is_mapped_alike_beside_few_and_beside_many(rows):
    draw = torch.Generator().manual_seed(rows)
    x, weight = (torch.randn(64, 48, generator=draw) for _ in range(2))
    shapes = []

    def mapped(some):
        shapes.append(some.numel() // 48)
        return some @ weight.T

    got = layers.steady(mapped, x[:rows])
    assert got.shape == (rows, 64)
    torch.testing.assert_close(got, x[:rows] @ weight.T, rtol=1e-5, atol=1e-5)
    assert shapes == [{1: 4, 2: 4, 3: 4, 5: 8, 7: 8, 9: 12, 11: 12, 13: 13}[rows]]


@torch.no_grad()
def test_a_single_vector_of_a_wide_network_takes_the_kernel_for_one():
    shapes = []

    def mapped(some):
        shapes.append(some.shape)
        return some

    layers.steady(mapped, torch.ones(1, 1, 257))
    layers.steady(mapped, torch.ones(1, 2, 257))
    assert shapes == [(1, 1, 257), (1, 4, 257)]
