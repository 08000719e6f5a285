"""Which of many tries is given as the answer? Votes, verifiers and tests, over all subsets at once.

A curve over k is the mean over all k-subsets of the n tries made, so it is unbiased for k fresh
tries; ties are broken at random and that chance is summed out too.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binom, rankdata

from unison.evaluate.scaling.coverage import ScalingError, log_avoided
from unison.types import Estimate

MOST_VOTERS = 500  # exact votes of more would take seconds each, and underflow beyond 1000


def vote(
    reads: Sequence[str],
    scores: Float[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"] | None = None,
) -> float:
    """Return the expected score of the answer with most votes (Wang et al. 2022, arXiv 2203.11171).

    Of tied answers each is as likely as the other. Nothing read is no vote; where nobody votes, any
    try is as likely as the other.

    Args:
        reads: What was taken to be the answer of each try.
        scores: What each try is worth.
        weights: How much each vote counts, above 0; 1 by default.

    Raises:
        ScalingError: There are no tries, or reads, scores and weights differ in number.
    """
    voters = np.ones(len(scores)) if weights is None else weights
    _validate_tries(len(reads), len(scores), len(voters))
    if not (voters > 0).all():
        raise ScalingError(f"Weights of votes must be above 0, got {voters.min()}.")
    kinds, kind = np.unique(np.array(reads, dtype=object), return_inverse=True)
    votes = np.bincount(kind, voters) * (kinds != "")
    # Sums of the same weights in another order differ by rounding, which must not break a tie.
    winners = votes >= votes.max() * (1 - _ROUNDING)
    counts = np.bincount(kind)
    means = np.bincount(kind, scores) / counts
    return float(means[winners].mean()) if votes.max() > 0 else float(scores.mean())


def vote_curve(reads: Sequence[str], scores: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Return the expected score of the majority of 1, 2, ... n of the tries, exactly.

    For every number of votes t that may win, a polynomial in the size of the subset and the number
    of answers tied at t counts the subsets in which no answer has more: polynomial time, where
    enumerating the subsets would take 2^n.

    Raises:
        ScalingError: There are no tries, more than ``MOST_VOTERS``, or reads and scores differ in
            number.
    """
    _validate_tries(len(reads), len(scores), len(scores))
    if len(reads) > MOST_VOTERS:
        raise ScalingError(
            f"Exact votes are counted for up to {MOST_VOTERS} tries, got {len(reads)}; use "
            "vote_at_k, which draws subsets."
        )
    kinds, kind = np.unique(np.array(reads, dtype=object), return_inverse=True)
    counts = np.bincount(kind)
    means = np.bincount(kind, scores) / counts
    voting = kinds != ""
    able, worth = counts[voting], means[voting]
    tops = range(1, int(able.max(initial=0)) + 1)
    won = sum((_won_with(top, able, worth, len(reads)) for top in tops), np.zeros(1))
    silent = int(counts[~voting].sum())
    nobody = _kept(silent, len(reads)) * 0.5 ** (len(reads) - silent)
    silent_score = float(means[~voting].sum())  # of the one kind "", or of none
    subsets = binom.pmf(np.arange(len(reads) + 1), len(reads), 0.5)
    return ((won + nobody * silent_score) / subsets)[1:]


def vote_at_k(
    reads: Sequence[str],
    scores: Float[np.ndarray, " N"],
    k: int,
    *,
    rng: np.random.Generator,
    weights: Float[np.ndarray, " N"] | None = None,
    draws: int = 2000,
) -> Estimate:
    """Return the expected score of the vote of k tries, weighted if need be.

    All subsets are counted where there are at most ``draws`` of them; then the standard error is 0.
    Otherwise that many are drawn, and the error is theirs: of these n tries, not of other problems.

    Raises:
        ScalingError: k is below 1 or above the number of tries, or as for :func:`vote`.
    """
    if not 1 <= k <= len(reads):
        raise ScalingError(f"k must be in [1, {len(reads)}], the tries made, got {k}.")
    exact = math.comb(len(reads), k) <= draws
    subsets = (
        itertools.combinations(range(len(reads)), k)
        if exact
        else (rng.choice(len(reads), k, replace=False).tolist() for _ in range(draws))
    )
    found = np.array([_vote_of(list(some), reads, scores, weights) for some in subsets])
    stderr = 0.0 if exact else float(found.std(ddof=1)) / math.sqrt(draws)
    return Estimate(float(found.mean()), stderr, len(found), "score")


def best_curve(
    scores: Float[np.ndarray, " N"], judged: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Return the expected score of the best-judged of 1, 2, ... n of the tries, exactly.

    The best of a subset is among the r best-judged of all unless the subset avoids them.

    Args:
        scores: What each try is worth.
        judged: What a verifier, or the model itself, thinks of it; larger is better.

    Raises:
        ScalingError: There are no tries, the lists differ in length, or a judgement is nan.
    """
    _validate_tries(len(judged), len(scores), len(scores))
    if np.isnan(judged).any():
        raise ScalingError("Tries are chosen by what is judged of them; a judgement is nan.")
    k = np.arange(1, len(scores) + 1)
    _, level, size = np.unique(-judged, return_inverse=True, return_counts=True)
    means = np.bincount(level, scores) / size
    better = np.concatenate([[0], np.cumsum(size)])
    avoided = np.stack([np.exp(log_avoided(len(scores), int(above), k)) for above in better])
    return means @ -np.diff(avoided, axis=0)


def rank_average(judged: Float[np.ndarray, "V N"]) -> Float[np.ndarray, " N"]:
    """Return the mean rank of every try under several verifiers; larger is better.

    Ranks, because verifiers share no scale; tied tries share the mean of their ranks.
    """
    return rankdata(judged, axis=1).mean(0)


def votes_of_tests(passed: Bool[np.ndarray, "N T"]) -> Float[np.ndarray, " N"]:
    """Return how many tests each try passes: its votes (Ehrlich et al. 2025, arXiv 2501.14723).

    Judged so in :func:`best_curve`, ties count as their mean.
    """
    return passed.sum(1).astype(float)


def shortlist(passed: Bool[np.ndarray, "N T"], texts: Sequence[str], keep: int = 3) -> list[int]:
    """Return the tries most worth a closer look: most tests passed, then shorter; no text twice.

    Args:
        passed: Which try passes which test.
        texts: The tries.
        keep: How many at most.

    Raises:
        ScalingError: Tests and texts differ in number, or ``keep`` is below 1.
    """
    if keep < 1:
        raise ScalingError(f"keep must be at least 1, got {keep}.")
    _validate_tries(len(texts), len(passed), len(passed))
    votes = votes_of_tests(passed)
    order = sorted(range(len(texts)), key=lambda i: (-votes[i], len(texts[i]), i))
    first: dict[str, int] = {}
    for i in order:
        first.setdefault(texts[i], i)
    return list(first.values())[:keep]


def curve_table(
    problems: Sequence[np.ndarray], k: Int[np.ndarray, " K"]
) -> Float[np.ndarray, "P K"]:
    """Return what curves over 1, 2, ... say at some k, a row for every problem.

    Raises:
        ScalingError: Some curve does not reach that far.
    """
    fewest = min(map(len, problems))
    if k.max() > fewest:
        raise ScalingError(f"k must be at most {fewest}, the fewest tries, got {k.max()}.")
    return np.stack([curve[k - 1] for curve in problems])


def _vote_of(
    some: list[int],
    reads: Sequence[str],
    scores: Float[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"] | None,
) -> float:
    chosen = None if weights is None else weights[some]
    return vote([reads[i] for i in some], scores[some], chosen)


def _won_with(
    top: int, counts: Int[np.ndarray, " G"], means: Float[np.ndarray, " G"], total: int
) -> Float[np.ndarray, " M"]:
    """Return, by size of the subset, the expected score where ``top`` votes win.

    Every try is kept with probability 1/2, which turns counts of subsets into probabilities.
    ``ways[size, tied]`` is that of the answers seen so far to have no more than ``top`` votes and
    ``tied`` of them that many; ``worth`` is the same times the sum of the tied ones' scores.
    """
    able = counts >= top
    ways = np.zeros((total + 1, int(able.sum()) + 1))
    ways[:, 0] = _kept(total - int(counts[able].sum()), total)  # too few to win, or silent
    worth = np.zeros_like(ways)
    for count, mean in zip(counts[able], means[able], strict=True):
        votes = binom.pmf(np.arange(top + 1), count, 0.5)
        below, at_top = votes[:top], votes[top]
        tied = _shift(ways, top, 1) * at_top
        worth = _convolved(worth, below) + _shift(worth, top, 1) * at_top + mean * tied
        ways = _convolved(ways, below) + tied
    return worth[:, 1:] @ (1 / np.arange(1, ways.shape[1]))


def _kept(count: int, total: int) -> Float[np.ndarray, " M"]:
    return binom.pmf(np.arange(total + 1), count, 0.5)


def _convolved(
    grid: Float[np.ndarray, "M T"], votes: Float[np.ndarray, " U"]
) -> Float[np.ndarray, "M T"]:
    out = votes[0] * grid
    for more in range(1, len(votes)):
        out[more:] += votes[more] * grid[: len(grid) - more]
    return out


def _shift(grid: Float[np.ndarray, "M T"], down: int, right: int) -> Float[np.ndarray, "M T"]:
    out = np.zeros_like(grid)
    out[down:, right:] = grid[: len(grid) - down, : grid.shape[1] - right]
    return out


def _validate_tries(*lengths: int) -> None:
    if len(set(lengths)) > 1 or lengths[0] == 0:
        raise ScalingError(
            f"Every try needs an answer and a score, and there must be one at least; got lists of "
            f"lengths {list(lengths)}."
        )


_ROUNDING = 1e-12
