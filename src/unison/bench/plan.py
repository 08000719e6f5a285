"""What is to be run? Models, tasks and strategies as they were spelt, checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unison import aliases
from unison.bench.record import Asked
from unison.bench.surveys import SURVEYS, Survey
from unison.decode import STRATEGIES
from unison.decode.presets import PRESETS
from unison.generation import Sampling, strategy_named
from unison.generation.settings import process_name
from unison.language_model import LanguageModel
from unison.suggest import nearest
from unison.suites import SUITES, TASKS, SuiteError, Task, alternatives, made, spelt

DEFAULT = "default"  # the model's own strategy
_PLAIN = ("steps", "block_length", "temperature", "top_k", "top_p", "cfg", "cache")
_LEFT_TO_RIGHT = "left_to_right"


@dataclass(frozen=True)
class Plan:
    """What decides the numbers of a bench, models apart.

    Attributes:
        models: Folders, files or names, as ``unison.load`` takes them.
        suite: Suites and tasks, ``NAME`` or ``NAME:SETTING=VALUE,...``; ``A|B`` for each of them.
        strategies: Strategies and presets in the same form; ``default`` is the model's own.
        count: Problems of each task.
        samples: Texts for each problem.
        new_tokens: Open tokens of a canvas; ``None`` for the longest right answer of the task and
            its end, or for the right answer's own length where text follows the gap.
        batch_size: Texts written together; changes speed and memory, never text.
        seed: Names problems and noise.
        chat: Whether a problem is asked as a user's message, by the checkpoint's chat template.
        execute: Whether code that a model wrote may be run, for tasks that are graded so.
        dtype: Of the weights; the checkpoint's own if ``None``.
    """

    models: tuple[str, ...]
    suite: tuple[str, ...]
    strategies: tuple[str, ...] = (DEFAULT,)
    count: int = 100
    samples: int = 1
    new_tokens: int | None = None
    batch_size: int = 16
    seed: int = 0
    chat: bool = False
    execute: bool = False
    dtype: str | None = None

    def __post_init__(self) -> None:
        for name in ("models", "suite", "strategies"):
            if not getattr(self, name):
                raise SuiteError(f"{name} is empty; name at least one.")
        for name in ("count", "samples", "batch_size"):
            if getattr(self, name) < 1:
                raise SuiteError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.new_tokens is not None and self.new_tokens < 1:
            raise SuiteError(f"new_tokens must be at least 1, got {self.new_tokens}.")


class Questions(NamedTuple):
    """A task as it was spelt.

    Attributes:
        label: The spelling.
        task: Asks, and grades or measures.
    """

    label: str
    task: Task | Survey


def questions(suite: Sequence[str]) -> list[Questions]:
    """Return every task that is asked for, each once, in order.

    Raises:
        SuiteError: A suite or task is unknown, or a setting does not fit.
    """
    labels = [label for text in suite for one in alternatives(text) for label in _labels(one)]
    return [Questions(label, _task(label)) for label in dict.fromkeys(labels)]


def strategies(spelling: Sequence[str]) -> list[str]:
    """Return every strategy that is asked for, each once, in order.

    Raises:
        SuiteError: A strategy is unknown.
    """
    known = {**STRATEGIES, **PRESETS, DEFAULT: None}
    found = list(dict.fromkeys(one for text in spelling for one in alternatives(text)))
    for text in found:
        name = spelt(text).name
        if name not in known:
            raise SuiteError(
                f"unknown strategy {name!r}{nearest(name, known)}; known: {', '.join(known)}."
            )
    return found


def cells(plan: Plan) -> list[Asked]:
    """Return the cells of the table, model by model, task by task.

    Raises:
        SuiteError: A task or strategy is unknown.
    """
    tasks, ways = questions(plan.suite), strategies(plan.strategies)
    return [
        Asked(model, asked.label, way)
        for model in dict.fromkeys(plan.models)
        for asked in tasks
        for way in ways
    ]


def sampling(model: LanguageModel, spelling: str) -> Sampling:
    """Return how a strategy that was spelt writes with a model.

    A left-to-right model stops at the end of its text unless the spelling says otherwise.

    Raises:
        ValueError: A setting is unknown or out of range.
    """
    name, said = spelt(spelling)
    said, _ = aliases.canonical(said)
    plain = {key: value for key, value in said.items() if key in _PLAIN}
    own = {key: value for key, value in said.items() if key not in _PLAIN}
    chosen = None if name == DEFAULT else name
    if process_name(model.process) == "sequential" and chosen in (None, _LEFT_TO_RIGHT):
        chosen, own = _LEFT_TO_RIGHT, {"stop_at_end": True, **own}
    if not own:
        return Sampling(chosen, **_numbers(plain))
    base = strategy_named(model.defaults.strategy if chosen is None else chosen)
    return Sampling(aliases.built(base, own, plain.get("steps")), **_numbers(plain))


def _numbers(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain settings with whole numbers where decimals are meant."""
    real = ("temperature", "top_p", "cfg")
    return {name: float(value) if name in real else value for name, value in plain.items()}


def _labels(text: str) -> list[str]:
    """Return the tasks a spelling stands for: itself, or those of a suite.

    Raises:
        SuiteError: There is no such suite or task, or a suite was given settings.
    """
    name, settings = spelt(text)
    if name in TASKS or name in SURVEYS:
        return [text]
    if name not in SUITES:
        known = [*SUITES, *TASKS, *SURVEYS]
        raise SuiteError(
            f"unknown suite or task {name!r}{nearest(name, known)}; suites: {', '.join(SUITES)}; "
            f"tasks: {', '.join([*TASKS, *SURVEYS])}."
        )
    if settings:
        raise SuiteError(
            f"{text!r}: settings belong to a task, and {name} is a suite of "
            f"{', '.join(SUITES[name])}."
        )
    return list(SUITES[name])


def _task(label: str) -> Task | Survey:
    name, settings = spelt(label)
    return made({**TASKS, **SURVEYS}[name], label, settings)
