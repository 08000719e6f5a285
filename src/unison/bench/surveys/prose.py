"""Prose: what a model writes freely, or after the beginning of a passage, judged as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from unison.bench.surveys.survey import Text
from unison.data import read_all
from unison.evaluate.judge import Judge, make_judge
from unison.evaluate.panel import Panel
from unison.evaluate.samples import sample_metrics
from unison.suites import Dice, Problem, SuiteError
from unison.types import Estimate

_UNREAD = ("stands for the reference until it is needed",)


@dataclass(frozen=True)
class Prose:
    """Write a text of some length; all texts are measured together and against a reference.

    Attributes:
        path: The reference: a file or folder of text, or a built-in corpus such as
            ``python-docs``. Prompts are cut from it, the n-gram judge is fitted on it, and texts
            are compared with it.
        prefix: Characters of the passage that are given; with 0 the prompt is empty.
        length: Characters of the passage that follows, which is the room for a text.
        judge: ``ngram``, ``smollm2``, or what else ``unison evaluate`` takes.
        metrics: Joined by ``+``, or ``none``; beyond perplexity, entropy, distinct n-grams and
            repetition.
        features: What ``vendi`` and ``mauve`` see.
    """

    about: ClassVar[str] = "free text: perplexity and diversity of all texts together"

    path: Path
    prefix: int = 0
    length: int = 256
    judge: str = "ngram"
    metrics: str = "compression+duplicates+novelty+vendi"
    features: str = "words"

    def __post_init__(self) -> None:
        for name, least in (("prefix", 0), ("length", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        self._panel(_UNREAD)

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` prompts, each with the passage that follows it in the reference.

        Raises:
            SuiteError: The reference or the judge cannot be opened, or the text is too short.
        """
        texts = self._reference()
        long_enough = [text for text in texts if len(text) >= self.prefix + self.length]
        if not long_enough:
            raise SuiteError(
                f"{self.path}: no document has {self.prefix + self.length} characters, the "
                f"longest has {max(map(len, texts))}; choose a smaller prefix or length."
            )
        try:
            _judge(self.judge, texts)  # what cannot be judged is not written first
        except ValueError as error:
            raise SuiteError(str(error)) from None
        return [self._problem(long_enough, seed, number) for number in range(count)]

    def measure(self, texts: Sequence[Text]) -> Mapping[str, Estimate]:
        """Return measurements of all texts together; prompts are not part of them.

        Raises:
            ValueError: There are no texts, or all of them are empty.
        """
        reference = self._reference()
        return sample_metrics(
            [list(text.tokens) for text in texts],
            [text.text for text in texts],
            _judge(self.judge, reference),
            self._panel(reference),
        )

    def _problem(self, texts: Sequence[str], seed: int, number: int) -> Problem:
        dice = Dice("prose", self.prefix, self.length, seed, number)
        name = f"prose/{self.prefix}/{self.length}/{seed}/{number:04}"
        text = dice.one(texts)
        place = dice.between(0, len(text) - self.prefix - self.length)
        # Back to where a word begins.
        start = max(text.rfind(space, 0, place) for space in " \n") + 1
        middle = start + self.prefix
        return Problem(name, text[start:middle], text[middle : middle + self.length])

    def _panel(self, reference: Sequence[str]) -> Panel:
        names = () if self.metrics == "none" else tuple(self.metrics.split("+"))
        return Panel(names, reference, features=self.features)

    def _reference(self) -> tuple[str, ...]:
        try:
            return tuple(document.text for document in read_all([str(self.path)], "file"))
        except ValueError as error:
            raise SuiteError(str(error)) from None


@lru_cache(maxsize=1)
def _judge(name: str, texts: tuple[str, ...]) -> Judge:
    """Return a judge; cells of one bench share it, for counting n-grams takes seconds."""
    return make_judge(name, texts)
