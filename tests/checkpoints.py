"""Tiny random checkpoints with the exact names and settings of published families."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from unison.data import byte_tokenizer

V = 264  # the byte tokenizer's 257, padded: a mask among the unused ids
MASK = 260
END = 256

Shapes = dict[str, tuple[int, ...]]

QWEN = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "eos_token_id": END,
    "bos_token_id": END,
    "pad_token_id": END,
}


def llama_shapes(config: Mapping[str, Any], bias: bool = False, norms: bool = False) -> Shapes:
    """Names and shapes of Llama, Qwen2 (``bias``) and Qwen3 (``norms``), experts included."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    width = config.get("head_dim") or hidden // heads
    few = (config.get("num_key_value_heads") or heads) * width
    shapes: Shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        rows = {"q": heads * width, "k": few, "v": few}
        for part, size in rows.items():
            shapes[f"{at}.self_attn.{part}_proj.weight"] = (size, hidden)
            if bias:
                shapes[f"{at}.self_attn.{part}_proj.bias"] = (size,)
        shapes[f"{at}.self_attn.o_proj.weight"] = (hidden, heads * width)
        for name in ("q_norm", "k_norm") if norms else ():
            shapes[f"{at}.self_attn.{name}.weight"] = (width,)
        shapes |= mlp_shapes(config, f"{at}.mlp")
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}.{name}.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


def mlp_shapes(config: Mapping[str, Any], at: str) -> Shapes:
    hidden, experts = config["hidden_size"], config.get("num_experts", 0)
    if not experts:
        return gated(at, hidden, config["intermediate_size"])
    shapes: Shapes = {f"{at}.gate.weight": (experts, hidden)}
    for expert in range(experts):
        shapes |= gated(f"{at}.experts.{expert}", hidden, config["moe_intermediate_size"])
    return shapes


def gated(at: str, hidden: int, inner: int) -> Shapes:
    return {
        f"{at}.gate_proj.weight": (inner, hidden),
        f"{at}.up_proj.weight": (inner, hidden),
        f"{at}.down_proj.weight": (hidden, inner),
    }


def llada_config(**changes: Any) -> dict[str, Any]:
    return {
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        "d_model": 32,
        "n_heads": 4,
        "n_kv_heads": 4,
        "n_layers": 2,
        "mlp_hidden_size": 48,
        "mlp_ratio": 4,
        "vocab_size": V,
        "embedding_size": V,
        "max_sequence_length": 64,
        "rope": True,
        "rope_theta": 500000.0,
        "rope_full_precision": True,
        "rms_norm_eps": 1e-5,
        "layer_norm_type": "rms",
        "activation_type": "silu",
        "block_type": "llama",
        "weight_tying": False,
        "include_bias": False,
        "include_qkv_bias": False,
        "alibi": False,
        "attention_layer_norm": False,
        "input_emb_norm": False,
        "scale_logits": False,
        "multi_query_attention": None,
        "mask_token_id": MASK,
        "eos_token_id": END,
        "pad_token_id": END,
        "init_device": "meta",
        **changes,
    }


def llada_shapes(config: Mapping[str, Any]) -> Shapes:
    hidden, heads = config["d_model"], config["n_heads"]
    inner = config["mlp_hidden_size"] or config["mlp_ratio"] * hidden
    few = (config.get("n_kv_heads") or heads) * (hidden // heads)
    start = "model.transformer"
    shapes: Shapes = {f"{start}.wte.weight": (config["embedding_size"], hidden)}
    for layer in range(config["n_layers"]):
        at = f"{start}.blocks.{layer}"
        shapes |= {
            f"{at}.q_proj.weight": (hidden, hidden),
            f"{at}.k_proj.weight": (few, hidden),
            f"{at}.v_proj.weight": (few, hidden),
            f"{at}.attn_out.weight": (hidden, hidden),
            f"{at}.ff_proj.weight": (inner, hidden),
            f"{at}.up_proj.weight": (inner, hidden),
            f"{at}.ff_out.weight": (hidden, inner),
            f"{at}.attn_norm.weight": (hidden,),
            f"{at}.ff_norm.weight": (hidden,),
        }
    shapes[f"{start}.ln_f.weight"] = (hidden,)
    if not config["weight_tying"]:
        shapes[f"{start}.ff_out.weight"] = (config["embedding_size"], hidden)
    return shapes


def qwen(architecture: str, model_type: str, **changes: Any) -> dict[str, Any]:
    return {**QWEN, "architectures": [architecture], "model_type": model_type, **changes}


def gpt2_config(**changes: Any) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": V,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "bos_token_id": END,
        "eos_token_id": END,
        **changes,
    }


def gpt2_shapes(config: Mapping[str, Any], start: str = "transformer.") -> Shapes:
    hidden = config["n_embd"]
    inner = config["n_inner"] or 4 * hidden
    shapes: Shapes = {
        f"{start}wte.weight": (config["vocab_size"], hidden),
        f"{start}wpe.weight": (config["n_positions"], hidden),
    }
    matrices = {
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.c_fc": (hidden, inner),
        "mlp.c_proj": (inner, hidden),
    }
    for layer in range(config["n_layer"]):
        for name in ("ln_1", "ln_2"):
            shapes[f"{start}h.{layer}.{name}.weight"] = (hidden,)
            shapes[f"{start}h.{layer}.{name}.bias"] = (hidden,)
        for name, shape in matrices.items():
            shapes[f"{start}h.{layer}.{name}.weight"] = shape
            shapes[f"{start}h.{layer}.{name}.bias"] = shape[1:]
    return shapes | {f"{start}ln_f.weight": (hidden,), f"{start}ln_f.bias": (hidden,)}


EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}

# By name: settings, and names and shapes of tensors made from them.
FAMILIES: dict[str, tuple[dict[str, Any], Callable[[Mapping[str, Any]], Shapes]]] = {
    "llada": (llada_config(), llada_shapes),
    "dream": (
        qwen("DreamModel", "Dream", mask_token_id=MASK),
        lambda config: llama_shapes(config, bias=True),
    ),
    "sdar": (
        qwen("SDARForCausalLM", "sdar", head_dim=16, block_size=4, mask_token_id=MASK),
        lambda config: llama_shapes(config, norms=True),
    ),
    "sdar_moe": (
        qwen(
            "SDARMoeForCausalLM",
            "sdar_moe",
            head_dim=16,
            block_size=4,
            mask_token_id=MASK,
            **EXPERTS,
        ),
        lambda config: llama_shapes(config, norms=True),
    ),
    "fast_dllm": (
        qwen("Fast_dLLM_QwenForCausalLM", "Fast_dLLM_Qwen", bd_size=8, mask_token_id=MASK),
        lambda config: llama_shapes(config, bias=True),
    ),
    "a2d_llama": (
        qwen("A2DLlamaLMHeadModel", "a2d-llama", mask_token_id=MASK),
        llama_shapes,
    ),
    "a2d_qwen2": (
        qwen("A2DQwen2LMHeadModel", "a2d-qwen2", mask_token_id=MASK, tie_word_embeddings=True),
        lambda config: llama_shapes(config, bias=True),
    ),
    "a2d_qwen3": (
        qwen("A2DQwen3LMHeadModel", "a2d-qwen3", mask_token_id=MASK, head_dim=16),
        lambda config: llama_shapes(config, norms=True),
    ),
    "llama": (qwen("LlamaForCausalLM", "llama", tie_word_embeddings=True), llama_shapes),
    "qwen2": (
        qwen("Qwen2ForCausalLM", "qwen2"),
        lambda config: llama_shapes(config, bias=True),
    ),
    "qwen3": (
        qwen("Qwen3ForCausalLM", "qwen3", head_dim=16),
        lambda config: llama_shapes(config, norms=True),
    ),
    "qwen3_moe": (
        qwen("Qwen3MoeForCausalLM", "qwen3_moe", head_dim=16, **EXPERTS),
        lambda config: llama_shapes(config, norms=True),
    ),
    "gpt2": (gpt2_config(), gpt2_shapes),
}


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Weights large enough that every part matters; norms around one."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        scale = 1 + 0.2 * noise if len(shape) == 1 and "bias" not in name else 0.25 * noise
        made[name] = scale
    return made


def write(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    tokenizer: bool = True,
    shards: int = 1,
) -> Path:
    """Write a checkpoint's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config)))
    if tokenizer:
        (folder / "tokenizer.json").write_text(byte_tokenizer().json)
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors")
        return folder
    names, places = list(tensors), {}
    for i in range(shards):
        part = names[i::shards]
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def make(folder: Path, family: str, *, tokenizer: bool = True, **changes: Any) -> Path:
    """Write a random checkpoint of a family; a change of ``None`` leaves that setting out."""
    config, shapes = FAMILIES[family]
    config = {**config, **changes}
    tensors = random_tensors(shapes(config))
    stated = {
        name: value for name, value in config.items() if name not in changes or value is not None
    }
    return write(folder, stated, tensors, tokenizer=tokenizer)
