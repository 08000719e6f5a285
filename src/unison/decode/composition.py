"""Which parts do not go together, and why?"""

from typing import TYPE_CHECKING

from unison.decode.api import Strategy
from unison.decode.diffusion.corrected_hitting import CorrectedHitting
from unison.decode.order import Confidence
from unison.decode.revise import P2, Edit
from unison.decode.select import Count, Learned
from unison.decode.sight import Ending
from unison.decode.stop import EoTP, Prophet

if TYPE_CHECKING:
    from unison.decode.diffusion.composed import Composed


def refusal(strategy: "Composed") -> str | None:
    """Return why the parts of a strategy contradict each other; ``None`` if they do not."""
    return next((reason for reason in (rule(strategy) for rule in _RULES) if reason), None)


def unready(strategy: "Composed", process: str) -> str | None:
    """Return what a strategy lacks to work on a canvas; ``None`` if it lacks nothing.

    Args:
        strategy: Whose parts go together.
        process: A name in ``unison.process.PROCESSES``.
    """
    return _without_process(strategy, process) or _without_ends(strategy)


def _without_process(strategy: "Composed", process: str) -> str | None:
    for part, what in ((strategy.revise, "revise text"), (strategy.stop, "stop")):
        if process not in part.processes:
            return (
                f"{_name(part)} cannot {what} under the {process} process; it needs "
                f"{' or '.join(part.processes)}."
            )
    if process == "uniform" and isinstance(strategy.stop, Prophet) and strategy.stop.answer_only:
        return (
            "Prophet's answer_only=True writes a region for good, and under the uniform process "
            "no token is decided before its block ends; it needs absorbing."
        )
    return None


def _without_ends(strategy: "Composed") -> str | None:
    own = strategy.stop.eos_ids if isinstance(strategy.stop, Ending) else ()
    if strategy.stop.needs_eos and not (own or strategy.eos_ids):
        return (
            f"{_name(strategy.stop)} waits for the end of the text and knows no end token; name "
            "them in eos_ids."
        )
    if strategy.discount < 1 and not strategy.eos_ids:
        return (
            f"discount={strategy.discount} holds end tokens back and eos_ids names none; name "
            "them, or leave discount at 1."
        )
    return None


def refuses_cache(strategy: "Composed", exact_under_revision: bool) -> str | None:
    """Return why a strategy must not be run on a cache; ``None`` if it may.

    Args:
        strategy: What would run.
        exact_under_revision: Whether the cache notices text that changes after it was written.
    """
    if exact_under_revision or not strategy.revise.rewrites:
        return None
    return (
        f"{_name(strategy.revise)} rewrites written text, which this cache remembers as it was; "
        "use a cache that follows revisions, or none."
    )


def refuses_constraint(strategy: Strategy) -> str | None:
    """Return why a strategy cannot keep to a constraint; ``None`` if it can."""
    if isinstance(strategy, CorrectedHitting):
        return (
            "CorrectedHitting draws written tokens again, one apart from the other, so they would "
            "not keep to a constraint; use parallel_hitting."
        )
    if getattr(strategy, "revise", None) is not None and isinstance(strategy.revise, Edit):  # pyright: ignore
        return (
            "Edit exchanges written tokens, one apart from the other, so they would not keep to a "
            "constraint; leave revise out, or use one that masks tokens again."
        )
    return None


def _name(part: object) -> str:
    return type(part).__name__


def _steps_per_block_need_steps(strategy: "Composed") -> str | None:
    if strategy.per_block and strategy.steps is None:
        return "per_block says what steps counts, so steps must be set with it."
    return None


def _a_discount_needs_probabilities(strategy: "Composed") -> str | None:
    if strategy.discount < 1 and not strategy.order.probability:
        return (
            f"discount={strategy.discount} scales probabilities, which the order "
            f"{_name(strategy.order)} does not rank by; use confidence or margin."
        )
    return None


def _planning_chooses_by_itself(strategy: "Composed") -> str | None:
    if not isinstance(strategy.revise, P2):
        return None
    if not isinstance(strategy.select, Count):
        return (
            f"P2 keeps as many tokens as its schedule says, so {_name(strategy.select)} would "
            "choose in vain; use Count."
        )
    if not isinstance(strategy.order, Confidence):
        return (
            f"P2 ranks written and masked positions together by confidence, so "
            f"{_name(strategy.order)} would rank in vain; use Confidence."
        )
    if strategy.discount < 1:
        return f"P2 ranks by confidence alone, so discount={strategy.discount} would do nothing."
    return None


def _filled_text_is_not_edited(strategy: "Composed") -> str | None:
    if isinstance(strategy.revise, Edit) and isinstance(strategy.stop, Prophet):
        return (
            "Edit looks again at what was written, and what Prophet writes at once is never looked "
            "at again; use one of them."
        )
    return None


def _a_cut_is_for_good(strategy: "Composed") -> str | None:
    if isinstance(strategy.stop, EoTP) and strategy.revise.rewrites:
        return (
            f"EoTP cuts the text behind an end token and {_name(strategy.revise)} may take that "
            "token back; stop with eos, which waits until everything before it is written."
        )
    return None


def _finished_blocks_stay(strategy: "Composed") -> str | None:
    if strategy.revise.reads == "canvas" and strategy.block_length is not None:
        return (
            f"{_name(strategy.revise)} revises the whole canvas, and with block_length="
            f"{strategy.block_length} finished blocks stay as they are; leave block_length out."
        )
    return None


def _a_filter_has_its_block(strategy: "Composed") -> str | None:
    if not isinstance(strategy.select, Learned):
        return None
    length = strategy.select.filter().block_length
    if strategy.block_length == length:
        return None
    return (
        f"the filter {strategy.select.path} was trained on blocks of {length} positions, so "
        f"block_length must be {length}, got {strategy.block_length}."
    )


_RULES = (
    _steps_per_block_need_steps,
    _a_discount_needs_probabilities,
    _planning_chooses_by_itself,
    _filled_text_is_not_edited,
    _a_cut_is_for_good,
    _finished_blocks_stay,
    _a_filter_has_its_block,
)
