"""Is it a checkpoint of BD3-LM?

(Arriola et al., 2025, arXiv:2503.09573.) Blocks are written from left to right and denoised
within. Its training reads noisy and clean text side by side; to sample, and here, each block sees
itself and the clean blocks before it.
"""

import dataclasses
from typing import Any

from unison.models.config import TransformerConfig
from unison.models.formats import dit
from unison.models.formats.blueprint import Blueprint, CheckpointError, Source

ARCHITECTURES = ("BD3LM",)


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return dit.is_one(source, "bd3lm")


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: Tensors are missing, config.json contradicts them, it states no block
            size, or it describes the family's autoregressive baseline.
    """
    shape = _shape(source)
    zeroed, clock_told = dit.clock(source, shape.time)
    config = dataclasses.replace(shape, time_zeroed=zeroed)
    mask_id, mask_told = dit.mask(source)
    eos_ids, eos_told = dit.ends(source)
    return Blueprint(
        config=config,
        pieces=dit.pieces(source, config),
        process="absorbing",
        mask_id=mask_id,
        eos_ids=eos_ids,
        defaults={"strategy": "bd3", "length": config.max_length},
        ignored=dit.IGNORED,
        inferred=(*clock_told, *mask_told, *eos_told, *dit.weights_told(source)),
        extra=dict(source.config),
    )


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of such a checkpoint; ``read`` undoes it."""
    config = blueprint.config
    return {
        **dit.settings(blueprint, ("bidirectional", "block_causal")),
        "architectures": ["BD3LM"],
        "model_type": "bd3lm",
        "block_size": config.block_length or config.max_length,
        "cross_attn": config.attention == "block_causal",
        "adaln": config.time == "adaln",
        "causal": False,
        "time_conditioning": config.time == "adaln" and not config.time_zeroed,
        "mask_token_id": blueprint.mask_id,
    }


def _shape(source: Source) -> TransformerConfig:
    stated, shape = source.config, dit.shape(source)
    if stated.get("causal", False):
        raise CheckpointError(
            f"{source.path}: causal=true is the family's autoregressive baseline, which is not "
            "supported; use a diffusion checkpoint."
        )
    if stated.get("adaln", True) != (shape.time == "adaln"):
        raise CheckpointError(
            f"{source.path}: config.json says adaln={stated.get('adaln', True)} and the tensors "
            f"{shape.time == 'adaln'}; the two belong to different models."
        )
    if not stated.get("cross_attn", True):
        return shape
    block = stated.get("block_size")
    if not isinstance(block, int) or block < 1:
        raise CheckpointError(
            f"{source.path}: config.json must state block_size, a positive number (4, 8 or 16 in "
            f"the published models), got {block!r}."
        )
    return dataclasses.replace(shape, attention="block_causal", block_length=block)
