"""Which limits does a law have? A closed form where there is one, else what enumeration gives."""

import numpy as np
from jaxtyping import Int

from unison.suites.limits.closed_forms import Certain, Limits, Permutation, Replacement
from unison.suites.limits.displacement import insertion, removal
from unison.suites.limits.listed import Listed, listed
from unison.suites.limits.posteriors import Enumerated, Shuffled
from unison.suites.task import ItemLaw


def limits_of(law: ItemLaw) -> Limits:
    """Return the limits of a law.

    Raises:
        TooLargeError: No closed form is known and there are too many answers to list.
    """
    if isinstance(law, Shuffled):
        return Permutation(law.length, law.changed)
    if not isinstance(law, Enumerated):
        return listed(law)
    closed = _closed(law.answers)
    count = len(law.answers)
    return closed or Listed(law.answers, np.full(count, 1 / count))


def _closed(answers: Int[np.ndarray, "A L"]) -> Limits | None:
    """Return a closed form for equally likely answers, where items are numbered as in the tasks."""
    count, length = answers.shape
    if count == 1:
        return Certain(length)
    given = np.arange(length + 1)
    new = length - 1  # what was put in has the number after all others
    forms = (
        (Replacement(length), [np.where(given == j, length, given)[:-1] for j in range(length)]),
        (insertion(length - 1), [np.insert(given[:new], j, new) for j in range(length)]),
        (removal(length + 1), [np.delete(given, j) for j in range(length + 1)]),
    )
    there = np.unique(answers, axis=0)
    for form, rows in forms:
        if np.array_equal(np.unique(rows, axis=0), there):
            return form
    return None
