"""What is told of text that may still change? Drafts, and what became of them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from unison.data import Tokenizer, TokenizerError
from unison.data.spellings import spellings
from unison.generation.canvases import Row
from unison.language_model import LanguageModel
from unison.serve.batching import Step, Wrote
from unison.serve.http.texts import pieces, span

Said = dict[str, Any]
Tell = Callable[[float | None], float | None]


class _Shown(NamedTuple):
    """What a client was told of a position: a token, its text, and whether it was decided."""

    token: int
    text: str
    decided: bool


class Drafts:
    """Follows the positions of one answer and says what is new of each.

    Args:
        model: Writes.
        row: The canvas before.
        number: Of the text.
        tell: How probabilities are told.
    """

    def __init__(self, model: LanguageModel, row: Row, number: int, tell: Tell) -> None:
        self._model, self._number, self._tell = model, number, tell
        self._start, self._past = span(row)
        self._shown: dict[int, _Shown] = {}
        self._spelled = _speller(model.tokenizer)
        self._step = 0

    def step(self, step: Step) -> Iterator[Said]:
        """Yield the events of a step: revisions, then drafts."""
        drafts: list[Said] = []
        revisions: list[Said] = []
        self._step = step.step
        for place in range(self._start, self._past):
            before = self._shown.get(place)
            token = step.tokens[place] if step.written[place] else None
            if before is not None and before.decided and before.token != token:
                revisions.append(self._revised(place, token, step.confidence[place]))
            elif token is not None and (before is None or not before.decided):
                drafts.append(self._drafted(place, token, step.confidence[place], decided=True))
            if token is None and place in step.guess:
                drafts.append(self._drafted(place, *step.guess[place], decided=False))
        yield from self._events(revisions, drafts, step.settled)

    def finish(self, wrote: Wrote) -> Iterator[Said]:
        """Yield what makes the texts told so far, joined by position, the answer."""
        drafts: list[Said] = []
        revisions: list[Said] = []
        tokens = wrote.sample.tokens[: self._past]
        texts = pieces(self._model, tokens, self._start, wrote.answer)
        kept = sum(map(len, texts)) and max(i + 1 for i, text in enumerate(texts) if text)
        for number, text in enumerate(texts):
            place = self._start + number
            before, sure = self._shown.get(place), wrote.sample.confidence[place]
            if before is None:
                if number < kept:
                    said = self._drafted(place, tokens[place], sure, decided=True)
                    drafts.append({**said, "text": text})
            elif number >= kept:
                if before.text:
                    revisions.append(self._change(place, None, None))
            elif before.text != text:
                revisions.append(self._change(place, text, sure))
            elif not before.decided:
                drafts.append(self._drafted(place, tokens[place], sure, decided=True))
        yield from self._events(revisions, drafts, self._past)

    def _events(self, revisions: list[Said], drafts: list[Said], settled: int) -> Iterator[Said]:
        for event, positions in (("revision", revisions), ("draft", drafts)):
            if positions:
                yield {
                    "event": event,
                    "index": self._number,
                    "step": self._step,
                    "settled": max(min(settled, self._past) - self._start, 0),
                    "positions": positions,
                }

    def _drafted(self, place: int, token: int, sure: float | None, *, decided: bool) -> Said:
        self._shown[place] = _Shown(token, self._spelled(token), decided)
        return {
            "position": place - self._start,
            "token": token,
            "text": self._shown[place].text,
            "confidence": self._tell(sure),
            "decided": decided,
        }

    def _revised(self, place: int, token: int | None, sure: float | None) -> Said:
        said = self._change(place, None if token is None else self._spelled(token), sure)
        if token is None:
            del self._shown[place]
        else:
            self._shown[place] = _Shown(token, self._spelled(token), True)
        return said

    def _change(self, place: int, after: str | None, sure: float | None) -> Said:
        return {
            "position": place - self._start,
            "before": self._shown[place].text,
            "after": after,
            "confidence": self._tell(sure),
        }


def _speller(tokenizer: Tokenizer) -> Callable[[int], str]:
    """Return the text of a token as it stands inside a text."""
    try:
        spelled = spellings(tokenizer)
    except TokenizerError:  # it has no spelling of single tokens: each is a text of its own

        def alone(token: int) -> str:
            return tokenizer.decode([token]) if token < tokenizer.vocab_size else ""

        return alone

    def inside(token: int) -> str:
        said = spelled[token] if token < len(spelled) else None
        return "" if said is None else said.decode("utf-8", "replace")

    return inside
