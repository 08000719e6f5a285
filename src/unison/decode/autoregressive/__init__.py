"""Autoregressive strategies, by name."""

from unison.decode.api import Strategy
from unison.decode.autoregressive.left_to_right import LeftToRight

STRATEGIES: dict[str, type[Strategy]] = {
    "left_to_right": LeftToRight,
}
