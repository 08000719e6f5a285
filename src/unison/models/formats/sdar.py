"""Is it a checkpoint of SDAR or TraDo, dense or of experts? (Cheng et al., 2025, arXiv:2510.06303).

Qwen3 whose blocks, counted from the first token of the prompt, see themselves and those before.
"""

import re
from typing import Any

from unison.models.formats import llama
from unison.models.formats.blueprint import Blueprint, CheckpointError, Source

ARCHITECTURES = ("SDARForCausalLM", "SDARMoeForCausalLM")

MASK, BLOCK = 151669, 4


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return source.config.get("model_type") in ("sdar", "sdar_moe")


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: A setting is missing or unsupported.
    """
    shape, told = llama.shape(source, llama.QWEN3)
    length, block_told = _block(source)
    mask_id, mask_told = llama.mask(source, ("<|MASK|>",), MASK)
    config = llama.blocks(shape, length)
    return Blueprint(
        config=config,
        pieces=llama.pieces(config),
        process="absorbing",
        mask_id=mask_id,
        eos_ids=llama.ends(source),
        pad_id=source.config.get("pad_token_id"),
        defaults={"strategy": "fast-dllm", "block_length": length},
        ignored=llama.ignored(config),
        inferred=(*told, *block_told, *mask_told),
        extra=dict(source.config),
    )


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of such a checkpoint; ``read`` undoes it."""
    sparse = blueprint.config.mixture is not None
    return {
        **llama.settings(blueprint),
        "architectures": ["SDARMoeForCausalLM" if sparse else "SDARForCausalLM"],
        "model_type": "sdar_moe" if sparse else "sdar",
        "block_size": blueprint.config.block_length,
        "mask_token_id": blueprint.mask_id,
    }


def _block(source: Source) -> tuple[int, tuple[str, ...]]:
    """Return the tokens of a block, which some published files leave to the model's name."""
    stated = source.config.get("block_size", source.config.get("block_length"))
    if stated is not None:
        if not isinstance(stated, int) or stated < 1:
            raise CheckpointError(
                f"{source.path}: block_size must be a positive number, got {stated!r}."
            )
        return stated, ()
    # The hub's cache keeps the model's name two folders above the files.
    for name in (str(source.config.get("_name_or_path", "")), *source.path.resolve().parts[:-4:-1]):
        found = re.search(r"-b(\d+)$", name)
        if found:
            length = int(found[1])
            return length, (f"Blocks have {length} tokens, as the name {name!r} says.",)
    return BLOCK, (f"Blocks have {BLOCK} tokens, as in the published models that do not say.",)
