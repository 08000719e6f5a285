"""What runs inside the sandbox? A script for a fresh interpreter; ``sandbox`` starts it.

It reads one request from stdin, raises what barriers the system allows, and runs the program in a
child of its own. It imports nothing of unison, so that it starts in milliseconds.
"""

import contextlib
import io
import marshal
import os
import resource
import signal
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

_NEW_SPACES = 0x10000000 | 0x40000000 | 0x20000000 | 0x00020000 | 0x08000000  # user net pid mnt ipc
_PRIVATE, _RECURSIVE, _BARE = 1 << 18, 1 << 14, 0b1110  # mount: nosuid, nodev, noexec
_MOUNT_SETATTR, _AT_RECURSIVE, _HERE = 442, 0x8000, -100
_CAPABILITIES_V3, _DIE_WITH_PARENT, _NO_NEW_PRIVILEGES = 0x20080522, 1, 38
_SAID = 300  # characters of an error

_REFUSED = (
    *("socket.", "subprocess.", "ctypes.", "pty.", "syslog.", "webbrowser.", "resource."),
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile"),
    *("os.kill", "signal.pthread_kill", "os.chroot", "sqlite3."),
    # ways to what this file holds
    *("gc.get_objects", "gc.get_ref", "sys._current_", "sys.addaudithook"),
)
_CHANGES_FILES = {  # event: which arguments are paths, and which the folders they start from
    **{f"os.{event}": {0: -1} for event in ("remove", "mkdir", "rmdir", "chmod", "chown", "utime")},
    **{f"os.{event}": {0: None} for event in ("truncate", "setxattr", "removexattr", "chflags")},
    **{f"os.{event}": {0: 2, 1: 3} for event in ("rename", "link")},
    "os.symlink": {1: 2},
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> None:
    """Serve the request on stdin and leave."""
    result = int(sys.argv[1])
    request: dict[str, Any] = marshal.loads(sys.stdin.buffer.read())
    os.environ.clear()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    raised = ["started"]
    if request["limits"]["namespaces"] and sys.platform == "linux":
        raised += _separate(request["limits"]["file_bytes"])
    _say(result, *raised)
    _leash(request["limits"]["seconds"])
    worker = os.fork()
    if worker == 0:
        _work(request, result)
    _, status, usage = os.wait4(worker, 0)
    spent = usage.ru_utime + usage.ru_stime
    _say(result, f"ended {os.waitstatus_to_exitcode(status)} {spent:.3f}")


def _say(result: int, *lines: str) -> None:
    os.write(result, "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))


def _work(request: dict[str, Any], result: int) -> NoReturn:
    """Run the program; the frame of this function is the only one that may say it passed."""
    _leash(request["limits"]["seconds"])
    _say(result, *_limit(request["limits"]), "barrier audit hook")
    module = types.ModuleType("program")
    sys.modules["program"] = module
    sys.stdin = io.TextIOWrapper(io.BytesIO(request.pop("stdin").encode(errors="replace")), "utf-8")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("ctypes", "_ctypes")]:
        del sys.modules[name]
    source, output = request.pop("source"), sys.stdout
    sys.addaudithook(_guard(sys._getframe(), result, request.pop("nonce")))
    try:
        exec(compile(source, "<program>", "exec", dont_inherit=True), vars(module))
        if not output.closed:
            output.flush()
        sys.audit("unison.passed")
    except MemoryError:
        _say(result, "memory")
    except BaseException as error:  # noqa: BLE001 - whatever a program raises is its failure
        _say(result, f"failed {_said(error)}")
    os._exit(0)


def _leash(seconds: float) -> None:
    """Die with the parent; without prctl, not long after it should have ended this."""
    signal.alarm(min(int(seconds) + 5, 1 << 20))
    if sys.platform == "linux":
        _prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _guard(frame: Any, result: int, nonce: str) -> Callable[[str, tuple[Any, ...]], None]:
    """Return the audit hook: it refuses what has no place here and alone knows the nonce.

    Hooks are out of reach of frames and of the garbage collector's lists (refused), and this one
    only speaks for ``frame`` itself, so a program that never ran to its end cannot say it did.
    """
    here, caller, say, refusal = os.path.realpath(os.getcwd()), sys._getframe, _say, _refusal

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event == "unison.passed":
            if caller(1) is frame:
                say(result, f"passed {nonce}")
        elif refused := refusal(here, event, values):
            raise PermissionError(f"the sandbox refuses {refused}")

    return hook


def _refusal(here: str, event: str, values: tuple[Any, ...]) -> str:
    """Return what is refused, in words; empty for what a program may do."""
    if event.startswith(_REFUSED):
        return event
    if event == "open":
        allowed = not _writes(values[1], values[2]) or _inside(here, values[0])
        return "" if allowed else f"to write {values[0]!r}"
    for at, folder in _CHANGES_FILES.get(event, {}).items():
        if not _inside(here, values[at], -1 if folder is None else values[folder]):
            return f"{event} of {values[at]!r}"
    return ""


def _writes(mode: str | None, flags: int) -> bool:
    return bool(flags & _WRITING) or bool(set(mode or "") & set("wax+"))


def _inside(here: str, path: Any, folder: int = -1) -> bool:
    """Whether a path is below the temporary folder; open files and the null device count too."""
    if isinstance(path, int) or path == os.devnull:
        return True
    start = "" if folder == -1 else os.readlink(f"/proc/self/fd/{folder}")
    return os.path.realpath(os.path.join(start, os.fsdecode(path))).startswith(here + os.sep)


def _said(error: BaseException) -> str:
    """Return what was raised, in one line, and in which line of the program."""
    try:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    except BaseException:  # noqa: BLE001 - its own exceptions may not be printable
        text = type(error).__name__
    place, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith("<"):
            place = f" ({trace.tb_frame.f_code.co_filename[1:-1]} line {trace.tb_lineno})"
        trace = trace.tb_next
    return " ".join(text.split())[:_SAID] + place


def _limit(limits: dict[str, int]) -> list[str]:
    """Lower the limits of this process; return which ones the system knows."""
    wanted = {
        "cpu": (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        "memory": (resource.RLIMIT_AS, limits["memory"]),
        "file size": (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        "processes": (resource.RLIMIT_NPROC, limits["processes"]),
        "open files": (resource.RLIMIT_NOFILE, 64),
        "core dumps": (resource.RLIMIT_CORE, 0),
    }
    set_here = []
    for name, (kind, value) in wanted.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))
            set_here.append(f"barrier limit of {name}")
    return set_here


def _separate(file_bytes: int) -> list[str]:
    """Move into namespaces of our own, without privileges; return what they bar.

    The network is an empty one; processes started here die with the first of them; all files are
    read-only but those of a fresh temporary file system over the working folder.
    """
    import ctypes

    uid, gid, libc = os.getuid(), os.getgid(), ctypes.CDLL(None)
    if libc.unshare(_NEW_SPACES) != 0:
        return []
    raised = ["barrier network namespace", "barrier process namespace"]
    with contextlib.suppress(OSError):
        for name, line in (
            ("setgroups", "deny"),
            ("uid_map", f"1000 {uid} 1"),
            ("gid_map", f"1000 {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
        if _read_only(libc, file_bytes):
            raised.append("barrier read-only files")
    _prctl(_NO_NEW_PRIVILEGES, 1)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) == 0:
        raised.append("barrier no privileges")
    return raised


def _read_only(libc: Any, file_bytes: int) -> bool:
    import ctypes

    here = os.getcwd().encode()
    read_only = (ctypes.c_uint64 * 4)(1, 0, 0, 0)
    done = (
        libc.mount(None, b"/", None, ctypes.c_ulong(_PRIVATE | _RECURSIVE), None) == 0
        and libc.syscall(_MOUNT_SETATTR, _HERE, b"/", _AT_RECURSIVE, read_only, 32) == 0
        and libc.mount(
            b"tmpfs", here, b"tmpfs", ctypes.c_ulong(_BARE), b"size=%d,nr_inodes=1000" % file_bytes
        )
        == 0
    )
    os.chdir(here)  # into the new file system
    return done


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


if __name__ == "__main__":
    main()
