"""How is a file written so that a kill or a full disk never leaves half of one?"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, sync it, then rename it over ``path``.

    Raises:
        OSError: Writing failed; ``path`` is as it was and the temporary file is gone.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        sync(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a temporary folder beside ``path``, then rename it to ``path``.

    Raises:
        OSError: Writing failed; nothing named ``path`` appears and the temporary folder is gone.
    """
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        fill(temporary)
        temporary.chmod(0o755)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(path.parent)


def replace_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Like ``write_folder``, over a folder that may exist: a kill leaves the old one or the new.

    POSIX cannot swap two folders in one step, so the old one steps aside for an instant; a reader
    in between finds none, never a mixture.
    """
    aside = path.with_name(f".{path.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    fresh = path.with_name(f".{path.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    write_folder(fresh, fill)
    if path.exists():
        path.rename(aside)
    fresh.rename(path)
    shutil.rmtree(aside, ignore_errors=True)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: _put(temporary, text))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    write_atomically(path, lambda temporary: _put_bytes(temporary, content))


def write_json(path: Path, content: Any) -> None:
    """Write one JSON document atomically, keys in their order, ending in a newline."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary))


def sync(path: Path) -> None:
    """Force a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _put_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
