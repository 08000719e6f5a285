"""How do samples read, as numbers?

All logarithms are natural. The samples are treated as independent, and each standard error is over
samples: of the mean, by the jackknife for ``distinct_n``, by the delta method for the perplexity.
One sample has no spread to measure: its standard error is nan. A perplexity of samples is low for
one phrase said forever, so this room offers it only beside the diversity of the same samples.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from unison.evaluate.judge import Judge
from unison.evaluate.panel import Panel
from unison.types import Estimate

Rows = Int[Tensor, "N L"] | Sequence[Sequence[int]]

_REPEATED = 4


def unigram_entropy(rows: Rows) -> Estimate:
    """Return the mean over samples of the entropy of the token ids *within* one sample.

    The convention of the field (Zheng et al. 2024, arXiv 2409.02908): bounded by the log
    of the sample's length, so only samples of one length are compared. A sample without tokens
    counts as 0.

    Raises:
        ValueError: There are no samples.
    """
    flat = _flatten(rows)
    pairs, counts = np.unique(_codes(flat.owner, flat.tokens), return_counts=True)
    owner = _owners(pairs, flat.tokens)
    share = counts / flat.lengths[owner]
    entropy = np.bincount(owner, weights=-share * np.log(share), minlength=len(flat.lengths))
    return _mean(entropy.astype(float), "nats/token")


def distinct_n(rows: Rows, n: int) -> Estimate:
    """Return the distinct n-grams of all samples together over their number (Li et al. 2016).

    arXiv 1510.03055. It falls with the size of the set: compare sets of one size and length. The
    standard error is the jackknife's, leaving out one sample at a time; samples shorter than ``n``
    hold no n-gram and are not counted. nan where no sample holds one.

    Raises:
        ValueError: There are no samples, or ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"An n-gram has at least 1 token, got n = {n}.")
    flat = _flatten(rows)
    owner, grams = _grams(flat, n)
    totals = np.bincount(owner, minlength=len(flat.lengths))
    pairs = np.unique(_codes(owner, grams))
    holders = np.bincount(pairs % _width(grams), minlength=_width(grams))
    alone = holders[pairs % _width(grams)] == 1
    only_here = np.bincount(_owners(pairs, grams)[alone], minlength=len(flat.lengths))

    kinds, total, used = int((holders > 0).sum()), int(totals.sum()), totals > 0
    n_used = int(used.sum())
    if n_used == 0:
        return Estimate(math.nan, math.nan, 0, "share")
    if n_used == 1:
        return Estimate(kinds / total, math.nan, 1, "share")
    left_out = (kinds - only_here[used]) / (total - totals[used])
    stderr = math.sqrt((n_used - 1) * float(left_out.var()))
    return Estimate(kinds / total, stderr, n_used, "share")


def self_repetition(rows: Rows) -> Estimate:
    """Return the mean share of a sample's 4-grams that occurred earlier in the same sample.

    Samples of fewer than four tokens hold no 4-gram and are left out; nan where none is left.

    Raises:
        ValueError: There are no samples.
    """
    flat = _flatten(rows)
    owner, grams = _grams(flat, _REPEATED)
    totals = np.bincount(owner, minlength=len(flat.lengths))
    kinds = np.bincount(
        _owners(np.unique(_codes(owner, grams)), grams), minlength=len(flat.lengths)
    )
    used = totals > 0
    return _mean(1 - kinds[used] / totals[used], "share")


def sample_metrics(
    rows: Rows, texts: Sequence[str], judge: Judge, panel: Panel | None = None
) -> dict[str, Estimate]:
    """Return the perplexity of samples under a judge *and* their diversity, never one alone.

    ``gen_ppl`` is exp(nats of all texts / judge tokens of all texts): corpus level, so a long
    sample weighs more than a short one. It depends on the judge and its tokens; its unit names the
    judge, and perplexities of two judges are never compared.

    Args:
        rows: Token ids of the samples.
        texts: The same samples, decoded; what the judge reads.
        judge: Who reads them.
        panel: What else is measured; nothing if ``None``.

    Returns:
        ``gen_ppl``, ``entropy``, ``distinct_1``, ``distinct_2``, ``distinct_3``, ``repetition``,
        and those of the panel.

    Raises:
        ValueError: There are no samples, rows and texts differ in number, or the judge found no
            token to score.
    """
    if len(rows) != len(texts):
        raise ValueError(f"Each row needs its text: there are {len(rows)} and {len(texts)}.")
    diversity = {
        "entropy": unigram_entropy(rows),
        **{f"distinct_{n}": distinct_n(rows, n) for n in (1, 2, 3)},
        "repetition": self_repetition(rows),
    }
    further = {} if panel is None else panel.measure(texts)
    return {"gen_ppl": _gen_ppl(texts, judge), **diversity, **further}


def _gen_ppl(texts: Sequence[str], judge: Judge) -> Estimate:
    pairs = np.array(judge.nats(texts), dtype=np.float64)
    nats, counts = pairs[:, 0], pairs[:, 1]
    total = counts.sum()
    if total == 0:
        raise ValueError(f"The judge {judge.name} found no token to score: all texts are empty.")
    mean = nats.sum() / total
    ppl = math.exp(mean)
    # The mean is a ratio of two random sums; its error is that of the residuals about the ratio.
    residuals = nats - mean * counts
    n = len(texts)
    spread = math.sqrt(n / (n - 1) * float((residuals**2).sum())) if n > 1 else math.nan
    return Estimate(ppl, ppl * spread / total, n, f"perplexity ({judge.name})")


class _Flat(NamedTuple):
    tokens: Int[np.ndarray, " P"]
    owner: Int[np.ndarray, " P"]
    lengths: Int[np.ndarray, " N"]


def _flatten(rows: Rows) -> _Flat:
    """Put all samples end to end; token ids become ranks, so that codes of pairs stay small."""
    lists = rows.tolist() if isinstance(rows, Tensor) else rows
    if len(lists) == 0:
        raise ValueError("There are no samples to measure.")
    lengths = np.array([len(row) for row in lists])
    owner = np.repeat(np.arange(len(lists)), lengths)
    ids = np.array([token for row in lists for token in row], dtype=np.int64)
    return _Flat(np.unique(ids, return_inverse=True)[1], owner, lengths)


def _grams(flat: _Flat, n: int) -> tuple[Int[np.ndarray, " G"], Int[np.ndarray, " G"]]:
    """Return the sample and the rank of every n-gram; none crosses from one sample to the next."""
    grams, owner = flat.tokens, flat.owner
    for extra in range(1, n):
        longer = grams[:-1] * _width(flat.tokens) + flat.tokens[extra:]
        grams = np.unique(longer, return_inverse=True)[1]
    inside = owner[: len(grams)] == owner[len(owner) - len(grams) :]
    return owner[: len(grams)][inside], grams[inside]


def _width(values: Int[np.ndarray, " P"]) -> int:
    return int(values.max(initial=0)) + 1


def _codes(owner: Int[np.ndarray, " P"], values: Int[np.ndarray, " P"]) -> Int[np.ndarray, " P"]:
    return owner * _width(values) + values


def _owners(codes: Int[np.ndarray, " P"], values: Int[np.ndarray, " Q"]) -> Int[np.ndarray, " P"]:
    return codes // _width(values)


def _mean(values: Float[np.ndarray, " N"], unit: str) -> Estimate:
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, 0, unit)
    stderr = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(values.mean()), stderr, n, unit)
