"""How many intervals does a budget of evaluations pay for?"""

from unison.decode.continuous.api import Solver


def intervals_within(solver: Solver, budget: int, final: int = 0) -> int:
    """Return the most intervals that cost at most ``budget`` evaluations.

    Args:
        solver: Who spends them.
        budget: Evaluations.
        final: What is kept back: 1 on a grid that ends at level 0.

    Raises:
        ValueError: Not even one interval can be paid.
    """
    left = budget - final
    paid = [n for n in range(1, left + 1) if solver.evaluations(n) <= left]
    if not paid:
        raise ValueError(
            f"{type(solver).__name__} needs {solver.evaluations(1) + final} evaluations for one "
            f"interval, the budget is {budget}."
        )
    return paid[-1]
