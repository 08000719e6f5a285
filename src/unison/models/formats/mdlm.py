"""Is it a checkpoint of MDLM?

(Sahoo et al., 2024, arXiv:2406.07524.) The network's logits are plain: that no mask is predicted
and known tokens are kept is the absorbing process's part.
"""

import dataclasses
from typing import Any

from unison.models.formats import dit
from unison.models.formats.blueprint import Blueprint, Source

ARCHITECTURES = ("MDLM",)


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return dit.is_one(source, "mdlm")


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: Tensors are missing, or config.json contradicts them.
    """
    shape = dit.shape(source)
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
        defaults={"strategy": "ancestral", "length": config.max_length},
        ignored=dit.IGNORED,
        inferred=(*clock_told, *mask_told, *eos_told, *dit.weights_told(source)),
        extra=dict(source.config),
    )


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of such a checkpoint; ``read`` undoes it."""
    return {
        **dit.settings(blueprint),
        "architectures": ["MDLM"],
        "model_type": "mdlm",
        "time_conditioning": blueprint.config.time == "adaln" and not blueprint.config.time_zeroed,
        "mask_token_id": blueprint.mask_id,
        "return_dict": False,
    }
