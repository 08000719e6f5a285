"""How does a left-to-right model write several tokens for one evaluation, for someone who asks?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

import torch

from unison.drafters.preparing import Fitting, prepared
from unison.engine.reading import target_of
from unison.generation import spelling
from unison.generation.canvases import Row
from unison.generation.constraining import Rule, Rules
from unison.generation.sample import Sample, finished
from unison.generation.settings import Sampling
from unison.language_model import LanguageModel
from unison.speculation import Ask, Speculation, Spoken, Text, speculate
from unison.speculation.loop import OnRound
from unison.speculation.parts import Target
from unison.speculation.pearl import Pearl, pearl
from unison.speculation.policies.grammar import Gate, Grammar
from unison.speculation.policies.plain import Plain

if TYPE_CHECKING:
    from unison.generation.ordering import Order

W = TypeVar("W", bound=Speculation | Pearl)
_TEMPER = ("temperature", "top_k", "top_p")
_OTHERS = ("steps", "block_length", "cache", "judge")


def fitted(model: LanguageModel, how: W, sampling: Sampling) -> W:
    """Return a speculation with the temper that was asked for.

    Raises:
        ValueError: A setting has no meaning for it, or the model cannot be its target.
    """
    fitted_target(model, how)
    said = [name for name in _OTHERS if getattr(sampling, name) is not None]
    if said or sampling.cfg:
        name = said[0] if said else "cfg"
        raise ValueError(f"speculation has no {name}; leave it out.")
    changes = {name: getattr(sampling, name) for name in _TEMPER}
    changes = {name: value for name, value in changes.items() if value is not None}
    return spelling.tempered(how, changes)


def check(asked: Sequence[Row]) -> None:
    """Raise ValueError where text is given behind an open token, or nothing is open."""
    for row in asked:
        size = sum(row.given)
        if not all(row.given[:size]):
            raise ValueError(
                "speculation continues texts: nothing may be given to the right of an open token; "
                "leave the suffix out, or use another strategy."
            )
        if size == len(row.given):
            raise ValueError("the canvas is full: give room for at least one token.")


def gated(how: W, rule: Rule | Rules | None) -> W:
    """Return a speculation whose law obeys a constraint, token by token.

    Raises:
        ValueError: Its policy decodes another law.
    """
    if rule is None:
        return how
    if isinstance(rule, Rules):
        raise ValueError(
            "speculation continues texts and knows no holes; give the language itself instead of "
            "languages of holes."
        )
    if not isinstance(how.policy, Plain):
        raise ValueError(
            f"a constraint gates the model's own law, and {type(how.policy).__name__} decodes "
            "another; leave one of them out."
        )
    gate = Gate(rule.tokens, rule.first, len(rule.hole))
    return replace(how, policy=Grammar((gate,), how.policy))


def write(order: "Order", on_round: OnRound | None = None) -> Iterator[Sample]:
    """Yield the texts of an order by speculation.

    Rows are written one by one: how many pass through a network together changes how it rounds,
    and no text may depend on its batch. ``unison.engine.flow`` shares evaluations.

    Args:
        order: Whose ``how`` is a speculation.
        on_round: Observer of every round of every row; concurrent ones are not observed.
    """
    model = order.model
    for number, (prompt, row, rule) in enumerate(order.texts):
        how = gated(cast(Speculation | Pearl, order.how), rule)
        target = fitted_target(model, how)
        size = sum(row.given)
        tokens = torch.tensor([[target.begin, *row.tokens[:size]]], device=model.device)
        length = torch.tensor([size + 1], device=model.device)
        seed = order.key.seed[number : number + 1]
        room = len(row.tokens) - size
        ask = Ask(Text(tokens, length), [room], seed, model.eos_ids)
        if isinstance(how, Pearl):
            spoken = pearl(how, target, ask)
        else:
            spoken = speculate(how, target, ask, on_round)
        sample = finished(model, row, prompt, spoken.forwards[0], _filled(row, size, spoken))
        yield replace(sample, lossless=spoken.lossless)


def fitted_target(model: LanguageModel, how: Speculation | Pearl) -> Target:
    """Return what is asked, with what the drafter puts into it.

    Raises:
        ValueError: The drafter lives inside a network and the target is none.
    """
    if isinstance(how, Pearl) or how.target is None:
        return prepared(target_of(model), how.drafter)
    if isinstance(how.drafter, Fitting):
        raise ValueError(
            f"{type(how.drafter).__name__} lives inside its target's network, and this target is "
            f"a {type(how.target).__name__}; use another drafter."
        )
    return how.target


def _filled(row: Row, size: int, spoken: Spoken) -> tuple[list[int], list[int], list[float]]:
    """Return tokens, steps and confidences of the whole canvas; behind its end, the end again."""
    new, steps = spoken.tokens[0], spoken.rounds[0]
    rest = len(row.tokens) - size - len(new)
    tokens = [*row.tokens[:size], *new, *new[-1:] * rest]
    return (
        tokens,
        [0] * size + steps + steps[-1:] * rest,
        [1.0] * size + [float("nan")] * (len(tokens) - size),
    )
