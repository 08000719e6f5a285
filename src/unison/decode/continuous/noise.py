"""Which noise does a step of a stochastic solver add? A hash of row seed, step and site."""

from unison.prob import brownian, rng
from unison.prob.rng import Key
from unison.types import Event


def noise_like(x: Event, key: Key, site: int) -> Event:
    """Return standard normals of the shape and type of ``x``; a row's depend on its seed alone.

    Raises:
        ValueError: There is not one seed for each row.
    """
    _check_rows(x, key)
    return rng.normal(key, site, x[0].numel()).view_as(x).to(x)


def path_like(x: Event, key: Key, site: int, clock: tuple[float, float]) -> Event:
    """Return the increment between two times of one Brownian path for each element of ``x``.

    Raises:
        ValueError: There is not one seed for each row, or the times do not rise.
    """
    _check_rows(x, key)
    return brownian.increment(key, site, x[0].numel(), *clock).view_as(x).to(x)


def _check_rows(x: Event, key: Key) -> None:
    if len(key.seed) != len(x):
        raise ValueError(
            f"a stochastic solver needs one seed for each of the {len(x)} rows, got "
            f"{len(key.seed)}; make them with unison.prob.rng.rows."
        )
