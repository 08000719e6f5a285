"""Another order, made random."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from unison.decode.order.confidence import Confidence
from unison.decode.sight import SITE_ORDER, Order, Score, Sight
from unison.prob import rng


@dataclass(frozen=True)
class Perturbed:
    """Add Gumbel noise to another order's scores.

    The k highest-ranked positions are then k draws without replacement from
    softmax(score / heat) (Kool et al., 2019, arXiv:1903.06059): Dream's ``alg_temp``
    (arXiv:2508.15487). On the logarithm of the confidence, and cooling, it is MaskGIT's choice
    temperature (Chang et al., 2022, arXiv:2202.04200): the candidates of one pick among many equal
    positions then follow p^(1 + 1/heat) instead of p (Hayakawa et al., 2025, arXiv:2510.04525).

    Attributes:
        order: The scores.
        heat: Scale of the noise; 0 leaves the order as it is.
        log: Whether the noise is added to the scores' logarithms; they must be probabilities.
        cools: Whether the noise shrinks linearly, to nothing at a block's last step.
    """

    probability: ClassVar[bool] = False
    order: Order = field(default_factory=Confidence)
    heat: float = 1.0
    log: bool = False
    cools: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.heat < math.inf:
            raise ValueError(f"heat must be at least 0 and finite, got {self.heat}.")
        if self.log and not self.order.probability:
            raise ValueError(
                f"log must be False with the order {type(self.order).__name__}, whose scores are "
                f"no probabilities, got {self.log}; use confidence or margin."
            )

    def score(self, sight: Sight) -> Score:
        """Return the scores with noise."""
        score = self.order.score(sight).double()
        if self.log:
            score = score.log()
        if self.heat == 0:
            return score
        gumbel = -(-rng.uniform_at(sight.key, SITE_ORDER, sight.positions).log()).log()
        if self.cools:
            gumbel = gumbel * (sight.left.double() - 1)[:, None]
            gumbel = gumbel / (sight.left + sight.block_step)[:, None]
        return score + self.heat * gumbel
