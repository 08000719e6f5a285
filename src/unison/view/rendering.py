"""How do traces become one page that opens anywhere? Data and script lie inside, nothing outside.

The page's content policy lets only its own style and script run, by their hashes, and nothing be
fetched. What models wrote is data, never markup.
"""

import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

from unison.evaluate import page as pages
from unison.trace import FORMAT, TraceError
from unison.view import packing
from unison.view.colours import colours
from unison.view.facts import facts

VERSION = 1
CELLS = 32_000_000  # candidates and actions a browser is asked to hold
_SCRIPTS = (
    "reading.js",
    "measures.js",
    "elements.js",
    "cells.js",
    "maps.js",
    "charts.js",
    "details.js",
    "searching.js",
    "panels.js",
    "playing.js",
    "main.js",
)  # each uses only those before it


def page(
    documents: Sequence[dict[str, Any]], title: str = "Traces", names: Sequence[str] = ()
) -> str:
    """Return traces as one HTML page: canvases step by step, side by side, maps and curves.

    Args:
        documents: Traces, as ``unison.trace.read`` returns them.
        title: Of the page.
        names: One for each trace; numbers and strategies by default.

    Raises:
        TraceError: A document is no trace, is damaged, or all are too much for a page.
        ValueError: There are no traces, or not as many names.
    """
    if not documents:
        raise ValueError("there is no trace to show; give at least one.")
    if names and len(names) != len(documents):
        raise ValueError(
            f"there are {len(documents)} traces and {len(names)} names; name each, or none."
        )
    data, columns = [], []
    for number, document in enumerate(documents, 1):
        name = names[number - 1] if names else f"trace {number}"
        told, rows = _trace(document, name)
        data.append({**told, "name": names[number - 1] if names else told["label"]})
        columns += [column for row in rows for column in row.columns]
    size = sum(map(len, columns))
    if size > CELLS:
        raise TraceError(
            f"the traces hold {size:,} numbers, and a page at most {CELLS:,}; show fewer traces, "
            "or fewer rows (generate --num)."
        )
    return _whole(_printable(title), data, packing.text_of(columns))


def _trace(document: dict[str, Any], name: str) -> tuple[dict[str, Any], list[packing.Packed]]:
    """Return what the page says about a trace, and its rows."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TraceError(f"{name} is no trace; generate --trace writes one.")
    try:
        rows = packing.packed(document)
        return facts(document, rows), rows
    except TraceError as error:
        raise TraceError(f"{name}: {error}") from None


def _whole(title: str, data: list[dict[str, Any]], packed: str) -> str:
    embedded = _embedded({"version": VERSION, "traces": data, "packed": packed})
    body = [
        '<p id="notice" role="status">Unpacking …</p>',
        f"<noscript><p>{escape(_NO_SCRIPT)}</p></noscript>",
        '<div id="view"></div>',
        f'<script type="application/json" id="data">{embedded}</script>',
    ]
    style = colours() + _file("style.css") + _file("view.css")
    script = "(()=>{'use strict';\n" + "".join(_file(name) for name in _SCRIPTS) + "})();"
    return pages.whole(title, [], body, style=style, script=script)


def _file(name: str) -> str:
    return (resources.files("unison.view") / name).read_text("utf-8")


def _embedded(content: Any) -> str:
    """Return JSON that cannot end the element around it: ASCII without a ``<``, ``>`` or ``&``."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _printable(text: str) -> str:
    """Return text that can be written as UTF-8, in one line."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


_NO_SCRIPT = "This page draws with JavaScript, which is off; unison replay shows traces without."
