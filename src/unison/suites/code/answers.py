"""Which part of an answer is code, and what did running it say?"""

import re
from collections.abc import Callable, Sequence

from unison.suites.code.sandbox import Outcome
from unison.suites.given.jsonl import Record
from unison.suites.task import Grade

_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_AFTERWARDS = ('"""', "'''", "```", "[DONE]", "assert ", "print(", "if __name__")


def distinct(read: Sequence[Record], name: str) -> Sequence[Record]:
    """Return the records as they are.

    Raises:
        SuiteError: Two of them have the same name.
    """
    seen: set[str] = set()
    for record in read:
        value = str(record.content.get(name, record.line.number))
        if value in seen:
            raise record.wrong(f"repeats the {name} {value!r}")
        seen.add(value)
    return read


def fenced(answer: str) -> str:
    """Return the first fenced block, or the whole answer where there is none."""
    block = _FENCED.search(answer)
    return block[1] if block else answer


def body(text: str) -> str:
    """Return the rest of a function: all before the next line that starts at the margin."""
    return _until(text, lambda line: bool(line[:1].strip()))


def program(text: str) -> str:
    """Return definitions without what models write behind them: tests, calls, the next task."""
    return _until(text, lambda line: line.startswith(_AFTERWARDS))


def starts_at_margin(text: str) -> bool:
    """Whether the first line that is not blank has no indentation: code that stands alone."""
    first = next((line for line in text.splitlines() if line.strip()), " ")
    return not first[0].isspace()


def filled(hole: str, answer: str) -> str:
    """Return an answer for a hole; where that ends a line, so does the answer."""
    return answer + "\n" if hole.endswith("\n") and not answer.endswith("\n") else answer


def graded(outcome: Outcome, read: str) -> Grade:
    """Return 1 for a program that passed; else 0 and what went wrong."""
    return Grade.of(outcome.status == "passed", read, f"{outcome.status}: {outcome.detail}")


def _until(text: str, ends: Callable[[str], bool]) -> str:
    """Return the lines before the first that ends the code; the first line never does."""
    lines = text.splitlines(keepends=True)
    last = next((at for at, line in enumerate(lines) if at and ends(line)), len(lines))
    return "".join(lines[:last])
