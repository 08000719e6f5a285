"""Which loss belongs to which complexity, and which networks does no cheaper one beat?"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import isotonic_regression

Values = Float[np.ndarray, " N"]


def fitted(complexity: Values, loss: Values, weights: Values) -> Values:
    """Return the curve of losses over complexities: never rising, nearest in squares.

    What more operations can do at best never gets worse, so the fit is the isotonic regression
    (Barlow et al., 1972), with no form to choose. Networks of equal complexity get one value;
    between those whose loss is known the curve is straight.

    Args:
        complexity: Of each network, above 0.
        loss: Of each.
        weights: How well each loss is known; 0 for not at all.
    """
    costs, where = np.unique(complexity, return_inverse=True)
    known = np.bincount(where, weights)
    means = np.bincount(where, weights * loss) / np.where(known > 0, known, 1)
    seen = known > 0
    if not seen.any():
        return np.zeros_like(loss)
    fit = isotonic_regression(means[seen], weights=known[seen], increasing=False).x
    return np.interp(costs, costs[seen], fit)[where]


def front(complexity: Values, loss: Values) -> Bool[np.ndarray, " N"]:
    """Return which networks are on the Pareto front: none is at most as complex and better.

    Of equals, in both, all are; NaN is never.
    """
    no_worse = (complexity[:, None] <= complexity) & (loss[:, None] <= loss)
    better = (complexity[:, None] < complexity) | (loss[:, None] < loss)
    return ~(no_worse & better).any(0) & ~np.isnan(loss)
