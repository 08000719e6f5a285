"""What a view leaves out changes no answer: computed, read and remembered parts add up."""

import dataclasses

import pytest
import torch

from unison.models import Transformer, TransformerConfig, View, remember
from unison.models.view import KeyValues

V, L, B = 11, 12, 2
BASE = TransformerConfig(
    vocab_size=V, num_states=V + 1, hidden=16, depth=2, heads=4, kv_heads=2, max_length=L
)
VARIANTS = [
    {},
    {"attention": "causal"},
    {"attention": "block_causal", "block_length": 4},
    {"shifted": True},
    {"attention": "block_causal", "block_length": 4, "shifted": True, "qk_norm": True},
    {"positions": "learned", "norm_bias": True, "qkv_bias": True, "out_bias": True},
    {"self_conditioning": True, "rope_fraction": 0.5},
]
variants = pytest.mark.parametrize("changes", VARIANTS, ids=str)


def network(seed=0, **changes):
    torch.manual_seed(seed)
    net = Transformer(dataclasses.replace(BASE, **changes)).eval().requires_grad_(False)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.25)
    return net


def text(rows=B, length=L, seed=1):
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(seed))


SIGMA = torch.tensor([0.3, 1.7])
EVERY = torch.arange(L).expand(B, L)
RAGGED = torch.arange(L) < torch.tensor([[L], [7]])
paddings = pytest.mark.parametrize("valid", [None, RAGGED], ids=["whole", "ragged"])


def memory(net, rows=B, length=L):
    return remember(net.config, rows, length, net.embed.weight)


@variants
@paddings
def test_reading_some_positions_is_picking_their_logits(changes, valid):
    net = network(**changes)
    read = torch.tensor([[3, 0, 11, 3], [1, 2, 6, 0]])
    whole = net(text(), SIGMA, valid)
    want = whole.gather(1, read[..., None].expand(-1, -1, V))
    got = net(text(), SIGMA, valid, None, View(read=read))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@variants
@paddings
def test_computing_everything_into_a_memory_is_the_plain_forward_bit_by_bit(changes, valid):
    net = network(**changes)
    want = net(text(), SIGMA, valid)
    for compute in (None, EVERY):
        view = View(read=EVERY, compute=compute, memory=memory(net))
        assert torch.equal(net(text(), SIGMA, valid, None, view), want)


@variants
@paddings
def test_what_is_remembered_stands_in_for_what_is_not_computed(changes, valid):
    """The memory is of this very canvas, so leaving most of it out changes nothing."""
    net = network(**changes)
    want = net(text(), SIGMA, valid)
    kept = memory(net)
    net(text(), SIGMA, valid, None, View(memory=kept))
    compute = torch.tensor([[5, 3, 4, 9], [0, 1, 5, 6]])
    read = compute[:, :2] if not changes.get("shifted") else torch.tensor([[4, 5], [1, 2]])
    view = View(read=read, compute=compute, memory=kept)
    got = net(text(), SIGMA, valid, None, view)
    picked = want.gather(1, read[..., None].expand(-1, -1, V))
    torch.testing.assert_close(got, picked, rtol=1e-5, atol=1e-5)


def test_without_read_the_answer_is_at_the_positions_computed():
    net = network()
    kept = memory(net)
    want = net(text(), SIGMA, None, None, View(memory=kept))
    compute = torch.tensor([[7, 2], [0, 4]])
    got = net(text(), SIGMA, None, None, View(compute=compute, memory=kept))
    picked = want.gather(1, compute[..., None].expand(-1, -1, V))
    torch.testing.assert_close(got, picked, rtol=1e-5, atol=1e-5)


def test_the_memory_holds_what_was_there_until_it_is_computed_again():
    """A changed token is seen by others only once its own position is computed."""
    net, kept = network(), None
    kept = memory(net)
    net(text(), SIGMA, None, None, View(memory=kept))
    changed = text()
    changed[:, 8] = (changed[:, 8] + 1) % V
    others = torch.tensor([[0, 1, 2]] * B)
    stale = net(changed, SIGMA, None, None, View(compute=others, memory=kept))
    before = net(text(), SIGMA)[:, :3]
    torch.testing.assert_close(stale, before, rtol=1e-5, atol=1e-5)
    copy = KeyValues(*(tuple(t.clone() for t in part) for part in kept))
    with_own = torch.tensor([[0, 1, 2, 8]] * B)
    net(changed, SIGMA, None, None, View(compute=with_own, memory=kept))
    for layer, (then, now) in enumerate(zip(copy.keys, kept.keys, strict=True)):
        moved = (then - now).abs().amax((0, 1, 3))
        assert moved[8] > 1e-3
        assert (moved[[3, 4, 5, 6, 7, 9, 10, 11]] == 0).all(), layer


def test_a_causal_text_grows_token_by_token_in_its_memory():
    net = network(attention="causal")
    want, kept = net(text(), SIGMA), memory(net)
    for i in range(L):
        one = torch.full((B, 1), i)
        so_far = torch.cat([text()[:, : i + 1], torch.zeros(B, L - i - 1, dtype=torch.long)], 1)
        got = net(so_far, SIGMA, None, None, View(read=one, compute=one, memory=kept))
        torch.testing.assert_close(got[:, 0], want[:, i], rtol=1e-5, atol=1e-5)


def test_a_position_named_twice_is_computed_once():
    net, kept = network(), None
    kept = memory(net)
    want = net(text(), SIGMA, None, None, View(memory=kept))
    twice = torch.tensor([[4, 4, 2], [9, 9, 9]])
    got = net(text(), SIGMA, None, None, View(compute=twice, memory=kept))
    picked = want.gather(1, twice[..., None].expand(-1, -1, V))
    torch.testing.assert_close(got, picked, rtol=1e-5, atol=1e-5)


def test_computing_without_a_memory_is_refused():
    with pytest.raises(ValueError, match=r"view\.memory is missing"):
        network()(text(), SIGMA, None, None, View(compute=EVERY))


@pytest.mark.parametrize("changes", [{}, {"positions": "learned"}], ids=str)
def test_inputs_in_another_order_at_their_own_places_answer_alike(changes):
    net = network(**changes)
    order = torch.randperm(L, generator=torch.Generator().manual_seed(3))
    got = net(text()[:, order], SIGMA, None, None, View(positions=order.expand(B, L)))
    torch.testing.assert_close(got, net(text(), SIGMA)[:, order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["causal", "block_causal"])
def test_the_rule_of_attention_follows_the_places(kind):
    blocks = {"block_length": 4} if kind == "block_causal" else {}
    net = network(attention=kind, **blocks)
    order = torch.randperm(L, generator=torch.Generator().manual_seed(3))
    got = net(text()[:, order], SIGMA, None, None, View(positions=order.expand(B, L)))
    torch.testing.assert_close(got, net(text(), SIGMA)[:, order], rtol=1e-5, atol=1e-5)


@paddings
def test_an_explicit_mask_replaces_the_rule(valid):
    """The causal rule given as a mask to a bidirectional network."""
    net, causal = network(), network(attention="causal")
    triangle = torch.ones(L, L, dtype=torch.bool).tril().expand(B, L, L)
    got = net(text(), SIGMA, valid, None, View(mask=triangle))
    torch.testing.assert_close(got, causal(text(), SIGMA, valid), rtol=1e-5, atol=1e-5)
    rows = torch.tensor([[2, 5], [6, 1]])
    kept = memory(net)
    net(text(), SIGMA, valid, None, View(mask=triangle, memory=kept))
    part = net(text(), SIGMA, valid, None, View(compute=rows, memory=kept, mask=triangle))
    picked = got.gather(1, rows[..., None].expand(-1, -1, V))
    torch.testing.assert_close(part, picked, rtol=1e-5, atol=1e-5)


def shadowed(x0, place):
    """The canvas, and behind it a mask token at ``place`` that sees all but the token there."""
    inputs = torch.cat([x0, torch.full((B, 1), V)], dim=1)
    places = torch.cat([EVERY, torch.full((B, 1), place)], dim=1)
    mask = torch.zeros(B, L + 1, L + 1, dtype=torch.bool)
    mask[:, :L, :L] = True
    mask[:, L, :] = True
    mask[:, L, place] = False
    return inputs, places, mask


def test_an_appended_input_answers_without_disturbing_the_canvas():
    net, place = network(), 5
    inputs, places, mask = shadowed(text(), place)
    read = torch.tensor([[place, L]] * B)
    got = net(inputs, SIGMA, None, None, View(read=read, positions=places, mask=mask))
    plain = net(text(), SIGMA)[:, place]
    torch.testing.assert_close(got[:, 0], plain, rtol=1e-5, atol=1e-5)
    other = text()
    other[:, place] = (other[:, place] + 1) % V
    moved = net(shadowed(other, place)[0], SIGMA, None, None, View(read, None, None, places, mask))
    assert (moved[:, 0] - got[:, 0]).abs().max() > 1e-3
    assert (moved[:, 1] - got[:, 1]).abs().max() > 1e-5  # through what the others say of it


def test_an_appended_input_of_one_layer_never_meets_the_token_at_its_place():
    net, place = network(depth=1), 5
    _, places, mask = shadowed(text(), place)
    view = View(read=torch.full((B, 1), L), positions=places, mask=mask)
    answers = []
    for token in range(3):
        canvas = text()
        canvas[:, place] = token
        answers.append(net(shadowed(canvas, place)[0], SIGMA, None, None, view))
    assert torch.equal(answers[0], answers[1])
    masked = text()
    masked[:, place] = V
    alone = net(masked, SIGMA)[:, place : place + 1]
    torch.testing.assert_close(answers[2], alone, rtol=1e-5, atol=1e-5)


def test_a_shifted_network_hands_each_position_the_output_before():
    plain, shifted = network(), network(shifted=True)
    want, got = plain(text(), SIGMA), shifted(text(), SIGMA)
    assert torch.equal(got[:, 1:], want[:, :-1])
    assert torch.equal(got[:, 0], want[:, 0])


def test_an_earlier_belief_reaches_the_positions_it_speaks_of_alone():
    net = network(self_conditioning=True)
    generator = torch.Generator().manual_seed(8)
    belief = torch.rand(B, 3, V, generator=generator).softmax(-1)
    known = torch.tensor([[7, 2, 2], [0, 1, 5]])
    belief[0, 2] = belief[0, 1]
    whole = torch.zeros(B, L, V).scatter(1, known[..., None].expand(-1, -1, V), belief)
    want = net(text(), SIGMA, None, whole)
    got = net(text(), SIGMA, None, belief, View(known=known))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert (got - net(text(), SIGMA)).abs().max() > 1e-3


def test_a_canvas_longer_than_the_learned_places_is_refused():
    with pytest.raises(ValueError, match="has 13 positions and this model learned 12"):
        network(positions="learned")(text(length=13), SIGMA)
