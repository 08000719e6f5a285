"""What is asked of a set of samples? The contract of every survey."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from unison.suites import Problem
from unison.types import Estimate


class Text(NamedTuple):
    """One text a model wrote.

    Attributes:
        text: The answer, without prompt and suffix.
        tokens: Its token ids, up to its end.
        prompt: What it continues.
    """

    text: str
    tokens: Sequence[int]
    prompt: str


@runtime_checkable
class Survey(Protocol):
    """A task whose answers are judged together.

    Implementations are frozen dataclasses whose fields are the settings.
    """

    about: ClassVar[str]

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` prompts, which may be empty; ``answer`` says how long texts may be.

        Raises:
            SuiteError: The data file cannot be used; the message names the line.
        """
        ...

    def measure(self, texts: Sequence[Text]) -> Mapping[str, Estimate]:
        """Return measurements of all texts together, by name."""
        ...
