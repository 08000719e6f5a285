"""Is it a checkpoint of LLaDA-8B or LLaDA-1.5? (Nie et al., 2025, arXiv:2502.09992; 2505.19223)."""

from collections.abc import Iterator
from typing import Any

from unison.models.config import TransformerConfig
from unison.models.formats import experts, llama
from unison.models.formats.blueprint import Blueprint, CheckpointError, Piece, Source

ARCHITECTURES = ("LLaDAModelLM",)

MASK, END_OF_TURN = 126336, 126348
HEAD = "model.transformer.ff_out.weight"  # the leaf name of every block's down projection too


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return source.config.get("model_type") == "llada" and "d_model" in source.config


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: A setting is missing or unsupported.
    """
    config = _shape(source)
    mask_id, told = llama.mask(source, ("<|mdm_mask|>",), MASK)
    ends = experts.ends(source)
    if source.tokens.get("<|eot_id|>") == END_OF_TURN:
        ends = (*ends, END_OF_TURN)
    return Blueprint(
        config=config,
        pieces=tuple(_pieces(config)),
        process="absorbing",
        mask_id=mask_id,
        eos_ids=tuple(dict.fromkeys(ends)),
        pad_id=source.config.get("pad_token_id"),
        defaults={"strategy": "llada", "block_length": 32, "temperature": 0.0},
        ignored=(*llama.IGNORED, HEAD) if config.tied else llama.IGNORED,
        inferred=told,
        extra=dict(source.config),
    )


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of such a checkpoint; ``read`` undoes it."""
    config = blueprint.config
    return {
        **blueprint.extra,
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        "d_model": config.hidden,
        "n_heads": config.heads,
        "n_kv_heads": config.num_kv_heads,
        "n_layers": config.depth,
        "mlp_hidden_size": config.mlp_width,
        "vocab_size": config.vocab_size,
        "embedding_size": config.num_states,
        "max_sequence_length": config.max_length,
        "rope_theta": config.rope_base,
        "rms_norm_eps": config.norm_eps,
        "weight_tying": config.tied,
        "include_qkv_bias": config.qkv_bias,
        "mask_token_id": blueprint.mask_id,
    }


def _shape(source: Source) -> TransformerConfig:
    stated = source.config
    needed = ("d_model", "n_heads", "n_layers", "vocab_size", "max_sequence_length", "rope_theta")
    experts.required(source, *needed)
    _check(source)
    hidden, heads = stated["d_model"], stated["n_heads"]
    vocab = stated["vocab_size"]
    inner = stated.get("mlp_hidden_size")
    if inner is None:
        experts.required(source, "mlp_ratio")
        inner = int(stated["mlp_ratio"] * hidden)
    return TransformerConfig(
        vocab_size=stated.get("embedding_size") or vocab,
        num_states=stated.get("embedding_size") or vocab,
        hidden=hidden,
        depth=stated["n_layers"],
        heads=heads,
        kv_heads=1 if stated.get("multi_query_attention") else stated.get("n_kv_heads") or heads,
        max_length=stated["max_sequence_length"],
        time="none",
        norm="rms",
        norm_eps=stated.get("rms_norm_eps", 1e-5),
        mlp="swiglu",
        mlp_hidden=inner,
        rope_base=float(stated["rope_theta"]),
        tied=bool(stated.get("weight_tying", True)),
        head_bias=False,
        qkv_bias=bool(stated.get("include_qkv_bias", False)),
    )


def _check(source: Source) -> None:
    """Refuse what the code of this family can do and its published models do not."""
    experts.refused(
        source,
        *("alibi", "include_bias", "attention_layer_norm", "input_emb_norm", "scale_logits"),
        *("clip_qkv", "num_experts"),
    )
    usual = {"rope": True, "block_type": "llama", "layer_norm_type": "rms"}
    for name, value in (usual | {"activation_type": "silu"}).items():
        if source.config.get(name, value) != value:
            raise CheckpointError(
                f"{source.path}: {name}={source.config[name]!r} is not supported, only {value!r} "
                "is."
            )


def _pieces(config: TransformerConfig) -> Iterator[Piece]:
    start = "model.transformer"
    yield Piece("embed.weight", (f"{start}.wte.weight",))
    yield Piece("norm.weight", (f"{start}.ln_f.weight",))
    if not config.tied:
        yield Piece("head.weight", (HEAD,))
    for layer in range(config.depth):
        ours, theirs = f"blocks.{layer}", f"{start}.blocks.{layer}"
        yield Piece(f"{ours}.attention_norm.weight", (f"{theirs}.attn_norm.weight",))
        yield Piece(f"{ours}.mlp_norm.weight", (f"{theirs}.ff_norm.weight",))
        for kind in ("weight", "bias")[: 1 + config.qkv_bias]:
            parts = tuple(f"{theirs}.{part}_proj.{kind}" for part in "qkv")
            sizes = llama.qkv_sizes(config)
            yield Piece(f"{ours}.attention.qkv.{kind}", parts, "concat", sizes)
        yield Piece(f"{ours}.attention.out.weight", (f"{theirs}.attn_out.weight",))
        gate_up = (f"{theirs}.ff_proj.weight", f"{theirs}.up_proj.weight")
        sizes = (config.mlp_width, config.mlp_width)
        yield Piece(f"{ours}.mlp.gate_up.weight", gate_up, "concat", sizes)
        yield Piece(f"{ours}.mlp.down.weight", (f"{theirs}.ff_out.weight",))
