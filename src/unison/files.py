"""How is a file written so that a kill or a full disk never leaves half of one?"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

PARTIAL = ".partial"  # ends the name of everything that is not whole yet
_ASIDE = ".aside"  # ends the name of a folder that another is about to replace


class NotWrittenError(OSError):
    """A file or folder that could not be written, usually because the disk is full.

    Attributes:
        strerror: What the system said.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        reason = error.strerror or str(error)
        super().__init__(f"{path} could not be written ({reason}); nothing was overwritten.")
        self.strerror = reason


def write_atomically(path: Path, write: Callable[[Path], object], mode: int = 0o644) -> None:
    """Let ``write`` fill a file in a temporary folder, sync it, then rename it over ``path``.

    A folder, because some writers make temporary files of their own beside the one they fill;
    nobody else may look into it.

    Args:
        path: The file.
        write: Fills a file it is given.
        mode: Who may do what with it.

    Raises:
        NotWrittenError: ``path`` is as it was and the temporary folder is gone.
    """
    try:
        with tempfile.TemporaryDirectory(PARTIAL, f".{path.name}.", path.parent) as folder:
            temporary = Path(folder) / path.name
            write(temporary)
            sync(temporary)
            temporary.chmod(mode)
            temporary.replace(path)
    except OSError as error:
        raise NotWrittenError(path, error) from error
    sync(path.parent)


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a temporary folder beside ``path``, then rename it to ``path``.

    Raises:
        NotWrittenError: Nothing named ``path`` appears and the temporary folder is gone.
    """
    temporary = Path(tempfile.mkdtemp(PARTIAL, f".{path.name}.", path.parent))
    try:
        fill(temporary)
        sync(temporary)
        temporary.chmod(0o755)
        temporary.rename(path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise NotWrittenError(path, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(path.parent)


def replace_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Like ``write_folder``, over a folder that may exist: a kill leaves the old one or the new.

    POSIX cannot swap two folders in one step, so the old one steps aside for an instant; a reader
    in between finds none, never a mixture, and ``sweep`` brings the old one back after a kill.
    """
    aside = path.with_name(f".{path.name}{_ASIDE}")
    _bring_back(aside)
    fresh = path.with_name(f".{path.name}.fresh{PARTIAL}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        write_folder(fresh, fill)
        if path.exists():
            path.rename(aside)
        fresh.rename(path)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        _bring_back(aside)
        raise NotWrittenError(path, error) from error
    shutil.rmtree(aside, ignore_errors=True)
    sync(path.parent)


def sweep(folder: Path) -> None:
    """Clear away what a killed writer left in ``folder``; nothing else is touched."""
    for left in folder.glob(f".*{PARTIAL}"):
        shutil.rmtree(left)
    for aside in folder.glob(f".*{_ASIDE}"):
        _bring_back(aside)


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), mode)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: Path, content: Any, mode: int = 0o644) -> None:
    """Write one JSON document atomically, keys in their order, ending in a newline."""
    write_text(path, to_json(content, indent=2) + "\n", mode)


def to_json(content: Any, indent: int | None = None) -> str:
    """Return a JSON document; NaN and the infinities, which JSON does not have, become null."""
    return json.dumps(_finite(content), indent=indent, ensure_ascii=False, allow_nan=False)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically."""
    write_atomically(path, lambda temporary: put_tensors(temporary, tensors))


def put_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file in place: for use inside ``write_folder``.

    Raises:
        OSError: The disk is full or not writable.
    """
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def sync(path: Path) -> None:
    """Force a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def number(value: float | None) -> float:
    """Return a number read from JSON, where null stands for NaN."""
    return math.nan if value is None else value


def _bring_back(aside: Path) -> None:
    """Undo a replacement that was killed half way; after one that was not, delete the old one."""
    path = aside.with_name(aside.name.removeprefix(".").removesuffix(_ASIDE))
    if aside.exists() and not path.exists():
        aside.rename(path)
    shutil.rmtree(aside, ignore_errors=True)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content
