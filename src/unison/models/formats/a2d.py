"""Is it an autoregressive model turned into masked diffusion by leaving the causal mask away?

Llama, Qwen2 or Qwen3 trained further with masked diffusion or in blocks, unshifted, as the A2D
models of the dLLM library (Zhou et al.) are. Their config.json does not say which of the two:
``block_size`` there, where it stands, means blocks.
"""

from typing import Any

from unison.models.formats import llama
from unison.models.formats.blueprint import Blueprint, CheckpointError, Source

_KINDS = {
    "A2DLlamaLMHeadModel": ("a2d-llama", llama.LLAMA),
    "A2DQwen2LMHeadModel": ("a2d-qwen2", llama.QWEN2),
    "A2DQwen3LMHeadModel": ("a2d-qwen3", llama.QWEN3),
}
ARCHITECTURES = tuple(_KINDS)
_TYPES = {name: kind for name, kind in _KINDS.values()}


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return source.config.get("model_type") in _TYPES


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: A setting is missing or unsupported.
    """
    config, told = llama.shape(source, _kind(source))
    mask_id, mask_told = llama.mask(source, ("<|mask|>", "[MASK]"), None)
    length = source.config.get("block_size")
    if length:
        config = llama.blocks(config, length)
        block_told = ()
    else:
        block_told = ("Every position sees all others: config.json states no block_size.",)
    return Blueprint(
        config=config,
        pieces=llama.pieces(config),
        process="absorbing",
        mask_id=mask_id,
        eos_ids=llama.ends(source),
        pad_id=source.config.get("pad_token_id"),
        defaults={"strategy": "composed", "block_length": length or None},
        ignored=llama.ignored(config),
        inferred=(*told, *block_told, *mask_told),
        extra=dict(source.config),
    )


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of such a checkpoint; ``read`` undoes it."""
    config = blueprint.config
    kind = llama.QWEN3 if config.qk_norm else llama.QWEN2 if config.qkv_bias else llama.LLAMA
    architecture = next(name for name, (_, one) in _KINDS.items() if one == kind)
    written = {
        **llama.settings(blueprint),
        "architectures": [architecture],
        "model_type": _KINDS[architecture][0],
        "mask_token_id": blueprint.mask_id,
    }
    return written | ({"block_size": config.block_length} if config.block_length else {})


def _kind(source: Source) -> llama.Kind:
    stated = source.config.get("model_type")
    if stated in _TYPES:
        return _TYPES[stated]
    for name in source.config.get("architectures") or ():
        if name in _KINDS:
            return _KINDS[name][1]
    raise CheckpointError(
        f"{source.path}: model_type {stated!r} is unknown; known: {', '.join(_TYPES)}."
    )
