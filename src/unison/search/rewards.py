"""What is looked for? Rewards of texts and of events; any callable of one's own is one too.

A reward of texts takes whole texts and gives a number for each; ``writing`` turns tokens into
them. A reward of events takes the events. Higher is better, -infinity forbids.
"""

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from unison.evaluate.judge import Judge
from unison.types import Event

TextReward = Callable[[Sequence[str]], Sequence[float]]


@dataclass(frozen=True)
class Likely:
    """The log-likelihood of a text under a model that did not write it, in nats.

    Attributes:
        judge: That model.
        per_token: Divide by the judge's tokens, or the shortest text is always the best.
    """

    judge: Judge
    per_token: bool = True

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Ask the judge; an empty text has 0."""
        scores = self.judge.nats(texts)
        return [-nats / max(count, 1) if self.per_token else -nats for nats, count in scores]


@dataclass(frozen=True)
class Satisfied:
    """How many of some conditions a text meets.

    Attributes:
        conditions: Regular expressions that are to occur in it.
    """

    conditions: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.conditions:
            raise ValueError("give at least one condition; without any all texts are alike.")
        for condition in self.conditions:
            try:
                re.compile(condition)
            except re.error as error:
                raise ValueError(f"{condition!r} is no regular expression: {error}.") from None

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Count the conditions met."""
        return [
            float(sum(re.search(condition, text) is not None for condition in self.conditions))
            for text in texts
        ]


@dataclass(frozen=True)
class Length:
    """How near a text is to a number of characters: minus the distance.

    Attributes:
        characters: The number.
    """

    characters: int

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Measure every text."""
        return [-abs(len(text) - self.characters) * 1.0 for text in texts]


@dataclass(frozen=True)
class Near:
    """-|x - target|^2 / 2: at temperature T it tilts as a measurement of x with variance T does.

    Attributes:
        target: One event.
    """

    target: Float[Tensor, "..."]

    def __call__(self, x: Event) -> Float[Tensor, " B"]:
        """Measure every event.

        Raises:
            ValueError: The target has another shape.
        """
        if x.shape[1:] != self.target.shape:
            raise ValueError(
                f"the target has shape {tuple(self.target.shape)} and the events "
                f"{tuple(x.shape[1:])}; they must be alike."
            )
        return -(x - self.target.to(x)).square().flatten(1).sum(1) / 2


@dataclass(frozen=True)
class Classified:
    """log p(label | x) of a classifier.

    Attributes:
        classifier: Events to logits.
        label: The class that is wanted.
    """

    classifier: Callable[[Event], Float[Tensor, "B C"]]
    label: int

    def __call__(self, x: Event) -> Float[Tensor, " B"]:
        """Ask the classifier.

        Raises:
            ValueError: It knows no such class.
        """
        logits = self.classifier(x)
        if not 0 <= self.label < logits.shape[1]:
            raise ValueError(
                f"the classifier knows classes 0 to {logits.shape[1] - 1}, got label {self.label}."
            )
        return logits.log_softmax(1)[:, self.label]


def reward_named(path: str) -> Callable[..., Any]:
    """Return somebody's own reward, ``package.module:function``.

    Raises:
        ValueError: There is none at that path.
    """
    module, _, name = path.partition(":")
    if not (module and name):
        raise ValueError(f"a reward is named package.module:function, got {path!r}.")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"no module {error.name!r} for reward {path!r}; it is looked for where Python looks: "
            "the current folder with python -m, or PYTHONPATH."
        ) from None
    reward = vars(found).get(name)
    if not callable(reward):
        own = sorted(word for word, value in vars(found).items() if callable(value))
        raise ValueError(f"module {module!r} has no function {name!r}; it has {', '.join(own)}.")
    return reward
