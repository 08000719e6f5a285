"""What is elastic training? Which networks are trained in one, and how they are drawn."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from unison.compress.elastic.sampling import SAMPLINGS, Sampling
from unison.compress.elastic.space import Space, space
from unison.language_model import LanguageModel
from unison.models import TransformerConfig
from unison.train import Train, TrainError


@dataclass(frozen=True)
class Elastic:
    """The networks that one network is trained to hold.

    Attributes:
        depths: Shares of the layers.
        heads: Shares of the heads.
        mlps: Shares of the MLPs' width.
        drawn: Networks drawn for a step, besides the smallest and the largest.
        sampling: How they are drawn: ``uniform``, ``complexity``, ``struggling`` or ``front``.
        levels: Levels of complexity that are drawn alike.
        lesson: Weight of what the largest network teaches the others on the same noise.
    """

    depths: tuple[float, ...] = (0.5, 0.75, 1.0)
    heads: tuple[float, ...] = (0.5, 1.0)
    mlps: tuple[float, ...] = (0.25, 0.5, 1.0)
    drawn: int = 1
    sampling: Sampling = "complexity"
    levels: int = 6
    lesson: float = 1.0

    def __post_init__(self) -> None:
        if self.sampling not in SAMPLINGS:
            raise ValueError(
                f"unknown elastic.sampling {self.sampling!r}; known: {', '.join(SAMPLINGS)}."
            )
        if self.drawn < 0 or self.levels < 1 or not self.lesson >= 0:
            raise ValueError(
                "elastic.drawn and lesson must be at least 0 and levels at least 1, got "
                f"{self.drawn}, {self.lesson} and {self.levels}."
            )

    def space(self, config: TransformerConfig) -> Space:
        """Return the networks that lie in one of this shape.

        Raises:
            ValueError: The shares do not fit it, or there is nothing to choose.
        """
        made = space(config, self.depths, self.heads, self.mlps)
        if len(made.choices) < 2:
            raise ValueError(
                "elastic training needs a network smaller than the whole; give elastic.depths, "
                "heads or mlps below 1."
            )
        return made


def stated(model: LanguageModel) -> Space:
    """Return the networks that a model was trained to hold.

    Raises:
        ValueError: It does not say.
    """
    said = model.notes.get("elastic")
    if not isinstance(said, dict):
        raise ValueError("this model does not hold others: it was not trained to be elastic.")
    known = {f.name: said[f.name] for f in dataclasses.fields(Elastic) if f.name in said}
    settings: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in known.items()}
    return Elastic(**settings).space(model.network.config)


def check(config: Train) -> None:
    """Refuse a run that cannot be elastic.

    Raises:
        TrainError: It is private, compiled, or of a model that answers or reads more than tokens.
    """
    if config.privacy.on:
        raise TrainError("elastic training looks at a row several times a step; not with privacy.")
    if config.compile == "on":
        raise TrainError("elastic training evaluates many shapes a step; leave compile off.")
    if config.model.scalar or config.model.self_conditioning:
        raise TrainError(
            "elastic training is for networks that read and answer tokens alone; leave out "
            "model.scalar and model.self_conditioning."
        )
