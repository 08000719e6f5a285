"""Which JSON value does a text say first?"""

import json
import math
from typing import Any, NamedTuple, NoReturn


class Said(NamedTuple):
    """A JSON value that was read.

    Attributes:
        value: What it is.
        text: How it is written here: keys sorted, ASCII. Equal texts are equal values, and 1, 1.0
            and true are three.
    """

    value: Any
    text: str


def first_object(text: str) -> Said:
    """Return the object that begins at the first brace; what stands around it does not matter.

    Raises:
        ValueError: There is no brace, or what it begins is not JSON.
    """
    at = text.find("{")
    if at < 0:
        raise ValueError("no JSON object")
    return _said(text, at)


def first_value(text: str) -> Said:
    """Return the value a text begins with, or else that of its first brace or bracket.

    Raises:
        ValueError: There is neither, or it is not JSON.
    """
    stripped = text.strip()
    try:
        return _said(stripped, 0)
    except ValueError:
        at = min((i for i in map(stripped.find, "{[") if i >= 0), default=0)
        return _said(stripped, at)


def written(value: Any) -> str:
    """Return a value as ``Said.text`` writes it."""
    return json.dumps(value, sort_keys=True)


def _said(text: str, at: int) -> Said:
    try:
        value, _ = _DECODER.raw_decode(text, at)
        return Said(value, written(value))
    except json.JSONDecodeError as error:
        raise ValueError(f"invalid JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("invalid JSON: nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("invalid JSON: an object has the same key twice")
    return made


def _whole(text: str) -> int:
    if len(text) > _LONGEST:
        raise ValueError(f"invalid JSON: a number of {len(text)} digits")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("invalid JSON: a number is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"invalid JSON: {name} is no number")


_LONGEST = 300  # digits of a whole number: more would not fit a float
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_real, parse_constant=_constant
)
