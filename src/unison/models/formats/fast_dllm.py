"""Is it a checkpoint of Fast-dLLM v2? (Wu et al., 2025, arXiv:2509.26328).

Qwen2 whose blocks, counted from the first token of the prompt, see themselves and those before;
output i speaks of the next position still.
"""

from dataclasses import replace
from typing import Any

from unison.models.formats import llama
from unison.models.formats.blueprint import Blueprint, Source

ARCHITECTURES = ("Fast_dLLM_QwenForCausalLM",)

MASK, BLOCK = 151665, 32


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return source.config.get("model_type") == "Fast_dLLM_Qwen"


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: A setting is missing or unsupported.
    """
    shape, told = llama.shape(source, llama.QWEN2)
    mask_id, mask_told = llama.mask(source, ("|<MASK>|",), MASK)
    length = source.config.get("bd_size")
    if length is None:
        length = BLOCK
        told = (*told, f"Blocks have {BLOCK} tokens, as in the published models.")
    config = replace(llama.blocks(shape, length), shifted=True)
    return Blueprint(
        config=config,
        pieces=llama.pieces(config),
        process="absorbing",
        mask_id=mask_id,
        eos_ids=llama.ends(source),
        pad_id=source.config.get("pad_token_id"),
        defaults={"strategy": "fast-dllm", "block_length": length},
        ignored=llama.ignored(config),
        inferred=(*told, *mask_told),
        extra=dict(source.config),
    )


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of such a checkpoint; ``read`` undoes it."""
    return {
        **llama.settings(blueprint),
        "architectures": ["Fast_dLLM_QwenForCausalLM"],
        "model_type": "Fast_dLLM_Qwen",
        "bd_size": blueprint.config.block_length,
        "mask_token_id": blueprint.mask_id,
    }
