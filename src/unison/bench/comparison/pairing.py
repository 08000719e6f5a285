"""Which cells of two benches say something together? Same questions, and one thing different."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from unison.bench.record import Asked, Result


class Paired(NamedTuple):
    """Two cells, one of each bench."""

    a: Result
    b: Result


class Left(NamedTuple):
    """A cell without a partner.

    Attributes:
        bench: ``A`` or ``B``.
        asked: The cell.
        reason: Why it has none.
    """

    bench: str
    asked: Asked
    reason: str


class Pairing(NamedTuple):
    """How the cells of two benches go together.

    Attributes:
        how: By what they were paired, for people.
        pairs: Cells that asked the same.
        left: All others, and why.
    """

    how: str
    pairs: list[Paired]
    left: list[Left]


class _Rule(NamedTuple):
    """What must be equal for two names to be partners.

    Attributes:
        word: For it; empty where anything will do.
        key: The part of a name that must be equal.
    """

    word: str
    key: Callable[[str], str]


def pair(a: Sequence[Result], b: Sequence[Result]) -> Pairing:
    """Pair the cells of two benches.

    Partners have the same task, and the same model and strategy. If no model is in both benches and
    each has one, the strategy is enough; if no strategy is and each has one, the model is. Models
    go by their whole path, or by its last part where no path is in both benches.
    """
    model = _model_rule(*({r.asked.model for r in results} for results in (a, b)))
    way = _strategy_rule(*({r.asked.strategy for r in results} for results in (a, b)))
    mine, theirs = (
        {(r.asked.task, model.key(r.asked.model), way.key(r.asked.strategy)): r for r in results}
        for results in (a, b)
    )
    pairs: list[Paired] = []
    left: list[Left] = []
    for key, result in mine.items():
        reason = _absent("B", key, theirs) if key not in theirs else _refusal(result, theirs[key])
        if reason:
            left.append(Left("A", result.asked, reason))
        else:
            pairs.append(Paired(result, theirs[key]))
    left += [
        Left("B", result.asked, _absent("A", key, mine))
        for key, result in theirs.items()
        if key not in mine
    ]
    return Pairing(_how(model, way), pairs, left)


def _model_rule(a: set[str], b: set[str]) -> _Rule:
    if a & b:
        return _Rule("model", _whole)
    ends = [{_end(name) for name in names} for names in (a, b)]
    if ends[0] & ends[1] and len(ends[0]) == len(a) and len(ends[1]) == len(b):
        return _Rule("last part of the model's path", _end)
    return _Rule("", _any) if len(a) == len(b) == 1 else _Rule("model", _whole)


def _strategy_rule(a: set[str], b: set[str]) -> _Rule:
    alone = not a & b and len(a) == len(b) == 1
    return _Rule("", _any) if alone else _Rule("strategy", _whole)


def _how(model: _Rule, way: _Rule) -> str:
    same = [word for word in ("task", model.word, way.word) if word]
    free = [word for word, rule in (("model", model), ("strategy", way)) if not rule.word]
    told = (
        f"Cells are paired by {', '.join(same[:-1])} and {same[-1]}"
        if same[1:]
        else ("Cells are paired by task")
    )
    return f"{told}; each bench has one {' and one '.join(free)}." if free else f"{told}."


def _whole(name: str) -> str:
    return name


def _end(name: str) -> str:
    return PurePosixPath(name).name


def _any(_: str) -> str:
    return ""


def _absent(bench: str, key: tuple[str, str, str], others: Mapping[tuple, Result]) -> str:
    """Return what a bench lacks: the task, or this model and strategy on it."""
    if key[0] not in {task for task, *_ in others}:
        return f"{bench} has no task {key[0]!r}"
    return f"{bench} did not ask this model and strategy"


def _refusal(a: Result, b: Result) -> str:
    """Return why two partners cannot be compared; empty if they can."""
    for bench, result in (("A", a), ("B", b)):
        if result.status != "done":
            return f"{result.status} in {bench}: {result.reason}"
    if a.seed != b.seed:
        return f"other seed: {a.seed} in A, {b.seed} in B; run both with one --seed"
    if a.prompts_sha256 != b.prompts_sha256:
        return (
            f"other prompts: {a.problems} problems with hash {a.prompts_sha256[:12]} in A, "
            f"{b.problems} with {b.prompts_sha256[:12]} in B"
        )
    if a.accuracy is None or b.accuracy is None:
        return "texts are judged as a whole, so there are no problems to pair"
    return ""
