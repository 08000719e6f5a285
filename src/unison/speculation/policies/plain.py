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

    Attributes:
        temperature: 0 for the most probable token, 1 for the model's own law.
        top_k: Keep this many tokens; ``None`` for all.
        top_p: Keep the smallest set of tokens with this mass.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be at least 0 and finite, got {self.temperature}.")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}.")

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
        at = node[:, None, None].expand(-1, 1, self.logits.shape[-1])
        logp = self.logits.gather(1, at)[:, 0].log_softmax(-1)
        logp = truncation.temper(logp, self.policy.temperature)
        if self.policy.top_k is not None:
            logp = truncation.top_k(logp, self.policy.top_k)
        return truncation.top_p(logp, self.policy.top_p)
