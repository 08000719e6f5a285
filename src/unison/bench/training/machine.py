"""What can this machine do at best? Matrix products and memory traffic, measured beside the work.

Seconds differ between machines and between hours; ratios of things that take turns in one process
hardly do. On a CPU everything is counted in CPU seconds of this process, which a neighbour's load
lengthens little; on a GPU in seconds of the device, read from its own clock.
"""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key

Work = Callable[[], object]


class Span(NamedTuple):
    """How long something took.

    Attributes:
        wall: Seconds on the wall; of a GPU, between two of its own marks.
        cpu: CPU seconds of this process, all threads.
    """

    wall: float
    cpu: float


@dataclass(frozen=True)
class Spread:
    """A number measured several times.

    Attributes:
        median: Of the rounds.
        low: Smallest.
        high: Largest.
        rounds: How many.
    """

    median: float
    low: float
    high: float
    rounds: int


class Probe(NamedTuple):
    """One way to find a limit.

    Attributes:
        name: Of what it does.
        amount: FLOPs it computes, or bytes it moves.
        run: Does it once.
    """

    name: str
    amount: int
    run: Work


class Probes(NamedTuple):
    """All that is measured of a machine.

    Attributes:
        products: Square matrix products, by size.
        traffic: Loops over arrays beyond every cache.
        dtype: Of the products' operands.
    """

    products: tuple[Probe, ...]
    traffic: tuple[Probe, ...]
    dtype: str


@dataclass(frozen=True)
class Limits:
    """The best a machine did, per second of ``clock``.

    Attributes:
        clock: ``CPU second`` or ``device second``.
        dtype: Of the operands.
        products: FLOP per second of square matrix products, by size.
        traffic: Bytes per second of plain loops over arrays beyond every cache, by loop.
        facts: Machine, versions, threads, and the load of everyone on it.
    """

    clock: str
    dtype: str
    products: Mapping[str, Spread]
    traffic: Mapping[str, Spread]
    facts: Mapping[str, Any]

    @property
    def best(self) -> str:
        """The size of products with the best median."""
        return max(self.products, key=lambda size: self.products[size].median)

    @property
    def flops(self) -> Spread:
        """FLOP per second at that size."""
        return self.products[self.best]

    @property
    def bandwidth(self) -> Spread:
        """Bytes per second of the loop with the best median."""
        return max(self.traffic.values(), key=lambda rate: rate.median)

    @property
    def balance(self) -> float:
        """FLOPs that take as long as moving one byte."""
        return self.flops.median / self.bandwidth.median


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the extremes of some measurements."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def timed(work: Work, device: torch.device) -> Span:
    """Return how long one call takes, all it started on the device included."""
    if device.type != "cuda":
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        return Span(time.perf_counter() - wall, time.process_time() - cpu)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    cpu = time.process_time()
    first.record()
    work()
    last.record()
    torch.cuda.synchronize(device)
    return Span(first.elapsed_time(last) / 1000, time.process_time() - cpu)


def take_turns(
    work: Mapping[str, Work], rounds: int, device: torch.device, warm: int = 1
) -> dict[str, list[Span]]:
    """Time every alternative once a round, so that a slow moment of the machine hits them all.

    Args:
        work: What is timed, by name.
        rounds: How often.
        device: Where it runs.
        warm: Rounds before those, not timed.
    """
    spans: dict[str, list[Span]] = {name: [] for name in work}
    for number in range(-warm, rounds):
        for name, run in work.items():
            span = timed(run, device)
            if number >= 0:
                spans[name].append(span)
    return spans


def seconds(spans: Iterable[Span], device: torch.device) -> list[float]:
    """Return what is compared: CPU seconds, or those of a GPU."""
    return [span.wall if device.type == "cuda" else span.cpu for span in spans]


def probes(device: torch.device, dtype: torch.dtype) -> Probes:
    """Return the ways in which a machine is measured.

    Products are square, from small to large, each made as often as is worth a reading. Traffic is
    the copy and the triad of STREAM (McCalpin, 1995) over float32 arrays; its bytes are those that
    are named: what a cache fetches before it overwrites is not counted.

    Args:
        device: What is measured.
        dtype: Of the products' operands.
    """
    on_gpu = device.type == "cuda"
    sizes, enough = _CUDA_PRODUCTS if on_gpu else _CPU_PRODUCTS
    size = _CUDA_ARRAY if on_gpu else max(_CPU_ARRAY, 4 * _largest_cache())
    a, b, c = (torch.full((size // 4,), value, device=device) for value in (0.0, 1.0, 2.0))
    traffic = (
        Probe("copy", 2 * size, lambda: a.copy_(b)),
        Probe("triad", 3 * size, lambda: torch.add(b, c, alpha=3.0, out=a)),
    )
    products = tuple(_product_probe(size, enough, device, dtype) for size in sizes)
    return Probes(products, traffic, str(dtype).removeprefix("torch."))


def rates(probe: Probe, spans: Mapping[str, Sequence[Span]], device: torch.device) -> list[float]:
    """Return the FLOPs or bytes per second of a probe, round by round."""
    return [probe.amount / taken for taken in seconds(spans[probe.name], device)]


def limits(probes: Probes, spans: Mapping[str, Sequence[Span]], device: torch.device) -> Limits:
    """Return what the probes came to, from the spans of ``take_turns`` by their names."""
    products, traffic = (
        {probe.name: spread(rates(probe, spans, device)) for probe in some}
        for some in (probes.products, probes.traffic)
    )
    clock = "device second" if device.type == "cuda" else "CPU second"
    return Limits(clock, probes.dtype, products, traffic, facts(device))


def facts(device: torch.device) -> dict[str, Any]:
    """Return what a reader needs to place the numbers."""
    on_gpu = device.type == "cuda"
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "load": list(os.getloadavg()),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def noise(shape: Sequence[int], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return normal draws, repeated after a prime number of them.

    Values matter little to a CPU; a GPU multiplies zeros faster than anything else.
    """
    size = math.prod(shape)
    few = rng.normal(Key(rng.rows(0, 0, 1)), 0, _DRAWS)[0].to(device, dtype)
    return few.repeat(-(-size // _DRAWS))[:size].reshape(*shape)


def _product_probe(size: int, enough: int, device: torch.device, dtype: torch.dtype) -> Probe:
    a, b = (noise((size, size), device, dtype) for _ in range(2))
    once = 2 * size**3
    times = max(1, enough // once)

    def run() -> None:
        for _ in range(times):
            torch.mm(a, b)

    return Probe(f"{size} x {size}", times * once, run)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _largest_cache() -> int:
    """Return the bytes of the largest cache the system tells of; 0 if it tells of none."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    kib = (path.read_text().strip().removesuffix("K") for path in sizes)
    return max((1024 * int(text) for text in kib if text.isdigit()), default=0)


_CPU_PRODUCTS = ((256, 512, 1024), 2 * 1024**3)  # sizes, FLOPs of a reading: tens of milliseconds
_CUDA_PRODUCTS = ((2048, 4096, 8192), 2 * 8192**3)
_CPU_ARRAY, _CUDA_ARRAY = 128 << 20, 1 << 30  # bytes: beyond the caches of any chip known today
_DRAWS = 65_537
