"""What do Llama, Qwen2, Qwen3 and the diffusion models grown from them have in common?

Their names for tensors and settings, in both spellings of the rotary embedding in use.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from unison.models.config import MixtureConfig, RopeScaling, TransformerConfig
from unison.models.formats import experts
from unison.models.formats.blueprint import Blueprint, CheckpointError, Piece, Source

HEAD = "lm_head.weight"
IGNORED = ("rotary_emb.inv_freq", ".masked_bias")


class Kind(NamedTuple):
    """What config.json does not say because the class implies it.

    Attributes:
        qkv_bias: Whether the input projections have biases; ``None`` where ``attention_bias``
            says so, of the output projection too.
        qk_norm: RMSNorm on query and key heads.
    """

    qkv_bias: bool | None = None
    qk_norm: bool = False


LLAMA, QWEN2, QWEN3 = Kind(), Kind(qkv_bias=True), Kind(qk_norm=True)


def shape(source: Source, kind: Kind) -> tuple[TransformerConfig, tuple[str, ...]]:
    """Return the network's shape, bidirectional and unshifted, and what was inferred.

    Raises:
        CheckpointError: A setting is missing or unsupported.
    """
    stated = source.config
    experts.required(
        source,
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "max_position_embeddings"),
    )
    experts.activation(source)
    experts.refused(source, "mlp_bias", "mlp_only_layers")
    _check_window(source)
    heads, bias = stated["num_attention_heads"], bool(stated.get("attention_bias", False))
    base, scaling = rope(source)
    tied, told = _tied(source)
    config = TransformerConfig(
        vocab_size=stated["vocab_size"],
        num_states=stated["vocab_size"],
        hidden=stated["hidden_size"],
        depth=stated["num_hidden_layers"],
        heads=heads,
        kv_heads=stated.get("num_key_value_heads") or heads,
        head_width=stated.get("head_dim"),
        max_length=stated["max_position_embeddings"],
        time="none",
        norm="rms",
        norm_eps=stated.get("rms_norm_eps", 1e-6),
        mlp="swiglu",
        mlp_hidden=stated["intermediate_size"],
        rope_base=base,
        rope_scaling=scaling,
        tied=tied,
        head_bias=False,
        qkv_bias=bias if kind.qkv_bias is None else kind.qkv_bias,
        out_bias=bias if kind.qkv_bias is None else False,
        qk_norm=kind.qk_norm,
        mixture=_mixture(source),
    )
    return config, told


def pieces(config: TransformerConfig) -> tuple[Piece, ...]:
    """Return where every tensor comes from."""
    return tuple(_pieces(config))


def ignored(config: TransformerConfig) -> tuple[str, ...]:
    """Return what may be in the file beside: buffers, and the second copy of a tied head."""
    return (*IGNORED, HEAD) if config.tied else IGNORED


def settings(blueprint: Blueprint) -> dict[str, Any]:
    """Return what config.json says of the shape, the original settings where nothing changed."""
    config = blueprint.config
    width = {} if config.head_width is None else {"head_dim": config.head_width}
    return {
        **blueprint.extra,
        **width,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.num_kv_heads,
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied,
    }


def rope(source: Source) -> tuple[float, RopeScaling | None]:
    """Return the base of the rotary embedding and its stretch.

    Raises:
        CheckpointError: The stretch is of an unsupported kind, or a setting of it is missing.
    """
    stated = source.config.get("rope_parameters") or source.config.get("rope_scaling") or {}
    base = float(stated.get("rope_theta", source.config.get("rope_theta", 10_000.0)))
    kind = stated.get("rope_type", stated.get("type", "default"))
    if kind == "default":
        return base, None
    if kind not in ("linear", "llama3", "yarn"):
        raise CheckpointError(
            f"{source.path}: a rotary embedding of type {kind!r} is not supported; linear, llama3 "
            "and yarn are."
        )
    missing = [name for name in _NEEDED[kind] if stated.get(name) is None]
    if missing:
        raise CheckpointError(
            f"{source.path}: the rotary embedding of type {kind!r} lacks {', '.join(missing)}."
        )
    return base, _scaling(kind, stated, source)


def ends(source: Source) -> tuple[int, ...]:
    """Return the ids that end a text: the end of document first, where the tokenizer names it."""
    stated = experts.ends(source)
    document = source.tokens.get("<|endoftext|>")
    if document is None or document not in stated:
        return stated
    return (document, *(i for i in stated if i != document))


def mask(source: Source, names: tuple[str, ...], usual: int | None) -> tuple[int, tuple[str, ...]]:
    """Return the mask token and how it is known.

    Args:
        source: The checkpoint.
        names: What tokenizers of the family call it.
        usual: The published models' id, where neither config.json nor the tokenizer names one.

    Raises:
        CheckpointError: None is named, and there is no usual one in the vocabulary.
    """
    stated = source.config.get("mask_token_id")
    if stated is not None:
        return int(stated), ()
    for name in names:
        if name in source.tokens:
            return source.tokens[name], (f"The mask is the tokenizer's {name}.",)
    if usual is None or usual >= source.config["vocab_size"]:
        raise CheckpointError(
            f"{source.path}: neither config.json (mask_token_id) nor the tokenizer "
            f"({', '.join(names)}) names a mask token; add mask_token_id to config.json."
        )
    return usual, (f"The mask is {usual}, that of the published models of this family.",)


def blocks(config: TransformerConfig, length: int) -> TransformerConfig:
    """Return the shape with attention that sees its own block and those before."""
    return replace(config, attention="block_causal", block_length=length)


_NEEDED: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "llama3": (
        *("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    ),
    "yarn": ("factor",),
}


def _scaling(
    kind: Literal["linear", "llama3", "yarn"], stated: Mapping[str, Any], source: Source
) -> RopeScaling:
    factor = float(stated["factor"])
    original = stated.get("original_max_position_embeddings")
    length = original or source.config["max_position_embeddings"]
    if kind == "llama3":
        low, high = float(stated["low_freq_factor"]), float(stated["high_freq_factor"])
        return RopeScaling(kind, factor, length, low, high)
    if kind == "linear":
        return RopeScaling(kind, factor, length)
    if stated.get("mscale") or stated.get("truncate") is False:
        raise CheckpointError(
            f"{source.path}: yarn with mscale or truncate=false is not supported; plain yarn is."
        )
    low, high = float(stated.get("beta_slow") or 1), float(stated.get("beta_fast") or 32)
    return RopeScaling(kind, factor, length, low, high, stated.get("attention_factor"))


def _check_window(source: Source) -> None:
    if not source.config.get("use_sliding_window"):
        return
    kinds = source.config.get("layer_types") or ["sliding_attention"]
    if "sliding_attention" in kinds:
        raise CheckpointError(
            f"{source.path}: layers with a sliding window are not supported; use_sliding_window "
            "must be false."
        )


def _tied(source: Source) -> tuple[bool, tuple[str, ...]]:
    stated = source.config.get("tie_word_embeddings")
    if stated is not None:
        return bool(stated), ()
    if not source.shapes or HEAD in source.shapes:
        return False, ()
    return True, ("The output head is the input embedding: the file holds no other.",)


def _mixture(source: Source) -> MixtureConfig | None:
    stated = source.config
    if not stated.get("num_experts"):
        return None
    experts.required(source, "num_experts_per_tok", "moe_intermediate_size")
    if stated.get("decoder_sparse_step", 1) != 1:
        raise CheckpointError(
            f"{source.path}: decoder_sparse_step={stated['decoder_sparse_step']} is not "
            "supported; every layer must have experts (1)."
        )
    return MixtureConfig(
        experts=stated["num_experts"],
        chosen=stated["num_experts_per_tok"],
        hidden=stated["moe_intermediate_size"],
        normalised=bool(stated.get("norm_topk_prob", False)),
    )


def _pieces(config: TransformerConfig) -> Iterator[Piece]:
    yield Piece("embed.weight", ("model.embed_tokens.weight",))
    yield Piece("norm.weight", ("model.norm.weight",))
    if not config.tied:
        yield Piece("head.weight", (HEAD,))
    for layer in range(config.depth):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        yield Piece(f"{ours}.attention_norm.weight", (f"{theirs}.input_layernorm.weight",))
        yield Piece(f"{ours}.mlp_norm.weight", (f"{theirs}.post_attention_layernorm.weight",))
        yield from attention(config, f"{ours}.attention", f"{theirs}.self_attn")
        if config.mixture is None:
            yield from experts.dense(f"{ours}.mlp", f"{theirs}.mlp", config.mlp_width)
        else:
            yield from experts.pieces(f"{ours}.mlp", f"{theirs}.mlp", config.mixture, "")


def attention(config: TransformerConfig, ours: str, theirs: str) -> Iterator[Piece]:
    """Yield where one layer's attention comes from."""
    sizes = qkv_sizes(config)
    for kind in ("weight", "bias")[: 1 + config.qkv_bias]:
        parts = tuple(f"{theirs}.{part}_proj.{kind}" for part in "qkv")
        yield Piece(f"{ours}.qkv.{kind}", parts, "concat", sizes)
    for kind in ("weight", "bias")[: 1 + config.out_bias]:
        yield Piece(f"{ours}.out.{kind}", (f"{theirs}.o_proj.{kind}",))
    for name in ("q_norm", "k_norm") if config.qk_norm else ():
        yield Piece(f"{ours}.{name}.weight", (f"{theirs}.{name}.weight",))


def qkv_sizes(config: TransformerConfig) -> tuple[int, int, int]:
    """Return the rows of queries, keys and values in their fused projection."""
    few = config.num_kv_heads * config.head_dim
    return config.heads * config.head_dim, few, few
