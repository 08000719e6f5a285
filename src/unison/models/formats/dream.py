"""Is it a checkpoint of Dream, Dream-Coder or DiffuCoder? (Ye et al., 2025, arXiv:2508.15487).

Qwen2 without its causal mask, whose output i speaks of the next position still. DiffuCoder:
Gong et al., 2025, arXiv:2506.20639.
"""

from dataclasses import replace
from typing import Any

from unison.models.formats import llama
from unison.models.formats.blueprint import Blueprint, Source

ARCHITECTURES = ("DreamModel",)

MASK = 151666


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return str(source.config.get("model_type")).lower() == "dream"


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: A setting is missing or unsupported.
    """
    shape, told = llama.shape(source, llama.QWEN2)
    mask_id, mask_told = llama.mask(source, ("<|mask|>",), MASK)
    config = replace(shape, shifted=True)
    return Blueprint(
        config=config,
        pieces=llama.pieces(config),
        process="absorbing",
        mask_id=mask_id,
        eos_ids=llama.ends(source),
        pad_id=source.config.get("pad_token_id"),
        defaults={"strategy": "dream"},
        ignored=llama.ignored(config),
        inferred=(*told, *mask_told),
        extra=dict(source.config),
    )


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of such a checkpoint; ``read`` undoes it."""
    return {
        **llama.settings(blueprint),
        "architectures": ["DreamModel"],
        "model_type": "Dream",
        "mask_token_id": blueprint.mask_id,
    }
