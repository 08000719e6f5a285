"""Which position is written first? Orders by name."""

from unison.decode.order.confidence import Confidence
from unison.decode.order.entropy import Entropy
from unison.decode.order.margin import Margin
from unison.decode.order.perturbed import Perturbed
from unison.decode.order.position import Position
from unison.decode.order.random import Random
from unison.decode.sight import Order

ORDERS: dict[str, type[Order]] = {
    "confidence": Confidence,
    "entropy": Entropy,
    "margin": Margin,
    "perturbed": Perturbed,
    "position": Position,
    "random": Random,
}
