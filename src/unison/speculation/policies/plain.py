"""The model's own law, tempered and truncated."""

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from unison.prob import truncation
from unison.speculation.parts import Scores, Target, Text
from unison.speculation.tree import Node, Tree


@dataclass(frozen=True)
class Plain:
    """Decode the law that plain sampling decodes.

    What is set is applied in the order it is listed here, each to what the ones before have left.

    Attributes:
        temperature: 0 for the most probable token, 1 for the model's own law.
        top_k: Keep this many tokens; ``None`` for all.
        top_p: Keep the smallest set of tokens with this mass.
        min_p: Keep tokens at least so many times as probable as the most probable one.
        typical: Keep the smallest set of locally typical tokens with this mass.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    typical: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be at least 0 and finite, got {self.temperature}.")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}.")
        for name, mass in (("top_p", self.top_p), ("typical", self.typical)):
            if not 0 < mass <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {mass}.")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be in [0, 1], got {self.min_p}.")

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> "PlainJudging":
        """Return what remembers nothing."""
        del target, rows
        return PlainJudging(self)


@dataclass(frozen=True)
class PlainJudging:
    """Any batch of texts: the law depends on the target's scores alone."""

    policy: Plain

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""

    def law(self, tree: Tree, scores: Scores) -> "Tempered":
        """Return the law at each node."""
        del tree
        assert scores.logits is not None
        return Tempered(self.policy, scores.logits)

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Hear what is written."""

    def keep(self, rows: Int[Tensor, " R"]) -> "PlainJudging":
        """Return the same."""
        return self


@dataclass(frozen=True)
class Tempered:
    """Logits, tempered and truncated for the nodes that are asked about."""

    policy: Plain
    logits: Float[Tensor, "B N V"]

    def at(self, node: Node) -> Float[Tensor, "B V"]:
        """Return log-probabilities of the token after one node of each row."""
        return shaped(self.policy, picked(self.logits, node))


def picked(logits: Float[Tensor, "B N V"], node: Node) -> Float[Tensor, "B V"]:
    """Return what was said about one node of each row."""
    at = node[:, None, None].expand(-1, 1, logits.shape[-1])
    return logits.gather(1, at)[:, 0]


def shaped(policy: Plain, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
    """Return the log-probabilities that logits stand for, tempered and truncated."""
    logp = truncation.temper(logits.log_softmax(-1), policy.temperature)
    if policy.top_k is not None:
        logp = truncation.top_k(logp, policy.top_k)
    logp = truncation.top_p(logp, policy.top_p)
    logp = truncation.min_p(logp, policy.min_p)
    return truncation.typical(logp, policy.typical)
