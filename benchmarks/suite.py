"""Which ratios are guarded? A fixed list of benchmarks, run one after another into records.

    python -m benchmarks.suite --out benchmarks/results
    python -m benchmarks.suite --out benchmarks/results --only nelbo caches

Each benchmark runs in a process of its own, on one thread. Of what it writes, the ratios and the
facts of the machine are kept; seconds, paths and the command are not.
"""

import argparse
import fnmatch
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks import guard, records
from benchmarks.records import Better, Measured, Record, RecordError, Scale

FACTOR = math.log(1.05)  # what two runs of the same code may differ by between their ranges
SHARE = 0.01
ALONE = math.log(1.10)  # the same for a single round


class Reading(NamedTuple):
    """How the ratios whose names match are read.

    Attributes:
        pattern: Of names, as of files.
        better: Which way is an improvement.
        scale: ``linear`` for shares.
        floor: What two runs of the same code may differ by.
    """

    pattern: str
    better: Better
    scale: Scale = "log"
    floor: float = FACTOR


@dataclass(frozen=True)
class Guarded:
    """One benchmark of the list.

    Attributes:
        name: Of its record.
        command: Module and arguments, without ``--out``.
        readings: The first that matches a ratio's name is taken.
        heavy: Whether it runs only when all are asked for.
        dtype: Of what it computes.
    """

    name: str
    command: tuple[str, ...]
    readings: tuple[Reading, ...]
    heavy: bool = False
    dtype: str = "float32"


LIST = (
    Guarded(
        "nelbo",
        ("nelbo", "--rounds", "5"),
        (
            Reading("*: speed, reference / ours", "higher"),
            Reading("*: peak memory, ours / reference", "lower", floor=ALONE),
        ),
    ),
    Guarded(
        "train_step",
        ("train_step", "--rounds", "5"),
        (Reading("*: products / step", "higher"), Reading("*: curriculum / plain", "lower")),
    ),
    Guarded(
        "sampler_step",
        ("sampler_step", "--rounds", "7"),
        (Reading("*", "lower", "linear", SHARE),),
    ),
    Guarded(
        "caches",
        ("caches", "--rounds", "1"),
        (Reading("*: with / without", "lower"),),
        heavy=True,
    ),
    Guarded(
        "decoding_loops",
        ("decoding", "loops", "--rounds", "5", "--steps", "4"),
        (Reading("*: published / preset", "higher"),),
        heavy=True,
    ),
    Guarded(
        "decoding_overhead",
        ("decoding", "overhead", "--rounds", "5"),
        (Reading("*: steps / network", "lower", "linear", SHARE),),
        heavy=True,
    ),
    Guarded(
        "reference_llada",
        ("reference_loops", "--masked", "runs/masked", "--rounds", "4"),
        (Reading("*: published / ours", "higher"),),
        heavy=True,
        dtype="float32, and the weights' own",
    ),
    Guarded(
        "reference_gemma",
        ("reference_loops", "--uniform", "runs/uniform", "--rounds", "4"),
        (Reading("*: published / ours", "higher"),),
        heavy=True,
        dtype="float32, and the weights' own",
    ),
)


def measured(ratio: Mapping[str, Any], readings: tuple[Reading, ...]) -> Measured:
    """Return a ratio as it is kept.

    Raises:
        RecordError: No reading matches its name.
    """
    for reading in readings:
        if fnmatch.fnmatchcase(ratio["name"], reading.pattern):
            return Measured(
                **{key: ratio[key] for key in ("name", "median", "low", "high", "rounds")},
                **{key: getattr(reading, key) for key in ("better", "scale", "floor")},
                target=ratio["target"],
            )
    raise RecordError(
        f"nobody says which way {ratio['name']!r} is better; add a reading to benchmarks/suite.py."
    )


def kept(one: Guarded, report: Mapping[str, Any]) -> Record:
    """Return what is committed of a benchmark's own report."""
    settings = {"command": " ".join(one.command), "dtype": one.dtype}
    known = {*records.PLACE, *records.TOLD}
    machine = {name: fact for name, fact in report["machine"].items() if name in known}
    ratios = tuple(measured(ratio, one.readings) for ratio in report["ratios"])
    return Record(one.name, settings, machine, ratios, report["facts"])


def run(one: Guarded) -> Record:
    """Run a benchmark in a process of its own.

    Raises:
        RecordError: It failed.
    """
    with TemporaryDirectory() as place:
        out = Path(place) / "report.json"
        module, *arguments = one.command
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments, "--out", str(out)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if done.returncode or not out.is_file():
            raise RecordError(f"{' '.join(one.command)} failed (status {done.returncode}).")
        return kept(one, json.loads(out.read_text()))


def chosen(only: list[str], everything: bool) -> list[Guarded]:
    """Return the benchmarks to run.

    Raises:
        RecordError: One that is named is not in the list.
    """
    known = {one.name: one for one in LIST}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise RecordError(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}.")
    return [one for one in LIST if one.name in only or (not only and (everything or not one.heavy))]


def main(arguments: list[str] | None = None) -> int:
    """Run the list, write the records, and compare them with the committed ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    parser.add_argument("--only", nargs="+", default=[], help="names of benchmarks")
    parser.add_argument("--all", action="store_true", help="the heavy ones too")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        for one in chosen(options.only, options.all):
            print(f"== {one.name}", flush=True)
            partial = options.out / f"{one.name}.partial"
            partial.write_text(records.text(run(one)), encoding="utf-8")
            partial.replace(options.out / f"{one.name}.json")
    except RecordError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return guard.main(["git:HEAD", str(options.out)])


if __name__ == "__main__":
    sys.exit(main())
