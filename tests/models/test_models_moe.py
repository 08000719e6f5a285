"""Every token visits the experts its router names, whoever else is in the batch."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from unison.models import MixtureConfig, Transformer, TransformerConfig
from unison.models.moe import Mixture

D = 8
BASE = MixtureConfig(experts=6, chosen=2, hidden=5)
VARIANTS = [
    {},
    {"normalised": False},
    {"score": "sigmoid", "scale": 2.5},
    {"score": "sigmoid", "bias": True, "groups": 3, "chosen_groups": 2, "shared": 7},
    {"chosen": 1, "groups": 6, "chosen_groups": 3},
    {"chosen": 6},
]
variants = pytest.mark.parametrize("changes", VARIANTS, ids=str)


def mixture(seed=0, **changes):
    torch.manual_seed(seed)
    net = Mixture(D, dataclasses.replace(BASE, **changes)).double()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return net


def features(rows=3, length=7, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, length, D, generator=g, dtype=torch.float64)


def chosen_by(scores, config, bias):
    """One token's experts, as a person would pick them."""
    wanted = [s + (0.0 if bias is None else float(bias[e])) for e, s in enumerate(scores)]
    size = config.experts // config.groups
    groups = [wanted[g * size : (g + 1) * size] for g in range(config.groups)]
    sums = [sum(sorted(group, reverse=True)[:2]) for group in groups]
    best = sorted(range(config.groups), key=lambda g: -sums[g])[: config.chosen_groups]
    allowed = [e for e in range(config.experts) if e // size in best]
    return sorted(allowed, key=lambda e: -wanted[e])[: config.chosen]


def one_token(net, x):
    """The answer for a single token, expert after expert."""
    config, logits = net.config, (net.router.weight.float() @ x.float())
    exps = logits.exp()
    scores = exps / exps.sum() if config.score == "softmax" else 1 / (1 + (-logits).exp())
    scores = [float(s) for s in scores]
    experts = chosen_by(scores, config, net.bias)
    total = sum(scores[e] for e in experts) if config.normalised else 1.0
    answer = torch.zeros(D, dtype=torch.float64)
    for e in experts:
        gate, up = (net.gate_up[e] @ x).split(config.hidden)
        weight = scores[e] / total * config.scale
        answer += weight * (net.down[e] @ (gate * torch.sigmoid(gate) * up))
    if net.shared is not None:
        gate, up = (net.shared.gate_up.weight @ x).split(config.shared)
        answer += net.shared.down.weight @ (gate * torch.sigmoid(gate) * up)
    return answer


@variants
@torch.no_grad()
def test_the_batch_answers_as_token_after_token(changes):
    net, x = mixture(**changes), features()
    want = torch.stack([torch.stack([one_token(net, token) for token in row]) for row in x])
    torch.testing.assert_close(net(x), want, rtol=1e-5, atol=1e-6)  # the router is in float32


@variants
@torch.no_grad()
def test_a_token_answers_alike_in_any_company(changes):
    net, x = mixture(**changes), features()
    alone = net(x[1:2, 3:4])[0, 0]
    crowd = torch.cat([features(4, 7, seed=5), x])[:, torch.randperm(7)]
    place = (crowd[5] == x[1, 3]).all(-1).nonzero()[0, 0]
    torch.testing.assert_close(net(crowd)[5, place], alone, rtol=1e-6, atol=1e-7)
    same = x[1, 3].expand(40, D)  # all tokens to the same experts: none is dropped
    torch.testing.assert_close(net(same), alone.expand(40, D), rtol=1e-6, atol=1e-7)


def test_a_bias_moves_the_choice_and_not_the_weights():
    net, x = mixture(score="sigmoid", bias=True, normalised=False), features()[0]
    net.bias.data = torch.zeros(6, dtype=torch.float64)
    net.bias.data[4] = 10.0
    weights, chosen = net.route(x)
    assert (chosen[:, 0] == 4).all()
    want = torch.sigmoid(F.linear(x.float(), net.router.weight.float()))[:, 4]
    torch.testing.assert_close(weights[:, 0], want)


def test_the_router_decides_in_single_precision_under_bfloat16():
    net, x = mixture().float(), features().float()
    with torch.autocast("cpu", torch.bfloat16):
        weights, _ = net.route(x.flatten(0, 1))
    want, _ = net.route(x.flatten(0, 1))
    assert torch.equal(weights, want)


def test_every_visited_part_learns():
    """The slope along a random direction is the finite difference."""
    net, x = mixture(score="sigmoid", shared=7, bias=False), features().requires_grad_()
    weights = dict(net.named_parameters())
    g = torch.Generator().manual_seed(7)
    direction = {n: torch.randn(w.shape, generator=g).double() for n, w in weights.items()}
    direction["router.weight"] *= 0  # it works in float32: no finite difference

    def loss(step):
        moved = {n: w + step * direction[n] for n, w in weights.items()}
        return torch.func.functional_call(net, moved, (x,)).square().sum()

    grads = torch.autograd.grad(loss(0.0), list(weights.values()))
    slope = sum((g * d).sum() for g, d in zip(grads, direction.values(), strict=True))
    assert all(g.abs().max() > 0 for g in grads)
    h = 1e-6
    with torch.no_grad():
        difference = float((loss(h) - loss(-h)) / (2 * h))
    assert difference == pytest.approx(float(slope), rel=1e-6)


def test_the_first_layers_may_keep_a_plain_mlp():
    config = TransformerConfig(
        vocab_size=5,
        num_states=5,
        hidden=8,
        depth=3,
        heads=2,
        mlp="swiglu",
        mlp_hidden=11,
        mixture=dataclasses.replace(BASE, dense=1),
    )
    names = Transformer(config).state_dict()
    assert names["blocks.0.mlp.gate_up.weight"].shape == (22, 8)
    for layer in (1, 2):
        assert names[f"blocks.{layer}.mlp.gate_up"].shape == (6, 10, 8)
        assert names[f"blocks.{layer}.mlp.down"].shape == (6, 8, 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"experts": 0}, r"mixture\.experts must be at least 1, got 0"),
        ({"chosen": 7}, "experts=6 must be at least chosen=7"),
        ({"groups": 4}, "multiple of groups=4"),
        ({"groups": 2, "chosen_groups": 3}, "chosen_groups=3 must be at most groups=2"),
        ({"groups": 3, "chosen_groups": 1, "chosen": 3}, "chosen=3 experts cannot come from"),
        ({"shared": -1}, "got -1 and 0"),
    ],
)
def test_an_impossible_mixture_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(BASE, **changes)
