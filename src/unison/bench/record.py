"""What is remembered of a bench? Answers as they come, and one result per cell.

``DIR/run.json`` says what was asked, ``DIR/answers/CELL.jsonl`` holds every answer and the time of
every batch, ``DIR/results.jsonl`` one line per cell, made from the answers alone.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from unison import files
from unison.types import Estimate

RESULTS, ANSWERS = "results.jsonl", "answers"
FORMAT_VERSION = 1


class BenchError(ValueError):
    """A bench that cannot be run, read or compared; the message says why."""


class Interval(NamedTuple):
    """A share or a mean with its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end.
        high: Upper end.
        n: Independent problems behind it.
    """

    value: float
    low: float
    high: float
    n: int


class Asked(NamedTuple):
    """Which cell of the table: three texts as the caller spelt them.

    Attributes:
        model: Folder, file or name.
        task: ``copy`` or ``copy:items=5``.
        strategy: ``threshold:threshold=0.9``.
    """

    model: str
    task: str
    strategy: str


@dataclass(frozen=True)
class Answer:
    """One text a model wrote for one problem.

    Attributes:
        problem: Name of the problem.
        sample: Number of the text, from 0.
        group: The problem's group.
        text: What was written.
        read: What was taken to be the answer.
        score: What it is worth, in [0, 1].
        why: Why it is not right.
        nfe: Network evaluations.
        tokens: Tokens of the text, its end included.
        confidence: Mean log-probability of its tokens when they were written, nats per token;
            ``None`` where the strategy does not say.
        ids: Its token ids, kept for tasks that are judged as a whole.
    """

    problem: str
    sample: int
    group: str
    text: str
    read: str
    score: float
    why: str
    nfe: int
    tokens: int
    confidence: float | None = None
    ids: Sequence[int] | None = None


@dataclass(frozen=True)
class Batch:
    """What it took to write some answers together.

    Attributes:
        rows: Texts.
        seconds: Wall time of writing.
        cpu_seconds: Of this process, all threads.
        grading: Wall seconds of reading and grading the answers.
        first_token: Seconds until the leftmost open token of each text is final, mean over rows.
        first_block: Seconds until every token of the first block is, mean over rows; the whole
            text where there are no blocks.
    """

    rows: int
    seconds: float
    cpu_seconds: float
    grading: float
    first_token: float
    first_block: float


@dataclass(frozen=True)
class Result:
    """One cell: what was asked, what came out, and all that decides the numbers.

    Attributes:
        asked: Model, task and strategy as spelt.
        status: ``done``, ``skipped`` because the model cannot do it, or ``failed`` on the way.
        reason: Why it was skipped or failed.
        problems: How many.
        samples: Texts for each.
        accuracy: Mean score; ``None`` where nothing is graded.
        groups: The same by group.
        metrics: Of tasks judged as a whole.
        nfe: Network evaluations of a text.
        tokens: Tokens of a text.
        tokens_per_forward: All tokens over all evaluations.
        tokens_per_second: All tokens over all wall seconds of writing.
        tokens_per_cpu_second: The same over CPU seconds.
        first_token: Seconds, over batches.
        first_block: Seconds, over batches.
        seconds: Wall seconds of writing.
        overhead: Share of the cell's wall time that was not writing.
        peak_memory: Bytes: of the device on GPU, of the process on CPU.
        new_tokens: Open tokens of a canvas; 0 where that differs between problems.
        batch_size: Rows written together.
        seed: Names problems and noise.
        prompts_sha256: Of all prompts and suffixes, in order, as text.
        settings: The strategy as it ran, every field, and temper, cache and guidance.
        model: Path, format, process, parameters, dtype, device and a hash of the weights.
        environment: Versions, machine, git state, and the load of others at the end.
    """

    asked: Asked
    status: Literal["done", "skipped", "failed"]
    reason: str = ""
    problems: int = 0
    samples: int = 1
    accuracy: Interval | None = None
    groups: Mapping[str, Interval] = field(default_factory=dict)
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    nfe: Estimate | None = None
    tokens: Estimate | None = None
    tokens_per_forward: float | None = None
    tokens_per_second: float | None = None
    tokens_per_cpu_second: float | None = None
    first_token: Estimate | None = None
    first_block: Estimate | None = None
    seconds: float = 0.0
    overhead: float | None = None
    peak_memory: int | None = None
    new_tokens: int = 0
    batch_size: int = 1
    seed: int = 0
    prompts_sha256: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)


def line(result: Result) -> str:
    """Return a result as one line of JSON."""
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    return files.to_json({"format_version": FORMAT_VERSION, **fields})


def read_results(folder: Path) -> list[Result]:
    """Return the results of a finished or running bench, in the order they were made.

    Raises:
        BenchError: There are none, a line is damaged, or they were written by a newer version.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise BenchError(f"{folder} holds no {RESULTS}; it is not the folder of a bench.")
    return [
        _result(path, number, text)
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    ]


def read_answers(folder: Path, asked: Asked) -> tuple[list[Answer], list[Batch]]:
    """Return what was written for a cell; what a kill left half done is left out."""
    answers: list[Answer] = []
    batches: list[Batch] = []
    for content in whole_lines(answers_path(folder, asked)):
        if "problem" in content:
            answers.append(_answer(content))
        else:
            batches.append(_batch(content))
    return answers, batches


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of answers up to its last batch."""
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    last = 0
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:  # a kill cut the line
            break
        last = last if "problem" in lines[-1] else len(lines)
    return lines[:last]


def answers_path(folder: Path, asked: Asked) -> Path:
    """Return where the answers of a cell lie."""
    words = "--".join([Path(asked.model).name, asked.task, asked.strategy])
    readable = re.sub(r"[^A-Za-z0-9.=-]+", "_", words)[:_LONGEST]
    number = hashlib.sha256("\0".join(asked).encode()).hexdigest()[:8]
    return folder / ANSWERS / f"{readable}-{number}.jsonl"


def _answer(content: dict[str, Any]) -> Answer:
    content["score"] = files.number(content["score"])
    return Answer(**content)


def _batch(content: Mapping[str, Any]) -> Batch:
    times = {name: files.number(content[name]) for name in content if name != "rows"}
    return Batch(content["rows"], **times)


def _result(path: Path, number: int, text: str) -> Result:
    try:
        content = json.loads(text)
        version = content.pop("format_version")
        if version > FORMAT_VERSION:
            raise BenchError(
                f"{path}:{number} was written by a newer unison (format {version}); upgrade."
            )
        return Result(**{name: _read(name, value) for name, value in content.items()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, BenchError):
            raise
        raise BenchError(f"{path}:{number} is damaged ({error}).") from None


def _read(name: str, value: Any) -> Any:
    """Return an attribute of a result as it was before it became JSON."""
    if value is None or name not in _KINDS:
        return value
    kind, many = _KINDS[name]
    return {key: kind(*item) for key, item in value.items()} if many else kind(*value)


def _interval(value: float | None, low: float | None, high: float | None, n: int) -> Interval:
    return Interval(files.number(value), files.number(low), files.number(high), n)


def _estimate(value: float | None, stderr: float | None, n: int, unit: str) -> Estimate:
    return Estimate(files.number(value), files.number(stderr), n, unit)


_LONGEST = 120  # letters of a file name
_KINDS = {
    "asked": (Asked, False),
    "accuracy": (_interval, False),
    "groups": (_interval, True),
    "metrics": (_estimate, True),
    "nfe": (_estimate, False),
    "tokens": (_estimate, False),
    "first_token": (_estimate, False),
    "first_block": (_estimate, False),
}
