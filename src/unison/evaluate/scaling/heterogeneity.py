"""Would a verifier beat imitation here? How uneven right traces are, and how far luck reaches.

Setlur et al. 2025 (arXiv 2502.12118) argue that cloning right traces loses to learning from
verified rewards where right traces are of many kinds (*heterogeneity*) and where a good share of
them is much better than the mean (*anti-concentration*). Both are measured here from rollouts; what
follows for a training run is not claimed.

**Heterogeneity.** V(s) is the chance of success from a prefix, Q(s, a) that after one more step a.
Along a trace the values V(s_0), V(s_1), ..., reward form a martingale, so over *all* traces the sum
over steps of the variance of Q(s, a) in a is exactly the variance p (1 - p) of the reward. Over
*right* traces alone it is not: it is what a cloner must copy although each kind of step would do.

**Anti-concentration.** A policy within chi-squared distance kappa of the base gains at most
sqrt(kappa Var r) in mean reward (Cauchy and Schwarz). A prompt is anti-concentrated if the base
itself gets that far often: P(r >= E r + sqrt(kappa Var r)) >= ``least``. For rewards 0 and 1 at
rate p that probability is p where p <= 1 / (1 + kappa), and 0 above.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import betainc

from unison.evaluate.scaling.coverage import ScalingError, Tries
from unison.evaluate.scaling.difficulty import BetaDifficulty
from unison.types import Estimate


class Branches(NamedTuple):
    """What became of several next steps drawn at one prefix.

    Attributes:
        right: Right rollouts after each.
        tried: Rollouts after each.
    """

    right: Int[np.ndarray, " M"]
    tried: Int[np.ndarray, " M"]


def value_variance(branches: Branches) -> float:
    """Return the variance over next steps of the chance of success, without bias.

    The variance of the measured shares, less what the few rollouts behind each add to it; may be
    below 0.

    Raises:
        ScalingError: Fewer than two next steps, or fewer than two rollouts of one of them.
    """
    right, tried = branches
    if len(right) < 2 or len(right) != len(tried) or tried.min() < 2:
        raise ScalingError(
            "The variance of values needs at least 2 next steps with at least 2 rollouts each, got "
            f"{len(right)} steps with {tried.tolist()} rollouts."
        )
    share = right / tried
    return float(share.var(ddof=1) - (share * (1 - share) / (tried - 1)).mean())


def heterogeneity(prompts: Sequence[Sequence[Sequence[Branches]]]) -> Estimate:
    """Return the mean over prompts of the variance of values, summed along right traces.

    Args:
        prompts: Of every prompt its right traces, and of each the branches at its prefixes, the
            empty one first. Drawing among right traces is the caller's part.

    Raises:
        ScalingError: There is no prompt, or one without a trace; or as :func:`value_variance`.
    """
    if not prompts or not all(prompts):
        raise ScalingError("Heterogeneity needs at least one prompt, each with a right trace.")
    summed = [
        float(np.mean([sum(value_variance(step) for step in trace) for trace in traces]))
        for traces in prompts
    ]
    return _mean(np.array(summed), "variance of the reward")


def rate_variance(tries: Tries) -> Estimate:
    """Return the variance over problems of the solve rate, without bias; may be below 0.

    What coverage beyond pass@1 depends on first: pass@2 is 2 p - p^2 of the mean rate p, less this
    variance.

    Raises:
        ScalingError: There are fewer than three problems, or one was tried only once.
    """
    if len(tries) < 3 or tries.fewest < 2:
        raise ScalingError(
            "The variance of solve rates needs at least 3 problems with at least 2 tries each, got "
            f"{len(tries)} with {tries.fewest} and more."
        )
    share = tries.right / tries.tried
    noise = share * (1 - share) / (tries.tried - 1)
    value = share.var(ddof=1) - noise.mean()
    # Leaving one problem out, in closed form.
    n = len(tries)
    apart = (share - share.mean()) ** 2
    others_spread = (apart.sum() - apart * n / (n - 1)) / (n - 2)
    left_out = others_spread - (noise.sum() - noise) / (n - 1)
    stderr = math.sqrt((n - 1) * float(left_out.var()))
    return Estimate(float(value), stderr, n, "variance of the reward")


def anti_concentration(
    rewards: Float[np.ndarray, "P N"], kappa: float, least: float = 0.05
) -> Estimate:
    """Return the share of prompts on which rollouts often reach mean + sqrt(kappa variance).

    Args:
        rewards: Of n rollouts for every prompt.
        kappa: How far from the base policy, in chi-squared distance.
        least: How often is often.

    Raises:
        ScalingError: ``kappa`` is below 0 or ``least`` not in (0, 1].
    """
    _validate_anti(kappa, least)
    mean, spread = rewards.mean(1, keepdims=True), rewards.std(1, keepdims=True)
    # A reward that is the threshold reaches it, whatever the rounding of the mean.
    reached = rewards >= mean + math.sqrt(kappa) * spread - _ROUNDING
    often = reached.mean(1) >= least
    return _mean(often.astype(float), "share of prompts")


def anti_concentration_under(law: BetaDifficulty, kappa: float, least: float = 0.05) -> float:
    """Return that share for rewards 0 and 1 at rates of a fitted law, free of rollout noise.

    The chance that a rate lies between ``least`` and 1 / (1 + kappa).

    Raises:
        ScalingError: ``kappa`` is below 0 or ``least`` not in (0, 1].
    """
    _validate_anti(kappa, least)
    ends = betainc(law.alpha, law.beta, [least, 1 / (1 + kappa)])
    return (1 - law.never) * max(float(ends[1] - ends[0]), 0.0)


def _validate_anti(kappa: float, least: float) -> None:
    if kappa < 0 or not 0 < least <= 1:
        raise ScalingError(
            f"kappa must be at least 0 and least in (0, 1], got {kappa} and {least}."
        )


def _mean(values: Float[np.ndarray, " P"], unit: str) -> Estimate:
    n = len(values)
    stderr = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(values.mean()), stderr, n, unit)


_ROUNDING = 1e-12
