"""Is a solver's configuration one that exists?"""

from collections.abc import Collection

from unison.suggest import nearest


def check_order(order: int, highest: int, field: str = "order") -> None:
    """Refuse a count, or an order that a solver does not have.

    Raises:
        ValueError: It is none of 1 to ``highest``.
    """
    if not 1 <= order <= highest:
        raise ValueError(f"{field} must be 1 to {highest}, got {order}.")


def check_choice(field: str, value: str, known: Collection[str]) -> None:
    """Refuse a word that a field does not know.

    Raises:
        ValueError: It is none of ``known``.
    """
    if value not in known:
        names = ", ".join(sorted(known))
        raise ValueError(f"{field} must be one of {names}, got {value!r}{nearest(value, known)}.")


def check_range(field: str, value: float | int, low: float | int, high: float | int) -> None:
    """Refuse a number outside ``low`` to ``high``, and NaN.

    Raises:
        ValueError: It is outside.
    """
    if not low <= value <= high:
        raise ValueError(f"{field} must be {low:g} to {high:g}, got {value}.")
