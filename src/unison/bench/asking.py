"""How does a problem become a canvas, and a canvas that was written an answer?"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

from unison import checkpoints
from unison.bench.record import Answer
from unison.bench.surveys import Survey
from unison.data.chat import Message, chat_template
from unison.generation import Sample, filled
from unison.language_model import LanguageModel
from unison.process import Sequential
from unison.suites import Grade, Problem, Task

Canvas = list[str | int]  # given text and numbers of open tokens, as unison.generate takes them


def canvases(
    model: LanguageModel, problems: Sequence[Problem], new_tokens: int | None
) -> list[Canvas]:
    """Return one canvas per problem.

    A gap with text behind it is as long as the right answer: the model is told its length. All
    others have room for the longest right answer of the task and its end, so length tells nothing.

    Raises:
        ValueError: The model cannot see what stands behind a gap.
    """
    sizes = [len(model.tokenizer.encode(problem.answer)) for problem in problems]
    longest = max(sizes) + 1
    if any(problem.suffix for problem in problems):
        _check_infilling(model)
    marked = isinstance(model.process, Sequential)  # fills a gap by a text with an end of its own
    made: list[Canvas] = []
    for problem, size in zip(problems, sizes, strict=True):
        exact = max(1, size + marked) if problem.suffix else longest
        room = exact if new_tokens is None else new_tokens
        made.append([part for part in (problem.prompt, room, problem.suffix) if part != ""])
    return made


def conversed(
    model: LanguageModel, source: str, problems: Sequence[Problem]
) -> tuple[LanguageModel, list[Problem]]:
    """Return problems as messages of a user, and the model that reads them.

    Special tokens stand by name in what a template writes, and the model returned reads them so.

    Raises:
        ValueError: The checkpoint has no chat template, or text follows a gap.
    """
    if any(problem.suffix for problem in problems):
        raise ValueError("the task leaves gaps before given text, which no message has")
    template = chat_template(checkpoints.locate(source), model.tokenizer)
    spoken = replace(model, tokenizer=replace(model.tokenizer, special=True))
    asked = [
        replace(problem, prompt=template.prompt([Message("user", problem.prompt)]))
        for problem in problems
    ]
    return spoken, asked


def _check_infilling(model: LanguageModel) -> None:
    process = model.process
    if isinstance(process, Sequential) and process.holes is None:
        raise ValueError(
            "the task leaves gaps before given text, which a left-to-right model without marks for "
            "holes does not see (train one with the objective fim)"
        )


def seed_of(seed: int, problem: Problem) -> int:
    """Return the seed of a problem's noise: of its name, so no other problem shares it."""
    words = f"{seed}/{problem.name}".encode()
    return int.from_bytes(hashlib.sha256(words).digest()[:8], "big") >> 1


def answered(
    model: LanguageModel, problem: Problem, number: int, sample: Sample, task: Task | Survey
) -> Answer:
    """Return an answer with its grade; one that is judged with others keeps its tokens instead."""
    text, count = filled(model, sample)
    first = sample.given.index(False) if False in sample.given else len(sample.given)
    surveyed = isinstance(task, Survey)
    grade = Grade(math.nan, text) if surveyed else task.grade(problem, text)
    return Answer(
        problem=problem.name,
        sample=number,
        group=problem.group,
        text=text,
        read=grade.read,
        score=grade.score,
        why=grade.why,
        nfe=sample.nfe,
        tokens=count,
        confidence=_confidence(sample, first, count),
        ids=sample.tokens[first : first + count] if surveyed else None,
    )


def _confidence(sample: Sample, first: int, count: int) -> float | None:
    """Return the mean log-probability of the text's tokens when they were written, if known."""
    sure = [s for s in sample.confidence[first : first + count] if s is not None]
    if not sure or len(sure) < count or min(sure) <= 0:
        return None
    return math.fsum(map(math.log, sure)) / count
