"""Is it a checkpoint of LLaDA2.0 or 2.1?

(Bie et al., 2025, arXiv:2512.15745; 2026, arXiv:2602.08676.) Blocks are written from left to right
and counted from the first token of the prompt. 2.2 routes whole blocks to a limited set of experts,
another network, and is refused by name.
"""

from collections.abc import Iterator
from typing import Any

from unison.models.config import MixtureConfig, TransformerConfig
from unison.models.formats import experts, llama
from unison.models.formats.blueprint import Blueprint, CheckpointError, Piece, Source

ARCHITECTURES = ("LLaDA2MoeModelLM",)

MASK = 156895
BLOCK = 32
_EDITING = ("delete_token_id", "split_token_id")


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return source.config.get("model_type") == "llada2_moe"


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: A setting is missing or unsupported.
    """
    config = _shape(source)
    mask_id, told = llama.mask(source, ("<|mask|>",), MASK)
    if "block_size" not in source.config:
        told = (*told, f"Blocks have {BLOCK} tokens, as in the published models.")
    edits = [name for name in _EDITING if source.config.get(name) is not None]
    if edits:
        told = (
            *told,
            f"{' and '.join(edits)} are kept as settings: no strategy acts on those tokens.",
        )
    return Blueprint(
        config=config,
        pieces=tuple(_pieces(config)),
        process="absorbing",
        mask_id=mask_id,
        eos_ids=llama.ends(source),
        pad_id=source.config.get("pad_token_id"),
        defaults={
            "strategy": "fast-dllm",
            "block_length": config.block_length,
            "temperature": 0.0,
            "settings": {"select.threshold": 0.95},
        },
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
        raise CheckpointError("a model without experts cannot be written as LLaDA2.")
    return {
        **blueprint.extra,
        **experts.settings(mixture),
        "architectures": ["LLaDA2MoeModelLM"],
        "model_type": "llada2_moe",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_base,
        "partial_rotary_factor": config.rope_fraction,
        "use_qk_norm": config.qk_norm,
        "use_qkv_bias": config.qkv_bias,
        "use_bias": config.out_bias,
        "norm_head": False,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
        "moe_intermediate_size": mixture.hidden,
        "num_shared_experts": mixture.shared // mixture.hidden,
        "first_k_dense_replace": mixture.dense,
        "score_function": mixture.score,
        "moe_router_enable_expert_bias": mixture.bias,
        "router_dtype": "fp32",
        "n_group": mixture.groups,
        "topk_group": mixture.chosen_groups,
        "block_size": config.block_length,
        "mask_token_id": blueprint.mask_id,
        "eos_token_id": list(blueprint.eos_ids),
        "pad_token_id": blueprint.pad_id,
    }


def _shape(source: Source) -> TransformerConfig:
    stated = source.config
    experts.required(
        source,
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "max_position_embeddings", "num_experts"),
        *("num_experts_per_tok", "moe_intermediate_size"),
    )
    _check(source)
    base, scaling = llama.rope(source)
    heads = stated["num_attention_heads"]
    width = stated.get("head_dim") or stated["hidden_size"] // heads
    return TransformerConfig(
        vocab_size=stated["vocab_size"],
        num_states=stated["vocab_size"],
        hidden=stated["hidden_size"],
        depth=stated["num_hidden_layers"],
        heads=heads,
        kv_heads=stated.get("num_key_value_heads") or heads,
        head_width=width,
        max_length=stated["max_position_embeddings"],
        attention="block_causal",
        block_length=stated.get("block_size", BLOCK),
        time="none",
        norm="rms",
        norm_eps=stated.get("rms_norm_eps", 1e-6),
        mlp="swiglu",
        mlp_hidden=stated["intermediate_size"],
        rope_base=base,
        rope_scaling=scaling,
        rope_fraction=_fraction(source, width),
        qk_norm=bool(stated.get("use_qk_norm", True)),
        qkv_bias=bool(stated.get("use_qkv_bias", False)),
        out_bias="model.layers.0.attention.dense.bias" in source.shapes,
        tied=bool(stated.get("tie_word_embeddings", False)),
        head_bias=False,
        mixture=_mixture(source),
    )


def _check(source: Source) -> None:
    experts.refused(source, "norm_head", "use_sliding_window")
    experts.activation(source)
    capacity = source.config.get("expert_capacity")
    if capacity:
        raise CheckpointError(
            f"{source.path}: expert_capacity={capacity} means that all tokens of a block share "
            "their experts (LLaDA2.2), which is not supported; LLaDA2.0 and 2.1 are."
        )
    score = source.config.get("score_function") or "sigmoid"
    if score != "sigmoid":
        raise CheckpointError(
            f"{source.path}: score_function={score!r} is not supported in this family, only "
            "'sigmoid' is."
        )


def _fraction(source: Source, width: int) -> float:
    """Return the share of each head that rotates; some files state its width instead."""
    parameters = source.config.get("rope_parameters") or {}
    stated = source.config.get("partial_rotary_factor", parameters.get("partial_rotary_factor"))
    if stated is None and source.config.get("rotary_dim"):
        return source.config["rotary_dim"] / width
    return 1.0 if stated is None else float(stated)


def _mixture(source: Source) -> MixtureConfig:
    stated = source.config
    hidden, chosen = stated["moe_intermediate_size"], stated["num_experts_per_tok"]
    dense = stated.get("first_k_dense_replace", 0)
    groups = stated.get("n_group") or 1
    return MixtureConfig(
        experts=stated["num_experts"],
        chosen=chosen,
        hidden=hidden,
        shared=hidden * (stated.get("num_shared_experts") or 0),
        score="sigmoid",
        normalised=bool(stated.get("norm_topk_prob", True)) and chosen > 1,
        scale=float(stated.get("routed_scaling_factor") or 1.0),
        bias=f"model.layers.{dense}.mlp.gate.expert_bias" in source.shapes,
        groups=groups,
        chosen_groups=(stated.get("topk_group") or groups) if groups > 1 else 1,
        dense=dense,
    )


def _pieces(config: TransformerConfig) -> Iterator[Piece]:
    yield Piece("embed.weight", ("model.word_embeddings.weight",))
    yield Piece("norm.weight", ("model.norm.weight",))
    if not config.tied:
        yield Piece("head.weight", ("lm_head.weight",))
    for layer in range(config.depth):
        yield from _layer(config, f"blocks.{layer}", f"model.layers.{layer}", layer)


def _layer(config: TransformerConfig, ours: str, theirs: str, layer: int) -> Iterator[Piece]:
    yield Piece(f"{ours}.attention_norm.weight", (f"{theirs}.input_layernorm.weight",))
    yield Piece(f"{ours}.mlp_norm.weight", (f"{theirs}.post_attention_layernorm.weight",))
    attention = {"qkv.weight": "query_key_value.weight", "out.weight": "dense.weight"}
    if config.qkv_bias:
        attention["qkv.bias"] = "query_key_value.bias"
    if config.out_bias:
        attention["out.bias"] = "dense.bias"
    if config.qk_norm:
        attention |= {"q_norm.weight": "query_layernorm.weight"}
        attention |= {"k_norm.weight": "key_layernorm.weight"}
    for name, source in attention.items():
        yield Piece(f"{ours}.attention.{name}", (f"{theirs}.attention.{source}",))
    mixture = config.mixture
    if mixture is None or layer < mixture.dense:
        yield from experts.dense(f"{ours}.mlp", f"{theirs}.mlp", config.mlp_width)
        return
    shared = f"{theirs}.mlp.shared_experts"
    yield from experts.pieces(f"{ours}.mlp", f"{theirs}.mlp", mixture, shared)
    if mixture.bias:
        yield Piece(f"{ours}.mlp.bias", (f"{theirs}.mlp.gate.expert_bias",))
