"""How does a file appear whole or not at all, and how is a damaged one noticed?"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from unison import files
from unison.data.documents import CorpusError

CACHE_VARIABLE = "UNISON_CACHE"


def default_cache() -> Path:
    """Return ``$UNISON_CACHE``, or ``~/.cache/unison`` when it is unset or empty."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "unison"


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file of the cache atomically; its folder is made when missing.

    Raises:
        CorpusError: The folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, write)
    except OSError as error:
        raise CorpusError(
            f"{path} could not be written ({error.strerror}). Free the disk or choose another "
            f"place; the cache folder is set by {CACHE_VARIABLE}."
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    write_file(path, lambda temporary: temporary.write_bytes(content))


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as ``.npy`` atomically."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.lib.format.write_array(file, array, allow_pickle=False)

    write_file(path, write)


def open_array(path: Path) -> np.memmap:
    """Open a ``.npy`` file read-only, without loading it into memory."""
    return np.lib.format.open_memmap(path, mode="r")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
