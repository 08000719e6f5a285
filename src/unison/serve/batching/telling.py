"""What is told of a text while it is written, and when it is done?"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unison.decode import Canvas, StepInfo, Strategy
from unison.decode.finality import settled
from unison.generation import Sample, filled
from unison.generation.ordering import Text
from unison.process import Absorbing, Sequential
from unison.serve.batching.work import Step, Tell, Write, Wrote


class Seen(NamedTuple):
    """A batch after a step, on the host: a list of rows, each a list of positions.

    Attributes:
        tokens: The canvases.
        decided: Whether a token stands there.
        settled: Positions from the left that will never change again.
        changed: Whether the step changed the token.
        candidate: What would be written, -1 for no opinion; ``None`` where nobody says.
        confidence: Its probability; ``None`` where nobody says.
    """

    tokens: list[list[int]]
    decided: list[list[bool]]
    settled: list[int]
    changed: list[list[bool]]
    candidate: list[list[int]] | None
    confidence: list[list[float]] | None


def seen(strategy: Strategy, process: object, canvas: Canvas, info: StepInfo) -> Seen:
    """Return what a step left, brought to the host."""
    return Seen(
        canvas.tokens.tolist(),
        _decided(process, canvas).tolist(),
        settled(strategy, process, canvas).tolist(),
        info.changed.tolist(),
        None if info.candidate is None else info.candidate.tolist(),
        None if info.confidence is None else info.confidence.double().tolist(),
    )


def _decided(process: object, canvas: Canvas) -> Tensor:
    """Return where a token stands: under a process without masks, where no noise is left."""
    if isinstance(process, Absorbing | Sequential):
        return canvas.given | process.settled(canvas.tokens)
    if canvas.level is None:
        return canvas.given
    return canvas.given | (canvas.level == 0)


class Teller:
    """Follows one text: tells its steps, and says when a stop string ended it.

    Args:
        work: What it belongs to.
        number: Which text of the order.
        tell: Who is told.
    """

    def __init__(self, work: Write, number: int, tell: Tell) -> None:
        self.work, self.number, self._tell = work, number, tell
        self._text: Text = work.order.texts[number]
        given = self._text.row.given
        self._sure: list[float | None] = [1.0 if known else None for known in given]
        self._step_of = [0] * len(given)
        self._told = -1
        self.last: tuple[list[int], int] = (list(self._text.row.tokens), 0)

    @property
    def curious(self) -> bool:
        """Whether it needs to see the steps at all."""
        return self.work.watch or bool(self.work.stop)

    def step(self, number: int, row: int, seen: Seen) -> bool:
        """Follow a step; return whether the text has ended at a stop string.

        Args:
            number: Steps done.
            row: Which row of the batch it is.
            seen: The batch.
        """
        size = len(self._text.row.tokens)
        tokens = seen.tokens[row][:size]
        decided = seen.decided[row][:size]
        changed = [i for i, new in enumerate(seen.changed[row][:size]) if new]
        for i in changed:
            self._step_of[i] = number
            if seen.confidence is not None:
                self._sure[i] = seen.confidence[row][i]
        self.last = (tokens, number)
        if self.work.watch and number > self._told:  # one that starts again tells nothing twice
            self._told = number
            sure = tuple(
                one if known else None for one, known in zip(self._sure, decided, strict=True)
            )
            guess = _guesses(seen, row, decided)
            self._tell(
                Step(
                    self.number,
                    number,
                    tuple(tokens),
                    tuple(decided),
                    sure,
                    guess,
                    tuple(changed),
                    min(seen.settled[row], size),
                )
            )
        return self._stopped(tokens, min(seen.settled[row], size))

    def finish(self, sample: Sample) -> Wrote:
        """Return what is told of the finished text."""
        answer, span = filled(self.work.order.model, sample)
        start = sample.given.index(False) if False in sample.given else 0
        count = sample.given[start : start + span].count(False)  # text between holes was given
        cut = _cut(answer, self.work.stop)
        row = zip(sample.tokens, sample.given, strict=True)
        made = [token for token, given in row if not given]
        ends = self.work.order.model.eos_ids
        full = count == len(made) and (not made or made[-1] not in ends)
        ended = "stop" if cut is not None or not full else "length"
        return Wrote(self.number, sample, answer if cut is None else cut, count, ended)

    def early(self) -> Sample:
        """Return the text as it stands, for one that a stop string ended."""
        tokens, number = self.last
        model, row = self.work.order.model, self._text.row
        evaluations = number * self.work.order.cost
        made = sum(step > 0 for step in self._step_of)
        return Sample(
            model.text(tokens),
            tokens,
            evaluations,
            list(self._step_of),
            list(self._sure),
            list(row.given),
            made / evaluations if evaluations else 0.0,
            self._text.prompt,
        )

    def _stopped(self, tokens: Sequence[int], settled: int) -> bool:
        if not self.work.stop:
            return False
        start = next((i for i, known in enumerate(self._text.row.given) if not known), settled)
        if settled <= start:
            return False
        return _cut(self.work.order.model.text(tokens[start:settled]), self.work.stop) is not None


def _guesses(seen: Seen, row: int, decided: Sequence[bool]) -> dict[int, tuple[int, float]]:
    """Return what would be written where nothing is decided."""
    if seen.candidate is None:
        return {}
    proposed = seen.candidate[row]
    sure = [0.0] * len(proposed) if seen.confidence is None else seen.confidence[row]
    return {
        i: (proposed[i], sure[i])
        for i, known in enumerate(decided)
        if not known and proposed[i] >= 0
    }


def _cut(text: str, stop: Sequence[str]) -> str | None:
    """Return the text before the first stop string in it; ``None`` if it has none."""
    places = [place for place in (text.find(one) for one in stop) if place >= 0]
    return text[: min(places)] if places else None


def quiet(canvas: Canvas, done: Tensor) -> StepInfo:
    """Return what is known before the first step."""
    return StepInfo(torch.zeros_like(canvas.given), done)
