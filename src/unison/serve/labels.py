"""Whose labels does an answer carry? Those of the documents it could not have done without.

Documents of a request carry labels: secrets, sources, owners. An answer to all of them must carry
all labels: the conservative rule. The permissive one (Siddiqui et al., 2024, arXiv:2410.03055)
leaves a label out where the answer would have been written nearly as likely without every document
that has it. Labels are sets, joined by union, ordered by inclusion. For a label set l let D(l) be
the documents all of whose labels are in l; the answer carries the l found here, where

    log p(answer | all documents) - log p(answer | D(l)) < tolerance,

and no label of it could be left out alone. So whoever sees only documents that l may speak of would
have written this answer with a probability of at least exp(-tolerance) times that of who sees all:
the answer raises the odds that the others were there by a factor of exp(tolerance) at most. It says
nothing of other answers, of what the choice of labels itself gives away, nor of documents that
made the answer less likely.

The idea is the paper's; search and statistics are our own: the search begins at all labels and
drops them one by one, the least needed first, and where a probability has an error, a label goes
only if the whole interval is below the tolerance.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy import stats

from unison.evaluate.estimators import Estimator
from unison.evaluate.log_likelihood import Likelihood, log_likelihood
from unison.language_model import LanguageModel
from unison.types import Estimate

Labels = frozenset[str]
Compose = Callable[[Sequence[str], str], str]
_WRONG = 0.05  # of all intervals together


@dataclass(frozen=True)
class Document:
    """A text with the labels that whatever depends on it must carry.

    Attributes:
        id: Its name in the report.
        text: Its text.
        labels: Its labels; none for what everybody may know.
    """

    id: str
    text: str
    labels: Labels = frozenset()


class Influence(NamedTuple):
    """How much an answer owes to something.

    Attributes:
        nats: log p(answer | all) - log p(answer | without it), with its standard error.
        low: Lower end of the interval.
        high: Upper end; equal where exact.
        bound: Whether lower bounds of the two log-likelihoods are compared.
    """

    nats: Estimate
    low: float
    high: float
    bound: bool


class Labelled(NamedTuple):
    """The labels of an answer.

    Attributes:
        labels: It carries these.
        all_labels: The conservative ones: of all documents.
        influences: What it owes to each document alone, by id.
        kept: Ids of the documents that it may depend on: those whose labels it carries.
        loss: What it owes to all others together; below the tolerance.
        evaluations: Network rows evaluated.
    """

    labels: Labels
    all_labels: Labels
    influences: dict[str, Influence]
    kept: tuple[str, ...]
    loss: Influence
    evaluations: int


def composed(documents: Sequence[str], question: str) -> str:
    """Return what a model reads: the documents, a blank line after each, then the question."""
    return "".join(f"{text}\n\n" for text in documents) + question


def influence(  # noqa: PLR0913  # three of them as log_likelihood takes them
    model: LanguageModel,
    documents: Sequence[Document],
    question: str,
    answer: str,
    tolerance: float,
    *,
    compose: Compose = composed,
    method: str | Estimator = "auto",
    draws: int = 32,
    seed: int = 0,
) -> Labelled:
    """Return the labels that an answer must carry, and what it owes to each document.

    Intervals are of 95 % for all comparisons together (Bonferroni), by Student's law; where the
    model's likelihood is exact they are points. Documents that only together make an answer likely
    are dropped together or not at all: each label is tried with all others that were dropped.

    Args:
        model: Is asked how likely the answer is; it need not have written it.
        documents: With their labels.
        question: What stands after them, without label.
        answer: What was written.
        tolerance: Nats, above 0, by which leaving documents out may make the answer less likely.
        compose: From texts of documents and the question to what stands before the answer.
        method: As ``log_likelihood`` takes it.
        draws: Network rows evaluated for each comparison, where it is not exact with fewer.
        seed: Names the noise.

    Raises:
        ValueError: The tolerance is not above 0, two documents have one id, or the answer is empty
            or does not fit the model.
    """
    _check(documents, tolerance)
    every = frozenset(label for document in documents for label in document.labels)
    scores: dict[tuple[str, ...], Likelihood] = {}
    comparisons = len(documents) + len(every) * (len(every) + 1) // 2

    def score(kept: Sequence[Document]) -> Likelihood:
        ids = tuple(document.id for document in kept)
        if ids not in scores:
            context = compose([document.text for document in kept], question)
            scores[ids] = log_likelihood(
                model, [answer], context, method=method, draws=draws, seed=seed
            )[0]
        return scores[ids]

    def owed(kept: Sequence[Document]) -> Influence:
        return _difference(score(documents), score(kept), comparisons)

    alone = {one.id: owed([other for other in documents if other is not one]) for one in documents}
    labels = _needed(every, lambda some: owed(_within(documents, some)), tolerance)
    kept = _within(documents, labels)
    spent = sum(score.evaluations for score in scores.values())
    return Labelled(labels, every, alone, tuple(each.id for each in kept), owed(kept), spent)


def _check(documents: Sequence[Document], tolerance: float) -> None:
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be a positive number of nats, got {tolerance}.")
    ids = [document.id for document in documents]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ValueError(f"two documents have the id {twice!r}; give each its own.")


def _within(documents: Iterable[Document], labels: Labels) -> list[Document]:
    """Return the documents that something with these labels may depend on."""
    return [document for document in documents if document.labels <= labels]


def _needed(every: Labels, owed: Callable[[Labels], Influence], tolerance: float) -> Labels:
    """Return labels of which none can be left out alone.

    What stays when it is tried may go once others are gone, where a document has made the answer
    less likely: the rest is tried again after each that goes.
    """
    labels = every
    while True:
        tried = {label: owed(labels - {label}) for label in sorted(labels)}
        able = [label for label in tried if tried[label].high < tolerance]
        if not able:
            return labels
        labels = labels - {min(able, key=lambda label: tried[label].high)}


def _difference(whole: Likelihood, part: Likelihood, comparisons: int) -> Influence:
    """Return how much less likely a part makes the answer.

    The two scores see independent noise, so their variances are added.
    """
    if part is whole:
        return Influence(Estimate(0.0, 0.0, 1, "nats"), 0.0, 0.0, whole.bound)
    value = whole.log_p.value - part.log_p.value
    stderr = math.hypot(whole.log_p.stderr, part.log_p.stderr)
    drawn = [score.log_p.n for score in (whole, part) if score.log_p.n > 1]
    count = min(drawn, default=1)
    reach = stderr * _quantile(count, comparisons) if count > 1 else 0.0
    estimate = Estimate(value, stderr, count, "nats")
    return Influence(estimate, value - reach, value + reach, whole.bound or part.bound)


def _quantile(count: int, comparisons: int) -> float:
    return float(stats.t.ppf(1 - _WRONG / 2 / comparisons, count - 1))
