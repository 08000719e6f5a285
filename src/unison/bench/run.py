"""How is a whole bench run so that it can be killed, resumed and trusted?"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from unison import files
from unison.bench import cell, facts, plan, record, writing
from unison.bench.plan import Plan, Questions
from unison.bench.record import Asked, Result
from unison.language_model import LanguageModel
from unison.suites import Problem
from unison.train import folder


class Progress(NamedTuple):
    """Where a bench stands.

    Attributes:
        done: Texts written so far, or skipped with their cell.
        total: Texts in all.
        asked: The cell at hand.
        result: Its result, once it is there.
    """

    done: int
    total: int
    asked: Asked
    result: Result | None = None


Load = Callable[[str], LanguageModel]
Observe = Callable[[Progress], None]


def run(
    chosen: Plan, out: Path, load: Load, *, resume: bool = False, observe: Observe = lambda _: None
) -> list[Result]:
    """Run every cell; one that cannot be run says why, and never stands in another's way.

    The answers and results that are in ``out`` already are kept. Equal plans give equal answers,
    whatever the batch size and wherever a run was interrupted.

    Args:
        chosen: What to run.
        out: A new folder, or with ``resume`` that of the same plan.
        load: Returns a model by the name it has in the plan.
        resume: Go on with what is in ``out``.
        observe: Called whenever something was written.

    Raises:
        ValueError: The plan names something unknown, a data file cannot be used, or the folder
            holds something else. Nothing was run.
        OSError: A file cannot be written.
    """
    tasks = asked_problems(chosen)
    folder.claim(out, resume, "bench", chosen, [])
    files.sweep(out)
    results = {r.asked: r for r in _standing(out) if r.status != "failed"}
    todo = plan.cells(chosen)
    sizes = {asked: len(tasks[asked.task][1]) * chosen.samples for asked in todo}
    tally = _Tally(sum(sizes.values()), observe)
    models = _Models(load)
    for asked in todo:
        before = tally.done
        tally.tell(asked)
        if asked not in results:
            results[asked] = _outcome(chosen, asked, models, tasks[asked.task], out, tally)
            _save(out, [results[each] for each in todo if each in results])
        tally.done = before + sizes[asked]
        tally.tell(asked, results[asked])
    return [results[asked] for asked in todo]


def asked_problems(chosen: Plan) -> dict[str, tuple[Questions, Sequence[Problem]]]:
    """Return every task with its problems, by label.

    Raises:
        ValueError: A task is unknown or its data file cannot be used.
    """
    plan.strategies(chosen.strategies)
    return {
        asked.label: (asked, asked.task.problems(chosen.count, chosen.seed))
        for asked in plan.questions(chosen.suite)
    }


class _Tally:
    """Counts texts for whoever watches."""

    def __init__(self, total: int, observe: Observe) -> None:
        self.done, self._total, self._observe = 0, total, observe

    def tell(self, asked: Asked, result: Result | None = None) -> None:
        self._observe(Progress(self.done, self._total, asked, result))


class _Models:
    """Keeps the model of the cells at hand, and why one could not be loaded."""

    def __init__(self, load: Load) -> None:
        self._load, self._name = load, ""
        self._model: LanguageModel | None = None
        self._known: dict[str, Any] = {}
        self._why = ""

    def get(self, name: str) -> tuple[LanguageModel, dict[str, Any]]:
        """Return a model and what is known of it.

        Raises:
            ValueError: It cannot be loaded.
        """
        if name != self._name:
            self._name, self._model, self._why = name, None, ""  # frees the one before
            try:
                self._model = self._load(name)
                self._known = facts.of_model(self._model, name)
            except (ValueError, OSError) as error:
                self._why = str(error)
        if self._model is None:
            raise ValueError(self._why)
        return self._model, self._known


def _outcome(
    chosen: Plan,
    asked: Asked,
    models: _Models,
    about: tuple[Questions, Sequence[Problem]],
    out: Path,
    tally: _Tally,
) -> Result:
    """Return what comes of a cell: its result, or why there is none."""
    empty = Result(
        asked,
        "failed",
        samples=chosen.samples,
        batch_size=chosen.batch_size,
        seed=chosen.seed,
        environment=facts.environment(),
    )

    def tick(texts: int) -> None:
        tally.done += texts
        tally.tell(asked)

    try:
        model, known = models.get(asked.model)
    except ValueError as error:
        return replace(empty, reason=str(error))
    try:
        made = cell.prepared(asked, chosen, model, known, about)
    except ValueError as error:
        return replace(empty, status="skipped", reason=str(error), model=known)
    try:
        return writing.run(made, out, tick)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  # one cell's crash must not lose the others
        return replace(empty, reason=f"{type(error).__name__}: {error}", model=known)


def _standing(out: Path) -> list[Result]:
    return record.read_results(out) if (out / record.RESULTS).exists() else []


def _save(out: Path, results: Sequence[Result]) -> None:
    files.write_text(out / record.RESULTS, "".join(record.line(r) + "\n" for r in results))
