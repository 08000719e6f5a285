"""What do the checkpoints of mixtures of experts have in common? Names, and how they are asked."""

from collections.abc import Iterator
from typing import Any

from unison.models.config import MixtureConfig
from unison.models.formats.blueprint import CheckpointError, Piece, Source


def required(source: Source, *names: str) -> None:
    """Check that config.json states these settings.

    Raises:
        CheckpointError: Some are missing.
    """
    missing = [name for name in names if source.config.get(name) is None]
    if missing:
        raise CheckpointError(
            f"{source.path}: config.json lacks {', '.join(missing)}; copy it again from where the "
            "model is published."
        )


def refused(source: Source, *names: str) -> None:
    """Check that config.json leaves these settings out, null or false: nothing here does them.

    Raises:
        CheckpointError: One is set.
    """
    for name in names:
        if source.config.get(name):
            raise CheckpointError(
                f"{source.path}: {name}={source.config[name]!r} is not supported; it must be null "
                "or false."
            )


def activation(source: Source) -> None:
    """Check that the gated MLPs use SiLU, the only activation supported in them."""
    stated = source.config.get("hidden_act", "silu")
    if stated not in ("silu", "swish"):
        raise CheckpointError(
            f"{source.path}: hidden_act={stated!r} is not supported, only 'silu' is."
        )


def pieces(ours: str, theirs: str, mixture: MixtureConfig, shared: str) -> Iterator[Piece]:
    """Yield where one layer's router, experts and shared expert come from.

    Args:
        ours: Start of our names, ``blocks.3.mlp``.
        theirs: Start of theirs, ``model.layers.3.mlp``.
        mixture: Its shape.
        shared: Start of the shared expert's names.
    """
    yield Piece(f"{ours}.router.weight", (f"{theirs}.gate.weight",))
    each = [f"{theirs}.experts.{expert}" for expert in range(mixture.experts)]
    gate_up = tuple(f"{one}.{part}_proj.weight" for one in each for part in ("gate", "up"))
    yield Piece(f"{ours}.gate_up", gate_up, "stack_concat", (mixture.hidden, mixture.hidden))
    yield Piece(f"{ours}.down", tuple(f"{one}.down_proj.weight" for one in each), "stack")
    if mixture.shared:
        yield from dense(f"{ours}.shared", shared, mixture.shared)


def dense(ours: str, theirs: str, width: int) -> Iterator[Piece]:
    """Yield where one gated MLP comes from."""
    gate_up = tuple(f"{theirs}.{part}_proj.weight" for part in ("gate", "up"))
    yield Piece(f"{ours}.gate_up.weight", gate_up, "concat", (width, width))
    yield Piece(f"{ours}.down.weight", (f"{theirs}.down_proj.weight",))


def ends(source: Source) -> tuple[int, ...]:
    """Return the ids that end a text, of config.json and generation_config.json."""
    found: list[int] = []
    for stated in (source.config.get("eos_token_id"), source.generation.get("eos_token_id")):
        found += stated if isinstance(stated, list) else [stated] if stated is not None else []
    return tuple(dict.fromkeys(found))


def settings(mixture: MixtureConfig) -> dict[str, Any]:
    """Return what config.json says alike of the experts in these families."""
    return {
        "num_experts": mixture.experts,
        "num_experts_per_tok": mixture.chosen,
        "norm_topk_prob": mixture.normalised,
        "routed_scaling_factor": mixture.scale,
    }
