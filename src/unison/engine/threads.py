"""How many threads, on which cores, evaluate a network fastest on this machine? Timed, not guessed.

torch takes a thread for every core it sees. Where cores share their arithmetic units, where a
canvas is small, or where memory hangs on several nodes (NUMA), fewer threads on the cores of one
node can be faster. What was found is kept in a small file and used when nobody says otherwise;
every use is said.
"""

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from unison import files
from unison.data.store import default_cache

NODES = Path("/sys/devices/system/node")
CPU = Path("/proc/cpuinfo")
TASKS = Path("/proc/self/task")
SAID = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # who sets one has chosen
ROUNDS = 5
Clock = Callable[[], float]
Cores = frozenset[int]


class Setting(NamedTuple):
    """One way to run.

    Attributes:
        threads: Of torch.
        node: The memory node whose cores they stay on; ``None`` for all cores.
    """

    threads: int
    node: int | None = None

    def __str__(self) -> str:
        where = "" if self.node is None else f" on the cores of node {self.node}"
        return f"{self.threads} thread{'s' if self.threads > 1 else ''}{where}"


@dataclass(frozen=True)
class Timed:
    """How long one evaluation takes in one way.

    Attributes:
        setting: The way.
        seconds: On the wall, round by round; round r of all ways was taken at the same time.
    """

    setting: Setting
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.seconds)


class Machine(NamedTuple):
    """What cores there are.

    Attributes:
        cores: Those this process may use.
        nodes: Of them, those beside each memory node.
    """

    cores: Cores
    nodes: Mapping[int, Cores]


def machine(nodes: Path = NODES) -> Machine:
    """Return the cores of this machine that this process may use."""
    able = getattr(os, "sched_getaffinity", None)
    cores = frozenset(able(0) if able is not None else range(os.cpu_count() or 1))
    found = {
        int(path.name[4:]): listed((path / "cpulist").read_text()) & cores
        for path in nodes.glob("node[0-9]*")
    }
    return Machine(cores, {node: some for node, some in sorted(found.items()) if some})


def listed(text: str) -> Cores:
    """Return the numbers of a list as Linux writes it: 0-3,8,10-11."""
    parts = [part.partition("-") for part in text.strip().split(",") if part]
    return frozenset(
        number for first, _, last in parts for number in range(int(first), int(last or first) + 1)
    )


def settings(here: Machine) -> tuple[Setting, ...]:
    """Return the ways worth timing: 1, 2, 3, 4, 6, 8 ... threads on all cores, or on a node's.

    One node stands for all of them: they are alike.
    """
    ways = [Setting(count) for count in _counts(len(here.cores))]
    if len(here.nodes) > 1:
        node, cores = max(here.nodes.items(), key=lambda one: len(one[1]))
        ways += [Setting(count, node) for count in _counts(len(cores))]
    return tuple(ways)


def timed(
    work: Callable[[], object],
    ways: Sequence[Setting],
    here: Machine,
    clock: Clock,
    rounds: int = ROUNDS,
) -> tuple[Timed, ...]:
    """Return how long some work takes in each way; the ways take turns, round by round."""
    seconds: dict[Setting, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways:
            with running(way, here):
                began = clock()
                work()
                if number:  # the first round wakes threads up
                    seconds[way].append(clock() - began)
    return tuple(Timed(way, tuple(times)) for way, times in seconds.items())


def best(rows: Sequence[Timed], usual: int) -> Setting:
    """Return the fastest way, or the usual one unless another beats it in every round.

    Args:
        rows: What was timed.
        usual: How many threads torch takes by itself.

    Raises:
        ValueError: The usual way was not timed.
    """
    own = next((row for row in rows if row.setting == Setting(usual)), None)
    if own is None:
        raise ValueError(f"{Setting(usual)}, the usual way here, was not timed; time it as well.")
    fastest = min(rows, key=lambda row: (row.median, row.setting.threads))
    beats = all(a < b for a, b in zip(fastest.seconds, own.seconds, strict=True))
    return fastest.setting if beats else own.setting


@contextmanager
def running(way: Setting, here: Machine) -> Iterator[None]:
    """Run in one way inside."""
    threads = torch.get_num_threads()
    use(way, here)
    try:
        yield
    finally:
        use(Setting(threads), here)


def use(way: Setting, here: Machine) -> None:
    """Run in one way from now on: all threads of this process, those to come too."""
    torch.set_num_threads(way.threads)
    bind = getattr(os, "sched_setaffinity", None)
    if bind is None or len(here.nodes) < 2:
        return
    cores = here.cores if way.node is None else here.nodes[way.node]
    for task in TASKS.iterdir():
        try:
            bind(int(task.name), cores)
        except ProcessLookupError:  # it ended meanwhile
            continue


def keep(way: Setting, here: Machine) -> Path:
    """Write down what was found best here; return where."""
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, {"machine": facts(here), "setting": way._asdict()})
    return path


def kept(here: Machine) -> Setting | None:
    """Return what was found best on this machine; ``None`` if nothing was, or it has changed."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
        if found["machine"] != facts(here):
            return None
        way = Setting(**found["setting"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing kept, or nothing that can be read: as if it never was
    sound = way.node is None or way.node in here.nodes
    return way if sound and 1 <= way.threads <= len(here.cores) else None


def recalled(asked: Mapping[str, str], here: Machine) -> str | None:
    """Run as was found best, unless the environment says how; return what is done, in one line.

    Args:
        asked: The environment.
        here: This machine.
    """
    if any(name in asked for name in SAID):
        return None
    way = kept(here)
    if way is None or way == Setting(torch.get_num_threads()):
        return None
    use(way, here)
    return f"{way}, as unison doctor --threads found best here; OMP_NUM_THREADS overrides it"


def facts(here: Machine) -> dict[str, Any]:
    """Return what a measurement holds for: another processor or torch is measured anew."""
    return {
        "processor": _processor(),
        "cores": sorted(here.cores),
        "nodes": {str(node): sorted(cores) for node, cores in here.nodes.items()},
        "torch": torch.__version__,
    }


def table(rows: Sequence[Timed], chosen: Setting) -> list[dict[str, Any]]:
    """Return what was timed, fastest first."""
    slowest = max(row.median for row in rows)
    return [
        {
            **row.setting._asdict(),
            "milliseconds": round(row.median * 1000, 3),
            "low": round(min(row.seconds) * 1000, 3),
            "high": round(max(row.seconds) * 1000, 3),
            "times_the_slowest": round(slowest / row.median, 2),
            "best": row.setting == chosen,
        }
        for row in sorted(rows, key=lambda row: row.median)
    ]


def _processor() -> str:
    """Return the processor's name, as Linux tells it or else as Python does."""
    try:
        lines = CPU.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _path() -> Path:
    return default_cache() / "threads.json"


def _counts(cores: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12, 16 ... up to all cores."""
    powers = [1 << i for i in range(cores.bit_length())]
    halves = [power + power // 2 for power in powers if power > 1]
    return sorted({count for count in [*powers, *halves, cores] if count <= cores})
