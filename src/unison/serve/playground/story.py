"""What does the page hear of a text? The pieces of a trace, one message a step.

Put together they are a trace as ``unison.trace`` defines it: the first message is its head, each
``step`` one of its steps, and ``done`` its end. So what the page shows is what it can save.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from unison import trace
from unison.generation import Sample
from unison.generation.ordering import Order
from unison.serve.batching import Step, Wrote
from unison.serve.http.likelihoods import disclosed
from unison.serve.settings import Settings

_DIGITS = 4  # of a confidence: what a colour shows

Message = dict[str, Any]
Tell = Callable[[float | None], float | None]


def telling(settings: Settings) -> Tell:
    """Return how a probability is told: as in drafts, by what a server tells, and no finer."""
    tell = disclosed(settings.logprobs, settings.logprob_digits)

    def told(sure: float | None) -> float | None:
        said = tell(sure)
        return None if said is None else round(said, _DIGITS)

    return told


class Story:
    """Follows one text from its first canvas to its end.

    Args:
        order: Of one text.
        seed: Of the run.
        tell: How a probability is told.
    """

    def __init__(self, order: Order, seed: int, tell: Tell) -> None:
        self._model, self._tell = order.model, tell
        self._head = trace.header(order.model, order.sampling, seed)
        self._given = order.texts[0].row.given
        self._mask: int | None = self._head["model"]["mask_id"]
        self._known: set[int] = set()
        self._tokens: tuple[int, ...] = ()
        self._written: tuple[bool, ...] = self._given
        self._ever: set[int] = set()
        self._step = 0

    def step(self, step: Step) -> Iterator[Message]:
        """Yield what is told of a step: the canvas before the first, then what each one did."""
        if not self._tokens:
            first = self._first(step.tokens) if step.step else step.tokens
            yield self._begin(first)
        if step.step:
            yield self._moved(step)

    def end(self, wrote: Wrote) -> Iterator[Message]:
        """Yield what nobody has told yet, and the end."""
        sample = wrote.sample
        tokens = tuple(sample.tokens)
        if not self._tokens:
            yield self._begin(self._first(tokens))
        if self._tokens != tokens:
            yield from self._told_late(sample)
        yield {
            "event": "done",
            "result": [list(tokens)],
            "answer": wrote.answer,
            "text": sample.text,
            "ended": wrote.ended,
            "tokens": round(sample.tokens_per_forward * sample.nfe),
            "nfe": sample.nfe,
            "tokens_per_forward": sample.tokens_per_forward,
            "written_at": list(sample.step),
            "confidence": [self._tell(sure) for sure in sample.confidence],
        }

    def _first(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Return the canvas before the first step, where nobody told of it."""
        mask = self._mask
        return tuple(
            token if given or mask is None else mask
            for token, given in zip(tokens, self._given, strict=True)
        )

    def _begin(self, tokens: tuple[int, ...]) -> Message:
        self._tokens = tokens
        open_ = [i for i, given in enumerate(self._given) if not given]
        row = {"prompt": 0, "tokens": list(tokens), "given": _ranges(self._given)}
        return {
            "event": "begin",
            "head": self._head,
            "row": row,
            "open": open_,
            "texts": self._texts(tokens),
        }

    def _moved(self, step: Step) -> Message:
        sure = {i: step.confidence[i] for i in step.changed if step.written[i]}
        candidates = [
            *([i, token, self._tell(p)] for i, (token, p) in step.guess.items()),
            *([i, step.tokens[i], self._tell(p)] for i, p in sure.items() if p is not None),
        ]
        actions = self._actions(step.tokens, step.written, step.guess)
        message = self._message(step.step, candidates, actions)
        message["open"] = [i for i, known in enumerate(step.written) if not known]
        message["settled"] = step.settled
        self._written = step.written
        return message

    def _actions(
        self,
        tokens: tuple[int, ...],
        written: Sequence[bool],
        guess: Mapping[int, tuple[int, float]],
    ) -> list[list[Any]]:
        """Return what became of each token that changed, and remember the canvas."""
        actions = []
        for i, (was, now) in enumerate(zip(self._tokens, tokens, strict=True)):
            if was == now:
                continue
            kind = self._kind(i, was, now, written[i], guess.get(i))
            actions.append([kind, i, was, now])
            (self._ever.add if kind in ("commit", "edit") else self._ever.discard)(i)
        self._tokens = tokens
        return actions

    def _kind(
        self, i: int, was: int, now: int, written: bool, guess: tuple[int, float] | None
    ) -> trace.Kind:
        """Return what a change is: as ``trace.Recorder`` has it, but here it is known what stays.

        Where no token means undecided and a strategy does not say what it has decided, a change
        to what it proposed is text and any other noise.
        """
        if self._mask is not None and self._mask in (was, now):
            return "commit" if was == self._mask else "remask"
        if self._mask is None and not written and guess is not None and guess[0] != now:
            return "renoise"
        return "edit" if self._mask is not None or i in self._ever else "commit"

    def _told_late(self, sample: Sample) -> Iterator[Message]:
        """Yield the steps of a text whose steps could not be watched, by when each token came."""
        final = tuple(sample.tokens)
        late = [i for i, token in enumerate(final) if token != self._tokens[i]]
        moments = sorted({max(sample.step[i], self._step + 1) for i in late})
        for moment in moments:
            now = {i for i in late if max(sample.step[i], self._step + 1) <= moment}
            tokens = tuple(final[i] if i in now else t for i, t in enumerate(self._tokens))
            written = tuple(known or i in now for i, known in enumerate(self._written))
            candidates = [
                [i, final[i], self._tell(p)]
                for i in sorted(now)
                if tokens[i] != self._tokens[i] and (p := sample.confidence[i]) is not None
            ]
            message = self._message(moment, candidates, self._actions(tokens, written, {}))
            self._written = written
            yield {**message, "open": [i for i, known in enumerate(written) if not known]}

    def _message(self, step: int, candidates: list[Any], actions: list[Any]) -> Message:
        self._step = step
        seen = {token for _, token, _ in candidates} | {token for a in actions for token in a[2:]}
        return {
            "event": "step",
            "step": step,
            "candidates": candidates,
            "actions": actions,
            "texts": self._texts(seen),
        }

    def _texts(self, tokens: Sequence[int] | set[int]) -> dict[str, str]:
        fresh = sorted(set(tokens) - self._known)
        self._known.update(fresh)
        return trace.texts(self._model, fresh)


def _ranges(marked: Sequence[bool]) -> list[list[int]]:
    """Return where runs of True begin and end."""
    edges = [i for i in range(len(marked) + 1) if _at(marked, i) != _at(marked, i - 1)]
    return [edges[i : i + 2] for i in range(0, len(edges), 2)]


def _at(marked: Sequence[bool], place: int) -> bool:
    return 0 <= place < len(marked) and marked[place]
