"""Which parts do not go together, and why?"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unison.decode.diffusion.composed import Composed


def refusal(strategy: "Composed") -> str | None:
    """Return why the parts of a strategy contradict each other; ``None`` if they do not."""
    return next((reason for reason in (rule(strategy) for rule in _RULES) if reason), None)


def _steps_per_block_need_steps(strategy: "Composed") -> str | None:
    if strategy.per_block and strategy.steps is None:
        return "per_block says what steps counts, so steps must be set with it."
    return None


def _a_discount_needs_an_end(strategy: "Composed") -> str | None:
    if strategy.discount < 1 and not strategy.order.probability:
        return (
            f"discount={strategy.discount} scales probabilities, which the order "
            f"{type(strategy.order).__name__} does not rank by; use confidence or margin."
        )
    return None


_RULES = (_steps_per_block_need_steps, _a_discount_needs_an_end)
