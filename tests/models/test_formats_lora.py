"""An adapter changes exactly the weights it was trained on, by exactly what it learnt."""

import copy
import hashlib
import json
import math

import pytest
import torch
from oracle import checkpoints_moe as oracle
from safetensors.torch import load_file, save_file
from tiny_checkpoints import ONE, TWO, llada2_config, llada_moe_config, network, source, words
from torch import nn

from unison import checkpoints
from unison.models.formats import llada2, llada_moe, lora
from unison.models.formats.blueprint import Blueprint, CheckpointError, Piece

TENSORS = oracle.llada_moe(ONE)
BLUEPRINT = llada_moe.read(source(llada_moe_config(ONE), TENSORS))
JOINT = oracle.llada2(TWO)
Q_PROJ = "model.layers.1.self_attn.q_proj"
RANK = 3
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": 12, "bias": "none"}


def draw(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def adapter(path, tensors, **changes):
    """Write an adapter folder as peft does."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    held = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    save_file(held, path / "adapter_model.safetensors")
    return path


def pair(module, rows, columns, rank=RANK):
    return {
        f"{module}.lora_A.weight": draw(rank, columns, seed=1),
        f"{module}.lora_B.weight": draw(rows, rank, seed=2),
    }


def product(tensors, module):
    return tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]


def merged(path, tensors=TENSORS, blueprint: Blueprint = BLUEPRINT):
    """Return the weights of a network that an adapter was merged into."""
    made = network(blueprint, tensors)
    lora.merge(made, blueprint.pieces, path)
    return made.state_dict()


def wanted(changed, blueprint: Blueprint = BLUEPRINT, base=TENSORS):
    """Return the weights of the network whose checkpoint was changed before it was read."""
    return network(blueprint, base | changed).state_dict()


def check(path, changed, blueprint: Blueprint = BLUEPRINT, base=TENSORS):
    assert changed.keys() <= base.keys()
    torch.testing.assert_close(
        merged(path, base, blueprint), wanted(changed, blueprint, base), rtol=1e-6, atol=1e-6
    )


def tree(tensors):
    """Return modules with the checkpoint's names, for peft to find."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *inner, last = name.removesuffix(".weight").split(".")
        module = root
        for part in inner:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        if tensor.ndim == 1:
            leaf = nn.RMSNorm(len(tensor))
        elif "embed" in name:
            leaf = nn.Embedding(*tensor.shape)
        else:
            leaf = nn.Linear(tensor.shape[1], tensor.shape[0], bias=False)
        leaf.weight.data.copy_(tensor)
        module.add_module(last, leaf)
    return root


PEFT = {
    "attention": {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "every expert": {"target_modules": ["gate_proj", "up_proj", "down_proj"]},
    "rank-stabilised": {"target_modules": ["v_proj"], "use_rslora": True},
    "embeddings": {"target_modules": ["embed_tokens", "lm_head"]},
    "trained whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "q_norm"]},
    "own ranks and alphas": {
        "target_modules": ["q_proj", "v_proj"],
        "rank_pattern": {"v_proj": 5},
        "alpha_pattern": {"layers.1.self_attn.v_proj": 32},
    },
}


@pytest.mark.parametrize("name", PEFT)
def test_the_result_is_that_of_the_library_that_trained_it(tmp_path, name):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=RANK, lora_alpha=12, init_lora_weights=False, **PEFT[name])
    torch.manual_seed(3)
    model = peft.get_peft_model(tree(TENSORS), config)
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "modules_to_save" in n:
                p.add_(1.0)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    result = {n: t.detach() for n, t in model.merge_and_unload().state_dict().items()}
    changed = [n for n, t in TENSORS.items() if not torch.equal(result[n], t)]
    assert changed
    check(tmp_path, {n: result[n] for n in changed})


def test_a_matrix_of_a_fused_projection_changes_its_own_rows(tmp_path):
    tensors = pair(Q_PROJ.replace("q_", "k_"), ONE.kv_heads * ONE.width, ONE.hidden)
    name = "model.layers.1.self_attn.k_proj"
    change = 4.0 * product(tensors, name)  # alpha / r = 12 / 3
    check(adapter(tmp_path, tensors), {f"{name}.weight": TENSORS[f"{name}.weight"] + change})


def test_a_fused_matrix_of_the_checkpoint_is_changed_whole(tmp_path):
    blueprint = llada2.read(source(llada2_config(TWO), JOINT))
    name = "model.layers.0.attention.query_key_value"
    base = JOINT[f"{name}.weight"]
    tensors = pair(name, *base.shape)
    changed = {f"{name}.weight": base + 4.0 * product(tensors, name)}
    check(adapter(tmp_path, tensors), changed, blueprint, JOINT)


def test_the_rank_stabilised_scale_divides_by_the_root_of_the_rank(tmp_path):
    tensors = pair(Q_PROJ, 16, 16)
    path = adapter(tmp_path, tensors, use_rslora=True)
    name = f"{Q_PROJ}.weight"
    check(path, {name: TENSORS[name] + 12 / math.sqrt(RANK) * product(tensors, Q_PROJ)})


def test_an_expert_is_changed_alone(tmp_path):
    name = "model.layers.2.mlp.experts.5.up_proj"
    tensors = pair(name, ONE.expert, ONE.hidden)
    key = f"{name}.weight"
    check(adapter(tmp_path, tensors), {key: TENSORS[key] + 4.0 * product(tensors, name)})


def test_an_embedding_saved_beneath_its_adapter_replaces_the_models(tmp_path):
    name, key = "model.embed_tokens", "model.embed_tokens.weight"
    base = draw(*TENSORS[key].shape, seed=8)
    a, b = draw(RANK, len(base), seed=1), draw(base.shape[1], RANK, seed=2)
    tensors = {f"{name}.lora_embedding_A": a, f"{name}.lora_embedding_B": b}
    tensors |= {f"{name}.base_layer.weight": base}
    check(adapter(tmp_path, tensors), {key: base + 4.0 * (b @ a).T})


@pytest.mark.parametrize("swapped", [False, True])
def test_matrices_stored_with_rows_for_columns_are_changed_in_their_layout(tmp_path, swapped):
    made = nn.Linear(5, 7, bias=False)  # read from a matrix [5, 7]: inputs first
    before = made.weight.detach().clone()
    pieces = (Piece("weight", ("h.0.attn.c_attn.weight",), "transposed"),)
    rows, columns = (7, 5) if swapped else (5, 7)
    tensors = pair("h.0.attn.c_attn", rows, columns)
    lora.merge(made, pieces, adapter(tmp_path, tensors, fan_in_fan_out=swapped))
    change = 4.0 * product(tensors, "h.0.attn.c_attn")
    torch.testing.assert_close(made.weight.detach(), before + (change if swapped else change.T))


@pytest.mark.parametrize("start", ["layers.1", "outer.model.layers.1"])
def test_the_same_model_saved_inside_or_without_another_is_found(tmp_path, start):
    name = f"{start}.self_attn.q_proj"
    tensors = pair(name, 16, 16)
    key = f"{Q_PROJ}.weight"
    check(adapter(tmp_path, tensors), {key: TENSORS[key] + 4.0 * product(tensors, name)})


def test_half_precision_weights_are_added_to_in_full_precision(tmp_path):
    made = network(BLUEPRINT, TENSORS).bfloat16()
    before = made.state_dict()["blocks.1.attention.out.weight"].clone()
    name = "model.layers.1.self_attn.o_proj"
    tensors = pair(name, 16, 16)
    lora.merge(made, BLUEPRINT.pieces, adapter(tmp_path, tensors))
    after = made.state_dict()["blocks.1.attention.out.weight"]
    assert after.dtype == torch.bfloat16
    assert torch.equal(after, (before.float() + 4.0 * product(tensors, name)).bfloat16())


REFUSED = [
    ({"peft_type": "IA3"}, "peft_type='IA3'"),
    ({"use_dora": True}, "use_dora=True"),
    ({"bias": "lora_only"}, "bias='lora_only'"),
    ({"lora_bias": True}, "lora_bias=True"),
    ({"layer_replication": [[0, 2]]}, "layer_replication"),
    ({"target_parameters": ["mlp.experts.gate_up"]}, "target_parameters"),
    ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
]


@pytest.mark.parametrize(("change", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_other_adapters_are_refused_by_name(tmp_path, change, told):
    path = adapter(tmp_path, pair(Q_PROJ, 16, 16), **change)
    with pytest.raises(CheckpointError, match=told.replace("[", r"\[")):
        merged(path)


UNKNOWN = [
    (pair("model.layers.1.self_attn.qkv", 16, 16), "qkv.weight, which this model does not have"),
    (pair("model.layers.9.self_attn.q_proj", 16, 16), r"layers\.9"),
    (pair(Q_PROJ, 8, 16), r"shape \(8, 16\), the model's has \(16, 16\)"),
    ({f"{Q_PROJ}.lora_A.weight": draw(RANK, 16)}, "two matrices"),
    ({f"{Q_PROJ}.lora_magnitude_vector": draw(16)}, "lora_magnitude_vector"),
    ({"model.norm.weight": draw(16)}, "modules_to_save"),
    (pair("q_proj", 16, 16), "could be any of"),
]


@pytest.mark.parametrize(("tensors", "told"), UNKNOWN, ids=[told for _, told in UNKNOWN])
def test_an_adapter_of_another_model_is_refused_and_nothing_is_changed(tmp_path, tensors, told):
    made = network(BLUEPRINT, TENSORS)
    before = copy.deepcopy(made.state_dict())
    fitting = pair("model.layers.0.self_attn.q_proj", 16, 16)
    with pytest.raises(CheckpointError, match=told):
        lora.merge(made, BLUEPRINT.pieces, adapter(tmp_path, fitting | tensors))
    assert all(torch.equal(t, before[n]) for n, t in made.state_dict().items())


def test_a_folder_that_is_no_adapter_is_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        merged(tmp_path)
    path = adapter(tmp_path, pair(Q_PROJ, 16, 16))
    held = load_file(path / "adapter_model.safetensors")
    (path / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="damaged"):
        merged(path)
    (path / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        merged(path)
    assert len(held) == 2


def test_an_adapter_is_merged_while_loading_and_the_file_is_left_alone(tmp_path):
    path = tmp_path / "base"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(llada_moe_config(ONE)))
    save_file(TENSORS, path / "model.safetensors")
    before = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    held = words(tmp_path / "words")
    modules = [
        "model.layers.1.self_attn.o_proj",
        Q_PROJ,
        "model.layers.2.mlp.experts.5.up_proj",
    ]
    shapes = [(16, 16), (16, 16), (ONE.expert, 16)]
    tensors = {}
    for module, shape in zip(modules, shapes, strict=True):
        tensors |= pair(module, *shape)
    adapted = checkpoints.load(path, tokenizer=held, adapter=adapter(tmp_path / "adapter", tensors))
    changed = {
        f"{module}.weight": TENSORS[f"{module}.weight"] + 4.0 * product(tensors, module)
        for module in modules
    }
    torch.testing.assert_close(dict(adapted.network.state_dict()), dict(wanted(changed)))
    assert hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest() == before
    plain = checkpoints.load(path, tokenizer=held)
    torch.testing.assert_close(dict(plain.network.state_dict()), dict(wanted({})))
