"""How is a model pruned? Measured, chosen, cut out, and what is left refitted."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from unison.compress.calibration import Moments, moments, transformer
from unison.compress.levels import CompressError, Levels, mean_losses
from unison.compress.pruning import choosing, cutting, importance
from unison.compress.pruning.choosing import Kept
from unison.compress.pruning.importance import Importance, Scores
from unison.language_model import LanguageModel
from unison.models import Transformer
from unison.process import Process
from unison.types import Tokens

Observer = Callable[[str], None]


@dataclass(frozen=True)
class Prune:
    """What is taken out of every layer.

    Attributes:
        heads: Share of the heads, in [0, 1).
        mlp: Share of the MLP units, in [0, 1).
        importance: What says which; see ``importance``.
        refit: Whether what reads the units is fitted to those that stay.
        levels: Rows of text and their noise.
    """

    heads: float = 0.0
    mlp: float = 0.0
    importance: Importance = "surgeon"
    refit: bool = True
    levels: Levels = field(default_factory=Levels)

    def __post_init__(self) -> None:
        for name in ("heads", "mlp"):
            if not 0 <= getattr(self, name) < 1:
                raise CompressError(
                    f"the share of {name} to prune must be in [0, 1), got {getattr(self, name)}."
                )


class Pruned(NamedTuple):
    """A smaller model and what was taken out to make it.

    Attributes:
        model: Dense, of a plain shape.
        kept: What stayed of every layer.
    """

    model: LanguageModel
    kept: list[Kept]


def checked(network: Transformer, how: Prune) -> None:
    """Refuse what cannot be pruned, before any work.

    Raises:
        CompressError: The shares do not fit the network, or it has experts.
    """
    _refuse_experts(network)
    if how.heads:
        choosing.heads_left(network.config, how.heads)
    if how.mlp:
        choosing.units_left(network.config, how.mlp)


def pruned(model: LanguageModel, text: Tokens, how: Prune) -> Pruned:
    """Return the model with a share of heads and MLP units less in every layer.

    Args:
        model: One of unison's own networks; is not changed.
        text: Whole rows, for importance and refitting.
        how: What goes.

    Raises:
        CompressError: See ``checked``.
    """
    network = transformer(model.network)
    checked(network, how)
    known = None
    if how.refit or how.importance in ("energy", "surgeon"):
        known = moments(network, model.process, text, list(importance.readers(network)), how.levels)
    scores = measured(network, model.process, text, how, known)
    kept = choosing.kept(network.config, scores, how.heads, how.mlp)
    smaller = cutting.cut(network, kept, known if how.refit else None)
    facts = {"heads": how.heads, "mlp": how.mlp, "importance": how.importance}
    return Pruned(_with(model, smaller, "pruned", facts), kept)


def measured(
    network: Transformer,
    process: Process,
    text: Tokens,
    how: Prune,
    known: dict[str, Moments] | None,
) -> Scores:
    """Return the importance of every unit."""
    scores = {
        "gradient": lambda: importance.gradients(network, process, text, how.levels),
        "removal": lambda: importance.removals(network, process, text, how.levels),
        "energy": lambda: importance.energies(network, known or {}),
        "surgeon": lambda: importance.surgeons(network, known or {}),
    }[how.importance]()
    return importance.by_layer(network, scores)


@torch.no_grad()
def dropped(
    model: LanguageModel, text: Tokens, count: int, levels: Levels
) -> tuple[LanguageModel, list[int]]:
    """Return the model without some layers, and their numbers in the order they went.

    Each time that layer goes without which the bound is lowest: every layer is tried.

    Args:
        model: One of unison's own networks; is not changed.
        text: Whole rows, to measure on.
        count: How many layers go.
        levels: Rows of text and their noise.

    Raises:
        CompressError: No layer would be left, or there are experts.
    """
    network = transformer(model.network)
    _refuse_experts(network)
    if not 0 <= count < network.config.depth:
        raise CompressError(
            f"{count} layers cannot go from a model of {network.config.depth}; take out at least 0 "
            f"and at most {network.config.depth - 1}."
        )
    left = list(range(network.config.depth))
    gone = []
    for _ in range(count):
        tries = [cutting.without(network, i) for i in range(len(left))]
        bounds = [float(mean_losses(levels, model.process, one, text).mean()) for one in tries]
        worst = bounds.index(min(bounds))
        gone.append(left.pop(worst))
        network = tries[worst]
    return _with(model, network, "dropped", {"layers": gone}), gone


def _refuse_experts(network: Transformer) -> None:
    if network.config.mixture is not None:
        raise CompressError(
            "this model has a mixture of experts, whose units and layers cannot be taken out here; "
            "quantise it instead."
        )


def _with(
    model: LanguageModel, network: Transformer, name: str, facts: dict[str, object]
) -> LanguageModel:
    notes = {**model.notes, name: facts}
    return replace(model, network=network, notes=notes, format="unison", blueprint=None)
