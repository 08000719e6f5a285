"""How does a trace leave the page? As the viewer's one file, made of what the page itself was told.

The documents come back from the browser, compressed, and are believed no more than any file.
"""

import json
import zlib
from typing import Any

from unison import view
from unison.serve.http.errors import Refused

_MOST = 32_000_000  # bytes of documents once they are unpacked
_GZIP = 31  # zlib's number for a gzip frame of any window
_TRACES = 2


def page(body: bytes) -> str:
    """Return the traces of a compressed request as one HTML page.

    Raises:
        Refused: They are too large, or no traces.
    """
    asked = _read(_unpacked(body))
    documents = _list(asked, "documents", dict)
    names = _list(asked, "names", str)
    if len(names) != len(documents):
        raise Refused(f"there are {len(documents)} traces and {len(names)} names.", "names")
    try:
        return view.page(documents, "unison playground", names)
    except ValueError as error:
        raise Refused(f"the traces cannot be shown: {error}", "documents") from None


def _list(asked: dict[str, Any], field: str, kind: type) -> list[Any]:
    values = asked.get(field)
    if not isinstance(values, list) or not 1 <= len(values) <= _TRACES:
        raise Refused(f"{field} must be a list of 1 to {_TRACES}.", field)
    if not all(isinstance(value, kind) for value in values):
        raise Refused(f"{field} must hold values of type {kind.__name__} only.", field)
    return values


def _unpacked(body: bytes) -> bytes:
    unpacking = zlib.decompressobj(_GZIP)
    try:
        plain = unpacking.decompress(body, _MOST)
    except zlib.error:
        raise Refused("the body is no gzip.") from None
    if unpacking.unconsumed_tail:
        raise Refused(f"the traces take more than {_MOST} bytes.", "documents")
    if not unpacking.eof:
        raise Refused("the body ends too soon.")
    return plain


def _read(plain: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(plain)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the body is no JSON: {error}.") from None
    if not isinstance(asked, dict):
        raise Refused("the body must be an object of documents and names.")
    return asked
