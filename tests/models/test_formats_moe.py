"""LLaDA-MoE and LLaDA2 checkpoints answer as the papers' networks do."""

import dataclasses
import json

import pytest
import torch
from oracle import checkpoints_moe as oracle
from safetensors.torch import save_file
from tiny_checkpoints import ONE, TWO, llada2_config, llada_moe_config, network, source

from unison.models.formats import llada2, llada_moe, reading
from unison.models.formats.blueprint import CheckpointError

TOKENS = torch.randint(40, (2, 9), generator=torch.Generator().manual_seed(1))
FAMILIES = {
    "llada_moe": (llada_moe, oracle.llada_moe, llada_moe_config, ONE),
    "llada2": (llada2, oracle.llada2, llada2_config, TWO),
}
every_family = pytest.mark.parametrize("name", FAMILIES)


@torch.no_grad()
def answers(blueprint, tensors):
    return network(blueprint, tensors)(TOKENS, torch.zeros(len(TOKENS)))


def check(name, shape, **changes):
    """Check that a random checkpoint of this shape answers as the oracle does."""
    family, draw, config, _ = FAMILIES[name]
    tensors = draw(shape)
    blueprint = family.read(source(config(shape) | changes, tensors))
    wanted = torch.stack([oracle.logits(shape, tensors, row) for row in TOKENS])
    torch.testing.assert_close(answers(blueprint, tensors), wanted, rtol=1e-5, atol=1e-5)
    return blueprint


VARIANTS = {
    "as released": {"shared": 0, "dense": 0, "kv_heads": 4},
    "plain layers first and a shared expert": {},
    "a sigmoid router": {"score": "sigmoid", "normalised": True, "scale": 1.5},
    "groups of experts": {"score": "sigmoid", "groups": 4, "chosen_groups": 2},
    "half of each head turns": {"rotating": 2},
    "one expert a token": {"chosen": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_llada_moe_answers_as_the_paper_says(variant):
    blueprint = check("llada_moe", dataclasses.replace(ONE, **VARIANTS[variant]))
    assert blueprint.config.attention == "bidirectional"
    assert not blueprint.config.shifted


def test_a_causal_llada_moe_is_qwen3_with_experts(tmp_path):
    transformers = pytest.importorskip("transformers")
    shape = dataclasses.replace(ONE, shared=0, expert=8)
    tensors = oracle.llada_moe(shape)
    config = transformers.Qwen3MoeConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.width,
        moe_intermediate_size=shape.expert,
        num_experts=shape.experts,
        num_experts_per_tok=shape.chosen,
        norm_topk_prob=False,
        mlp_only_layers=[0],
        rms_norm_eps=shape.eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.base},
        tie_word_embeddings=False,
    )
    config.save_pretrained(tmp_path)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    theirs = transformers.Qwen3MoeForCausalLM.from_pretrained(tmp_path)
    blueprint = llada_moe.read(source(llada_moe_config(shape), tensors))
    causal = dataclasses.replace(blueprint.config, attention="causal")
    ours = answers(dataclasses.replace(blueprint, config=causal), tensors)
    with torch.no_grad():
        wanted = theirs.eval()(TOKENS).logits
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)


TWO_VARIANTS = {
    "as released": {},
    "no shared expert": {"shared": 0},
    "all groups take part": {"groups": 1, "chosen_groups": 1},
    "every layer has experts": {"dense": 0},
    "one expert a token": {"chosen": 1, "normalised": False},
    "whole heads turn": {"rotating": 4},
}


@pytest.mark.parametrize("variant", TWO_VARIANTS)
def test_llada2_answers_as_the_paper_says(variant):
    check("llada2", dataclasses.replace(TWO, **TWO_VARIANTS[variant]))


def test_the_queries_of_llada2_come_before_the_keys_and_the_values():
    tensors = oracle.llada2(TWO)
    blueprint = llada2.read(source(llada2_config(TWO), tensors))
    before = answers(blueprint, tensors)
    rows = [part * TWO.width for part in (TWO.heads, TWO.kv_heads, TWO.kv_heads)]
    for i in range(TWO.depth):
        name = f"model.layers.{i}.attention.query_key_value.weight"
        q, k, v = tensors[name].split(rows)
        tensors[name] = torch.cat([q, v, k])
    assert (answers(blueprint, tensors) - before).abs().max() > 1e-2


def test_no_key_value_heads_means_as_many_as_query_heads():
    check("llada2", dataclasses.replace(TWO, kv_heads=4), num_key_value_heads=0)


def test_one_expert_is_weighed_by_its_own_score_even_if_told_to_normalise():
    shape = dataclasses.replace(TWO, chosen=1, normalised=False)
    check("llada2", shape, norm_topk_prob=True)


def test_the_experts_bias_chooses_and_does_not_weigh():
    shape = dataclasses.replace(TWO, groups=1, chosen_groups=1, chosen=8)
    tensors = oracle.llada2(shape)
    blueprint = llada2.read(source(llada2_config(shape), tensors))
    before = answers(blueprint, tensors)
    moved = {n: -5 * t if "expert_bias" in n else t for n, t in tensors.items()}
    torch.testing.assert_close(answers(blueprint, moved), before)  # all chosen anyway
    few = dataclasses.replace(shape, chosen=2)
    chosen = llada2.read(source(llada2_config(few), tensors))
    assert (answers(chosen, moved) - answers(chosen, tensors)).abs().max() > 1e-2


def test_a_checkpoint_without_the_bias_is_read_without_it():
    tensors = {n: t for n, t in oracle.llada2(TWO).items() if "expert_bias" not in n}
    blueprint = llada2.read(source(llada2_config(TWO), tensors))
    assert blueprint.config.mixture is not None
    assert not blueprint.config.mixture.bias
    answers(blueprint, tensors)  # nothing is missing


def test_blocks_are_counted_from_the_first_token_and_have_32_where_none_is_stated():
    config = llada2_config(TWO)
    del config["block_size"]
    blueprint = llada2.read(source(config, oracle.llada2(TWO)))
    assert (blueprint.config.attention, blueprint.config.block_length) == ("block_causal", 32)
    assert any("32" in told for told in blueprint.inferred)
    tensors = oracle.llada2(TWO)
    short = llada2.read(source(llada2_config(TWO), tensors))
    changed = TOKENS.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 38
    made = network(short, tensors)
    with torch.no_grad():
        a, b = (made(tokens, torch.zeros(2)) for tokens in (TOKENS, changed))
    torch.testing.assert_close(a[:, :4], b[:, :4])
    assert (a[:, 7] - b[:, 7]).abs().max() > 1e-2


@every_family
def test_the_mask_is_stated_or_the_tokenizers_or_the_published_one(name):
    family, draw, config, shape = FAMILIES[name]
    tensors, stated = draw(shape), config(shape)
    assert family.read(source(stated, tensors)).mask_id == 38
    del stated["mask_token_id"]
    by_text = family.read(source(stated, tensors, tokens={"<|mask|>": 37}))
    assert by_text.mask_id == 37
    assert any("<|mask|>" in told for told in by_text.inferred)
    with pytest.raises(CheckpointError, match="mask_token_id"):
        family.read(source(stated, tensors))
    published = family.read(source(stated | {"vocab_size": 157184}, tensors))
    assert published.mask_id == 156895
    assert any("156895" in told for told in published.inferred)


@every_family
def test_every_tensor_is_taken_once(name):
    family, draw, config, shape = FAMILIES[name]
    tensors = draw(shape)
    blueprint = family.read(source(config(shape), tensors))
    taken = [theirs for piece in blueprint.pieces for theirs in piece.theirs]
    assert sorted(taken) == sorted(tensors)


@every_family
def test_what_is_written_reads_back_the_same(name):
    family, draw, config, shape = FAMILIES[name]
    tensors = draw(shape)
    first = family.read(source(config(shape) | {"torch_dtype": "bfloat16"}, tensors))
    written = family.write(first)
    again = family.read(source(written, tensors))
    assert written["torch_dtype"] == "bfloat16"
    for part in ("config", "pieces", "process", "mask_id", "eos_ids", "pad_id"):
        assert getattr(again, part) == getattr(first, part)


def test_llada_moe_is_known_by_its_experts_although_it_calls_itself_llada():
    config = llada_moe_config(ONE)
    assert config["model_type"] == "llada"
    assert config["architectures"][0] in llada_moe.ARCHITECTURES
    del config["architectures"]
    assert llada_moe.recognises(source(config, {}))
    dense = {"model_type": "llada", "d_model": 4096, "n_layers": 32}
    assert not llada_moe.recognises(source(dense, {}))
    assert llada2.recognises(source({"model_type": "llada2_moe"}, {}))
    assert not llada2.recognises(source(config, {}))


REFUSED = [
    ("llada_moe", {"clip_qkv": 8.0}, "clip_qkv=8.0"),
    ("llada_moe", {"moe_router_enable_expert_bias": True}, "moe_router_enable_expert_bias"),
    ("llada_moe", {"moe_router_score_function": "tanh"}, "'tanh'"),
    ("llada_moe", {"moe_layer_freq": [1, 0, 1]}, "moe_layer_freq"),
    ("llada_moe", {"moe_layer_freq": [1, 1]}, "3 layers"),
    ("llada_moe", {"dense_intermediate_size": None}, "dense_intermediate_size"),
    ("llada_moe", {"num_experts": None}, "lacks num_experts"),
    ("llada_moe", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'"),
    ("llada2", {"expert_capacity": 4}, "expert_capacity=4"),
    ("llada2", {"norm_head": True}, "norm_head"),
    ("llada2", {"score_function": "softmax"}, "score_function='softmax'"),
    ("llada2", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
    ("llada2", {"moe_intermediate_size": None}, "moe_intermediate_size"),
]


@pytest.mark.parametrize(("name", "change", "told"), REFUSED, ids=[told for _, _, told in REFUSED])
def test_what_is_not_supported_is_refused_by_name(name, change, told):
    family, draw, config, shape = FAMILIES[name]
    with pytest.raises(CheckpointError, match=told):
        family.read(source(config(shape) | change, draw(shape)))


def test_editing_tokens_are_kept_and_it_is_said_that_nothing_uses_them():
    config = llada2_config(TWO) | {"delete_token_id": 36, "split_token_id": 37}
    blueprint = llada2.read(source(config, oracle.llada2(TWO)))
    assert blueprint.extra["delete_token_id"] == 36
    assert any("delete_token_id and split_token_id" in told for told in blueprint.inferred)
    assert llada2.write(blueprint)["split_token_id"] == 37


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0}},
        {"partial_rotary_factor": None, "rotary_dim": 2},
    ],
    ids=["rope_parameters", "rotary_dim"],
)
def test_rotary_settings_are_read_in_each_spelling(spelling):
    check("llada2", TWO, **spelling)


@every_family
@torch.no_grad()
def test_a_folder_is_opened_and_answers(tmp_path, name):
    _, draw, config, shape = FAMILIES[name]
    (tmp_path / "config.json").write_text(json.dumps(config(shape)))
    tensors = draw(shape)
    save_file(tensors, tmp_path / "model.safetensors")
    opened = reading.open_checkpoint(tmp_path)
    made, blueprint = reading.build(opened, None, torch.device("cpu"))
    assert opened.name == name
    assert torch.equal(made(TOKENS, torch.zeros(len(TOKENS))), answers(blueprint, tensors))


@every_family
def test_without_an_architecture_the_family_is_still_found(name):
    _, draw, config, shape = FAMILIES[name]
    bare = {key: value for key, value in config(shape).items() if key != "architectures"}
    assert reading.recognise(source(bare, draw(shape))) == name
