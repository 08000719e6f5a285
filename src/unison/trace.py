"""What happened at every step of a run? A file that can be replayed, looked at and compared.

A trace is one JSON document: what wrote (model, strategy, seed, versions), the texts of the tokens
that occur, the first canvas of every row, and for each step and row what was proposed and what was
done: ``commit`` (an undecided position got a token), ``edit`` (a token became another), ``remask``
and ``renoise`` (a token was taken back).
"""

import dataclasses
import json
import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from unison import files
from unison.decode import Canvas, StepInfo
from unison.generation import Sampling, choose, evaluations, facts_of
from unison.language_model import LanguageModel

FORMAT = "unison-trace"
FORMAT_VERSION = 1

Kind = Literal["commit", "edit", "remask", "renoise"]


class TraceError(ValueError):
    """A file that is no trace, or one that cannot be read; the message says why."""


class Candidate(NamedTuple):
    """A token that was proposed for a position, and its probability."""

    position: int
    token: int
    confidence: float


class Action(NamedTuple):
    """A token that a step changed."""

    kind: Kind
    position: int
    before: int
    after: int


class Moment(NamedTuple):
    """What one step saw and did in one row; a row that is done has no more of them."""

    row: int
    candidates: tuple[Candidate, ...]
    actions: tuple[Action, ...]


class Frame(NamedTuple):
    """The canvases after a step.

    Attributes:
        step: Steps done.
        canvases: Tokens of every row.
        moments: What the step did, for each row that took part.
    """

    step: int
    canvases: tuple[tuple[int, ...], ...]
    moments: tuple[Moment, ...]


class Recorder:
    """An observer, to be given to ``generate`` as ``on_step``, that remembers everything."""

    def __init__(
        self, model: LanguageModel, sampling: Sampling, *, seed: int = 0, num: int = 1
    ) -> None:
        """Start a trace.

        Args:
            model: What writes.
            sampling: How, as ``generate`` is told.
            seed: The run's.
            num: Texts written for each prompt, to say which prompt a row continues.
        """
        self._model, self._num = model, num
        self.header = header(model, sampling, seed)
        self._rows: list[dict[str, Any]] = []
        self._moments: list[list[Moment]] = []
        self._canvases: list[tuple[int, ...]] = []
        self._decided: list[set[int]] = []
        self._first = self._step = 0
        self._going: list[bool] = []

    def __call__(self, step: int, canvas: Canvas, info: StepInfo) -> None:
        """Remember a step of the batch that is written now; step 0 begins a new one."""
        lengths = _lengths(canvas)
        rows = [
            tuple(row[:size]) for row, size in zip(canvas.tokens.tolist(), lengths, strict=True)
        ]
        if step == 0:
            self._begin(rows, canvas)
        else:
            made = self._made(rows, info)
            self._moments += [[] for _ in range(step - len(self._moments))]
            self._moments[step - 1] += made
            self._canvases[self._first :] = rows
        self._step = step
        self._going = (~info.done).tolist()

    @property
    def frame(self) -> Frame:
        """The canvases of the batch that is written now, its rows numbered from 0."""
        first, step = self._first, self._step
        made = self._moments[step - 1] if step else ()
        return Frame(
            step,
            tuple(self._canvases[first:]),
            tuple(m._replace(row=m.row - first) for m in made if m.row >= first),
        )

    @property
    def batch(self) -> list[dict[str, Any]]:
        """What the rows of that batch are: first canvas and given positions."""
        return self._rows[self._first :]

    def document(self) -> dict[str, Any]:
        """Return the trace so far, as plain data."""
        seen = {token for row in self._rows for token in row["tokens"]}
        for moment in (m for made in self._moments for m in made):
            seen.update(c.token for c in moment.candidates)
            seen.update(token for a in moment.actions for token in (a.before, a.after))
        return {
            **self.header,
            "texts": texts(self._model, sorted(seen)),
            "rows": self._rows,
            "steps": [
                {"step": i + 1, "rows": [_plain_moment(m) for m in made]}
                for i, made in enumerate(self._moments)
            ],
            "result": [list(row) for row in self._canvases],
        }

    def _begin(self, rows: list[tuple[int, ...]], canvas: Canvas) -> None:
        self._first = len(self._rows)
        for row, given in zip(rows, canvas.given.tolist(), strict=True):
            places = [i for i in range(len(row)) if given[i]]
            self._decided.append(set())
            self._rows.append(
                {
                    "prompt": len(self._rows) // self._num,
                    "tokens": list(row),
                    "given": _ranges(places),
                }
            )
        self._canvases += rows

    def _made(self, rows: list[tuple[int, ...]], info: StepInfo) -> list[Moment]:
        unknown = torch.full(info.changed.shape, -1)
        proposed = (unknown if info.candidate is None else info.candidate).tolist()
        sure = (unknown.double() if info.confidence is None else info.confidence).tolist()
        return [
            self._moment(self._first + i, row, proposed[i], sure[i])
            for i, row in enumerate(rows)
            if self._going[i]
        ]

    def _moment(
        self, number: int, row: tuple[int, ...], proposed: list[int], sure: list[float]
    ) -> Moment:
        before, decided = self._canvases[number], self._decided[number]
        actions = tuple(
            Action(self._kind(i, was, now, proposed[i], decided), i, was, now)
            for i, (was, now) in enumerate(zip(before, row, strict=True))
            if was != now
        )
        decided.update(a.position for a in actions if a.kind in ("commit", "edit"))
        decided.difference_update(a.position for a in actions if a.kind in ("remask", "renoise"))
        candidates = tuple(
            Candidate(i, proposed[i], round(sure[i], 6))
            for i in range(len(row))
            if proposed[i] >= 0
        )
        return Moment(number, candidates, actions)

    def _kind(self, position: int, was: int, now: int, proposed: int, decided: set[int]) -> Kind:
        """Return what a change is.

        Where no token means undecided, a change to what was proposed is text and any other is
        noise; a strategy that does not tell its proposals is taken to write text.
        """
        mask = self.header["model"]["mask_id"]
        if mask is not None and mask in (was, now):
            return "commit" if was == mask else "remask"
        if mask is None and proposed not in (-1, now):
            return "renoise"
        return "edit" if mask is not None or position in decided else "commit"


def header(model: LanguageModel, sampling: Sampling, seed: int) -> dict[str, Any]:
    """Return what a trace says about the run itself."""
    facts, strategy = facts_of(model), choose(model, sampling)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": {
            "process": facts.process,
            "eos_ids": list(facts.eos_ids),
            "mask_id": getattr(model.process, "mask_id", None),
            "vocab_size": model.tokenizer.vocab_size,
            "tokenizer": model.tokenizer.fingerprint,
            "parameters": sum(weight.numel() for weight in model.network.parameters()),
        },
        "strategy": settings(strategy),
        "cfg": sampling.cfg,
        "evaluations_per_step": evaluations(model, strategy, sampling.cfg),
        "seed": seed,
        "versions": {
            "unison": metadata.version("unison"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def settings(value: Any) -> Any:
    """Return a strategy, or one of its parts, as plain data: its class and all its fields."""
    if not dataclasses.is_dataclass(value):
        return list(value) if isinstance(value, tuple) else value
    fields = {f.name: settings(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return {"kind": type(value).__name__, **fields}


def texts(model: LanguageModel, tokens: Sequence[int]) -> dict[str, str]:
    """Return tokens as people read them, by number; the mask is no text."""
    mask = getattr(model.process, "mask_id", None)
    return {
        str(token): model.tokenizer.decode([token], show_special=True)
        for token in tokens
        if token != mask and token < model.tokenizer.vocab_size
    }


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a trace atomically.

    Raises:
        OSError: The disk is full or not writable; what was there before is still whole.
    """
    files.write_text(path, files.to_json(document) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a trace.

    Raises:
        TraceError: The file is missing, no trace, damaged, or newer than this version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TraceError(f"there is no trace {path}; write one with generate --trace.") from None
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise TraceError(f"{path} is no trace: {error}.") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TraceError(f"{path} is no trace; generate --trace writes one.")
    version = document.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise TraceError(
            f"{path} has format version {version}, newer than {FORMAT_VERSION}, the newest this "
            "unison can read; upgrade unison."
        )
    missing = [
        name for name in ("model", "rows", "steps", "texts", "result") if name not in document
    ]
    if missing:
        raise TraceError(f"{path} lacks {', '.join(missing)}; the file is damaged.")
    return document


def replayed(document: dict[str, Any]) -> Iterator[Frame]:
    """Yield the canvases as they were: first the blank ones, then those after each step.

    Batches that were written one after the other are shown side by side.

    Raises:
        TraceError: A step changes a token that does not stand there.
    """
    canvases = [list(row["tokens"]) for row in document["rows"]]
    yield Frame(0, tuple(map(tuple, canvases)), ())
    for step in document["steps"]:
        moments = tuple(_moment_of(entry) for entry in step["rows"])
        for moment in moments:
            for action in moment.actions:
                _apply(canvases[moment.row], action, step["step"])
        yield Frame(step["step"], tuple(map(tuple, canvases)), moments)


def _apply(canvas: list[int], action: Action, step: int) -> None:
    if canvas[action.position] != action.before:
        raise TraceError(
            f"step {step} changes token {action.before} at position {action.position}, where "
            f"{canvas[action.position]} stands; the trace is damaged."
        )
    canvas[action.position] = action.after


def given_places(row: dict[str, Any]) -> set[int]:
    """Return the positions of a trace's row that were given."""
    return {i for first, past in row["given"] for i in range(first, past)}


def _lengths(canvas: Canvas) -> list[int]:
    rows, length = canvas.tokens.shape
    return [length] * rows if canvas.valid is None else canvas.valid.sum(1).tolist()


def _ranges(places: Sequence[int]) -> list[list[int]]:
    """Return rising numbers as ranges, each its first and one past its last."""
    found: list[list[int]] = []
    for place in places:
        if found and found[-1][1] == place:
            found[-1][1] += 1
        else:
            found.append([place, place + 1])
    return found


def _plain_moment(moment: Moment) -> dict[str, Any]:
    return {
        "row": moment.row,
        "candidates": [list(candidate) for candidate in moment.candidates],
        "actions": [list(action) for action in moment.actions],
    }


def _moment_of(entry: dict[str, Any]) -> Moment:
    return Moment(
        entry["row"],
        tuple(Candidate(*candidate) for candidate in entry["candidates"]),
        tuple(Action(*action) for action in entry["actions"]),
    )
