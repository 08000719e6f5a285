"""LAMBADA: the last word of a passage that only the whole passage gives away.

Source: Paperno et al. 2016 (arXiv 1606.06031).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unison.suites.given.jsonl import drawn, found, lines, records
from unison.suites.task import Grade, Problem, SuiteError

_FILES = ("lambada_test_plain_text.txt", "lambada_test.jsonl")
_MARKS = ".,;:!?'\"`()[]*_-\u2013\u2014\u2018\u2019\u201c\u201d\u2026"


@dataclass(frozen=True)
class Lambada:
    """Say the last word of a passage.

    Attributes:
        path: Of a text file with one passage per line, of a ``.jsonl`` file with the field
            ``text``, or of the folder that holds one.
    """

    about: ClassVar[str] = "LAMBADA: the last word of a passage (path=FILE)"
    executes: ClassVar[bool] = False

    path: Path | None = None

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, or all there are.

        Raises:
            SuiteError: The file cannot be used; the message names the line.
        """
        path = found("lambada", self.path, _FILES)
        passages = [(number, *_split(path, number, text)) for number, text in _passages(path)]
        return [
            Problem(f"lambada/{number:05}", context, f" {word}")
            for number, context, word in drawn(passages, count, "lambada", seed)
        ]

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the first word is right; capitals and marks around it do not matter."""
        read, wanted = _bare(answer), _bare(problem.answer)
        return Grade.of(read == wanted, read, f"wanted {wanted}")


def _passages(path: Path) -> list[tuple[int, str]]:
    if ".jsonl" in path.suffixes:
        read = records(path, '{"text": "..."}')
        return [(record.line.number, record.text("text").strip()) for record in read]
    return [(line.number, line.text) for line in lines(path)]


def _split(path: Path, number: int, text: str) -> tuple[str, str]:
    """Return a passage without its last word, and the word."""
    context, _, word = text.rpartition(" ")
    if not (context.strip() and _bare(word)):
        raise SuiteError(
            f"{path}:{number} does not end in a word after others: {text[-40:]!r}; "
            "expected one passage per line."
        )
    return context.rstrip(), word


def _bare(text: str) -> str:
    words = text.split(maxsplit=1)
    return words[0].strip(_MARKS).casefold() if words else ""
