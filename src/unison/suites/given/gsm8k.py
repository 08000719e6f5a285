"""GSM8K: word problems of primary school, read from a file of the published form.

Source: Cobbe et al. 2021 (arXiv 2110.14168).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unison.suites.given.jsonl import Record, drawn, found, records
from unison.suites.task import Grade, Problem, SuiteError

_EXPECTED = '{"question": "...", "answer": "... #### 18"}'
_FILES = ("test.jsonl", "gsm8k_test.jsonl")
_TRAIN = ("train.jsonl", "train.jsonl.gz")
_SIGN = r"(?:(?<![\w.)])[-\u2212]\$?|\$[-\u2212]?)?"  # a minus behind a number is a difference
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_NUMBERS = re.compile(rf"{_SIGN}(?:{_DIGITS})")
_FINAL = re.compile(rf"####[ \t]*({_NUMBERS.pattern})")
_SUM = re.compile(r"<<[^<>\n]*>>")  # what a calculator was asked: no part of the text
_NEXT = "\nQuestion:"  # where a model that goes on writing asks itself the next one

_BUILT_IN = (
    (
        "Mara buys 3 boxes of 12 eggs and uses 9 eggs for cakes. How many eggs are left?",
        "Mara buys 3 * 12 = 36 eggs.\nAfter the cakes 36 - 9 = 27 eggs are left.\n#### 27",
    ),
    (
        "A bus holds 50 people. It is 60% full when 8 people get on. How many people are on it?",
        "At first 50 * 60 / 100 = 30 people are on the bus.\nThen there are 30 + 8 = 38.\n#### 38",
    ),
    (
        "Tom saves $4 a week and Lea twice as much. How many dollars do they save in 5 weeks?",
        "Lea saves 4 * 2 = 8 dollars a week.\nTogether they save 4 + 8 = 12 dollars a week.\n"
        "In 5 weeks that is 12 * 5 = 60 dollars.\n#### 60",
    ),
)


@dataclass(frozen=True)
class Gsm8k:
    """Solve a word problem; the number behind ``####``, or else the last one, is the answer.

    Attributes:
        path: Of ``test.jsonl``, or of the folder that holds it.
        shots: Examples before the question, the same for all problems: from the ``train.jsonl``
            beside it, or up to three that are built in.
    """

    about: ClassVar[str] = "GSM8K: word problems whose answer is a number (path=FILE)"
    executes: ClassVar[bool] = False

    path: Path | None = None
    shots: int = 1

    def __post_init__(self) -> None:
        if self.shots < 0:
            raise ValueError(f"shots must be at least 0, got {self.shots}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, or all there are.

        Raises:
            SuiteError: The file cannot be used; the message names the line.
        """
        path = found("gsm8k", self.path, _FILES)
        lines = [(record.line.number, *_pair(record)) for record in records(path, _EXPECTED)]
        shots = self._shots(path, seed)
        return [
            Problem(f"gsm8k/{number:05}", f"{shots}Question: {question}\nAnswer:", f" {answer}")
            for number, question, answer in drawn(lines, count, "gsm8k", seed)
        ]

    def _shots(self, path: Path, seed: int) -> str:
        beside = [path.with_name(name) for name in _TRAIN if name != path.name]
        train = next((file for file in beside if file.is_file()), None) if self.shots else None
        known = list(_BUILT_IN) if train is None else list(map(_pair, records(train, _EXPECTED)))
        if self.shots > len(known):
            where = f"{train} holds" if train else f"without {beside[0]} there are"
            raise SuiteError(f"gsm8k: shots={self.shots}, but {where} only {len(known)} examples.")
        chosen = drawn(known, self.shots, "gsm8k", "shots", seed)
        return "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in chosen)

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the number is right; commas, dollar signs and trailing zeros do not matter.

        Text from the next ``Question:`` on is not read.
        """
        wanted, read = _final(problem.answer), _final(answer.partition(_NEXT)[0])
        return Grade.of(read == wanted, read, f"wanted {wanted}" if read else "no number")


def _pair(record: Record) -> tuple[str, str]:
    """Return the question and its solution, without what a calculator was asked."""
    question, answer = record.text("question").strip(), record.text("answer").strip()
    if not _FINAL.search(answer):
        raise record.wrong("has no number behind #### in its 'answer'")
    return question, _SUM.sub("", answer)


def _final(text: str) -> str:
    """Return the number a solution ends with, in one spelling; nothing where there is none."""
    marked = _FINAL.search(text)
    numbers = [marked[1]] if marked else _NUMBERS.findall(text)
    return _plain(numbers[-1]) if numbers else ""


def _plain(number: str) -> str:
    sign = "-" if number.lstrip("$")[0] in "-\u2212" else ""
    whole, _, rest = re.sub(r"[^0-9.]", "", number).partition(".")
    digits = (whole.lstrip("0") or "0") + (f".{rest.rstrip('0')}" if rest.rstrip("0") else "")
    return digits if digits == "0" else sign + digits
