"""What does somebody ask of an engine, and what are they told in return?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from unison.generation import Sample
from unison.generation.ordering import Order
from unison.language_model import LanguageModel


@dataclass(frozen=True)
class Terms:
    """Under which terms something is done.

    Attributes:
        client: Whose it is; clients take turns.
        priority: Higher goes first; one of higher priority may interrupt.
        deadline: Seconds after which nobody waits for it any more; ``None`` for never.
    """

    client: str = ""
    priority: int = 0
    deadline: float | None = None

    def __post_init__(self) -> None:
        if self.deadline is not None and not self.deadline > 0:
            raise ValueError(f"deadline must be positive seconds, got {self.deadline}.")


@dataclass(frozen=True)
class Write:
    """Texts to write.

    Attributes:
        order: What ``unison.generation.ordering.ordered`` made of it; each of its texts is told by
            its number there.
        stop: Strings that end a text; it is cut before the first of them.
        watch: Whether every step is told as ``Step``.
        terms: Of the service.
    """

    order: Order
    stop: tuple[str, ...] = ()
    watch: bool = False
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True)
class Question:
    """Anything else a model is asked: a score, a choice.

    Attributes:
        model: Is asked.
        answer: From the model to the answer. It gets a model of the same weights that shares its
            evaluations with everything that runs, and runs in the engine's thread.
        tokens: Most positions it evaluates at once, for the account of memory.
        terms: Of the service.
    """

    model: LanguageModel
    answer: Callable[[LanguageModel], Any]
    tokens: int = 0
    terms: Terms = field(default_factory=Terms)


Work = Write | Question


class Started(NamedTuple):
    """Work began.

    Attributes:
        waited: Seconds it waited for its turn.
    """

    waited: float


class Step(NamedTuple):
    """A text after a step; told where ``Write.watch`` asks for it. Later ones replace earlier.

    Attributes:
        text: Its number in the order.
        step: Steps done; 0 for the canvas before the first.
        tokens: The canvas.
        written: Whether a token was decided by now, given ones included.
        confidence: Probability of each decided token when it was written; 1 where given, ``None``
            where the strategy does not say, or nothing is decided.
        guess: What would be written at undecided positions, and its probability; by position.
        changed: Positions this step wrote, rewrote or took back.
        settled: How many positions from the left will never change again.
    """

    text: int
    step: int
    tokens: tuple[int, ...]
    written: tuple[bool, ...]
    confidence: tuple[float | None, ...]
    guess: dict[int, tuple[int, float]]
    changed: tuple[int, ...]
    settled: int


class Wrote(NamedTuple):
    """A text is finished.

    Attributes:
        text: Its number in the order.
        sample: What ``unison.generate`` returns for it; where ``ended`` is ``stop``, only the
            answer up to the string that ended it counts.
        answer: What stands between the given parts, cut at its end or a stop string.
        tokens: Tokens of the answer, an end token included.
        ended: ``stop`` at an end token or a stop string, ``length`` where the canvas was full.
    """

    text: int
    sample: Sample
    answer: str
    tokens: int
    ended: str


class Answered(NamedTuple):
    """A question is answered."""

    value: Any


class Failed(NamedTuple):
    """It cannot be done; nothing else will be told.

    Attributes:
        error: ``ValueError`` for what was asked, ``TimeoutError`` for a deadline,
            ``InterruptedError`` for a server that goes down, anything else for a defect.
    """

    error: Exception


class Finished(NamedTuple):
    """All of it is done; nothing else will be told.

    Attributes:
        seconds: From its start to its end.
    """

    seconds: float


Event = Started | Step | Wrote | Answered | Failed | Finished
Tell = Callable[[Event], None]


class Full(RuntimeError):  # noqa: N818  # a state, told as 429
    """The engine takes no more work for now; the message says when to come again."""


class Stats(NamedTuple):
    """What an engine does at the moment, and has done.

    Attributes:
        waiting: Work that has not begun.
        running: Work that has.
        rows: Texts being written.
        memory: Bytes of the budget in use, by the account.
        steps: Rounds of evaluations so far.
        evaluations: Rows evaluated so far.
        batch: Rows of the last round.
        model_seconds: Spent in networks.
        step_seconds: Spent in strategies.
        busy_seconds: Spent in all while there was work; the rest is the engine's own.
        tokens: Written so far.
        finished: Work done.
        failed: Work that failed.
        cancelled: Work given up by who asked.
        preempted: How often work was interrupted.
        prefix_hits: Prompt tokens that were remembered instead of read.
        prefix_misses: Prompt tokens that were read.
    """

    waiting: int = 0
    running: int = 0
    rows: int = 0
    memory: int = 0
    steps: int = 0
    evaluations: int = 0
    batch: int = 0
    model_seconds: float = 0.0
    step_seconds: float = 0.0
    busy_seconds: float = 0.0
    tokens: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    preempted: int = 0
    prefix_hits: int = 0
    prefix_misses: int = 0
