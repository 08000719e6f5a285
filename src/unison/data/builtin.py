"""Which texts does every Python installation already carry?

``python-docs`` is the language reference behind ``help()``, about half a megabyte of prose and
examples; ``python-stdlib`` is the source of the standard library, some ten megabytes of code.
Both belong to the running interpreter, so their bytes depend on its version and nothing else.
"""

import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

from unison.data.documents import CorpusError, Document

_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
)
_BUILD_SETTINGS = "_sysconfigdata"  # paths and flags of this machine, not library code


class StandardLibrary(NamedTuple):
    """The library's source files.

    Attributes:
        documents: One per readable file, sorted by path.
        num_skipped: Files left out because they are not UTF-8.
    """

    documents: list[Document]
    num_skipped: int


def python_docs() -> list[Document]:
    """Return the topics of ``help()``, one document each, sorted by key."""
    return [Document(f"python-docs/{key}", topics[key]) for key in sorted(topics)]


def _library_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*.py")):
        folders = path.relative_to(root).parts[:-1]
        wanted = _SKIPPED_FOLDERS.isdisjoint(folders)
        if wanted and not path.name.startswith(_BUILD_SETTINGS):
            yield path


def standard_library() -> StandardLibrary:
    """Return the interpreter's own Python sources, without tests and installed packages."""
    root = Path(sysconfig.get_path("stdlib"))
    documents: list[Document] = []
    num_skipped = 0
    for path in _library_files(root):
        name = f"python-stdlib/{path.relative_to(root).as_posix()}"
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            num_skipped += 1
            continue
        if text.strip():
            documents.append(Document(name, text))
    if not documents:
        raise CorpusError(
            f"python-stdlib: no source files under {root}; this Python was installed without "
            "them. Use python-docs, or name a folder of your own."
        )
    return StandardLibrary(documents, num_skipped)


def python_stdlib() -> list[Document]:
    """Return the documents of ``standard_library``."""
    return standard_library().documents


BUILTIN: Mapping[str, Callable[[], list[Document]]] = {
    "python-docs": python_docs,
    "python-stdlib": python_stdlib,
}
