"""Which model, task and strategy go together? One cell of the table, before it is run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unison.bench import asking, plan
from unison.bench.plan import Plan, Questions
from unison.bench.record import Asked
from unison.decode import Strategy
from unison.generation import Sampling, check
from unison.language_model import LanguageModel
from unison.suites import Problem


@dataclass(frozen=True)
class Cell:
    """A model, the problems of a task and a strategy, found to go together.

    Attributes:
        asked: As spelt.
        plan: The bench it belongs to.
        model: Writes.
        known: Facts of the model.
        questions: The task.
        problems: What is asked.
        canvases: The same, as the model sees it.
        sampling: How it is written.
        strategy: What that comes to for this model.
    """

    asked: Asked
    plan: Plan
    model: LanguageModel
    known: dict[str, Any]
    questions: Questions
    problems: Sequence[Problem]
    canvases: Sequence[asking.Canvas]
    sampling: Sampling
    strategy: Strategy

    @property
    def texts(self) -> int:
        """How many texts are to be written."""
        return len(self.problems) * self.plan.samples


def prepared(
    asked: Asked,
    chosen: Plan,
    model: LanguageModel,
    known: dict[str, Any],
    about: tuple[Questions, Sequence[Problem]],
) -> Cell:
    """Return a cell that can be run.

    Raises:
        ValueError: The model cannot do the task, or cannot be written with like that.
    """
    questions, problems = about
    if getattr(questions.task, "executes", False) and not chosen.execute:
        raise ValueError("grading runs code that the model wrote; allow it with --execute")
    sampling = plan.sampling(model, asked.strategy)
    told = problems
    if chosen.chat:
        model, told = asking.conversed(model, asked.model, problems)
    canvases = asking.canvases(model, told, chosen.new_tokens)
    strategy = check(model, canvases, sampling)
    return Cell(asked, chosen, model, known, questions, problems, canvases, sampling, strategy)
