"""What exactly was ordered? Prompts, sizes, constraints and settings, checked before writing."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from unison.constrain import Grammar
from unison.decode import Strategy
from unison.decode.composition import refuses_constraint
from unison.decode.fitting import Fitting
from unison.generation import canvases, constraining, infilling, settings, speculating
from unison.generation.canvases import Part, Parts, Row, Size
from unison.generation.constraining import Covers, PerHole, Rule, Rules
from unison.generation.settings import Sampling
from unison.language_model import LanguageModel
from unison.prob import rng
from unison.prob.rng import Key
from unison.speculation import Speculation
from unison.speculation.pearl import Pearl

How = Strategy | Speculation | Pearl


@dataclass(frozen=True)
class Asked:
    """What is to be written; fields as ``unison.generate`` takes them."""

    prompt: str | Sequence[str] = ""
    suffix: str | Sequence[str] = ""
    parts: Parts | None = None
    length: int | None = None
    new_tokens: int | None = None
    scaffold: Sequence[Part] | None = None
    constraint: Grammar | PerHole | Sequence[Grammar | PerHole | None] | None = None
    covers: Covers = "answer"
    num: int = 1
    seed: int | Sequence[int] = 0


class Text(NamedTuple):
    """One text to write.

    Attributes:
        prompt: Number of the prompt, or canvas, it continues.
        row: The canvas.
        rule: What it must obey; ``None`` for nothing.
    """

    prompt: int
    row: Row
    rule: Rule | Rules | None


@dataclass(frozen=True)
class Order:
    """Texts that can be written: everything that could be refused was looked at.

    Attributes:
        model: Writes.
        how: What it does each step; or speculation, which has rounds instead.
        sampling: The other settings, the cache as a policy.
        texts: Several of one prompt, then those of the next.
        key: One random stream per text.
    """

    model: LanguageModel
    how: How
    sampling: Sampling
    texts: tuple[Text, ...]
    key: Key

    def some(self, numbers: Sequence[int]) -> "Order":
        """Return the order of some of the texts, by number."""
        texts = tuple(self.texts[number] for number in numbers)
        return replace(self, texts=texts, key=Key(self.key.seed[list(numbers)]))

    @property
    def cost(self) -> int:
        """Network evaluations behind one step."""
        if isinstance(self.how, Speculation | Pearl):
            return 1
        return settings.evaluations(self.model, self.how, self.sampling.cfg)


def ordered(
    model: LanguageModel, asked: Asked, sampling: Sampling, how: How | None = None
) -> Order:
    """Return an order that can be carried out.

    Args:
        model: Writes.
        asked: What is to be written.
        sampling: How.
        how: A speculation, instead of the strategy in ``sampling``.

    Raises:
        ValueError: A setting is out of range, unknown, or unsupported by the model; no text of
            the constraint fits the canvas.
    """
    if asked.num < 1:
        raise ValueError(f"num must be at least 1, got {asked.num}.")
    size = Size(asked.length, asked.new_tokens, asked.scaffold)
    rows = canvases.rows(model, asked.prompt, asked.suffix, asked.parts, size)
    if isinstance(how, Speculation | Pearl):
        obeys = constraining.rules(model, rows, asked.constraint, asked.covers)
        how = _speculated(model, (how, sampling), rows, obeys)
    else:
        how, sampling = _fitted(model, sampling, rows)
        obeys = constraining.rules(model, rows, asked.constraint, asked.covers)
        _check_constrained(model, how, rows, obeys)
    texts = (
        Text(number, row, rule)
        for number, (row, rule) in enumerate(zip(rows, obeys, strict=True))
        for _ in range(asked.num)
    )
    seeds = _seeds(asked.seed, len(rows), asked.num)
    return Order(model, how, sampling, tuple(texts), Key(seeds.to(model.device)))


def _speculated(
    model: LanguageModel,
    how: tuple[Speculation | Pearl, Sampling],
    rows: Sequence[Row],
    obeys: Sequence[Rule | Rules | None],
) -> Speculation | Pearl:
    """Return a speculation with the temper asked for; that a rule gates it is found out here."""
    fitting = speculating.fitted(model, *how)
    speculating.check(rows)
    for rule in obeys:
        speculating.gated(fitting, rule)
    return fitting


def _fitted(
    model: LanguageModel, sampling: Sampling, rows: Sequence[Row]
) -> tuple[Strategy, Sampling]:
    """Return the strategy, and the settings with the cache as a policy."""
    settings.check_guidance(model, sampling.cfg)
    chosen = settings.choose(model, sampling)
    if not isinstance(chosen, Fitting):
        settings.temper_of(model, sampling)
    policy = settings.policy_of(model, chosen, sampling.cache)
    _check_steps(model, (chosen, sampling), rows)
    return chosen, dataclasses.replace(sampling, cache=policy)


def _seeds(seed: int | Sequence[int], prompts: int, num: int) -> Int[Tensor, " N"]:
    """Return the seed of every text; texts of prompts with one seed share their noise."""
    if isinstance(seed, int):
        return rng.rows(seed, 0, num).repeat(prompts)
    if len(seed) != prompts:
        raise ValueError(
            f"there are {len(seed)} seeds and {prompts} prompts; give one seed for all or one each."
        )
    return torch.cat([rng.rows(one, 0, num) for one in seed])


def _check_steps(model: LanguageModel, how: tuple[Strategy, Sampling], rows: Sequence[Row]) -> None:
    """Refuse a number of steps that is too small for some row's blocks, unless nobody asked for it.

    The model's default yields: each block then gets a step.
    """
    strategy, sampling = how
    if not isinstance(strategy, Fitting):
        return
    default = strategy.steps == model.defaults.steps  # pyright: ignore[reportAttributeAccessIssue]
    if sampling.steps is not None or not default:
        strategy.refuse(canvases.batch(model, rows, Key(rng.rows(0, 0, len(rows)))))


def _check_constrained(
    model: LanguageModel,
    strategy: Strategy,
    rows: Sequence[Row],
    obeys: Sequence[Rule | Rules | None],
) -> None:
    """Raise ValueError where a constraint does not go with how texts are written."""
    if not any(obeys):
        return
    reason = refuses_constraint(strategy)
    if reason is not None:
        raise ValueError(reason)
    if any(infilling.has_hole(model, row) for row in rows):
        raise ValueError(
            "this left-to-right model writes fillings behind the text, where a constraint does not "
            "see both sides of a hole; leave the constraint out, or use a diffusion model."
        )
