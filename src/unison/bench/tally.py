"""What do the answers of a cell come to?"""

import math
from collections.abc import Iterable, Mapping, Sequence

from scipy import stats

from unison.bench import facts
from unison.bench.cell import Cell
from unison.bench.memory import Peak
from unison.bench.record import Answer, Batch, Interval, Result
from unison.bench.surveys import Survey
from unison.bench.surveys.survey import Text
from unison.suites import wilson
from unison.types import Estimate


def result(cell: Cell, answers: Sequence[Answer], batches: Sequence[Batch], peak: Peak) -> Result:
    """Return the result of a cell whose answers are all there.

    Args:
        cell: What was asked.
        answers: In order.
        batches: What they took.
        peak: Memory while they were written.
    """
    seconds, cpu = (math.fsum(getattr(b, name) for b in batches) for name in _SECONDS)
    grading = math.fsum(batch.grading for batch in batches)
    tokens, nfe = (sum(getattr(a, name) for a in answers) for name in ("tokens", "nfe"))
    surveyed = isinstance(cell.questions.task, Survey)
    rooms = {part for canvas in cell.canvases for part in canvas if isinstance(part, int)}
    return Result(
        cell.asked,
        "done",
        problems=len(cell.problems),
        samples=cell.plan.samples,
        accuracy=None if surveyed else accuracy(answers),
        groups={} if surveyed else by_group(answers),
        metrics=_measured(cell, answers) if surveyed else {},
        nfe=_mean([a.nfe for a in answers], "evaluations"),
        tokens=_mean([a.tokens for a in answers], "tokens"),
        tokens_per_forward=tokens / nfe if nfe else None,
        tokens_per_second=tokens / seconds if seconds else None,
        tokens_per_cpu_second=tokens / cpu if cpu else None,
        first_token=_mean([b.first_token for b in batches], "s"),
        first_block=_mean([b.first_block for b in batches], "s"),
        seconds=seconds,
        overhead=grading / (grading + seconds) if seconds else None,
        peak_memory=peak.bytes,
        new_tokens=rooms.pop() if len(rooms) == 1 else 0,
        batch_size=cell.plan.batch_size,
        seed=cell.plan.seed,
        prompts_sha256=facts.prompts_hash(cell.problems),
        settings={
            **facts.of_strategy(cell.model, cell.strategy, cell.sampling),
            "chat": cell.plan.chat,
        },
        model=cell.known,
        environment=facts.environment(),
    )


_SECONDS = ("seconds", "cpu_seconds")


def accuracy(answers: Iterable[Answer]) -> Interval:
    """Return the mean score over problems with its 95 % interval.

    Texts of one problem are alike, so a problem counts once, with its mean. Means that are all 0 or
    1 get Wilson's interval; others Student's, or Wilson's where that is narrower and all agree.
    """
    scores: dict[str, list[float]] = {}
    for answer in answers:
        scores.setdefault(answer.problem, []).append(answer.score)
    means = [math.fsum(of) / len(of) for of in scores.values()]
    count, mean = len(means), math.fsum(means) / len(means)
    if all(each in (0.0, 1.0) for each in means) or count < _FEW:
        return Interval(mean, *wilson(math.fsum(means), count), count)
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in means) / (count - 1))
    half = float(stats.t.ppf(0.975, count - 1)) * spread / math.sqrt(count)
    if half == 0:
        return Interval(mean, *wilson(math.fsum(means), count), count)
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), count)


_FEW = 10  # problems below which the mean is no normal variable


def by_group(answers: Sequence[Answer]) -> Mapping[str, Interval]:
    """Return the accuracy of every group of problems, in the order they first came."""
    names = dict.fromkeys(answer.group for answer in answers if answer.group)
    return {name: accuracy(a for a in answers if a.group == name) for name in names}


def _measured(cell: Cell, answers: Sequence[Answer]) -> Mapping[str, Estimate]:
    task = cell.questions.task
    assert isinstance(task, Survey)
    prompts = {problem.name: problem.prompt for problem in cell.problems}
    return task.measure([Text(a.text, list(a.ids or ()), prompts[a.problem]) for a in answers])


def _mean(values: Sequence[float | int], unit: str) -> Estimate | None:
    """Return a mean with its standard error; ``None`` where nothing was measured."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    count, mean = len(known), math.fsum(known) / len(known)
    spread = math.fsum((value - mean) ** 2 for value in known)
    stderr = math.sqrt(spread / (count - 1) / count) if count > 1 else math.nan
    return Estimate(mean, stderr, count, unit)
