"""Where are the weights in checkpoints of the text diffusion transformer of MDLM, BD3-LM and Duo?

One network, three processes (Sahoo et al., 2024, arXiv:2406.07524; Arriola et al., 2025,
arXiv:2503.09573; Sahoo et al., 2025, arXiv:2506.10892). Its six modulation parts come in the order
shift, scale and gate of attention, then of the MLP; its fused projection holds all queries, then
all keys, then all values, head by head; its time embedding holds cosines before sines. All three
are ours, so every tensor is read as it is.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from unison.models.config import TransformerConfig
from unison.models.formats.blueprint import Blueprint, CheckpointError, Piece, Source

EMBEDDING = "vocab_embed.embedding"
GPT2_END = 50256
GPT2_EXTENDED = 50258  # GPT-2's 50257 tokens and the one these families add

IGNORED = (
    "*rotary_emb.inv_freq",
    "*rotary_emb.cos_cached",
    "*rotary_emb.sin_cached",
    "*sampling_eps_min",
    "*sampling_eps_max",
    "noise.*",
    "metrics.*",
    "teacher.*",
)

_BLOCK = {
    "attention_norm.weight": "norm1.weight",
    "mlp_norm.weight": "norm2.weight",
    "attention.qkv.weight": "attn_qkv.weight",
    "attention.out.weight": "attn_out.weight",
    "mlp.up.weight": "mlp.0.weight",
    "mlp.up.bias": "mlp.0.bias",
    "mlp.down.weight": "mlp.2.weight",
    "mlp.down.bias": "mlp.2.bias",
}
_ENDS = {
    "embed.weight": EMBEDDING,
    "norm.weight": "output_layer.norm_final.weight",
    "head.weight": "output_layer.linear.weight",
    "head.bias": "output_layer.linear.bias",
}
_MODULATION = {
    "modulation.weight": "adaLN_modulation.weight",
    "modulation.bias": "adaLN_modulation.bias",
}


def is_one(source: Source, name: str) -> bool:
    """Return whether these are such weights and the configuration, or the path, says ``name``."""
    if not any(key.endswith(EMBEDDING) for key in source.shapes):
        return False
    stated = source.config.get("model_type")
    if stated is not None:
        return str(stated).lower() == name
    return any(name in one for one in names(source))


def names(source: Source) -> tuple[str, ...]:
    """Return what the model is called: by its file, its folder in the hub's cache, and itself."""
    hub = [part for part in source.path.parts if part.startswith("models--")]
    itself = str(source.config.get("_name_or_path", ""))
    return tuple(name.lower() for name in (source.path.name, *hub, itself))


def shape(source: Source) -> TransformerConfig:
    """Return the network's shape, bidirectional and aware of time where it is modulated.

    Raises:
        CheckpointError: Tensors are missing, or config.json says otherwise than they do.
    """
    start = prefix(source)
    vocab, hidden = _size(source, start + EMBEDDING, 2)
    depth = len({key.split(".")[0] for key in _after(source, start + "blocks.")})
    stated = {"hidden_dim": hidden, "n_blocks": depth, "vocab_size": vocab}
    modulated = f"{start}sigma_map.mlp.0.weight" in source.shapes
    cond_dim = 1
    if modulated:
        cond_dim, _ = _size(source, f"{start}sigma_map.mlp.0.weight", 2)
        stated["cond_dim"] = cond_dim
    for name, found in stated.items():
        if source.config.get(name, found) != found:
            raise CheckpointError(
                f"{source.path}: config.json says {name}={source.config[name]} and the tensors "
                f"{found}; the two belong to different models."
            )
    return TransformerConfig(
        vocab_size=vocab,
        num_states=vocab,
        hidden=hidden,
        depth=depth,
        heads=_heads(source, start, hidden),
        max_length=_length(source),
        time="adaln" if modulated else "none",
        cond_dim=cond_dim,
        dropout=float(source.config.get("dropout", 0.0)),
    )


def pieces(source: Source, config: TransformerConfig) -> tuple[Piece, ...]:
    """Return where every tensor comes from."""
    start = prefix(source)
    return tuple(Piece(ours, (start + theirs,)) for ours, theirs in _names(config))


def settings(
    blueprint: Blueprint, attention: tuple[str, ...] = ("bidirectional",)
) -> dict[str, Any]:
    """Return what all three families' config.json has in common.

    Args:
        blueprint: What is written.
        attention: Kinds of attention that the family knows.

    Raises:
        CheckpointError: The network is of another kind, so no such file can describe it.
    """
    config = blueprint.config
    plain = TransformerConfig(hidden=config.hidden, heads=config.heads)
    allowed = {name: (getattr(plain, name),) for name in _FIXED}
    allowed |= {"attention": attention, "num_states": (config.vocab_size,)}
    for name, values in allowed.items():
        if getattr(config, name) not in values:
            raise CheckpointError(
                f"{name}={getattr(config, name)!r} cannot be written in this format, which "
                f"knows only {' and '.join(map(repr, values))}; save the model in unison's own."
            )
    return {
        **blueprint.extra,
        "hidden_dim": config.hidden,
        "cond_dim": config.cond_dim,
        "n_blocks": config.depth,
        "n_heads": config.heads,
        "model_length": config.max_length,
        "vocab_size": config.vocab_size,
        "dropout": config.dropout,
    }


_FIXED = (
    "num_kv_heads",
    "norm",
    "mlp",
    "mlp_width",
    "head_dim",
    "rope_base",
    "tied",
    "self_conditioning",
    "norm_bias",
    "norm_eps",
    "qkv_bias",
    "out_bias",
    "qk_norm",
    "head_bias",
    "positions",
    "rope_fraction",
    "rope_scaling",
    "mixture",
    "shifted",
)


def ends(source: Source) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the ids that end a text, and how that is known."""
    stated = source.config.get("eos_token_id")
    if stated is not None:
        return ((stated,) if isinstance(stated, int) else tuple(stated)), ()
    if "<|endoftext|>" in source.tokens:
        return (source.tokens["<|endoftext|>"],), ()
    if _vocabulary(source) == GPT2_EXTENDED:
        told = f"The end of text is {GPT2_END}, GPT-2's: the vocabulary has its size plus one."
        return (GPT2_END,), (told,)
    return (), ("No token is known to end a text: config.json and the tokenizer name none.",)


def mask(source: Source) -> tuple[int, tuple[str, ...]]:
    """Return the mask token of an absorbing model, and how it is known."""
    stated = source.config.get("mask_token_id", source.config.get("mask_index"))
    if stated is not None:
        return int(stated), ()
    for text in ("[MASK]", "<mask>", "<|mask|>"):
        if text in source.tokens:
            return source.tokens[text], (f"The mask is the tokenizer's {text}.",)
    last = _vocabulary(source) - 1
    return last, (f"The mask is {last}, the last id: the training code adds it to the tokenizer.",)


def clock(source: Source, time: str) -> tuple[bool, tuple[str, ...]]:
    """Return whether an absorbing model's modulated network reads 0 for its level, and why."""
    stated = source.config.get("time_conditioning")
    if time != "adaln" or stated is not None:
        return time == "adaln" and not stated, ()
    return True, ("The network reads no noise level, as this family's code has it unless told.",)


def weights_told(source: Source) -> tuple[str, ...]:
    """Return which weights of a training checkpoint these are, if it was one."""
    averaged = source.config.get("averaged")
    if averaged is None:
        return ()
    return (
        ("The weights are the training's moving average.",)
        if averaged
        else ("The weights are the training's last: the checkpoint holds no moving average.",)
    )


def prefix(source: Source) -> str:
    """Return what stands before every tensor's name: ``backbone.``, or nothing in raw files.

    Raises:
        CheckpointError: There is no embedding, or several and no ``backbone.``.
    """
    found = [key.removesuffix(EMBEDDING) for key in source.shapes if key.endswith(EMBEDDING)]
    if len(found) == 1 or "backbone." in found:
        return "backbone." if "backbone." in found else found[0]
    raise CheckpointError(
        f"{source.path} must hold one tensor {EMBEDDING}, alone or after 'backbone.', found "
        f"{len(found)}; it is no checkpoint of this family."
    )


def _names(config: TransformerConfig) -> Iterator[tuple[str, str]]:
    yield from _ENDS.items()
    inner = _BLOCK
    if config.time == "adaln":
        for ours, theirs in _MODULATION.items():
            yield ours, f"output_layer.{theirs}"
        for layer in (0, 2):
            for kind in ("weight", "bias"):
                yield f"time.mlp.{layer}.{kind}", f"sigma_map.mlp.{layer}.{kind}"
        inner = _BLOCK | _MODULATION
    for block in range(config.depth):
        for ours, theirs in inner.items():
            yield f"blocks.{block}.{ours}", f"blocks.{block}.{theirs}"


def _after(source: Source, start: str) -> list[str]:
    return [key.removeprefix(start) for key in source.shapes if key.startswith(start)]


def _size(source: Source, name: str, axes: int) -> tuple[int, ...]:
    size = source.shapes.get(name, ())
    if len(size) != axes:
        raise CheckpointError(f"{source.path}: {name} must have {axes} axes, got shape {size}.")
    return size


def _vocabulary(source: Source) -> int:
    return _size(source, prefix(source) + EMBEDDING, 2)[0]


def _heads(source: Source, start: str, hidden: int) -> int:
    """Return the number of heads, which no weight shows; the rotary buffer has half a head."""
    heads = _stated(source.config, "n_heads")
    buffer = source.shapes.get(f"{start}rotary_emb.inv_freq")
    if heads is None and buffer:
        heads = hidden // (2 * buffer[0])
    if not heads:
        raise CheckpointError(
            f"{source.path} states no number of heads; add n_heads to its config.json."
        )
    return heads


def _length(source: Source) -> int:
    length = _stated(source.config, "model_length")
    if length is None:
        raise CheckpointError(
            f"{source.path} states no context length; add model_length to its config.json (1024 "
            "for the models trained on OpenWebText)."
        )
    return length


def _stated(config: Mapping[str, Any], name: str) -> int | None:
    return None if config.get(name) is None else int(config[name])
