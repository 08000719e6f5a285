"""What is counted from a shape alone is what the network itself has, does and keeps."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unison.models import PRESETS, Transformer, TransformerConfig, layers
from unison.models.config import MixtureConfig
from unison.recipes import RECIPES
from unison.scale.plan import Plan
from unison.scale.planner import memory, weights, work
from unison.scale.planner.candidate import Candidate, Job
from unison.train import Optimizer, optim
from unison.train.ema import Average

V = 100
SMALL = TransformerConfig(
    vocab_size=V, num_states=V + 1, hidden=64, depth=2, heads=4, max_length=32, cond_dim=16
)
MIXTURE = MixtureConfig(experts=8, chosen=2, hidden=32)
SHAPES = {
    "adaln": {},
    "no time": {"time": "none"},
    "tied": {"tied": True},
    "llama": {"time": "none", "norm": "rms", "mlp": "swiglu", "kv_heads": 2, "head_bias": False},
    "biases": {"norm_bias": True, "qkv_bias": True, "out_bias": True, "positions": "learned"},
    "wide heads": {"head_width": 32, "qk_norm": True, "mlp_hidden": 100},
    "scalar": {"scalar": True, "self_conditioning": True},
    "dropout": {"dropout": 0.1},
    "mixture": {"time": "none", "mixture": MIXTURE},
    "shared experts": {
        "time": "none",
        "mlp": "swiglu",
        "mixture": dataclasses.replace(MIXTURE, shared=16, bias=True, dense=1, score="sigmoid"),
    },
}


def shape(name):
    return dataclasses.replace(SMALL, **SHAPES[name])


@pytest.mark.parametrize("name", SHAPES)
def test_every_weight_is_counted_under_its_name_and_shape(name):
    config = shape(name)
    with torch.device("meta"):
        network = Transformer(config)
    real = {name: tuple(w.shape) for name, w in network.named_parameters()}
    assert {tensor.name: tensor.shape for tensor in weights.tensors(config)} == real


@pytest.mark.parametrize("name", [*PRESETS, *RECIPES])
def test_presets_and_recipes_have_as_many_weights_as_counted(name):
    config = PRESETS[name] if name in PRESETS else RECIPES[name]().train.model
    config = dataclasses.replace(config, vocab_size=32_000, num_states=32_001)
    with torch.device("meta"):
        network = Transformer(config)
    assert weights.count(config) == sum(w.numel() for w in network.parameters())


@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("name", ["adaln", "llama", "mixture"])
def test_weights_gradients_moments_and_average_take_the_predicted_bytes(name, muon):
    config = shape(name)
    network = Transformer(config)
    settings = Optimizer(name="muon" if muon else "adamw")
    optimizers = optim.make(network, settings)
    for weight in network.parameters():
        weight.grad = torch.ones_like(weight)
    for optimizer in optimizers:
        optimizer.step()
    average = Average(network, 0.9)
    found = memory.of(Job(config, 4, 32, muon=muon), Candidate(Plan(), 4))
    assert found.weights == sum(w.nbytes for w in network.parameters())
    assert found.gradients == sum(w.grad.nbytes for w in network.parameters())
    assert found.average == sum(w.nbytes for w in average.weights)
    states = [s for o in optimizers for s in o.state.values()]
    counted = sum(v.nbytes for s in states for v in s.values() if torch.is_tensor(v))
    counts = sum(tensor.hidden for tensor in weights.tensors(config)) if muon else 0
    assert found.moments == counted + 4 * counts  # Muon keeps no count of steps


@pytest.mark.parametrize("name", ["adaln", "no time", "tied", "llama", "wide heads"])
def test_operations_of_an_evaluation_are_those_torch_counts(name):
    config, rows, length = shape(name), 4, 16
    network = Transformer(config).eval()
    tokens = torch.arange(rows * length).view(rows, length) % V
    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        network(tokens, torch.ones(rows))
    assert work.forward(config, rows, length).total == counter.get_total_flops()


def kept_bytes(config, layer, rows, length, bfloat16=False):
    """Return the bytes autograd keeps for a block, each storage once, weights left out."""
    network = Transformer(config).train()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    own = {w.untyped_storage().data_ptr() for w in network.parameters()}
    seen = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage
        return tensor

    h = torch.randn(rows, length, config.hidden, requires_grad=True)
    cond = torch.randn(rows, config.cond_dim) if config.time == "adaln" else None
    angles = layers.angles(torch.arange(length), config) if config.positions == "rotary" else None
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        network.blocks[layer](h, cond, angles, None)
    everywhere = 2 * 4 * length * (config.rope_dim // 2) if angles is not None else 0
    if cond is not None:
        everywhere += cond.nbytes // (2 if bfloat16 else 1)
    return sum(storage.nbytes() for storage in seen.values()) - everywhere


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_block_keeps_as_many_bytes_for_its_gradient_as_derived(name):
    config, rows, length = shape(name), 4, 32
    for layer in range(config.depth):
        kept = kept_bytes(config, layer, rows, length)
        assert work.saved(config, layer, rows, length) == kept


def test_under_autocast_a_block_keeps_the_derived_bytes_and_its_cast_weights(monkeypatch):
    monkeypatch.setattr(layers, "_slow_backward", lambda heads: False)  # as on a GPU
    config, rows, length = SMALL, 4, 32
    cast = sum(
        2 * tensor.numel
        for tensor in weights.tensors(config)
        if tensor.hidden and tensor.block == 0 and "modulation" not in tensor.name
    )
    kept = kept_bytes(config, 0, rows, length, bfloat16=True)
    assert work.saved(config, 0, rows, length, precision=work.AUTOCAST) + cast == kept


def test_tensor_parallel_ranks_hold_what_the_cutting_of_the_run_leaves_them():
    from unison.scale.tensor import Split, split_blocks

    for name in ("adaln", "no time", "llama", "biases"):
        config = shape(name)
        network = Transformer(config)
        split_blocks(network, Split(0, 2, lambda x: x))
        real = sum(w.numel() for w in network.parameters())
        assert weights.share(config, Plan(tp=2)).weights == real


def test_shards_of_rows_are_those_fsdp_makes():
    config = shape("adaln")
    for ranks in (2, 3, 8):
        first = sum(
            -(-tensor.shape[0] // ranks) * tensor.numel // tensor.shape[0]
            for tensor in weights.tensors(config)
        )
        assert weights.share(config, Plan(fsdp=ranks)).weights == first


def test_experts_are_shared_and_the_rest_is_not():
    config = shape("mixture")
    whole, half = weights.share(config, Plan()), weights.share(config, Plan(ep=2))
    assert half.experts * 2 == whole.experts
    assert half.weights == whole.weights - whole.experts // 2


def test_stages_hold_every_weight_once_and_a_tied_embedding_twice():
    for name in ("adaln", "tied"):
        config = dataclasses.replace(shape(name), depth=4)
        held = sum(weights.share(config, Plan(pp=4), stage).weights for stage in range(4))
        extra = config.num_states * config.hidden if name == "tied" else 0
        assert held == weights.count(config) + extra
