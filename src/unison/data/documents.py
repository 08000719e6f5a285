"""What is a document, and where does one end?"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

Boundary = Literal["auto", "file", "blank", "line"]

CHUNK_BYTES = 8192
_MIN_CHUNKS = 20  # a 5 % holdout of a small file is then one chunk
_BREAKS = ("\n\n", "\n\r\n", "\n", " ")  # best first
_BLANK_LINES = re.compile(r"\r?\n(?:[ \t]*\r?\n)+")
_LINE_END = re.compile(r"\r?\n")


class CorpusError(ValueError):
    """A corpus that cannot be read, divided or stored as asked."""


class Document(NamedTuple):
    """One text whose tokens are never mixed with another's.

    Attributes:
        name: Where it came from: a path, a path with a part number, or a key of a corpus.
        text: The text itself, exactly as stored.
    """

    name: str
    text: str


def _in_parts(document: Document, pattern: re.Pattern[str]) -> list[Document]:
    parts = [part for part in pattern.split(document.text) if part.strip()]
    return [Document(f"{document.name}#{i}", part) for i, part in enumerate(parts)]


def _by_file(documents: Sequence[Document]) -> list[Document]:
    return list(documents)


def _by_blank_line(documents: Sequence[Document]) -> list[Document]:
    return [part for document in documents for part in _in_parts(document, _BLANK_LINES)]


def _by_line(documents: Sequence[Document]) -> list[Document]:
    return [part for document in documents for part in _in_parts(document, _LINE_END)]


def _automatically(documents: Sequence[Document]) -> list[Document]:
    return chunk(documents[0]) if len(documents) == 1 else list(documents)


_DIVISIONS: Mapping[str, Callable[[Sequence[Document]], list[Document]]] = {
    "auto": _automatically,
    "file": _by_file,
    "blank": _by_blank_line,
    "line": _by_line,
}


def check_boundary(boundary: str) -> None:
    """Refuse a boundary that does not exist.

    Raises:
        CorpusError: The name is not one of ``Boundary``.
    """
    if boundary not in _DIVISIONS:
        raise CorpusError(
            f"split={boundary!r} is not a document boundary; choose one of {', '.join(_DIVISIONS)}."
        )


def divide(documents: Sequence[Document], boundary: Boundary) -> list[Document]:
    """Divide what was read into the documents that will be kept apart.

    Args:
        documents: As read, one per file, record or corpus key.
        boundary: ``file`` keeps them; ``blank`` ends a document at blank lines and ``line`` at each
            line end (both drop the separators and empty parts); ``auto`` keeps them, unless there
            is only one, which is cut into chunks so that a part of it can be held out.

    Returns:
        Documents in reading order.
    """
    check_boundary(boundary)
    return _DIVISIONS[boundary](documents)


def _end_of_chunk(text: str, start: int, size: int) -> int:
    if start + size >= len(text):
        return len(text)
    for mark in _BREAKS:
        at = text.rfind(mark, start + size // 2, start + size)
        if at >= 0:
            return at + len(mark)
    return start + size


def chunk(document: Document, max_bytes: int = CHUNK_BYTES) -> list[Document]:
    """Cut one text at paragraph ends into chunks of at most about ``max_bytes``.

    Where no paragraph ends in the second half of a chunk it is cut at a line end, else at a space,
    else between two characters. Small texts get smaller chunks, so that there are about twenty.
    The chunks concatenate to exactly the text.
    """
    text = document.text
    num_bytes = len(text.encode())
    target = min(max_bytes, num_bytes / _MIN_CHUNKS)
    size = max(1, int(target * len(text) / max(1, num_bytes)))  # in characters
    chunks: list[Document] = []
    start = 0
    while start < len(text):
        end = _end_of_chunk(text, start, size)
        chunks.append(Document(f"{document.name}#{len(chunks)}", text[start:end]))
        start = end
    return chunks
