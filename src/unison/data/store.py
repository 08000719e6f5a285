"""How does a file appear whole or not at all, and how is a damaged one noticed?"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from unison.data.documents import CorpusError

CACHE_VARIABLE = "UNISON_CACHE"


def default_cache() -> Path:
    """Return ``$UNISON_CACHE``, or ``~/.cache/unison`` when it is unset or empty."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "unison"


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file through a temporary neighbour: write, fsync, rename.

    Readers, and other processes writing the same file, see the old content or the new, never a
    part of either.

    Args:
        path: Where the file belongs; its folder is made when missing.
        write: Writes the content to an open binary file.

    Raises:
        CorpusError: The folder cannot be written or the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CorpusError(
            f"{path} could not be written ({error.strerror}). Free the disk or choose another "
            f"place; the cache folder is set by {CACHE_VARIABLE}."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""

    def write(file: BinaryIO) -> None:
        file.write(content)

    write_atomically(path, write)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as ``.npy`` atomically."""

    def write(file: BinaryIO) -> None:
        np.lib.format.write_array(file, array, allow_pickle=False)

    write_atomically(path, write)


def open_array(path: Path) -> np.memmap:
    """Open a ``.npy`` file read-only, without loading it into memory."""
    return np.lib.format.open_memmap(path, mode="r")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
