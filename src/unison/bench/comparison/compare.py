"""Is B better than A? Differences problem by problem, and everything else that differed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unison.bench.comparison.intervals import SHARES, Difference, Ratio, difference, holm, ratio
from unison.bench.comparison.pairing import Left, Paired, pair
from unison.bench.record import Answer, Batch, BenchError, Result, read_answers, read_results
from unison.bench.report import naming, tables
from unison.bench.report.document import Document, Section, Table
from unison.bench.report.provenance import flat, of_bench, told

_SPEED = ("batch_size", "dtype", "device")  # decide speed, beside the machine
_LOAD = 1.0  # busy cores that others may take more of in one bench than in the other
_MOST = 3  # problems or values that are listed


@dataclass(frozen=True)
class Compared:
    """Two cells that asked the same.

    Attributes:
        cells: The two.
        score: What B scores above A.
        adjusted: Its probability were there no difference, corrected for the number of cells.
        nfe: Network evaluations of B per one of A.
        speed: Tokens per second of B per one of A.
        incomparable: Settings that decide speed and differ.
        differing: All settings that differ, with their values in A and B.
    """

    cells: Paired
    score: Difference
    adjusted: float
    nfe: Ratio
    speed: Ratio
    incomparable: Sequence[str]
    differing: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Comparison:
    """Two benches side by side.

    Attributes:
        folders: Of A and B.
        how: By what cells were paired, for people.
        compared: Pairs of cells.
        left: Cells that could not be paired, and why.
    """

    folders: tuple[Path, Path]
    how: str
    compared: Sequence[Compared]
    left: Sequence[Left]


def compared(a: Path, b: Path) -> Document:
    """Return the report of a comparison.

    Raises:
        BenchError: A folder holds no bench, or a damaged one.
    """
    return document(compare(a, b))


def compare(a: Path, b: Path) -> Comparison:
    """Compare two benches, cell by cell and problem by problem.

    Raises:
        BenchError: A folder holds no bench, or a damaged one.
    """
    pairing = pair(read_results(a), read_results(b))
    found: list[Compared] = []
    left = list(pairing.left)
    for cells in pairing.pairs:
        written = read_answers(a, cells.a.asked), read_answers(b, cells.b.asked)
        try:
            found.append(_compared(cells, *written))
        except BenchError as error:
            left.append(Left("A", cells.a.asked, str(error)))
    adjusted = holm([each.score.p for each in found])
    whole = [
        Compared(each.cells, each.score, p, each.nfe, each.speed, each.incomparable, each.differing)
        for each, p in zip(found, adjusted, strict=True)
    ]
    return Comparison((a, b), pairing.how, whole, left)


def document(comparison: Comparison) -> Document:
    """Return a comparison as a report."""
    found = comparison.compared
    sure = sum(each.adjusted <= 0.05 for each in found)
    summary = [
        "Differences are B less A, problem by problem: above 0, B is better.",
        comparison.how,
        f"{len(found)} pairs of cells; {len(comparison.left)} cells could not be paired. "
        f"{sure} pairs differ with a corrected p of at most 0.05.",
    ]
    sections = [Section("Differences", tables=[_differences(found)])] if found else []
    if found:
        sections.append(_cost(found))
        sections.append(_settings(found))
    if comparison.left:
        rows = [[left.bench, *left.asked, left.reason] for left in comparison.left]
        unpaired = Table(["bench", "model", "task", "strategy", "why"], rows)
        sections.append(Section("Not paired", tables=[unpaired]))
    names = [(name, str(path)) for name, path in zip("AB", comparison.folders, strict=True)]
    return Document("unison bench, B against A", summary, sections, names)


def content(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    return {
        "folders": [str(folder) for folder in comparison.folders],
        "paired": comparison.how,
        "differences": [
            {
                "a": each.cells.a.asked._asdict(),
                "b": each.cells.b.asked._asdict(),
                "score": {**each.score._asdict(), "p_corrected": each.adjusted},
                "nfe": each.nfe._asdict(),
                "tokens_per_second": each.speed._asdict(),
                "incomparable": list(each.incomparable),
                "differing": dict(each.differing),
            }
            for each in comparison.compared
        ],
        "unpaired": [
            {"bench": left.bench, **left.asked._asdict(), "reason": left.reason}
            for left in comparison.left
        ],
    }


def _compared(
    cells: Paired, a: tuple[list[Answer], list[Batch]], b: tuple[list[Answer], list[Batch]]
) -> Compared:
    """Return a pair before its correction.

    Raises:
        BenchError: Problems are missing in one of the two.
    """
    scores = [_means(answers, "score") for answers, _ in (a, b)]
    _check(scores[0], scores[1])
    work = [_means(answers, "nfe") for answers, _ in (a, b)]
    problems = list(scores[0])
    score = difference([scores[0][p] for p in problems], [scores[1][p] for p in problems])
    nfe = ratio([[work[1][p] for p in problems]], [[work[0][p] for p in problems]])
    differing = _differing(cells)
    return Compared(
        cells, score, score.p, nfe, _speed(cells, a, b), _incomparable(cells, differing), differing
    )


def _means(answers: Sequence[Answer], name: str) -> dict[str, float]:
    """Return the mean of an attribute over the texts of each problem."""
    values: dict[str, list[float]] = {}
    for answer in answers:
        values.setdefault(answer.problem, []).append(float(getattr(answer, name)))
    return {problem: math.fsum(each) / len(each) for problem, each in values.items()}


def _check(a: Mapping[str, float], b: Mapping[str, float]) -> None:
    for bench, own, other in (("A", a, b), ("B", b, a)):
        missing = [problem for problem in other if problem not in own]
        if missing or not own:
            total = len({*own, *other})
            named = ", ".join(missing[:_MOST]) + (", …" if len(missing) > _MOST else "")
            raise BenchError(
                f"missing problems: {bench} has no answers to {len(missing)} of {total} ({named})"
                if missing
                else f"missing problems: {bench} has no answers at all"
            )


def _speed(
    cells: Paired, a: tuple[list[Answer], list[Batch]], b: tuple[list[Answer], list[Batch]]
) -> Ratio:
    """Return the ratio of tokens per second, batch by batch where batches hold the same texts."""
    speeds = [result.tokens_per_second or math.nan for result in cells]
    rows = [[batch.rows for batch in batches] for _, batches in (a, b)]
    if rows[0] != rows[1] or sum(rows[0]) != len(a[0]) or len(a[0]) != len(b[0]):
        return Ratio(speeds[1] / speeds[0], math.nan, math.nan)
    tokens = [_tokens(*bench) for bench in (a, b)]
    seconds = [[batch.seconds for batch in batches] for _, batches in (a, b)]
    return ratio([tokens[1], seconds[0]], [seconds[1], tokens[0]])


def _tokens(answers: Sequence[Answer], batches: Sequence[Batch]) -> list[float]:
    """Return the tokens of every batch."""
    counts, start = [], 0
    for batch in batches:
        counts.append(float(sum(a.tokens for a in answers[start : start + batch.rows])))
        start += batch.rows
    return counts


def _differing(cells: Paired) -> dict[str, tuple[str, str]]:
    facts = [_facts(result) for result in cells]
    names = list(dict.fromkeys([*facts[0], *facts[1]]))
    pairs = {name: tuple(told(each.get(name)) for each in facts) for name in names}
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}


def _facts(result: Result) -> dict[str, Any]:
    model = {f"model.{name}": value for name, value in flat(result.model).items()}
    settings = {f"settings.{name}": value for name, value in flat(result.settings).items()}
    own = {"new_tokens": result.new_tokens, "strategy": result.asked.strategy}
    return of_bench(result) | own | model | settings


def _incomparable(cells: Paired, differing: Mapping[str, Any]) -> list[str]:
    """Return the settings that decide speed and differ."""
    names = [name for name in differing if name in _SPEED or name.startswith("machine.")]
    loads = [result.environment.get("load") or [0.0] for result in cells]
    return [*names, *(["load"] if abs(loads[0][0] - loads[1][0]) > _LOAD else [])]


def _names(found: Sequence[Compared]) -> list[list[str]]:
    """Return task, model and strategy of every pair; both names where they differ."""
    short = naming.models(dict.fromkeys(r.asked.model for each in found for r in each.cells))
    rows = []
    for a, b in (each.cells for each in found):
        models, ways = ([getattr(r.asked, n) for r in (a, b)] for n in ("model", "strategy"))
        names = ([short[name] for name in models], ways)
        rows.append([a.asked.task, *(" → ".join(dict.fromkeys(pair_of)) for pair_of in names)])
    return rows


def _differences(found: Sequence[Compared]) -> Table:
    rows = [
        [
            *names,
            tables.percent(each.cells.a.accuracy),
            tables.percent(each.cells.b.accuracy),
            _points(each.score),
            f"{each.score.better} : {each.score.worse}",
            _probability(each.score.p),
            _probability(each.adjusted),
            "" if each.score.method == SHARES else each.score.method,
        ]
        for names, each in zip(_names(found), found, strict=True)
    ]
    columns = ["task", "model", "strategy", "A, %", "B, %", "B - A, points", "better : worse",
               "p", "p, corrected", "method"]  # fmt: skip
    note = (
        "Brackets hold 95 % intervals: of the difference, Tango's score interval, unless another "
        "method is named. Better : worse counts problems. p: exact test of McNemar, unless another "
        "is named; corrected after Holm for the number of pairs. Tango's interval is no exact one, "
        "so it may leave out 0 where the exact p is a little above 0.05."
    )
    return tables.without_empty(Table(columns, rows, note))


def _cost(found: Sequence[Compared]) -> Section:
    rows = [
        [
            *names,
            _times(each.nfe),
            _times(each.speed),
            f"no: other {', '.join(each.incomparable)}" if each.incomparable else "yes",
        ]
        for names, each in zip(_names(found), found, strict=True)
    ]
    columns = ["task", "model", "strategy", "NFE, B / A", "tokens/s, B / A", "speeds comparable"]
    note = (
        "Brackets hold 95 % intervals over problems for NFE, and over batches for tokens per "
        "second where both benches have the same batches. Speeds are comparable on the same "
        f"machine with the same batch size, dtype and device, at loads within {_LOAD:g}."
    )
    return Section("What it costs", tables=[Table(columns, rows, note)])


def _settings(found: Sequence[Compared]) -> Section:
    values: dict[str, list[tuple[str, str]]] = {}
    for each in found:
        for name, pair_of in each.differing.items():
            values.setdefault(name, []).append(pair_of)
    if not values:
        return Section("What differs", ["Nothing that was recorded differs between A and B."])
    rows = [
        [name, *(_few([pair_of[side] for pair_of in pairs]) for side in (0, 1)), str(len(pairs))]
        for name, pairs in values.items()
    ]
    return Section("What differs", tables=[Table(["setting", "A", "B", "pairs"], rows)])


def _few(values: Sequence[str]) -> str:
    different = list(dict.fromkeys(values))
    more = f"; {len(different) - _MOST} more" if len(different) > _MOST else ""
    return "; ".join(different[:_MOST]) + more


def _points(score: Difference) -> str:
    value, low, high = (100 * x for x in (score.value, score.low, score.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _times(times: Ratio) -> str:
    if not math.isfinite(times.value):
        return tables.NOTHING
    if not math.isfinite(times.low):
        return f"{times.value:.3g}"
    return f"{times.value:.3g} [{times.low:.3g}, {times.high:.3g}]"


def _probability(p: float) -> str:
    return f"{p:.1e}" if p < 0.0001 else f"{p:.4f}"
