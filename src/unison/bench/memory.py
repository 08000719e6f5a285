"""How much memory does a piece of work take? The highest mark while it ran."""

import ctypes
import re
import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

Of = Literal["device", "process", "process so far"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what proc(5) says resets the peak of the resident set
_GLIBC = "libc.so.6"
_KIB = 1024


@dataclass
class Peak:
    """What a watch saw; filled in when it ends.

    Attributes:
        bytes: The highest mark.
        before: Bytes held when the watch began.
        of: ``device``: tensors on the GPU while the watch lasted. ``process``: resident memory of
            this process, interpreter and libraries included, while it lasted. ``process so far``:
            the same since the process began, where the system cannot reset the mark.
    """

    bytes: int = 0
    before: int = 0
    of: Of = "process so far"

    @property
    def growth(self) -> int:
        """Bytes by which the work raised what was held when it began.

        Where the mark cannot be reset this is an upper limit.
        """
        return max(0, self.bytes - self.before)


class Alive:
    """Counts the bytes of tensors that are alive, told of each operation's operands and results.

    Unlike what a process holds this is the same at every run: no allocator, no library's buffers.
    """

    def __init__(self) -> None:
        self._before = self._made = self._most = 0
        self._known: set[int] = set()

    @property
    def peak(self) -> int:
        """The most bytes at once: what was there before, and what had been made and not freed."""
        return self._before + self._most

    def __call__(self, operands: Iterable[Tensor], results: Iterable[Tensor]) -> None:
        """Count what an operation read and what it made; views belong to what they look at."""
        self._before += sum(self._new(operands, made=False))
        self._made += sum(self._new(results, made=True))
        self._most = max(self._most, self._made)

    def _new(self, tensors: Iterable[Tensor], *, made: bool) -> Iterator[int]:
        """Yield the bytes of each storage that was not known."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            place, size = storage.data_ptr(), storage.nbytes()
            if place not in self._known:
                self._known.add(place)
                weakref.finalize(storage, self._freed, place, size if made else 0)
                yield size

    def _freed(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._made -= size


@contextmanager
def watched(device: torch.device) -> Iterator[Peak]:
    """Watch memory while the body runs; watches of one device do not nest.

    Memory that was freed before and kept for reuse is first given back where the C library can do
    so (glibc), lest the work hide in it.

    Args:
        device: Where the work runs; of a CPU the memory of the process is watched.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        peak.of, peak.before = "device", torch.cuda.memory_allocated(device)
    else:
        _give_back()
        peak.of = "process" if _reset() else "process so far"
        peak.before = resident()
    try:
        yield peak
    finally:
        on_device = device.type == "cuda"
        peak.bytes = torch.cuda.max_memory_allocated(device) if on_device else _high_mark()


def resident() -> int:
    """Return the bytes this process holds in memory now, or its highest mark if not told."""
    return _status("VmRSS") or _largest()


def _give_back() -> None:
    """Return freed memory to the system."""
    try:
        trim = ctypes.CDLL(_GLIBC).malloc_trim
    except (OSError, AttributeError):  # another C library
        return
    trim(0)


def _reset() -> bool:
    """Set the peak of the resident set to what is resident; return whether that worked."""
    if _status("VmHWM") is None:
        return False
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:  # an older kernel, or a container that keeps its processes from it
        return False
    return True


def _high_mark() -> int:
    return _status("VmHWM") or _largest()


def _status(name: str) -> int | None:
    """Return a line of /proc/self/status in bytes; ``None`` where there is no such line."""
    if not _STATUS.is_file():
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    return None if found is None else int(found[1]) * _KIB


def _largest() -> int:
    """Return the largest resident set of the process so far, as POSIX tells it."""
    import resource  # absent on Windows, where nothing else here needs it

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * _KIB
