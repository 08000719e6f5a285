"""Is it a checkpoint of Duo, base or distilled?

(Sahoo et al., 2025, arXiv:2506.10892.) Tokens decay to uniform ones, over the whole vocabulary and
the padding token added to it; the network predicts the clean text by a plain softmax.
"""

from typing import Any

from unison.models.formats import dit
from unison.models.formats.blueprint import Blueprint, CheckpointError, Source

ARCHITECTURES = ("DUO",)

AWARE = (
    "The network reads the noise level, -log(alpha): config.json does not say so, but uniform "
    "diffusion of this family was always trained so."
)
DISTILLED = "The model is taken for a distilled one because its name says so: 8 steps by default."


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return dit.is_one(source, "duo")


def read(source: Source) -> Blueprint:
    """Return the checkpoint in unison's terms.

    Raises:
        CheckpointError: Tensors are missing, config.json contradicts them, or it describes a
            causal or unmodulated network.
    """
    config = dit.shape(source)
    if source.config.get("causal", False) or config.time != "adaln":
        raise CheckpointError(
            f"{source.path}: a Duo network is bidirectional and modulated by the noise level, got "
            f"causal={source.config.get('causal')} and "
            f"{'a' if config.time == 'adaln' else 'no'} sigma_map; this is another model."
        )
    if source.config.get("time_conditioning") is False:
        raise CheckpointError(
            f"{source.path}: config.json says time_conditioning=false; uniform diffusion cannot be "
            "trained so. If the key was added by hand, remove it."
        )
    eos_ids, eos_told = dit.ends(source)
    named = any("distil" in name for name in dit.names(source))
    distilled = named or source.config.get("algorithm") == "distillation"
    defaults: dict[str, Any] = {"strategy": "ancestral", "length": config.max_length}
    told = () if source.config.get("time_conditioning") else (AWARE,)
    return Blueprint(
        config=config,
        pieces=dit.pieces(source, config),
        process="uniform",
        eos_ids=eos_ids,
        pad_id=config.vocab_size - 1 if config.vocab_size == dit.GPT2_EXTENDED else None,
        defaults=defaults | ({"strategy": "greedy_tail", "steps": 8} if distilled else {}),
        ignored=dit.IGNORED,
        inferred=(
            *told,
            *eos_told,
            *dit.weights_told(source),
            *((DISTILLED,) if named else ()),
        ),
        extra=dict(source.config),
    )


def write(blueprint: Blueprint) -> dict[str, Any]:
    """Return the ``config.json`` of such a checkpoint; ``read`` undoes it."""
    return {
        **dit.settings(blueprint),
        "architectures": ["DUO"],
        "model_type": "DUO",
        "causal": False,
        "var_min": True,
        "return_dict": False,
    }
