"""What would a perfect model write? The law of right answers as a denoiser, under real strategies.

Tokens are items here, so a text is as long as the answer has items; nothing else separates the
perfect model from a trained one in how it is decoded.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison import aliases
from unison.bench.record import Interval
from unison.decode import Strategy, decode, start
from unison.decode.diffusion.composed import Composed
from unison.decode.fitting import Facts, Fitting
from unison.decode.order import Random
from unison.decode.select import Threshold
from unison.decode.temper import Temper
from unison.generation import strategy_named
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.suites import ItemLaw, spelt, wilson
from unison.types import Belief, Denoiser, Estimate, Focus, LogProbs, Time, Tokens

_ENTRIES = 1 << 20  # of the beliefs of the answers that are written together
_STATES = 4096  # asked about together: some laws compare each with all answers
_TEMPER = ("temperature", "top_k", "top_p")
_MODEL = ("cfg", "cache")  # settings of what asks the model, not of how it is decoded


@dataclass(frozen=True, eq=False)
class Ideal:
    """A denoiser that believes exactly what the law of right answers says.

    Attributes:
        law: Of the answers.
        mask_id: Marks what is undecided; every other token is the item of its number.
    """

    law: ItemLaw
    mask_id: int

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        """Return log p(item | the items already there), whatever the time."""
        log_x0 = self._asked(self._items(xt))
        return log_x0 if focus is None else _at(log_x0, focus)

    def shadow(self, xt: Tokens, t: Time, focus: Focus) -> tuple[Belief, Belief]:
        """Return the belief at ``focus``, and the belief there that leaves the own item out."""
        items = self._items(xt)
        rows, count = focus.positions.shape
        own = torch.arange(items.shape[1], device=xt.device) == focus.positions[..., None]
        without = torch.where(own, -1, items[:, None]).flatten(0, 1)
        unseen = self._asked(without).unflatten(0, (rows, count))
        place = focus.positions[..., None, None].expand(-1, -1, 1, unseen.shape[-1])
        return _at(self._asked(items), focus), unseen.gather(2, place)[:, :, 0]

    def _items(self, xt: Tokens) -> Tokens:
        return torch.where(xt == self.mask_id, -1, xt)

    def _asked(self, items: Tokens) -> LogProbs:
        """Return the law's belief, each state asked about once."""
        distinct, row = np.unique(items.cpu().numpy(), axis=0, return_inverse=True)
        parts = np.array_split(distinct, -(-len(distinct) // _STATES))
        said = np.concatenate([self.law.belief(part) for part in parts])
        belief = torch.from_numpy(said.astype(np.float64))
        return belief.log().float()[torch.from_numpy(row.reshape(-1))].to(items.device)


def _at(log_x0: LogProbs, focus: Focus) -> Belief:
    return log_x0.gather(1, focus.positions[..., None].expand(-1, -1, log_x0.shape[-1]))


class Simulated(NamedTuple):
    """A perfect model under a strategy.

    Attributes:
        accuracy: Share of right answers, with its 95 % interval.
        nfe: Evaluations of an answer.
        items_per_step: Items of an answer over the mean number of evaluations.
    """

    accuracy: Interval
    nfe: Estimate
    items_per_step: float


def ideal_denoiser(law: ItemLaw, mask_id: int) -> Denoiser:
    """Return the denoiser that knows a law exactly, for the absorbing process over its items.

    Raises:
        ValueError: The mask is one of the items.
    """
    if 0 <= mask_id < law.size:
        raise ValueError(
            f"mask_id must not be one of the {law.size} items, got {mask_id}; {law.size} is free."
        )
    return Ideal(law, mask_id)


def in_groups(size: int) -> Composed:
    """Return the strategy that draws random groups of exactly ``size`` items from the beliefs.

    Raises:
        ValueError: ``size`` is not positive.
    """
    return Composed(
        order=Random(), select=Threshold(0.0, ceiling=size), temper=Temper(temperature=1.0)
    )


def simulate(law: ItemLaw, strategy: Strategy, rows: int, seed: int) -> Simulated:
    """Return how often the perfect model is right under a strategy, and in how many evaluations.

    Args:
        law: Of the right answers.
        strategy: As it was before it was fitted to a model: what it leaves to the model (blocks,
            end tokens) is as for one without them.
        rows: Answers written.
        seed: Names them.

    Raises:
        ValueError: The strategy cannot undo masks, or needs more than beliefs about items.
    """
    chosen = _fitted(strategy)
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}.")
    seeds = rng.rows(seed, 0, rows).split(max(1, _ENTRIES // max(1, law.length * law.size)))
    parts = [_written(law, chosen, some) for some in seeds]
    right = np.concatenate([part[0] for part in parts])
    nfe = np.concatenate([part[1] for part in parts])
    share = Interval(float(right.mean()), *wilson(float(right.sum()), rows), rows)
    error = float(nfe.std(ddof=1) / np.sqrt(rows)) if rows > 1 else float("nan")
    evaluations = Estimate(float(nfe.mean()), error, rows, "evaluations")
    return Simulated(share, evaluations, law.length / evaluations.value)


def strategy_spelt(spelling: str) -> Strategy:
    """Return a strategy as it was spelt for a bench, without what only a trained model has.

    Guidance and caches are left aside.

    Raises:
        ValueError: It is a model's own strategy, unknown, or has a setting it cannot have here.
    """
    name, said = spelt(spelling)
    settings, _ = aliases.canonical(said)
    own = {key: value for key, value in settings.items() if key not in (*_TEMPER, *_MODEL)}
    strategy = aliases.built(strategy_named(name), own, settings.get("steps"))
    temper = [settings.get(key) for key in _TEMPER]
    if temper == [None] * len(_TEMPER):
        return strategy
    if not isinstance(strategy, Fitting):
        raise ValueError(
            f"{name} draws from the belief itself; a perfect model has no {', '.join(_TEMPER)}."
        )
    temperature, top_k, top_p = temper
    return strategy.tempered(
        None if temperature is None else float(temperature),
        top_k,
        None if top_p is None else float(top_p),
    )


def _fitted(strategy: Strategy) -> Strategy:
    """Return a strategy as it runs on items, no number of which ends a text."""
    if "absorbing" not in strategy.processes:
        raise ValueError(
            f"{type(strategy).__name__} undoes {' or '.join(strategy.processes)}, and what a "
            "perfect model of items has not written is masked; choose a strategy for masks."
        )
    return strategy.fitted(Facts("absorbing")) if isinstance(strategy, Fitting) else strategy


def _written(
    law: ItemLaw, strategy: Strategy, seeds: Int[Tensor, " B"]
) -> tuple[Bool[np.ndarray, " B"], Int[np.ndarray, " B"]]:
    """Return which answers are right, and the evaluations of each."""
    process, key = Absorbing(law.size), Key(seeds)
    nothing = torch.zeros((len(seeds), law.length), dtype=torch.int64)
    canvas = start(process, nothing, nothing.bool(), key)
    done = decode(strategy, process, ideal_denoiser(law, process.mask_id), canvas, key)
    return np.asarray(law.right(done.tokens.numpy()), bool), done.nfe.numpy()
