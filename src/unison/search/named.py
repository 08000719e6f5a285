"""Which search did someone write down? ``best_of:n=8`` and its like."""

from dataclasses import fields
from typing import Any

from unison.search.api import Search
from unison.search.best_of import BestOf
from unison.search.particles import Particles
from unison.search.paths import Paths
from unison.search.svdd import SVDD
from unison.search.value import Guessed
from unison.search.zero_order import ZeroOrder
from unison.suggest import nearest

SEARCHES: dict[str, type[Search]] = {
    "best_of": BestOf,
    "particles": Particles,
    "paths": Paths,
    "svdd": SVDD,
    "zero_order": ZeroOrder,
}


def search_named(said: str) -> Search:
    """Return the search of a name and its settings, such as ``svdd:candidates=4,draws=2``.

    ``draws`` is how many guesses a value is made of, where the search has one.

    Raises:
        ValueError: The search or a setting is unknown, or the setting refused.
    """
    name, _, rest = said.partition(":")
    if name not in SEARCHES:
        raise ValueError(
            f"unknown search {name!r}{nearest(name, SEARCHES)}; known: {', '.join(SEARCHES)}."
        )
    kind = SEARCHES[name]
    known = _settings(kind)
    changes: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        setting, _, value = (piece.strip() for piece in part.partition("="))
        if setting not in known:
            raise ValueError(
                f"{name} has no setting {setting!r}{nearest(setting, known)}; it has "
                f"{', '.join(known)}. Settings are written {name}:name=value,name=value."
            )
        number = _number(setting, value, known[setting])
        changes |= {"value": Guessed(int(number))} if setting == "draws" else {setting: number}
    return kind(**changes)


def _settings(kind: type[Search]) -> dict[str, type]:
    """Return the settings that are numbers, with their type; ``draws`` stands for the value."""
    named = {field.name: field for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    known = {name: type(field.default) for name, field in named.items() if name != "value"}
    return known | ({"draws": int} if "value" in named else {})


def _number(name: str, value: str, kind: type) -> int | float:
    try:
        return kind(value)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} must be {what}, got {value!r}.") from None
