"""What do more tries of a problem bring? Measured curves, fitted laws, and verifiers that err."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from unison.bench.record import Answer, Asked, Interval, Result
from unison.bench.report import naming
from unison.bench.report.document import Figure, Section, Table
from unison.bench.report.drawing import figures
from unison.bench.report.tables import NOTHING, percent
from unison.evaluate import scaling
from unison.evaluate.figures import Curve, Panel
from unison.evaluate.scaling import Band, BetaDifficulty, Extrapolation, Tries, Verifier, Worth

LENIENT = Verifier(completeness=1.0, soundness=0.9)
FURTHER = 16  # times the tries made: how far laws are extrapolated
WRONG = (0.5, 1.0, 2.0)  # what a wrong answer may cost, where a right one is worth 1
_SEED = 0
_NODES = 64  # of a law of rates, for its ceiling
_DRAWN = 8  # cells that get a figure
_Z = 1.959963984540054


class _Pool(NamedTuple):
    """All tries of one problem, cut to as many as every problem has.

    Attributes:
        reads: What was taken to be the answer.
        scores: 1 for right, else 0.
        confidences: ``None`` where the strategy does not say.
    """

    reads: list[str]
    scores: Float[np.ndarray, " N"]
    confidences: Float[np.ndarray, " N"] | None


@dataclass(frozen=True, eq=False)
class _Study:
    """All that is known of a cell.

    Attributes:
        asked: Which one.
        tries: Of every problem.
        k: Numbers of tries measured: doubling, and all that were made.
        curves: Measured bands by name.
        ceiling: Of the verifier.
        best: Number of tries to allow, for each cost of a wrong answer.
        laws: By name, or why there is none.
        verified_law: What the verifier would accept under the Beta law, where there is one.
    """

    asked: Asked
    tries: Tries
    k: Int[np.ndarray, " K"]
    curves: dict[str, Band]
    ceiling: Interval
    best: list[int | None]
    laws: dict[str, Extrapolation | str]
    verified_law: tuple[Int[np.ndarray, " J"], Float[np.ndarray, " J"]] | None


def section(
    results: Sequence[Result],
    answers: Callable[[Asked], Sequence[Answer]],
    verifier: Verifier = LENIENT,
    resamples: int = 200,
) -> Section | None:
    """Return what more tries brought and would bring; ``None`` where nothing was tried twice.

    A try is right if its score is 1; parts of points count for nothing here.

    Args:
        results: Of a bench; cells that are not done, not graded or have one text per problem
                are left out.
        answers: Of a cell.
        verifier: Whose ceiling is told; a thought experiment, nobody judges the texts.
        resamples: Of the problems, to which each law is fitted again for its intervals.
    """
    latest = {result.asked: result for result in results}.values()
    graded = [r for r in latest if r.status == "done" and r.accuracy is not None]
    tried = [result.asked for result in graded if result.samples > 1]
    studies = [
        _study(asked, pools, verifier, resamples)
        for asked in tried
        if (pools := _pools(answers(asked)))
    ]
    if not studies:
        return None
    names = naming.models(study.asked.model for study in studies)
    return Section(
        "More tries",
        _words(verifier, len(studies)),
        [
            _measured_table(studies, names),
            _verifier_table(studies, names),
            _law_table(studies, names),
        ],
        [
            figure
            for i, study in enumerate(studies[:_DRAWN], 1)
            for figure in _figure(study, names, i)
        ],
    )


def _pools(answers: Sequence[Answer]) -> list[_Pool]:
    """Return the tries of every problem, or nothing where one was tried only once."""
    ordered = sorted(answers, key=lambda answer: (answer.problem, answer.sample))
    tries = [list(group) for _, group in groupby(ordered, key=lambda answer: answer.problem)]
    fewest = min(map(len, tries), default=0)
    return [_pool(group[:fewest]) for group in tries] if fewest > 1 else []


def _pool(tries: Sequence[Answer]) -> _Pool:
    told = [a.confidence for a in tries if a.confidence is not None and a.confidence < math.inf]
    return _Pool(
        [answer.read for answer in tries],
        np.array([answer.score >= 1 for answer in tries], dtype=float),
        np.array(told, dtype=float) if len(told) == len(tries) else None,
    )


def _study(asked: Asked, pools: Sequence[_Pool], verifier: Verifier, resamples: int) -> _Study:
    rng = np.random.default_rng(_SEED)
    tries = Tries.of([(pool.scores == 1).tolist() for pool in pools])
    made = tries.fewest
    k = np.union1d(scaling.doubling(made), [made])
    accepted = scaling.verified_table(tries, verifier, made)
    tables = {
        COVERAGE: scaling.pass_table(tries, k),
        ALL_RIGHT: scaling.all_right_table(tries, k),
        MAJORITY: _majority(pools, k),
        VERIFIED: accepted.right[:, k - 1],
        FOOLED: accepted.wrong[:, k - 1],
    }
    if all(pool.confidences is not None for pool in pools):
        tables[CONFIDENT] = _confident(pools, k)
    further = scaling.doubling(FURTHER * made)
    laws = {name: _law(tries, fit, further, resamples) for name, fit in FITS.items()}
    return _Study(
        asked,
        tries,
        k,
        {
            name: scaling.mean_band(table, k[: table.shape[1]], rng=rng)
            for name, table in tables.items()
        },
        _ceiling(tries, laws, verifier, rng),
        [_best_attempts(tries, laws, verifier, wrong) for wrong in WRONG],
        laws,
        _verified_law(laws, verifier, made),
    )


def _majority(pools: Sequence[_Pool], k: Int[np.ndarray, " K"]) -> Float[np.ndarray, "P J"]:
    most = min(int(k.max()), scaling.MOST_VOTERS)
    curves = [scaling.vote_curve(pool.reads[:most], pool.scores[:most]) for pool in pools]
    return scaling.curve_table(curves, k[k <= most])


def _confident(pools: Sequence[_Pool], k: Int[np.ndarray, " K"]) -> Float[np.ndarray, "P K"]:
    curves = [
        scaling.best_curve(pool.scores, pool.confidences)
        for pool in pools
        if pool.confidences is not None
    ]
    return scaling.curve_table(curves, k)


def _law(
    tries: Tries,
    fit: Callable[[Tries], scaling.CoverageLaw],
    k: Int[np.ndarray, " J"],
    resamples: int,
) -> Extrapolation | str:
    rng = np.random.default_rng(_SEED)
    try:
        return scaling.extrapolate(tries, fit, k, rng=rng, resamples=resamples)
    except scaling.ScalingError as error:
        return str(error)


def _ceiling(
    tries: Tries,
    laws: dict[str, Extrapolation | str],
    verifier: Verifier,
    rng: np.random.Generator,
) -> Interval:
    """Return the ceiling under the Beta law, where there is one.

    That of the measured rates is too low: a problem never solved in few tries is not one that
    cannot be solved.
    """
    found = laws[BETA]
    if isinstance(found, str):
        alone = [scaling.Types.measured(tries.take(np.array([i]))) for i in range(len(tries))]
        table = np.array([scaling.ceiling(types, verifier).right for types in alone])
        return _interval(scaling.mean_band(table, np.array([1]), rng=rng), 0, len(tries))
    value, *others = [
        float(scaling.ceiling(law.types(_NODES), verifier).right[0])
        for law in (found.law, *found.resampled)
        if isinstance(law, BetaDifficulty)
    ]
    low, high = np.quantile(others, [0.025, 0.975]).tolist()
    return Interval(value, low, high, len(tries))


def _best_attempts(
    tries: Tries, laws: dict[str, Extrapolation | str], verifier: Verifier, wrong: float
) -> int | None:
    """Return how many tries to allow, on the fitted law of rates where there is one.

    Measured rates of few tries are too often 0, and would stop too soon or never.
    """
    law = _difficulty(laws)
    types = scaling.Types.measured(tries) if law is None else law.types()
    return scaling.best_attempts(types, verifier, Worth(1.0, -wrong))


def _verified_law(
    laws: dict[str, Extrapolation | str], verifier: Verifier, made: int
) -> tuple[Int[np.ndarray, " J"], Float[np.ndarray, " J"]] | None:
    law, k = _difficulty(laws), scaling.doubling(FURTHER * made)
    return None if law is None else (k, scaling.accepted(law.types(), verifier, k).right)


def _difficulty(laws: dict[str, Extrapolation | str]) -> BetaDifficulty | None:
    found = laws[BETA]
    law = None if isinstance(found, str) else found.law
    return law if isinstance(law, BetaDifficulty) else None


def _words(verifier: Verifier, cells: int) -> list[str]:
    drawn = f" Only the first {_DRAWN} cells are drawn." if cells > _DRAWN else ""
    return [
        "Of n tries of a problem, every set of k is k fresh tries: the measured columns are means "
        "over all such sets, hence without bias. Coverage, or pass@k, counts a problem as solved "
        "if one try is right, which needs somebody who recognises it. A majority of the answers "
        "read and the text of the largest mean log-probability need nobody.",
        f"The verifier is simulated: it accepts {100 * verifier.completeness:g} % of the right "
        f"tries and {100 * (1 - verifier.soundness):g} % of the wrong ones, and the first try it "
        "accepts is the answer. Its ceiling is what it reaches however many tries are allowed.",
        f"Beyond the tries made, up to {FURTHER} times as many, only the fitted laws speak, and "
        "nothing tests them there. The power law describes the curve; the Beta law describes how "
        "the chances of single problems are spread, from which the curve follows." + drawn,
    ]


def _measured_table(studies: Sequence[_Study], names: dict[str, str]) -> Table:
    rows = [
        [
            *_who(study, names),
            str(study.tries.fewest),
            percent(_at(study, COVERAGE, 0)),
            *(percent(_at(study, name, -1)) for name in (COVERAGE, ALL_RIGHT, MAJORITY, CONFIDENT)),
        ]
        for study in studies
    ]
    note = "In %, with 95 % bootstrap intervals over problems."
    if any(study.tries.fewest > scaling.MOST_VOTERS for study in studies):
        note += f" Majorities are of the first {scaling.MOST_VOTERS} tries at most."
    heads = ["n", "pass@1", "pass@n", "all n right", "majority of n", "most confident of n"]
    return Table([*_CELL, *heads], rows, note)


def _verifier_table(studies: Sequence[_Study], names: dict[str, str]) -> Table:
    rows = [
        [
            *_who(study, names),
            str(study.tries.fewest),
            percent(_at(study, VERIFIED, -1)),
            percent(_at(study, FOOLED, -1)),
            percent(study.ceiling),
            ", ".join("no limit" if best is None else str(best) for best in study.best),
        ]
        for study in studies
    ]
    note = (
        "In %. A simulated verifier: problems on which it accepts a right try among n, and a wrong "
        "one. The best number of tries to allow is that of the largest expected worth, where a "
        f"right answer is worth 1, none 0 and a wrong one {', '.join(f'-{w:g}' for w in WRONG)}. "
        "It and the ceiling, of any number of tries, are those of the Beta law; where that could "
        "not be fitted, of the measured rates."
    )
    heads = ["n", "accepted, right", "accepted, wrong", "ceiling", "best number of tries"]
    return Table([*_CELL, *heads], rows, note)


def _law_table(studies: Sequence[_Study], names: dict[str, str]) -> Table:
    rows = [
        [*_who(study, names), name, *_law_cells(study, found)]
        for study in studies
        for name, found in study.laws.items()
    ]
    note = (
        "Largest miss: between the law and measured coverage, in points. Intervals hold the choice "
        "of problems, not whether the law is right."
    )
    heads = ["law", "parameters", "largest miss", f"pass@{FURTHER}n"]
    return Table([*_CELL, *heads], rows, note)


def _law_cells(study: _Study, found: Extrapolation | str) -> list[str]:
    if isinstance(found, str):
        return [f"none: {found}", NOTHING, NOTHING]
    parameters = [
        f"{name} {getattr(found.law, name):.3g} [{low:.3g}, {high:.3g}]"
        for name, (low, high) in found.parameters.items()
        if high != low
    ]
    measured = study.curves[COVERAGE]
    miss = 100 * float(np.abs(found.law.coverage(measured.k) - measured.value).max())
    far = _interval(found.band, -1, len(study.tries))
    return [", ".join(parameters), f"{miss:.1f}", percent(far)]


def _who(study: _Study, names: dict[str, str]) -> list[str]:
    return [names[study.asked.model], study.asked.task, study.asked.strategy]


def _at(study: _Study, name: str, index: int) -> Interval | None:
    band = study.curves.get(name)
    return None if band is None else _interval(band, index, len(study.tries))


def _interval(band: Band, index: int, problems: int) -> Interval:
    low, value, high = (float(end[index]) for end in (band.low, band.value, band.high))
    return Interval(value, low, high, problems)


def _figure(study: _Study, names: dict[str, str], number: int) -> tuple[Figure, ...]:
    model, task, strategy = _who(study, names)
    panel = Panel(_curves(study), "tries k", "problems answered right, %", log2_x=True)
    made = study.tries.fewest
    first, last = (_at(study, COVERAGE, i) for i in (0, -1))
    caption = (
        f"{model}, {task}, {strategy}: points are measured on {made} tries of "
        f"{len(study.tries)} problems, bars are 95 % intervals; lines without points are laws "
        "fitted to them, extrapolated."
    )
    alt = (
        f"Coverage of {task} by {model} with {strategy} rises from {percent(first)} % at one try "
        f"to {percent(last)} % at {made}; majority, confidence and an erring verifier lie below."
    )
    slug = re.sub(r"[^A-Za-z0-9]+", "-", task).strip("-")
    return figures(f"tries-{slug}-{number}", [panel], caption, alt)


def _curves(study: _Study) -> list[Curve]:
    """Return the lines of a figure; where there are seven, both of the verifier get one colour."""
    curves = [
        _points(name, study.curves[name])
        for name in (VERIFIED, COVERAGE, MAJORITY, CONFIDENT)
        if name in study.curves
    ]
    curves += [
        _line(name, found.band.k, found.band.value)
        for name, found in study.laws.items()
        if not isinstance(found, str)
    ]
    if study.verified_law is not None:
        curves.append(_line(f"{VERIFIED}, {BETA}", *study.verified_law))
    return curves


def _line(name: str, k: Int[np.ndarray, " J"], value: Float[np.ndarray, " J"]) -> Curve:
    return Curve(name, k.tolist(), (100 * value).tolist(), marked=False)


def _points(name: str, band: Band) -> Curve:
    # Ticks double: a last point between them is in the tables.
    doubled = np.isin(band.k, scaling.doubling(int(band.k.max())))
    error = 100 * (band.high - band.low) / (2 * _Z)
    return Curve(
        name,
        band.k[doubled].tolist(),
        (100 * band.value[doubled]).tolist(),
        error[doubled].tolist(),
    )


COVERAGE, ALL_RIGHT, MAJORITY = "coverage", "all right", "majority"
CONFIDENT, VERIFIED, FOOLED = "most confident", "verifier", "fooled"
POWER, BETA = "power law", "Beta law"
FITS = {POWER: scaling.fit_power_law, BETA: scaling.fit_beta}
_CELL = ["model", "task", "strategy"]
