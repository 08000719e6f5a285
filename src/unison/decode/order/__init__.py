"""Which position is written first? Orders by name."""

from unison.decode.order.confidence import Confidence
from unison.decode.sight import Order

ORDERS: dict[str, type[Order]] = {
    "confidence": Confidence,
}
