"""Is it a checkpoint of LLaDA-MoE?

(Zhu et al., 2025, arXiv:2509.24389.) Its config.json calls itself ``llada`` like the dense models:
the architecture and the experts' settings tell them apart.
"""

from collections.abc import Iterator
from typing import Any, Literal

from unison.models.config import MixtureConfig, TransformerConfig
from unison.models.formats import experts, llama
from unison.models.formats.blueprint import Blueprint, CheckpointError, Piece, Source

ARCHITECTURES = ("LLaDAMoEModelLM", "LLaDAMoEModel", "LLaDAMoEForCausalLM")

MASK = 156895


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    named = source.config.get("model_type") in ("llada", "lladamoe", "llada_moe")
    return named and "expert_intermediate_size" in source.config


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: A setting is missing or unsupported.
    """
    config = _shape(source)
    mask_id, told = llama.mask(source, ("<|mask|>",), MASK)
    return Blueprint(
        config=config,
        pieces=tuple(_pieces(source, config)),
        process="absorbing",
        mask_id=mask_id,
        eos_ids=llama.ends(source),
        pad_id=source.config.get("pad_token_id"),
        defaults={"strategy": "llada", "block_length": 32, "temperature": 0.0},
        ignored=llama.ignored(config),
        inferred=told,
        extra=dict(source.config),
    )


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of such a checkpoint; ``read`` undoes it.

    Raises:
        CheckpointError: The network has no experts.
    """
    config, mixture = blueprint.config, blueprint.config.mixture
    if mixture is None:
        raise CheckpointError("a model without experts cannot be written as LLaDA-MoE; use llada.")
    layers = [int(layer >= mixture.dense) for layer in range(config.depth)]
    return {
        **blueprint.extra,
        **experts.settings(mixture),
        "architectures": ["LLaDAMoEModelLM"],
        "model_type": "llada",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.num_kv_heads,
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_base,
        "partial_rotary_factor": config.rope_fraction,
        "qk_layernorm": config.qk_norm,
        "attention_bias": config.qkv_bias,
        "tie_word_embeddings": config.tied,
        "clip_qkv": None,
        "hidden_act": "silu",
        "dense_intermediate_size": config.mlp_width,
        "expert_intermediate_size": mixture.hidden,
        "shared_expert_intermediate_size": mixture.shared or None,
        "moe_layer_freq": layers,
        "moe_router_score_function": mixture.score,
        "moe_router_enable_expert_bias": False,
        "router_num_group": mixture.groups,
        "router_topk_group": mixture.chosen_groups,
        "mask_token_id": blueprint.mask_id,
        "eos_token_id": list(blueprint.eos_ids),
        "pad_token_id": blueprint.pad_id,
    }


def _shape(source: Source) -> TransformerConfig:
    stated = source.config
    experts.required(
        source,
        *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
        *("max_position_embeddings", "num_experts", "num_experts_per_tok"),
        "expert_intermediate_size",
    )
    experts.refused(source, "clip_qkv", "moe_router_enable_expert_bias")
    experts.activation(source)
    base, scaling = llama.rope(source)
    bias = bool(stated.get("attention_bias", False))
    return TransformerConfig(
        vocab_size=stated["vocab_size"],
        num_states=stated["vocab_size"],
        hidden=stated["hidden_size"],
        depth=stated["num_hidden_layers"],
        heads=stated["num_attention_heads"],
        kv_heads=stated.get("num_key_value_heads") or stated["num_attention_heads"],
        max_length=stated["max_position_embeddings"],
        time="none",
        norm="rms",
        norm_eps=stated.get("rms_norm_eps", 1e-5),
        mlp="swiglu",
        mlp_hidden=stated.get("dense_intermediate_size") or stated["expert_intermediate_size"],
        rope_base=base,
        rope_scaling=scaling,
        rope_fraction=_fraction(stated.get("partial_rotary_factor")),
        qk_norm=bool(stated.get("qk_layernorm")),
        qkv_bias=bias,
        out_bias=bias,
        tied=bool(stated.get("tie_word_embeddings", False)),
        head_bias=False,
        mixture=_mixture(source),
    )


def _fraction(stated: float | None) -> float:
    return 1.0 if stated is None or stated <= 0 else float(stated)


def _mixture(source: Source) -> MixtureConfig:
    stated = source.config
    groups = stated.get("router_num_group") or 1
    return MixtureConfig(
        experts=stated["num_experts"],
        chosen=stated["num_experts_per_tok"],
        hidden=stated["expert_intermediate_size"],
        shared=max(stated.get("shared_expert_intermediate_size") or 0, 0),
        score=_score(source),
        normalised=bool(stated.get("norm_topk_prob")),
        scale=float(stated.get("routed_scaling_factor") or 1.0),
        groups=max(groups, 1),
        chosen_groups=(stated.get("router_topk_group") or 1) if groups > 1 else 1,
        dense=_dense(source),
    )


def _score(source: Source) -> Literal["softmax", "sigmoid"]:
    stated = source.config.get("moe_router_score_function") or "softmax"
    if stated not in ("softmax", "sigmoid"):
        raise CheckpointError(
            f"{source.path}: moe_router_score_function must be 'softmax' or 'sigmoid', got "
            f"{stated!r}."
        )
    return stated


def _dense(source: Source) -> int:
    """Return how many first layers have a plain MLP."""
    depth = source.config["num_hidden_layers"]
    layers = source.config.get("moe_layer_freq") or [1] * depth
    dense = layers.index(1) if isinstance(layers, list) and 1 in layers else -1
    if dense < 0 or layers != [0] * dense + [1] * (depth - dense):
        raise CheckpointError(
            f"{source.path}: moe_layer_freq must list one number per layer, zeros (plain) before "
            f"ones (experts), got {layers!r} for {depth} layers."
        )
    if dense and not source.config.get("dense_intermediate_size"):
        raise CheckpointError(
            f"{source.path}: {dense} layers have a plain MLP and config.json lacks its "
            "dense_intermediate_size."
        )
    return dense


def _pieces(source: Source, config: TransformerConfig) -> Iterator[Piece]:
    start = "model." if any(name.startswith("model.") for name in source.shapes) else ""
    yield Piece("embed.weight", (f"{start}embed_tokens.weight",))
    yield Piece("norm.weight", (f"{start}norm.weight",))
    if not config.tied:
        yield Piece("head.weight", ("lm_head.weight",))
    for layer in range(config.depth):
        yield from _layer(config, f"blocks.{layer}", f"{start}layers.{layer}", layer)


def _layer(config: TransformerConfig, ours: str, theirs: str, layer: int) -> Iterator[Piece]:
    yield Piece(f"{ours}.attention_norm.weight", (f"{theirs}.input_layernorm.weight",))
    yield Piece(f"{ours}.mlp_norm.weight", (f"{theirs}.post_attention_layernorm.weight",))
    yield from llama.attention(config, f"{ours}.attention", f"{theirs}.self_attn")
    if config.mixture is None or layer < config.mixture.dense:
        yield from experts.dense(f"{ours}.mlp", f"{theirs}.mlp", config.mlp_width)
    else:
        shared = f"{theirs}.shared_expert"
        yield from experts.pieces(f"{ours}.mlp", f"{theirs}.mlp", config.mixture, shared)
