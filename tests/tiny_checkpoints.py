"""Checkpoints as small as they come, and networks put together of them without the loader."""

from pathlib import Path
from typing import Any

import tokenizers
import torch
from oracle import checkpoints_dit, checkpoints_moe
from torch import Tensor

from unison.models import Transformer
from unison.models.formats.blueprint import Blueprint, Piece, Source

VOCAB, HIDDEN, DEPTH, HEADS, LENGTH = 23, 16, 2, 2, 12
DIT = checkpoints_dit.tensors(VOCAB, HIDDEN, DEPTH, HEADS)
SHAPE = {"hidden_dim": HIDDEN, "cond_dim": 6, "n_blocks": DEPTH, "n_heads": HEADS}
SHAPE |= {"model_length": LENGTH, "vocab_size": VOCAB, "dropout": 0.1}
MDLM = SHAPE | {"model_type": "mdlm", "architectures": ["MDLM"], "time_conditioning": False}
DUO = SHAPE | {"model_type": "DUO", "architectures": ["DUO"], "var_min": True, "causal": False}
BD3LM = SHAPE | {"model_type": "bd3lm", "architectures": ["BD3LM"], "block_size": 4}
BD3LM |= {"cross_attn": True, "attn_backend": "sdpa", "time_conditioning": False}

ONE = checkpoints_moe.Shape(shared=5)
TWO = checkpoints_moe.Shape(
    expert=6,
    shared=12,
    score="sigmoid",
    normalised=True,
    scale=2.5,
    groups=4,
    chosen_groups=2,
    bias=True,
    rotating=2,
    eps=1e-6,
    block=4,
)


def llada_moe_config(shape):
    """Return the config of the released model, made small."""
    return {
        "architectures": ["LLaDAMoEModelLM"],
        "model_type": "llada",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 64,
        "rms_norm_eps": shape.eps,
        "rope_theta": shape.base,
        "rope_scaling": None,
        "partial_rotary_factor": shape.rotating / shape.width,
        "qk_layernorm": True,
        "attention_bias": False,
        "clip_qkv": None,
        "dense_intermediate_size": shape.mlp,
        "expert_intermediate_size": shape.expert,
        "shared_expert_intermediate_size": shape.shared or None,
        "moe_layer_freq": [int(i >= shape.dense) for i in range(shape.depth)],
        "moe_router_score_function": shape.score,
        "moe_router_enable_expert_bias": False,
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.chosen,
        "norm_topk_prob": shape.normalised or None,
        "routed_scaling_factor": shape.scale,
        "router_num_group": shape.groups if shape.groups > 1 else None,
        "router_topk_group": shape.chosen_groups if shape.groups > 1 else None,
        "mask_token_id": 38,
        "eos_token_id": 39,
        "pad_token_id": 39,
    }


def llada2_config(shape):
    """Return the config of the released model, made small."""
    return {
        "architectures": ["LLaDA2MoeModelLM"],
        "model_type": "llada2_moe",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.width,
        "max_position_embeddings": 64,
        "rms_norm_eps": shape.eps,
        "rope_theta": shape.base,
        "partial_rotary_factor": shape.rotating / shape.width,
        "use_qk_norm": True,
        "use_qkv_bias": False,
        "use_bias": False,
        "norm_head": False,
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.chosen,
        "num_shared_experts": shape.shared // shape.expert,
        "moe_intermediate_size": shape.expert,
        "first_k_dense_replace": shape.dense,
        "score_function": shape.score,
        "norm_topk_prob": shape.normalised,
        "routed_scaling_factor": shape.scale,
        "n_group": shape.groups,
        "topk_group": shape.chosen_groups,
        "moe_router_enable_expert_bias": True,
        "router_dtype": "fp32",
        "tie_word_embeddings": False,
        "block_size": shape.block,
        "mask_token_id": 38,
        "eos_token_id": 39,
        "pad_token_id": 39,
    }


def source(
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    path: Path = Path("model"),
    tokens: dict[str, int] | None = None,
) -> Source:
    """Return what a format may look at of a checkpoint that was never written."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return Source(path, config, {}, shapes, tokens or {})


def network(blueprint: Blueprint, tensors: dict[str, Tensor]) -> Transformer:
    """Return the network, every weight of it taken from the tensors."""
    made = Transformer(blueprint.config).eval()
    made.load_state_dict({piece.ours: joined(piece, tensors) for piece in blueprint.pieces})
    return made


def joined(piece: Piece, tensors: dict[str, Tensor]) -> Tensor:
    """Return one of our tensors."""
    parts = [tensors[name] for name in piece.theirs]
    if piece.how == "same":
        return parts[0]
    if piece.how == "transposed":
        return parts[0].T
    if piece.how == "stack":
        return torch.stack(parts)
    each = len(piece.sizes)
    for part, rows in zip(parts, piece.sizes * (len(parts) // each), strict=True):
        assert len(part) == rows
    groups = [torch.cat(parts[i : i + each]) for i in range(0, len(parts), each)]
    return groups[0] if piece.how == "concat" else torch.stack(groups)


def words(path: Path) -> Path:
    """Write a tokenizer of 22 words, the last of which ends a text."""
    path.mkdir()
    vocabulary = {f"w{i}": i for i in range(21)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w0"))
    made.add_special_tokens(["<|endoftext|>"])
    made.save(str(path / "tokenizer.json"))
    return path
