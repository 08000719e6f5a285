"""FlexAttention answers as attention under the explicit mask does, for every kind of mask."""

from dataclasses import replace

import pytest
import torch
from tracing import unchecked

from unison.models import Transformer, TransformerConfig, View, flex, remember, sight
from unison.models.flex import Flex

# Without its compiler FlexAttention says that it is slow; here that is what is wanted.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

V, L = 13, 150  # two blocks of queries, the second not full
BASE = TransformerConfig(
    vocab_size=V, num_states=V, hidden=32, depth=2, heads=2, max_length=256, cond_dim=8
)
LENGTHS = torch.tensor([150, 7, 130])
INDEX = torch.arange(L)
VALID = LENGTHS[:, None] > INDEX
PLACES = torch.stack([INDEX, (INDEX * 3) % 200, INDEX.flip(0)])
MASK = (INDEX[:, None] >= INDEX) | (INDEX % 5 == 0)
MASKS = torch.stack([MASK, MASK.roll(3, 1) | torch.eye(L, dtype=torch.bool), ~MASK | MASK.T])


def blocks(length):
    return replace(BASE, attention="block_causal", block_length=length)


KINDS = {
    "blocks of 4": (blocks(4), None, View()),
    "blocks longer than those of the kernel": (blocks(140), None, View()),
    "blocks, ragged": (blocks(16), VALID, View()),
    "ragged": (BASE, VALID, View()),
    "left to right, ragged": (replace(BASE, attention="causal"), VALID, View()),
    "left to right, moved": (replace(BASE, attention="causal"), None, View(positions=PLACES)),
    "blocks, moved": (blocks(8), None, View(positions=PLACES)),
    "a mask of its own": (BASE, None, View(mask=MASKS)),
    "a mask of its own, ragged": (BASE, VALID, View(mask=MASKS)),
}


def network(config):
    torch.manual_seed(0)
    made = Transformer(config).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_the_rule_of_single_positions_is_the_mask(kind):
    config, valid, view = KINDS[kind]
    place = INDEX if view.positions is None else view.positions
    want = sight.mask(config, place, valid, view)
    known = sight.rule(config, place, valid, view)
    row, query, key = torch.meshgrid(torch.arange(3), INDEX, INDEX, indexing="ij")
    assert torch.equal(known(row, query, key), want[:, 0].expand(3, -1, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_answers_the_same_through_flex(kind):
    config, valid, view = KINDS[kind]
    plain, other = network(config), flex.flexible(network(config))
    assert isinstance(other.masks(config, INDEX, valid, view), Flex)
    tokens = (torch.arange(3 * L).view(3, L) * 5) % V
    sigma = torch.tensor([0.2, 0.9, 2.0])
    with torch.no_grad(), unchecked():
        want, got = (some(tokens, sigma, valid, view=view) for some in (plain, other))
    assert torch.allclose(got, want, atol=2e-5)


def test_fewer_heads_of_keys_than_of_queries():
    config = replace(blocks(32), heads=4, kv_heads=2)
    plain, other = network(config), flex.flexible(network(config))
    tokens, sigma = (torch.arange(L)[None] * 5) % V, torch.tensor([0.2])
    with torch.no_grad(), unchecked():
        assert torch.allclose(other(tokens, sigma), plain(tokens, sigma), atol=2e-5)


def test_blocks_that_nobody_may_see_are_left_out():
    made = flex.mask(blocks(128), torch.arange(512), None, View())
    assert isinstance(made, Flex)
    assert made.blocks.sparsity() == pytest.approx(100 * 6 / 16)
    assert made.blocks.shape == (1, 1, 512, 512)


def test_where_nothing_can_be_skipped_attention_is_as_it_was():
    for config in (BASE, replace(BASE, attention="causal")):
        assert flex.mask(config, INDEX, None, View()) is None
    few = View(compute=torch.tensor([[3, 4]]), memory=remember(BASE, 1, L, torch.zeros(1)))
    made = flex.mask(blocks(4), INDEX, None, few)
    assert torch.equal(made, sight.mask(blocks(4), INDEX, None, few))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_answers_and_gradients_are_those_of_the_explicit_mask(kind):
    config, valid, view = KINDS[kind]
    config = replace(config, hidden=128)  # heads of 64
    view = View(*(None if part is None else part.cuda() for part in view))
    valid = None if valid is None else valid.cuda()
    tokens = ((torch.arange(3 * L).view(3, L) * 5) % V).cuda()
    sigma = torch.tensor([0.2, 0.9, 2.0]).cuda()
    found = []
    for change in (lambda some: some, flex.flexible):
        some = change(network(config).cuda())
        with unchecked():
            logits = some(tokens, sigma, valid, view=view)
            logits.square().mean().backward()
        found.append((logits, [w.grad for w in some.parameters() if w.grad is not None]))
    (want, gradients), (got, others) = found
    assert torch.allclose(got, want, atol=1e-2)
    for one, other in zip(gradients, others, strict=True):
        assert torch.allclose(one, other, atol=1e-2 * float(one.abs().max()) + 1e-6)


@pytest.mark.parametrize("learning", [True, False])
def test_on_a_cpu_bfloat16_attention_is_float32_where_it_learns_and_only_there(
    learning, monkeypatch
):
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(queries, *others, **settings):
        seen.append(queries.dtype)
        return attend(queries, *others, **settings)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    made = network(BASE)
    tokens, sigma = (torch.arange(L)[None] * 5) % V, torch.tensor([0.2])
    with torch.set_grad_enabled(learning), torch.autocast("cpu", torch.bfloat16):
        logits = made(tokens, sigma)
    assert set(seen) == {torch.float32 if learning else torch.bfloat16}
    assert logits.dtype == torch.bfloat16  # what it answers is of the run's own precision
    if learning:
        logits.float().square().mean().backward()
        assert all(weight.grad.isfinite().all() for weight in made.blocks.parameters())
