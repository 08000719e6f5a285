"""How is code that a model wrote run without harm? In a process that may do next to nothing."""

import contextlib
import marshal
import os
import secrets
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from unison.suites.task import SuiteError

_CHILD = Path(__file__).with_name("sandbox_child.py")
_CHUNK = 1 << 16
_MESSAGES = 1 << 14  # bytes the child may say about a run; it needs a few hundred
_GLANCE = 0.05  # seconds between looks at a process that prints nothing
_MOSTLY = 0.5  # the kernel kills by a clock of ticks, coarser than the one it reports by

Status = Literal["passed", "failed", "timeout", "memory", "crashed"]


class Outcome(NamedTuple):
    """How a program ended.

    Attributes:
        status: ``passed`` only if it ran to its last line.
        detail: What went wrong, in one line: the exception and its line, the limit, the signal.
        output: What it printed, up to the limit.
    """

    status: Status
    detail: str
    output: str = ""


class _Heard(NamedTuple):
    messages: list[str]
    output: bytes
    cut: Literal["", "time", "output"]  # why it was ended from outside


@dataclass(frozen=True)
class Sandbox:
    """Runs Python programs one by one, each in a fresh interpreter.

    A guard against accidents and the ordinary mischief of generated code, not a jail: an attacker
    who knows CPython or the kernel well will find a way out. Where that matters, run the whole
    bench in a virtual machine. What holds: an empty environment, a temporary working folder that
    is gone afterwards, the standard library alone, the limits below, and two walls behind each
    other. The outer wall is the kernel's (Linux, where users may have namespaces): no network, no
    processes that outlive the program, no file that can be changed. The inner wall is an audit hook
    of the interpreter that refuses network, processes, foreign functions and writing outside the
    folder; elsewhere it stands alone. ``barriers`` says what holds on this machine. Files can be
    read, but nothing can carry them out except the answer's grade.

    Hashes are not salted, so that programs which print sets behave alike in every run.

    Attributes:
        cpu_seconds: Of computing; whole seconds, whatever else the machine does meanwhile.
        seconds: By the clock, for programs that wait.
        memory: Bytes of address space.
        output: Bytes that may be printed; a program that prints more is ended.
        file_bytes: Of a file and, inside namespaces, of all files together.
        processes: Processes and threads, where the user is not root.
        namespaces: Use the outer wall where it can be had.
    """

    cpu_seconds: int = 5
    seconds: float = 20.0
    memory: int = 1 << 29
    output: int = 1 << 16
    file_bytes: int = 1 << 24
    processes: int = 16
    namespaces: bool = True

    def __post_init__(self) -> None:
        least = {"cpu_seconds": 1, "memory": 1 << 26, "output": 0, "file_bytes": 0, "processes": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}.")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds must be positive and finite, got {self.seconds}.")

    def run(self, source: str, stdin: str = "") -> Outcome:
        """Run a program to its end; whatever it does, this returns.

        Raises:
            SuiteError: No sandbox can be started on this machine.
        """
        nonce = secrets.token_hex(16)
        return self._outcome(nonce, self._heard(nonce, source, stdin))

    def barriers(self) -> tuple[str, ...]:
        """Return what holds programs back on this machine, by name.

        Raises:
            SuiteError: No sandbox can be started on this machine.
        """
        messages = self._heard("none", "", "").messages
        return tuple(text.removeprefix("barrier ") for text in messages if "barrier " in text)

    def _heard(self, nonce: str, source: str, stdin: str) -> _Heard:
        """Start the child, hand it the program, listen until it ends, and clear up."""
        if os.name != "posix":
            raise SuiteError("code can only be executed on Linux and macOS; this is Windows.")
        request = {"nonce": nonce, "source": source, "stdin": stdin, "limits": asdict(self)}
        with tempfile.TemporaryDirectory(prefix="unison-") as folder:
            end, result = os.pipe()
            try:
                process = _started(folder, result)
            finally:
                os.close(result)
            try:
                heard = self._listen(process, end, marshal.dumps(request))
            finally:
                _end(process, end)
                os.close(end)
        if "started" not in heard.messages and not heard.cut:
            said = heard.output.decode(errors="replace").strip()[-300:]
            raise SuiteError(f"the sandbox could not be started with {sys.executable}: {said}")
        return heard

    def _listen(self, process: subprocess.Popen[bytes], end: int, request: bytes) -> _Heard:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request)
            process.stdin.close()
        except BrokenPipeError:  # it died at once; what it said is read below
            pass
        deadline = time.monotonic() + self.seconds
        read: dict[int, bytearray] = {end: bytearray(), process.stdout.fileno(): bytearray()}
        said, printed = read.values()
        cut = ""
        with selectors.DefaultSelector() as open_ends:
            for pipe in read:
                open_ends.register(pipe, selectors.EVENT_READ)
            while open_ends.get_map() and process.poll() is None and not cut:
                _take(open_ends, read, _GLANCE)
                if len(printed) > self.output or len(said) > _MESSAGES:
                    cut = "output"
                elif time.monotonic() > deadline:
                    cut = "time"
            _take(open_ends, read, 0.0)
        return _Heard(said.decode(errors="replace").splitlines(), bytes(printed), cut)

    def _outcome(self, nonce: str, heard: _Heard) -> Outcome:
        """Return what the messages of a run add up to; only the nonce proves that it passed."""
        output = heard.output[: self.output].decode(errors="replace")
        if heard.cut == "time":
            return Outcome("timeout", f"still running after {self.seconds:g} seconds", output)
        if heard.cut == "output":
            return Outcome("failed", f"printed more than {self.output} bytes", output)
        said = {text.partition(" ")[0]: text.partition(" ")[2] for text in heard.messages}
        if said.get("passed") == nonce:
            return Outcome("passed", "", output)
        if "memory" in said:
            return Outcome("memory", f"wanted more than {self.memory} bytes", output)
        if "failed" in said:
            return Outcome("failed", said["failed"], output)
        code, _, spent = said.get("ended", "1").partition(" ")
        return self._silent(int(code), float(spent or 0), output)

    def _silent(self, code: int, spent: float, output: str) -> Outcome:
        """Return the outcome of a program that ended without a word."""
        if code >= 0:
            return Outcome("failed", f"left with exit code {code} before its end", output)
        name = signal.Signals(-code).name
        if name in ("SIGKILL", "SIGXCPU") and spent > _MOSTLY * self.cpu_seconds:
            return Outcome("timeout", f"computed for {self.cpu_seconds} seconds", output)
        return Outcome("crashed", f"killed by {name}", output)


def enclosed(code: str) -> str:
    """Return a line that runs ``code`` where it stands, whatever quotes or blocks it leaves open.

    For tests behind an answer: glued to it, an open string or an ``if 0:`` would swallow them.
    """
    return f"exec(compile({code!r}, '<answer>', 'exec'), globals())\n"


def _started(folder: str, result: int) -> subprocess.Popen[bytes]:
    flags = ("-s", "-P", "-S", "-B", "-X", "utf8", "-W", "ignore")
    return subprocess.Popen(
        [sys.executable, *flags, str(_CHILD), str(result)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PYTHONHASHSEED": "0"},
        cwd=folder,
        pass_fds=(result,),
        start_new_session=True,
    )


def _take(open_ends: selectors.BaseSelector, read: dict[int, bytearray], patience: float) -> None:
    """Add what has come to what was read; leave the pipes that were closed."""
    for key, _ in open_ends.select(patience):
        chunk = os.read(key.fd, _CHUNK)
        read[key.fd] += chunk
        if not chunk:
            open_ends.unregister(key.fd)


def _end(process: subprocess.Popen[bytes], end: int) -> None:
    """Kill all that is left of a program and wait until it is gone: nothing holds the pipe."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while select.select([end], [], [], 1.0)[0] and os.read(end, _CHUNK):
        pass
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
