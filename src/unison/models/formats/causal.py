"""Is it an autoregressive model: Llama, Qwen2, Qwen3 or GPT-2?

Llama: Grattafiori et al., 2024, arXiv:2407.21783; Qwen2: arXiv:2407.10671; Qwen3: arXiv:2505.09388;
GPT-2 (Radford et al., 2019), whose matrices are stored with rows and columns swapped.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from unison.models.config import TransformerConfig
from unison.models.formats import experts, llama
from unison.models.formats.blueprint import Blueprint, CheckpointError, Piece, Source

_KINDS = {
    "LlamaForCausalLM": ("llama", llama.LLAMA),
    "Qwen2ForCausalLM": ("qwen2", llama.QWEN2),
    "Qwen3ForCausalLM": ("qwen3", llama.QWEN3),
    "Qwen3MoeForCausalLM": ("qwen3_moe", llama.QWEN3),
}
GPT2 = "GPT2LMHeadModel"
ARCHITECTURES = (*_KINDS, GPT2)
_TYPES = {name: kind for name, kind in _KINDS.values()}
_GPT2_IGNORED = (".attn.bias", ".attn.masked_bias", llama.HEAD)


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return source.config.get("model_type") in (*_TYPES, "gpt2")


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: A setting is missing or unsupported.
    """
    if source.config.get("model_type") == "gpt2":
        config, told = _gpt2(source), ()
        pieces, ignored = tuple(_gpt2_pieces(config, _prefix(source))), _GPT2_IGNORED
    else:
        shape, told = llama.shape(source, _kind(source))
        config = replace(shape, attention="causal")
        pieces, ignored = llama.pieces(config), llama.ignored(config)
    bos_id, bos_told = _begin(source)
    return Blueprint(
        config=config,
        pieces=pieces,
        process="sequential",
        bos_id=bos_id,
        eos_ids=llama.ends(source),
        pad_id=source.config.get("pad_token_id"),
        defaults={"strategy": "left_to_right"},
        ignored=ignored,
        inferred=(*told, *bos_told),
        extra=dict(source.config),
    )


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of such a checkpoint; ``read`` undoes it."""
    config = blueprint.config
    if config.positions == "learned":
        return _gpt2_settings(blueprint)
    kind = llama.QWEN3 if config.qk_norm else llama.QWEN2 if config.qkv_bias else llama.LLAMA
    sparse = config.mixture is not None
    stated = (blueprint.extra.get("architectures") or [None])[0]
    architecture = next(
        name
        for name, (text, one) in _KINDS.items()
        if name == stated or (stated not in _KINDS and one == kind and sparse == ("moe" in text))
    )
    return {
        **llama.settings(blueprint),
        "architectures": [architecture],
        "model_type": _KINDS[architecture][0],
        "bos_token_id": blueprint.bos_id,
    }


def _kind(source: Source) -> llama.Kind:
    stated = source.config.get("model_type")
    if stated in _TYPES:
        return _TYPES[stated]
    for name in source.config.get("architectures") or ():
        if name in _KINDS:
            return _KINDS[name][1]
    raise CheckpointError(
        f"{source.path}: model_type {stated!r} is unknown; known: {', '.join(_TYPES)}, gpt2."
    )


def _begin(source: Source) -> tuple[int, tuple[str, ...]]:
    """Return what stands before the first token: the stated one, else the end of document.

    Raises:
        CheckpointError: Neither config.json nor the tokenizer names any.
    """
    stated = source.config.get("bos_token_id")
    if isinstance(stated, int):
        return stated, ()
    document = source.tokens.get("<|endoftext|>")
    if document is not None:
        told = "A text begins after <|endoftext|>: config.json states no bos_token_id."
        return document, (told,)
    ends = experts.ends(source)
    if ends:
        return ends[0], (f"A text begins after {ends[0]}, the token that ends one.",)
    raise CheckpointError(
        f"{source.path}: config.json states neither bos_token_id nor eos_token_id; add the token "
        "a text begins after."
    )


def _gpt2(source: Source) -> TransformerConfig:
    stated = source.config
    experts.required(source, "vocab_size", "n_embd", "n_layer", "n_head", "n_positions")
    experts.refused(source, "scale_attn_by_inverse_layer_idx", "add_cross_attention")
    activation = stated.get("activation_function", "gelu_new")
    if activation not in ("gelu_new", "gelu_pytorch_tanh"):
        raise CheckpointError(
            f"{source.path}: activation_function={activation!r} is not supported, only 'gelu_new' "
            "is."
        )
    return TransformerConfig(
        vocab_size=stated["vocab_size"],
        num_states=stated["vocab_size"],
        hidden=stated["n_embd"],
        depth=stated["n_layer"],
        heads=stated["n_head"],
        max_length=stated["n_positions"],
        attention="causal",
        time="none",
        norm_bias=True,
        norm_eps=stated.get("layer_norm_epsilon", 1e-5),
        mlp_hidden=stated.get("n_inner") or 4 * stated["n_embd"],
        tied=True,
        qkv_bias=True,
        out_bias=True,
        positions="learned",
    )


def _gpt2_settings(blueprint: Blueprint) -> dict[str, Any]:
    config = blueprint.config
    return {
        **blueprint.extra,
        "architectures": [GPT2],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_embd": config.hidden,
        "n_layer": config.depth,
        "n_head": config.heads,
        "n_positions": config.max_length,
        "n_inner": config.mlp_width,
        "layer_norm_epsilon": config.norm_eps,
        "bos_token_id": blueprint.bos_id,
    }


def _prefix(source: Source) -> str:
    """Return what stands before every name: nothing in the first published files."""
    return "" if "wte.weight" in source.shapes else "transformer."


def _gpt2_pieces(config: TransformerConfig, start: str) -> Iterator[Piece]:
    yield Piece("embed.weight", (f"{start}wte.weight",))
    yield Piece("places.weight", (f"{start}wpe.weight",))
    names = {"norm": "ln_f"}
    matrices = {}
    for layer in range(config.depth):
        ours, theirs = f"blocks.{layer}", f"h.{layer}"
        names |= {f"{ours}.attention_norm": f"{theirs}.ln_1", f"{ours}.mlp_norm": f"{theirs}.ln_2"}
        matrices |= {
            f"{ours}.attention.qkv": f"{theirs}.attn.c_attn",
            f"{ours}.attention.out": f"{theirs}.attn.c_proj",
            f"{ours}.mlp.up": f"{theirs}.mlp.c_fc",
            f"{ours}.mlp.down": f"{theirs}.mlp.c_proj",
        }
    for ours, theirs in (names | matrices).items():
        how = "transposed" if ours in matrices else "same"
        yield Piece(f"{ours}.weight", (f"{start}{theirs}.weight",), how)
        yield Piece(f"{ours}.bias", (f"{start}{theirs}.bias",))
