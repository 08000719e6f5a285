"""Llama, Qwen, GPT-2 and the diffusion models grown from them answer as their own code does."""

import json

import checkpoints as made
import pytest
import torch
from oracle import checkpoints as oracle
from safetensors.torch import load_file, save_file

import unison
from unison.checkpoints import load, save
from unison.models.formats.blueprint import CheckpointError

B, L = 2, 13
SIGMA = torch.zeros(B)
TEXT = torch.randint(made.V, (B, L), generator=torch.Generator().manual_seed(1))
STOCK = {
    "dream": "Qwen2",
    "sdar": "Qwen3",
    "sdar_moe": "Qwen3Moe",
    "fast_dllm": "Qwen2",
    "a2d_llama": "Llama",
    "a2d_qwen2": "Qwen2",
    "a2d_qwen3": "Qwen3",
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
    "gpt2": "GPT2",
}
BLOCKS = {"sdar": 4, "sdar_moe": 4, "fast_dllm": 8}
SHIFTED = ("dream", "fast_dllm")
CAUSAL = ("llama", "qwen2", "qwen3", "qwen3_moe", "gpt2")
every = pytest.mark.parametrize("family", ["llada", *STOCK])
stock = pytest.mark.parametrize("family", STOCK)


def seen_by(family, length=L):
    """Who sees whom, as an additive mask [1, 1, L, L]."""
    i = torch.arange(length)
    if family in CAUSAL:
        seen = i[:, None] >= i
    else:
        size = BLOCKS.get(family, length)
        seen = i[:, None] // size >= i // size
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None]


@torch.no_grad()
def stock_logits(family, folder, tokens=TEXT):
    """What transformers' own class says, with the family's mask and alignment."""
    transformers = pytest.importorskip("transformers", minversion="5.0")
    kind = STOCK[family]
    config = getattr(transformers, f"{kind}Config").from_pretrained(folder)
    config._attn_implementation = "eager"
    cls = "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
    model = getattr(transformers, cls).from_pretrained(folder, config=config).eval()
    logits = model(tokens, attention_mask=seen_by(family, tokens.shape[1])).logits
    if family in SHIFTED:
        return torch.cat([logits[:, :1], logits[:, :-1]], dim=1)
    return logits


@torch.no_grad()
def ours(model, tokens=TEXT):
    return model.network(tokens, SIGMA)


def as_stock(folder, family):
    """The same folder under the name of the stock class."""
    config = json.loads((folder / "config.json").read_text())
    kind = STOCK[family]
    stock_type = {"Qwen3Moe": "qwen3_moe"}.get(kind, kind.lower())
    other = folder.parent / f"{folder.name}-stock"
    tensors = load_file(folder / "model.safetensors")
    return made.write(other, config | {"model_type": stock_type}, tensors)


@stock
def test_the_logits_are_those_of_the_stock_class(family, tmp_path):
    folder = made.make(tmp_path / "model", family)
    model = load(folder)
    want = stock_logits(family, as_stock(folder, family))
    torch.testing.assert_close(ours(model), want, rtol=1e-5, atol=1e-5)
    assert want.std() > 0.1


@pytest.mark.parametrize(
    "changes",
    [{}, {"n_kv_heads": 2}, {"weight_tying": True}, {"mlp_hidden_size": None}],
    ids=str,
)
def test_llada_answers_as_its_paper_has_it(changes, tmp_path):
    config = made.llada_config(**changes)
    tensors = made.random_tensors(made.llada_shapes(config))
    model = load(made.write(tmp_path / "model", config, tensors))
    want = oracle.llada(config, tensors, TEXT)
    torch.testing.assert_close(ours(model), want, rtol=1e-5, atol=1e-5)


@every
def test_what_is_saved_in_its_own_format_is_the_same_checkpoint(family, tmp_path):
    folder = made.make(tmp_path / "model", family)
    model = load(folder)
    save(model, tmp_path / "again", model.format)
    before = load_file(folder / "model.safetensors")
    after = load_file(tmp_path / "again" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    back = load(tmp_path / "again")
    assert torch.equal(ours(back), ours(model))
    assert back.network.config == model.network.config
    assert back.process == model.process
    assert back.eos_ids == model.eos_ids
    assert back.format == model.format
    stated = json.loads((folder / "config.json").read_text())
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert {name: again[name] for name in stated if name != "n_inner"} == {
        name: value for name, value in stated.items() if name != "n_inner"
    }


@every
def test_what_is_saved_as_unison_is_the_same_model(family, tmp_path):
    model = load(made.make(tmp_path / "model", family))
    unison.save(model, tmp_path / "own")
    back = load(tmp_path / "own")
    assert torch.equal(ours(back), ours(model))
    assert back.network.config == model.network.config
    assert back.process == model.process
    assert (back.eos_ids, back.inferred) == (model.eos_ids, model.inferred)
    assert back.defaults == model.defaults
    assert back.format == "unison"


@every
def test_the_process_and_its_special_state_are_stated(family, tmp_path):
    model = load(made.make(tmp_path / "model", family))
    if family in CAUSAL:
        assert type(model.process).__name__ == "Sequential"
        assert model.process.bos_id == made.END
    else:
        assert type(model.process).__name__ == "Absorbing"
        assert model.process.mask_id == made.MASK
    assert model.process.num_states <= model.network.config.num_states
    assert model.network.config.shifted == (family in SHIFTED)
    assert model.network.config.block_length == BLOCKS.get(family)


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 4.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        {
            "rope_type": "yarn",
            "factor": 2.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 8.0,
            "beta_slow": 2.0,
            "attention_factor": 1.3,
        },
    ],
    ids=lambda s: f"{s['rope_type']}-{s['factor']}",
)
@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
def test_stretched_positions_are_those_of_the_stock_class(scaling, spelling, tmp_path):
    stated = {spelling: scaling | {"rope_theta": 10000.0}, "head_dim": 16}
    folder = made.make(tmp_path / "model", "llama", **stated)
    tokens = torch.randint(made.V, (B, 60), generator=torch.Generator().manual_seed(2))
    want = stock_logits("llama", folder, tokens)
    torch.testing.assert_close(ours(load(folder), tokens), want, rtol=1e-4, atol=2e-5)
    plain = ours(load(made.make(tmp_path / "plain", "llama", head_dim=16)), tokens)
    assert (plain - want).abs().max() > 1e-2


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_biases_of_attention_are_read_where_config_says_so(family, tmp_path):
    config = made.FAMILIES[family][0] | {"attention_bias": True}
    shapes = made.llama_shapes(config, bias=True, norms=family == "qwen3")
    for layer in range(2):
        shapes[f"model.layers.{layer}.self_attn.o_proj.bias"] = (32,)
    folder = made.write(tmp_path / "model", config, made.random_tensors(shapes))
    want = stock_logits(family, folder)
    torch.testing.assert_close(ours(load(folder)), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen2", "llada"])
@pytest.mark.parametrize("heads", [None, 0])
def test_no_number_of_key_heads_means_as_many_as_queries(family, heads, tmp_path):
    name = "n_kv_heads" if family == "llada" else "num_key_value_heads"
    config = {**made.FAMILIES[family][0], name: heads}
    tensors = made.random_tensors(made.FAMILIES[family][1](config))
    model = load(made.write(tmp_path / "model", config, tensors))
    assert model.network.config.num_kv_heads == 4


@pytest.mark.parametrize("family", ["llama", "a2d_qwen2"])
def test_a_tied_head_that_is_stored_too_is_left_aside(family, tmp_path):
    folder = made.make(tmp_path / "model", family)
    tensors = load_file(folder / "model.safetensors")
    stored = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    want = ours(load(folder))
    save_file(stored, folder / "model.safetensors")
    assert torch.equal(ours(load(folder)), want)


def test_a_head_that_is_nowhere_is_taken_to_be_tied_and_that_is_told(tmp_path):
    folder = made.make(tmp_path / "model", "llama")
    config = json.loads((folder / "config.json").read_text())
    del config["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    model = load(folder)
    assert model.network.config.tied
    assert any("output head is the input embedding" in told for told in model.inferred)


def test_llada_keeps_its_two_ff_out_apart(tmp_path):
    """The head and every block's down projection share their last name."""
    folder = made.make(tmp_path / "model", "llada")
    tensors, model = load_file(folder / "model.safetensors"), load(folder)
    weights = model.network.state_dict()
    assert torch.equal(weights["head.weight"], tensors["model.transformer.ff_out.weight"])
    for layer in range(2):
        theirs = tensors[f"model.transformer.blocks.{layer}.ff_out.weight"]
        assert torch.equal(weights[f"blocks.{layer}.mlp.down.weight"], theirs)


def test_a_mixture_that_calls_itself_llada_is_not_taken_for_the_dense_model(tmp_path):
    config = made.llada_config(num_experts=64)
    tensors = made.random_tensors(made.llada_shapes(config))
    with pytest.raises(CheckpointError, match="num_experts=64 is not supported"):
        load(made.write(tmp_path / "model", config, tensors))


@pytest.mark.parametrize(
    ("folder", "length"), [("SDAR-1.7B-Chat", 4), ("SDAR-8B-Chat-b32", 32), ("TraDo-4B-b8", 8)]
)
def test_sdar_without_block_size_takes_it_from_its_name_and_tells(folder, length, tmp_path):
    model = load(made.make(tmp_path / folder, "sdar", block_size=None))
    assert model.network.config.block_length == length
    assert model.defaults.block_length == length
    assert any(f"Blocks have {length} tokens" in told for told in model.inferred)


def test_the_name_in_the_cache_of_the_hub_counts(tmp_path):
    folder = tmp_path / "models--JetLM--SDAR-4B-Chat-b16" / "snapshots" / "0a1b2c"
    assert load(made.make(folder, "sdar", block_size=None)).network.config.block_length == 16


def test_sdar_without_mask_takes_the_tokenizers_and_tells(tmp_path):
    folder = made.make(tmp_path / "model", "sdar", mask_token_id=None)
    with pytest.raises(CheckpointError, match="names a mask token; add mask_token_id"):
        load(folder)
    (folder / "added_tokens.json").write_text(json.dumps({"<|MASK|>": 261}))
    model = load(folder)
    assert model.process.mask_id == 261
    assert "The mask is the tokenizer's <|MASK|>." in model.inferred


def test_the_usual_mask_is_taken_where_the_vocabulary_reaches_it(tmp_path):
    config = made.FAMILIES["dream"][0] | {"vocab_size": 151700, "hidden_size": 8}
    del config["mask_token_id"]
    tensors = made.random_tensors(made.FAMILIES["dream"][1](config))
    model = load(made.write(tmp_path / "model", config, tensors))
    assert model.process.mask_id == 151666
    assert any("The mask is 151666" in told for told in model.inferred)


def test_an_a2d_model_with_a_block_size_sees_blocks(tmp_path):
    model = load(made.make(tmp_path / "blocks", "a2d_qwen3", block_size=4))
    assert model.network.config.attention == "block_causal"
    plain = load(made.make(tmp_path / "plain", "a2d_qwen3"))
    assert plain.network.config.attention == "bidirectional"
    assert any("states no block_size" in told for told in plain.inferred)


def test_a_causal_model_without_bos_begins_with_its_end_and_tells(tmp_path):
    model = load(made.make(tmp_path / "model", "qwen2", bos_token_id=None))
    assert model.process.bos_id == made.END
    assert any("A text begins after 256" in told for told in model.inferred)


def test_a_causal_model_speaks_of_the_position_it_is_asked_about(tmp_path):
    """The belief at i is the stock model's output at i - 1; at 0, the one after the begin."""
    folder = made.make(tmp_path / "model", "qwen3")
    model = load(folder)
    begin = torch.full((B, 1), made.END)
    logits = stock_logits("qwen3", folder, torch.cat([begin, TEXT], dim=1))
    want = logits[:, :-1].log_softmax(-1)
    got = model.denoiser()(TEXT, torch.zeros(B, dtype=torch.float64))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_gpt2s_first_files_name_tensors_without_a_prefix(tmp_path):
    config = made.gpt2_config()
    folder = made.make(tmp_path / "model", "gpt2")
    tensors = load_file(folder / "model.safetensors")
    short = {name.removeprefix("transformer."): w for name, w in tensors.items()}
    short["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)  # a buffer of causal masks
    other = made.write(tmp_path / "short", config, short)
    assert torch.equal(ours(load(other)), ours(load(folder)))


@every
def test_rotary_buffers_are_ignored(family, tmp_path):
    folder = made.make(tmp_path / "model", family)
    tensors = load_file(folder / "model.safetensors")
    want = ours(load(folder))
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    if family == "gpt2":
        extra = {"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(tensors | extra, folder / "model.safetensors")
    assert torch.equal(ours(load(folder)), want)


UNSUPPORTED = {
    "sliding window": ("qwen2", {"use_sliding_window": True}, "sliding window"),
    "dynamic rope": (
        "llama",
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        "type 'dynamic' is not supported; linear, llama3",
    ),
    "half a llama3": (
        "llama",
        {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}},
        "lacks low_freq_factor, high_freq_factor, original_max",
    ),
    "activation": ("qwen3", {"hidden_act": "gelu"}, "hidden_act='gelu' is not supported"),
    "alibi": ("llada", {"alibi": True}, "alibi=True is not supported"),
    "another block": ("llada", {"block_type": "sequential"}, "block_type='sequential' is not"),
    "every other layer": ("sdar_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step=2"),
    "exact gelu": ("gpt2", {"activation_function": "gelu"}, "activation_function='gelu' is not"),
    "no heads": ("dream", {"num_attention_heads": None}, "lacks num_attention_heads"),
    "block of none": ("sdar", {"block_size": 0}, "block_size must be a positive number, got 0"),
    "too few heads": ("qwen2", {"num_key_value_heads": 3}, "multiple of kv_heads=3"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(name, tmp_path):
    family, changes, words = UNSUPPORTED[name]
    folder = made.make(tmp_path / "model", family)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=words) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
