"""How much memory does a piece of work take? The highest mark while it ran."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

Of = Literal["device", "process", "process so far"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what proc(5) says resets the peak of the resident set
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

        Memory that was freed earlier and kept for reuse does not count on a CPU. Where the mark
        cannot be reset this is an upper limit.
        """
        return max(0, self.bytes - self.before)


@contextmanager
def watched(device: torch.device) -> Iterator[Peak]:
    """Watch memory while the body runs; watches of one device do not nest.

    Args:
        device: Where the work runs; of a CPU the memory of the process is watched.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        peak.of, peak.before = "device", torch.cuda.memory_allocated(device)
    else:
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
