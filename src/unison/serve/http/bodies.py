"""Is a body the JSON it says it is? Checked more strictly than parsers do."""

import json
import math
from collections import Counter
from typing import Any

from fastapi import HTTPException, Request

from unison.serve.http.errors import Refused

DEPTH = 64  # levels of lists and objects inside each other; far more than any request has
_SURROGATES = ("\\ud", "\\uD")


async def strict_json(request: Request) -> None:
    """Refuse a request whose body is not strict JSON; a dependency of every route with a body.

    Raises:
        HTTPException: Of status 415: it says it is something else.
        Refused: It is no UTF-8, no JSON, has a number beyond all bounds, a name twice, half a
            character, or too many levels.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(
            415, f"the body must be of the type application/json, got {kind or 'no type'!r}."
        )
    body = await request.body()
    if body:  # that there is none is told by who needs it
        parsed(body)


def parsed(body: bytes) -> Any:
    """Return the value of a JSON document.

    Raises:
        Refused: As for ``strict_json``.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(
            f"the body is not UTF-8: {error.reason} at byte {error.start}.", code="invalid_utf8"
        ) from None
    try:
        value = json.loads(
            text, parse_constant=_constant, parse_float=_finite, object_pairs_hook=_once
        )
    except RecursionError:
        raise _too_deep() from None
    except Refused:
        raise
    except ValueError as error:
        raise Refused(f"the body is not JSON: {error}.", code="invalid_json") from None
    if _deep(value):
        raise _too_deep()
    if any(half in text for half in _SURROGATES):
        _check_characters(value)
    return value


def _too_deep() -> Refused:
    return Refused(
        f"the body has more than {DEPTH} lists and objects inside each other.", code="too_deep"
    )


def _constant(name: str) -> Any:
    raise Refused(f"the body has {name}, which is no number of JSON.", code="invalid_json")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise Refused(
            f"the body has the number {digits[:32]}, beyond all bounds.", code="invalid_json"
        )
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name in counts if counts[name] > 1)
        raise Refused(f"the field {twice!r} is there twice.", twice, "duplicate_field")
    return value


def _deep(value: Any) -> bool:
    """Return whether more levels are inside each other than allowed."""
    level = [value]
    for _ in range(DEPTH + 1):
        inner = [one for one in level if isinstance(one, dict | list)]
        if not inner:
            return False
        level = [part for one in inner for part in (one.values() if isinstance(one, dict) else one)]
    return True


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(
            "the body has half of a character: one \\u escape of a pair without the other.",
            code="invalid_unicode",
        ) from None
