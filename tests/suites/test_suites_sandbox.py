"""The sandbox ends every program, lets nothing out of it, and only believes what ran to its end."""

import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest

from unison.suites.code.sandbox import Sandbox, enclosed
from unison.suites.task import SuiteError

QUICK = Sandbox(cpu_seconds=1, seconds=10.0)
BARRIERS = QUICK.barriers()
INNER = Sandbox(cpu_seconds=1, seconds=10.0, namespaces=False)
walled = pytest.mark.skipif("network namespace" not in BARRIERS, reason="needs user namespaces")
read_only = pytest.mark.skipif("read-only files" not in BARRIERS, reason="needs mount namespaces")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(params=[True, False], ids=["both walls", "inner wall alone"])
def box(request) -> Sandbox:
    return QUICK if request.param else INNER


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.glob("unison-*")) == []  # after every test, however its programs ended


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def descendants(pid: int) -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    below = [child for child, parent in parents.items() if parent == pid]
    return below + [grandchild for child in below for grandchild in descendants(child)]


def test_a_program_that_ends_has_passed_and_its_output_is_kept(box):
    outcome = box.run("name = input()\nprint('hello', name)", "world\n")
    assert outcome == ("passed", "", "hello world\n")


@pytest.mark.parametrize(
    ("source", "status", "detail"),
    [
        ("1 / 0", "failed", "ZeroDivisionError: division by zero (program line 1)"),
        ("x = 1\nassert x == 2", "failed", "AssertionError (program line 2)"),
        ("raise ValueError('a\\nb')", "failed", "ValueError: a b (program line 1)"),
        ("raise ValueError('\\ud800')", "failed", "ValueError: \\ud800 (program line 1)"),
        ("if:", "failed", "SyntaxError: invalid syntax (<program>, line 1)"),
        ("a\0b", "failed", "SyntaxError: source code string cannot contain null bytes"),
        ("def f(): f()\nf()", "failed", "RecursionError: maximum recursion depth exceeded"),
        ("import sys\nsys.exit(0)", "failed", "SystemExit: 0 (program line 2)"),
        ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt (program line 1)"),
        ("import os\nos._exit(0)", "failed", "left with exit code 0 before its end"),
        ("import os\nos._exit(7)", "failed", "left with exit code 7 before its end"),
        ("import os\nos.abort()", "crashed", "killed by SIG"),
        ("while True: pass", "timeout", "computed for 1 seconds"),
        ("x = bytearray(1 << 30)", "memory", "wanted more than 536870912 bytes"),
        ("x = [0]\nwhile True: x = x + x", "memory", "wanted more than 536870912 bytes"),
        ("while True: print('a' * 1000)", "failed", "printed more than 65536 bytes"),
        ("import sys\nsys.stdin.close()\nopen(0).read(1) or 1 / 0", "failed", "ZeroDivision"),
        (
            "class E(Exception):\n def __str__(self): raise E\nraise E",
            "failed",
            "E (program line 3)",
        ),
    ],
)
def test_what_goes_wrong_is_named(source, status, detail):
    outcome = Sandbox(cpu_seconds=1 if "while True: pass" in source else 5).run(source)
    assert (outcome.status, outcome.detail[: len(detail)]) == (status, detail)


def test_sleep_ends_by_the_clock():
    start = time.monotonic()
    outcome = Sandbox(seconds=0.5).run("import time\ntime.sleep(60)")
    assert outcome[:2] == ("timeout", "still running after 0.5 seconds")
    assert time.monotonic() - start < 10


def test_endless_output_is_read_up_to_its_bound():
    outcome = Sandbox(output=1000).run("while True: print('a' * 1000000)")
    assert (outcome.status, outcome.output) == ("failed", "a" * 1000)


@pytest.mark.parametrize(
    "source",
    [
        "while True: os.fork()",
        "os.system('true')",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "import subprocess\nsubprocess.run(['true'])",
        "import multiprocessing as m\nm.get_context('fork').Process(target=print).start()",
        "import ctypes\nctypes.CDLL(None).fork()",
        "os.kill(os.getppid() or 1, 9)",
        "import gc\ngc.get_objects()",
        "sys._current_frames()",
    ],
)
def test_processes_and_foreign_functions_are_refused(box, source):
    outcome = box.run(f"import os, sys\n{source}")
    assert outcome.status == "failed"
    assert "PermissionError: the sandbox refuses " in outcome.detail


def test_a_listening_socket_cannot_be_reached(box):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        outcome = box.run(f"import socket\nsocket.create_connection({server.getsockname()!r})")
        assert outcome.status == "failed"
        assert "the sandbox refuses socket." in outcome.detail
        with pytest.raises(BlockingIOError):
            server.accept()


@walled
def test_behind_the_hook_there_is_no_network_to_reach():
    source = "print(open('/proc/self/net/route').read().count('\\n'))"
    assert QUICK.run(source).output in ("1\n", "0\n")  # the heading alone


@pytest.mark.parametrize(
    "change",
    [
        "open({path!r}, 'w')",
        "open({path!r}, 'r+')",
        "os.open({path!r}, os.O_RDWR)",
        "os.remove({path!r})",
        "os.rename({path!r}, 'here')",
        "os.rename('mine', {path!r})",
        "os.symlink({path!r}, 'link'); open('link', 'a')",
        "os.chmod({path!r}, 0)",
        "os.truncate({path!r}, 0)",
        "os.mkdir({path!r} + '.d')",
        "os.remove('kept', dir_fd=os.open(os.path.dirname({path!r}), os.O_RDONLY))",
        "import pathlib; pathlib.Path({path!r}).unlink()",
        "import shutil; shutil.rmtree(os.path.dirname({path!r}))",
        "import sqlite3; sqlite3.connect({path!r} + '.db')",
    ],
)
def test_nothing_outside_the_folder_can_be_changed(box, change, tmp_path):
    path = tmp_path / "kept"
    path.write_text("as it was")
    outcome = box.run("import os\nopen('mine', 'w').close()\n" + change.format(path=str(path)))
    assert outcome.status == "failed"
    assert "PermissionError: the sandbox refuses" in outcome.detail
    assert path.read_text() == "as it was"
    assert path.stat().st_mode & 0o600 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


@read_only
def test_behind_the_hook_files_are_read_only_to_the_kernel(tmp_path):
    path = str(tmp_path / "fifo")
    outcome = QUICK.run(f"import os\nos.mkfifo({path!r})")  # an event no hook hears of
    assert outcome.detail.startswith("OSError: [Errno 30] Read-only file system")
    assert not os.path.exists(path)


def test_the_folder_can_be_used_and_files_have_a_largest_size(box):
    use = "import os, tempfile\nos.mkdir('a')\nopen('a/b', 'w').write('text')\n"
    use += "with tempfile.TemporaryDirectory() as d: open(d + '/c', 'w').close()\n"
    use += "os.rename('a/b', 'b')\nos.rmdir('a')\nprint(open('b').read())"
    assert box.run(use).output == "text\n"
    fill = "with open('x', 'wb', 0) as f:\n while True: f.write(bytes(1 << 20))"
    assert box.run(fill).detail.startswith("OSError: [Errno 27] File too large")


@read_only
def test_all_files_together_have_a_largest_size():
    fill = "for i in range(99):\n with open(f'{i}', 'wb', 0) as f: f.write(bytes(1 << 20))"
    assert QUICK.run(fill).detail.startswith("OSError: [Errno 28] No space left on device")


def test_nothing_of_the_caller_is_in_the_environment(box, monkeypatch):
    monkeypatch.setenv("UNISON_SECRET", "hidden")
    assert box.run("import os\nprint(dict(os.environ), os.listdir())").output == "{} []\n"


def test_only_the_standard_library_can_be_imported(box):
    assert box.run("import numpy").detail.startswith("ModuleNotFoundError")
    assert box.run("import unison").detail.startswith("ModuleNotFoundError")


def test_programs_that_print_sets_print_the_same_every_time(box):
    source = "print({str(i) for i in range(20)})"
    assert len({box.run(source).output for _ in range(4)}) == 1


@pytest.mark.parametrize(
    "claim",
    [
        "sys.audit('unison.passed')",
        "sys._getframe().f_back.f_globals['_say'](3, 'passed')",
        "[os.write(fd, b'passed 0\\n') for fd in range(1, 20) if fd in fds]",
        "frame = sys._getframe().f_back; exec(\"import sys; sys.audit('unison.passed')\", "
        "frame.f_globals, dict(frame.f_locals))",
    ],
)
def test_a_program_cannot_claim_to_have_passed(box, claim):
    listed = "fds = {int(fd) for fd in os.listdir('/dev/fd') if os.path.exists(f'/dev/fd/{fd}')}"
    outcome = box.run(f"import os, sys\n{listed}\n{claim}\nos._exit(0)")
    assert outcome.status == "failed"


def test_the_proof_of_passing_is_not_to_be_found_among_frames(box, monkeypatch):
    token = "unison.suites.code.sandbox.secrets.token_hex"
    monkeypatch.setattr(token, lambda count: "0123456789abcdef")
    look = """
import sys
frame, seen = sys._getframe(), []
while frame:
    seen += [repr(frame.f_locals), repr(frame.f_globals)]
    frame = frame.f_back
print("0123456789" + "abcdef" in "".join(seen), len(seen) > 2)
"""
    assert box.run(look).output == "False True\n"


def test_an_answer_cannot_swallow_the_checks_behind_it():
    for answer in ("x = '''", "if 0:\n", "x = 1 \\\n", "def f():", "#", "'''\nassert 0\n", "x = ("):
        assert QUICK.run(enclosed(answer) + "assert False").status == "failed"
    assert QUICK.run(enclosed("x = 1") + "assert x == 1").status == "passed"


# A program that makes the interpreter forget to ask the hook before it starts a process.
_ESCAPED = """
import subprocess, sys
sys.audit = lambda *event: None
process = subprocess.Popen(["/bin/sleep", "97.25"], start_new_session={session})
print("started", flush=True)
{end}
"""


def _sleepers() -> list[int]:
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"\x0097.25\0" in command.read_bytes():
                found.append(int(command.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@linux
@pytest.mark.parametrize("end", ["", "1 / 0", "subprocess.os._exit(0)", "process.wait()"])
def test_children_of_a_program_end_with_it(end):
    for sandbox, session in ((INNER, False), (QUICK, True)):
        if sandbox is INNER or "process namespace" in BARRIERS:
            quick = Sandbox(seconds=1.0, namespaces=sandbox.namespaces)
            outcome = quick.run(_ESCAPED.format(session=session, end=end))
            assert outcome.output == "started\n"
            assert gone(_sleepers())


@linux
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_program_ends_when_whoever_started_it_is_killed(tmp_path):
    caller = os.fork()
    if caller == 0:
        Sandbox(seconds=300.0).run("import time; time.sleep(300)")
        os._exit(0)
    deadline = time.monotonic() + 30
    while len(below := descendants(caller)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    assert len(below) == 2
    assert gone(below)
    for folder in tmp_path.glob("unison-*"):  # empty: what was in it went with the namespace
        folder.rmdir()


def test_a_machine_without_an_interpreter_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SuiteError, match=r"could not be started with /bin/false"):
        QUICK.run("")


def test_barriers_are_named_for_this_machine():
    assert {"limit of cpu", "audit hook"} <= set(INNER.barriers())
    assert set(INNER.barriers()) < set(BARRIERS) or "network namespace" not in BARRIERS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cpu_seconds": 0}, "cpu_seconds must be at least 1, got 0"),
        ({"seconds": 0.0}, "seconds must be positive and finite, got 0.0"),
        ({"seconds": float("nan")}, "seconds must be positive and finite, got nan"),
        ({"memory": 1}, "memory must be at least 67108864, got 1"),
        ({"output": -1}, "output must be at least 0, got -1"),
    ],
)
def test_limits_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sandbox(**settings)
