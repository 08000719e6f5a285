"""What is a verifier worth that errs? Try until it accepts, at most K times.

A right try is accepted with probability ``completeness``, a wrong one rejected with probability
``soundness``, independently of all else. On a problem solved at rate r a try is rejected with
probability b = (1 - completeness) r + soundness (1 - r), and the k-th is reached with b^(k-1):
resampling has a ceiling, set by how often accepted tries are right, whatever the budget (Stroebl et
al. 2024, arXiv 2411.17501).

Differs: the paper's notebook weighs the value of the k-th try by the share of each type among those
that reach it, and again by their survival, so difficulty counts twice; here each type has its prior
and its own survival, once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from unison.evaluate.scaling.coverage import ScalingError, Tries


@dataclass(frozen=True)
class Verifier:
    """Who accepts and rejects tries.

    Attributes:
        completeness: Probability that a right try is accepted.
        soundness: Probability that a wrong try is rejected.
    """

    completeness: float = 1.0
    soundness: float = 1.0

    def __post_init__(self) -> None:
        for name in ("completeness", "soundness"):
            if not 0 <= getattr(self, name) <= 1:
                raise ScalingError(f"{name} must be in [0, 1], got {getattr(self, name)}.")


@dataclass(frozen=True, eq=False)
class Types:
    """Kinds of problems.

    Attributes:
        prior: Share of each; they sum to 1.
        rate: Probability that one try of such a problem is right.
    """

    prior: Float[np.ndarray, " I"]
    rate: Float[np.ndarray, " I"]

    def __post_init__(self) -> None:
        if len(self.prior) == 0 or len(self.prior) != len(self.rate):
            raise ScalingError(
                f"Every type needs a share and a rate, got {len(self.prior)} and {len(self.rate)}."
            )
        if (self.prior < 0).any() or abs(self.prior.sum() - 1) > _ROUNDING:
            raise ScalingError(f"Shares must be at least 0 and sum to 1, got {self.prior}.")
        if (self.rate < 0).any() or (self.rate > 1).any():
            raise ScalingError(f"Rates must be in [0, 1], got {self.rate}.")

    @classmethod
    def measured(cls, tries: Tries) -> "Types":
        """Return each problem as a type of its own, at its share of right tries.

        For limits, which no finite pool can tell without bias; up to as many tries as were made,
        :func:`verified_table` needs no such plug-in.
        """
        return cls(np.full(len(tries), 1 / len(tries)), tries.right / tries.tried)


class Worth(NamedTuple):
    """What an accepted try is worth; accepting none is worth 0.

    Attributes:
        right: Of a right one, at least 0.
        wrong: Of a wrong one, at most 0.
        cost: Of making a try at all, at least 0.
    """

    right: float = 1.0
    wrong: float = -1.0
    cost: float = 0.0


class Accepted(NamedTuple):
    """Probability that a try is accepted within k, for numbers k along the last axis.

    Attributes:
        right: And is right.
        wrong: And is wrong.
    """

    right: Float[np.ndarray, "*P K"]
    wrong: Float[np.ndarray, "*P K"]


def accepted(types: Types, verifier: Verifier, k: Int[np.ndarray, " K"]) -> Accepted:
    """Return what is accepted within k tries, in closed form.

    Raises:
        ScalingError: Some k is below 1.
    """
    _validate_attempts(int(k.min()))
    right, wrong = _accepts(types, verifier)
    made = _tries_made(right + wrong, k)
    return Accepted((types.prior * right) @ made, (types.prior * wrong) @ made)


def ceiling(types: Types, verifier: Verifier) -> Accepted:
    """Return what is accepted however many tries are allowed, each as an array of one number."""
    right, wrong = _accepts(types, verifier)
    accepts = right + wrong
    made = np.divide(types.prior, accepts, out=np.zeros_like(accepts), where=accepts > 0)
    return Accepted(np.array([made @ right]), np.array([made @ wrong]))


def attempt_values(
    types: Types, verifier: Verifier, attempts: int, worth: Worth
) -> Float[np.ndarray, " K"]:
    """Return what allowing the 1st, 2nd, ... try adds to the expected worth.

    Raises:
        ScalingError: ``attempts`` is below 1, or the worth is not a worth.
    """
    _validate_attempts(attempts)
    value, log_rejects = _stakes(types, verifier, worth)
    survive = np.exp(_powers(log_rejects, np.arange(attempts)))
    return (types.prior * value) @ survive


def best_attempts(types: Types, verifier: Verifier, worth: Worth) -> int | None:
    """Return the number of tries to allow for the largest expected worth; ``None`` is no limit.

    With a verifier that tells anything, what a try is worth rises with the rate and what survives
    is ever harder, so the values of successive tries change sign at most once, from plus to minus:
    the best is to stop before the first negative one. With a verifier that accepts wrong tries at
    least as readily as right ones it is all or nothing.

    Raises:
        ScalingError: The worth is not a worth.
    """
    value, log_rejects = _stakes(types, verifier, worth)
    present = types.prior > 0
    prior, value, log_rejects = types.prior[present], value[present], log_rejects[present]
    if verifier.completeness + verifier.soundness <= 1:
        return None if _total(prior, value, log_rejects) > 0 else 0
    if value[types.rate[present].argmin()] >= 0:
        return None

    def sign(tries: int) -> float:
        """Return the value of a try, up to the survival of the hardest type."""
        scaled = _powers(log_rejects, np.array([tries]))[:, 0]
        return float(prior * value @ np.exp(scaled - scaled.max()))

    return _first_negative(sign)


def verified_table(tries: Tries, verifier: Verifier, attempts: int) -> Accepted:
    """Return what a simulated verifier accepts within 1, 2, ... tries of every problem.

    Tries are taken from the pool in random order and without putting back, which makes them fresh
    ones and the result unbiased; the order and the verifier's errors are summed out, not drawn.
    With a perfect verifier this is pass@k.

    Raises:
        ScalingError: ``attempts`` is below 1 or above the tries of some problem.
    """
    _validate_attempts(attempts)
    if attempts > tries.fewest:
        raise ScalingError(
            f"attempts must be at most {tries.fewest}, the fewest tries of a problem, got "
            f"{attempts}; beyond that use accepted(BetaDifficulty.types(), ...)."
        )
    pairs = np.stack([tries.tried, tries.right], axis=1)
    kinds, kind = np.unique(pairs, axis=0, return_inverse=True)
    right, wrong = _from_pool(Tries(kinds[:, 0], kinds[:, 1]), verifier, attempts)
    return Accepted(right[kind.reshape(-1)], wrong[kind.reshape(-1)])


def _from_pool(tries: Tries, verifier: Verifier, attempts: int) -> Accepted:
    """Follow the probability that all so far were rejected, by how many of them were right."""
    n, c = tries.tried[:, None], tries.right[:, None]
    rejected_right = np.arange(min(int(c.max()), attempts) + 1)[None, :]
    waiting = np.zeros((len(tries), rejected_right.shape[1]))
    waiting[:, 0] = 1.0
    right, wrong = np.zeros((2, len(tries), attempts))
    for made in range(attempts):
        # Where nothing is left of a kind, nothing waits either: the clip only keeps signs away.
        next_right = waiting * np.maximum(c - rejected_right, 0) / (n - made)
        next_wrong = waiting * np.maximum(n - c - (made - rejected_right), 0) / (n - made)
        right[:, made] = verifier.completeness * next_right.sum(1)
        wrong[:, made] = (1 - verifier.soundness) * next_wrong.sum(1)
        waiting = verifier.soundness * next_wrong
        waiting[:, 1:] += (1 - verifier.completeness) * next_right[:, :-1]
    return Accepted(right.cumsum(1), wrong.cumsum(1))


def _accepts(
    types: Types, verifier: Verifier
) -> tuple[Float[np.ndarray, " I"], Float[np.ndarray, " I"]]:
    """Return the probabilities that one try is right and accepted, and wrong and accepted."""
    return verifier.completeness * types.rate, (1 - verifier.soundness) * (1 - types.rate)


def _stakes(
    types: Types, verifier: Verifier, worth: Worth
) -> tuple[Float[np.ndarray, " I"], Float[np.ndarray, " I"]]:
    """Return what one try is worth on each type, and the log of the probability of rejection."""
    if worth.right < 0 or worth.wrong > 0 or worth.cost < 0:
        raise ScalingError(
            f"A right try must be worth at least 0, a wrong one at most 0 and cost at least 0, got "
            f"{worth.right}, {worth.wrong} and {worth.cost}."
        )
    right, wrong = _accepts(types, verifier)
    value = worth.right * right + worth.wrong * wrong - worth.cost
    return value, _log_rejects(right + wrong)


def _log_rejects(accepts: Float[np.ndarray, " I"]) -> Float[np.ndarray, " I"]:
    # 1 is always accepted; rounding may take it a little beyond.
    certain = accepts >= 1
    return np.where(certain, -np.inf, np.log1p(-np.where(certain, 0.0, accepts)))


def _powers(log_rejects: Float[np.ndarray, " I"], k: np.ndarray) -> Float[np.ndarray, "I K"]:
    """Return logs of b^k, with b^0 = 1 even for b = 0."""
    return np.where(k == 0, 0.0, log_rejects[:, None] * np.maximum(k, 1))


def _tries_made(accepts: Float[np.ndarray, " I"], k: np.ndarray) -> Float[np.ndarray, "I K"]:
    """Return how many of at most k tries are made on average, (1 - b^k) / (1 - b)."""
    missed = -np.expm1(_powers(_log_rejects(accepts), k))
    some = accepts[:, None] > 0
    return np.where(some, missed / np.where(some, accepts[:, None], 1.0), k)


def _total(
    prior: Float[np.ndarray, " I"],
    value: Float[np.ndarray, " I"],
    log_rejects: Float[np.ndarray, " I"],
) -> float:
    """Return the worth of trying for ever."""
    endless = log_rejects == 0
    if (value[endless] != 0).any():
        return float(np.inf * np.sign(prior[endless] @ value[endless]))
    return float(prior[~endless] @ (value[~endless] / -np.expm1(log_rejects[~endless])))


def _first_negative(sign: Callable[[int], float]) -> int:
    """Return the first k >= 0 with a negative sign, of which there is one and after it no other."""
    high = 1
    while sign(high - 1) >= 0:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sign(middle - 1) >= 0 else (low, middle)
    return high - 1


def _validate_attempts(attempts: int) -> None:
    if attempts < 1:
        raise ScalingError(f"attempts must be at least 1, got {attempts}.")


_ROUNDING = 1e-9
