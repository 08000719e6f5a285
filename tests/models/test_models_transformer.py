"""The transformer sees what it may see, nothing else, and starts from a uniform belief."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from unison.models import PRESETS, Transformer, TransformerConfig, layers
from unison.objectives import BOUNDS, Batch
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Sequential, Uniform
from unison.types import SoftTokens

VOCAB, LENGTH = 11, 12
BASE = TransformerConfig(
    vocab_size=VOCAB, num_states=VOCAB + 1, hidden=16, depth=2, heads=4, max_length=LENGTH
)
ROTATING = dataclasses.replace(BASE, hidden=32)  # heads of 8
ATTENTION = {
    "bidirectional": {},
    "causal": {"attention": "causal"},
    "block_causal": {"attention": "block_causal", "block_length": 4},
}
every_attention = pytest.mark.parametrize("kind", ATTENTION)
variants = pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": "rms", "mlp": "swiglu"},
        {"kv_heads": 2},
        {"tied": True},
        {"time": "none"},
        {"self_conditioning": True},
    ],
    ids=str,
)


def network(seed=0, **changes):
    """A network whose every weight is random: the zeros it starts from hide mistakes."""
    torch.manual_seed(seed)
    net = Transformer(dataclasses.replace(BASE, **changes)).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.15)
    return net


def text(rows=2, length=LENGTH, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(VOCAB, (rows, length), generator=g)


def sigma(rows=2):
    return torch.linspace(0.1, 2.0, rows)


def sees(kind, query, key):
    if kind == "bidirectional":
        return True
    return key <= query if kind == "causal" else key // 4 <= query // 4


@every_attention
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_a_position_sees_exactly_whom_it_may(kind, padded):
    """Every pair of positions, with and without an explicit mask; float64 tells none from few."""
    net, x0 = network(**ATTENTION[kind]).double(), text(1)
    valid = torch.ones(1, LENGTH, dtype=torch.bool) if padded else None
    before = net(x0, sigma(1), valid)[0]
    for key in range(LENGTH):
        other = x0.clone()
        other[0, key] = (other[0, key] + 1) % VOCAB
        moved = (net(other, sigma(1), valid)[0] - before).abs().amax(-1)
        for query in range(LENGTH):
            if sees(kind, query, key):
                assert moved[query] > 1e-6
            else:
                assert moved[query] < 1e-12


@every_attention
@torch.no_grad()
def test_a_ragged_row_is_the_row_alone(kind):
    net, x0 = network(**ATTENTION[kind]), text(3)
    lengths = [LENGTH, 7, 2]
    valid = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    together = net(x0, sigma(3), valid)
    assert torch.isfinite(together).all()
    for row, n in enumerate(lengths):
        one = slice(row, row + 1)
        alone = net(x0[one, :n], sigma(3)[one])
        torch.testing.assert_close(together[one, :n], alone, rtol=1e-5, atol=1e-5)


@every_attention
@torch.no_grad()
def test_what_the_padding_holds_is_never_seen(kind):
    """Padding before, within and after the text."""
    net, x0 = network(**ATTENTION[kind]), text(1)
    valid = torch.ones(1, LENGTH, dtype=torch.bool)
    valid[0, [0, 1, 5, 10, 11]] = False
    other = torch.where(valid, x0, (x0 + 3) % VOCAB)
    first, second = net(x0, sigma(1), valid), net(other, sigma(1), valid)
    torch.testing.assert_close(first[valid], second[valid], rtol=0, atol=1e-6)


@torch.no_grad()
def test_padding_does_not_poison_gradients():
    net, x0 = network(), text(2)
    valid = torch.zeros(2, LENGTH, dtype=torch.bool)
    valid[0, :3] = True  # row 1 is padding alone
    with torch.enable_grad():
        net(x0, sigma(), valid)[valid].square().sum().backward()
    assert all(torch.isfinite(w.grad).all() for w in net.parameters() if w.grad is not None)


def composed(x, angles):
    """The rotation as a textbook writes it."""
    cos, sin = (torch.cat([a, a], dim=-1)[:, None].to(x.dtype) for a in angles)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def heads(length=9, dim=8, seed=2):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, length, 3, dim, generator=g, dtype=torch.float64)


def test_the_rotation_is_the_textbook_one_both_ways():
    angles = layers.angles(torch.arange(9), ROTATING)
    weights, grads = heads(seed=3), []
    for rotation in (layers.rotate, composed):
        x = heads().requires_grad_()
        y = rotation(x, angles)
        (y * weights).sum().backward()
        grads.append((y.detach(), x.grad))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


def test_attention_scores_depend_on_distance_alone():
    """The same query and key at every position: the score matrix is constant on diagonals."""
    angles = layers.angles(torch.arange(20), ROTATING)
    q, k = (x[:, :1].expand(-1, 20, -1, -1) for x in (heads(seed=4), heads(seed=5)))
    scores = torch.einsum("bqhe,bkhe->bhqk", layers.rotate(q, angles), layers.rotate(k, angles))
    for distance in range(-19, 20):
        diagonal = scores.diagonal(distance, dim1=2, dim2=3)
        assert (diagonal - diagonal[..., :1]).abs().max() < 1e-5
    assert scores[:, :, 0].std(-1).min() > 0.1


@torch.no_grad()
def test_a_shifted_text_is_read_alike():
    """Padding in front moves the text to other positions: the logits only round differently."""
    net, x0 = network(), text(1, 6)
    valid = torch.arange(LENGTH)[None] >= 6
    shifted = net(torch.cat([x0, x0], dim=1), sigma(1), valid)[:, 6:]
    torch.testing.assert_close(shifted, net(x0, sigma(1)), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_grouped_queries_equal_repeated_keys_and_values():
    few, many = network(kv_heads=2), network(kv_heads=4)
    weights = few.state_dict()
    width = BASE.head_dim
    for name, weight in weights.items():
        if name.endswith("qkv.weight"):
            parts = weight.unflatten(0, (-1, width)).split([4, 2, 2])
            repeated = [parts[0], *(p.repeat_interleave(2, 0) for p in parts[1:])]
            weights[name] = torch.cat(repeated).flatten(0, 1)
    many.load_state_dict(weights)
    torch.testing.assert_close(few(text(), sigma()), many(text(), sigma()), rtol=1e-5, atol=1e-5)


@variants
@torch.no_grad()
def test_a_certain_soft_token_is_the_hard_token(changes):
    net, x0 = network(**changes), text()
    want = net(x0, sigma())
    dense = SoftTokens(F.one_hot(x0, VOCAB).float())
    torch.testing.assert_close(net(dense, sigma()), want, rtol=1e-5, atol=1e-5)
    weights = torch.tensor([0.0, 1.0]).expand(*x0.shape, 2)
    kept = SoftTokens(weights, torch.stack([(x0 + 1) % VOCAB, x0], -1))
    torch.testing.assert_close(net(kept, sigma()), want, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_kept_tokens_are_a_dense_mixture_with_zeros():
    net = network()
    g = torch.Generator().manual_seed(6)
    ids = torch.rand(2, LENGTH, VOCAB, generator=g).argsort(-1)[..., :3]
    weights = torch.rand(2, LENGTH, 3, generator=g, dtype=torch.float64)
    dense = torch.zeros(2, LENGTH, VOCAB).double().scatter(-1, ids, weights)
    torch.testing.assert_close(
        net(SoftTokens(weights, ids), sigma()),
        net(SoftTokens(dense), sigma()),
        rtol=1e-5,
        atol=1e-5,
    )


def test_soft_tokens_teach_the_embedding_alike():
    """Dense and kept forms give one gradient."""
    net, x0, grads = network(), text(), []
    weights = torch.full((*x0.shape, 1), 0.7)
    for soft in (
        SoftTokens(0.7 * F.one_hot(x0, VOCAB).float()),
        SoftTokens(weights, x0[..., None]),
    ):
        net.zero_grad()
        net(soft, sigma()).square().sum().backward()
        grads.append(net.embed.weight.grad.clone())
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_block_is_modulated_and_gated_as_published():
    """adaLN-zero of DiT, arXiv:2212.09748: shift, scale, gate of attention, then of the MLP."""
    block = network().blocks[0]
    g = torch.Generator().manual_seed(9)
    h, cond = torch.randn(2, 5, 16, generator=g), torch.randn(2, 128, generator=g)
    angles = layers.angles(torch.arange(5), BASE)
    six = (cond @ block.modulation.weight.T + block.modulation.bias).view(2, 6, 1, 16).unbind(1)
    shift, scale, gate = six[:3]
    x = F.layer_norm(h, (16,), block.attention_norm.weight) * (1 + scale) + shift
    want = h + gate * block.attention(x, angles, None)
    shift, scale, gate = six[3:]
    x = F.layer_norm(want, (16,), block.mlp_norm.weight) * (1 + scale) + shift
    up = F.gelu(F.linear(x, block.mlp.up.weight, block.mlp.up.bias), approximate="tanh")
    want = want + gate * F.linear(up, block.mlp.down.weight, block.mlp.down.bias)
    torch.testing.assert_close(block(h, cond, angles, None), want, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_tied_head_reads_out_with_the_embedding():
    net = network(tied=True)
    assert net.head is None
    before = net(text(), sigma())
    net.embed.weight[3] *= 2
    x0 = text().where(text() != 3, 4)
    doubled = net(x0, sigma())[..., 3]
    net.embed.weight[3] /= 2
    torch.testing.assert_close(doubled, 2 * net(x0, sigma())[..., 3])
    assert before.shape == (2, LENGTH, VOCAB)


@torch.no_grad()
def test_the_first_belief_is_exactly_uniform():
    for changes in ({}, {"norm": "rms", "mlp": "swiglu"}, {"time": "none"}):
        torch.manual_seed(0)
        net = Transformer(dataclasses.replace(BASE, **changes))
        assert (net(text(), sigma()) == 0).all()


@pytest.mark.parametrize(
    "process", [Sequential(VOCAB), Absorbing(VOCAB), Uniform(VOCAB)], ids=lambda p: type(p).__name__
)
@torch.no_grad()
def test_the_first_bound_is_that_of_a_uniform_guess(process):
    """log V a token: exactly left to right, 30 % around it for one batch of noise elsewhere."""
    kind = {Sequential: "sequential", Absorbing: "absorbing", Uniform: "uniform"}[type(process)]
    torch.manual_seed(0)
    changes = {"attention": "causal", "time": "none"} if kind == "sequential" else {}
    net = Transformer(dataclasses.replace(BASE, **changes, num_states=process.num_states))
    rows = 512
    batch = Batch(text(rows), rng.stratified(0, 0, rows))
    nats = BOUNDS[kind](process, net, batch, Key(rng.rows(0, 0, rows)))
    rel = 1e-6 if kind == "sequential" else 0.3
    assert float(nats.total / nats.count) == pytest.approx(math.log(VOCAB), rel=rel)


@variants
def test_a_gradient_is_a_finite_difference(changes):
    """One direction through all weights, in float64; every weight takes part."""
    net = network(**changes).double()
    earlier = torch.full((2, LENGTH, VOCAB), 1 / VOCAB, dtype=torch.float64)
    weights = dict(net.named_parameters())
    g = torch.Generator().manual_seed(7)
    direction = {n: torch.randn(w.shape, generator=g).double() for n, w in weights.items()}

    def loss(step):
        moved = {n: w + step * direction[n] for n, w in weights.items()}
        logits = torch.func.functional_call(net, moved, (text(), sigma(), None, earlier))
        return logits.log_softmax(-1)[..., 0].sum()

    grads = torch.autograd.grad(loss(0.0), list(weights.values()))
    slope = sum((g * d).sum() for g, d in zip(grads, direction.values(), strict=True))
    assert all(g.abs().max() > 0 for g in grads)
    with torch.no_grad():
        h = 1e-6
        assert float((loss(h) - loss(-h)) / (2 * h)) == pytest.approx(float(slope), rel=1e-5)


@torch.no_grad()
def test_the_noise_level_matters_only_to_a_network_that_takes_it():
    for time, matters in (("adaln", True), ("none", False)):
        net = network(time=time)
        moved = (net(text(), sigma()) - net(text(), 2 * sigma())).abs().max()
        assert bool(moved > 1e-3) == matters
    fresh = Transformer(BASE)
    assert torch.equal(fresh(text(), sigma()), fresh(text(), 2 * sigma()))


@torch.no_grad()
def test_each_row_has_its_own_noise_level():
    net, x0 = network(), text()
    alone = torch.cat([net(x0[i : i + 1], sigma()[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(net(x0, sigma()), alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_an_earlier_belief_matters_only_to_a_network_that_takes_it():
    earlier = torch.rand(2, LENGTH, VOCAB, generator=torch.Generator().manual_seed(8)).softmax(-1)
    for asks in (True, False):
        net = network(self_conditioning=asks)
        moved = (net(text(), sigma(), earlier=earlier) - net(text(), sigma())).abs().max()
        assert bool(moved > 1e-4) == asks
    fresh = network(self_conditioning=True)
    torch.nn.init.zeros_(fresh.earlier.weight)
    assert torch.equal(fresh(text(), sigma(), earlier=earlier), fresh(text(), sigma()))


def test_dropout_acts_in_training_alone():
    net = network(dropout=0.5)
    assert torch.equal(net(text(), sigma()), net(text(), sigma()))
    net.train()
    assert not torch.equal(net(text(), sigma()), net(text(), sigma()))


@torch.no_grad()
def test_bfloat16_answers_in_bfloat16_close_to_single_precision():
    net = network()
    want = net(text(), sigma())
    with torch.autocast("cpu", torch.bfloat16):
        got = net(text(), sigma())
    assert got.dtype == torch.bfloat16
    assert (got - want).abs().mean() < 0.05 * want.abs().mean()


@pytest.mark.parametrize("name", PRESETS)
def test_every_named_size_is_valid(name):
    config = dataclasses.replace(PRESETS[name], vocab_size=VOCAB, num_states=VOCAB)
    with torch.device("meta"):
        assert len(Transformer(config).blocks) == config.depth


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 0}, r"model\.depth must be at least 1, got 0"),
        ({"hidden": 18}, "got hidden=18 and heads=4"),
        ({"hidden": 12, "heads": 4}, "even head width"),
        ({"kv_heads": 3}, "heads=4 must be a multiple of kv_heads=3"),
        ({"kv_heads": 0}, "kv_heads"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"block_length": 4}, "attention='bidirectional' and block_length=4"),
        ({"attention": "block_causal"}, "block_length=None"),
        ({"attention": "block_causal", "block_length": 0}, "block_length"),
    ],
)
def test_an_impossible_shape_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(BASE, **changes)


@pytest.mark.parametrize("changes", [{"vocab_size": 0}, {"num_states": VOCAB - 1}])
def test_a_network_needs_a_vocabulary(changes):
    with pytest.raises(ValueError, match="vocab_size must be at least 1"):
        Transformer(dataclasses.replace(BASE, **changes))
