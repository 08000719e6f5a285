"""Has anything become slower? New ratios against old ones, beyond what the rounds scatter.

    python -m benchmarks.guard OLD NEW
    python -m benchmarks.guard git:HEAD benchmarks/results

OLD and NEW are folders or files of results; ``git:REVISION`` is what a revision holds in NEW's
folder. Exit status 0: nothing is worse; 1: something is; 2: a result cannot be read.

The rule. Let a round's ratio, on its scale, be the truth plus what is peculiar to the run plus
noise of the round, and rounds be exchangeable. A ratio has changed only if *every* round of one
run lies beyond *every* round of the other by more than the floor F. Where the runs' peculiarities
differ by less than F, that asks every noise of n rounds to exceed every one of m others, for which
exchangeability leaves one order in (n + m choose n), whatever the noise's law:

    P(false alarm) <= 1 / (n + m choose n) + P(peculiarities differ by more than F).

Seven rounds against seven: 1 in 3432. F is measured by running the same code again
(``docs/benchmarks.md``). Single rounds have no scatter: there F speaks alone.
"""

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks import records
from benchmarks.records import Measured, Record, RecordError

Verdict = Literal["worse", "better", "same", "missing", "new", "not compared"]
ORDER: tuple[Verdict, ...] = ("worse", "missing", "not compared", "better", "new", "same")


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        benchmark: Where the ratio belongs.
        name: Of the ratio.
        verdict: What became of it.
        old: As it was; ``None`` if it is new.
        new: As it is; ``None`` if it is missing.
        why: What keeps the two from being compared; empty if nothing.
    """

    benchmark: str
    name: str
    verdict: Verdict
    old: Measured | None
    new: Measured | None
    why: str = ""


def chance(old: Measured, new: Measured) -> float:
    """Return the largest chance that scatter of the rounds alone makes ``new`` look worse.

    1 where either has a single round: then the floor alone decides.
    """
    if min(old.rounds, new.rounds) == 1:
        return 1.0
    return 1 / math.comb(old.rounds + new.rounds, new.rounds)


def gaps(old: Measured, new: Measured) -> tuple[float, float]:
    """Return by how much all of ``new`` lies above all of ``old``, and below it, on the scale.

    At most one of the two is positive: the gap between the ranges; both are negative where the
    ranges overlap.
    """
    read = math.log if new.scale == "log" else float
    return read(new.low) - read(old.high), read(old.low) - read(new.high)


def judged(old: Measured, new: Measured) -> Verdict:
    """Return whether a ratio became worse, better, or neither beyond noise."""
    above, below = gaps(old, new)
    floor = max(old.floor, new.floor)
    up, down = above > floor, below > floor
    if new.better == "lower":
        up, down = down, up
    return "better" if up else "worse" if down else "same"


def differences(old: Record, new: Record) -> list[str]:
    """Return, in words, why the ratios of two records are not of one kind."""
    here = {name: (old.machine.get(name), new.machine.get(name)) for name in records.PLACE}
    keys = sorted({*old.settings, *new.settings})
    here |= {key: (old.settings.get(key), new.settings.get(key)) for key in keys}
    return [f"{name} was {a}, is {b}" for name, (a, b) in here.items() if a != b]


def compared(old: Record, new: Record, across: bool) -> list[Row]:
    """Return a row for each ratio of one benchmark.

    Args:
        old: Before.
        new: After.
        across: Judge even where machines or settings differ.
    """
    why = "; ".join(differences(old, new))
    before, after = ({one.name: one for one in record.ratios} for record in (old, new))
    rows = []
    for name in dict.fromkeys([*before, *after]):
        a, b = before.get(name), after.get(name)
        if a is None:
            rows.append(Row(new.name, name, "new", None, b))
        elif b is None:
            rows.append(Row(new.name, name, "missing", a, None))
        elif (a.scale, a.better) != (b.scale, b.better):
            rows.append(Row(new.name, name, "not compared", a, b, "it is read another way now"))
        elif why and not across:
            rows.append(Row(new.name, name, "not compared", a, b, why))
        else:
            rows.append(Row(new.name, name, judged(a, b), a, b, why))
    return rows


def comparison(
    old: Mapping[str, Record], new: Mapping[str, Record], across: bool = False
) -> list[Row]:
    """Return a row for each ratio of all benchmarks, the most pressing first."""
    rows: list[Row] = []
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            rows += [Row(name, one.name, "missing", one, None) for one in old[name].ratios]
        elif name not in old:
            rows += [Row(name, one.name, "new", None, one) for one in new[name].ratios]
        else:
            rows += compared(old[name], new[name], across)
    return sorted(rows, key=lambda row: ORDER.index(row.verdict))


def said(one: Measured | None) -> str:
    """Return a ratio with its extremes."""
    if one is None:
        return "-"
    return f"{one.median:.3f} ({one.low:.3f} to {one.high:.3f})"


def table(rows: list[Row]) -> str:
    """Return the rows, why some were not compared, and what chance alone would have flagged."""
    names = [f"{row.benchmark}: {row.name}" for row in rows]
    wide = max(map(len, names), default=0)
    lines = [f"{'':12} {'ratio':{wide}} {'old':>26} {'new':>26}"]
    lines += [
        f"{row.verdict:12} {name:{wide}} {said(row.old):>26} {said(row.new):>26}"
        for row, name in zip(rows, names, strict=True)
    ]
    reasons = dict.fromkeys((row.benchmark, row.why) for row in rows if row.why)
    lines += [f"{name}: {why}." for name, why in reasons]
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ORDER}
    lines.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    both = [
        chance(row.old, row.new)
        for row in rows
        if row.verdict in ("worse", "better", "same") and row.old and row.new
    ]
    by_rounds = [value for value in both if value < 1]
    lines.append(
        f"Worse by scatter of the rounds alone: at most {sum(by_rounds):.2g} ratios expected of "
        f"{len(by_rounds)}; {len(both) - len(by_rounds)} of a single round, judged by their floor."
    )
    return "\n".join(lines)


def opened(where: str, beside: str) -> dict[str, Record]:
    """Return the records of a folder, of a file, or of a git revision."""
    if where.startswith("git:"):
        return records.committed(where.removeprefix("git:"), Path(beside))
    return records.folder(Path(where))


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument(
        "--across", action="store_true", help="compare in spite of different machines or settings"
    )
    options: Any = parser.parse_args(arguments)
    try:
        new = records.folder(Path(options.new))
        rows = comparison(opened(options.old, options.new), new, options.across)
    except RecordError as error:
        print(f"guard: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    return int(any(row.verdict == "worse" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
