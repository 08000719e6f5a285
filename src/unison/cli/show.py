"""What does writing look like? Canvases in colour, step by step."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from unison import trace
from unison.trace import Action, Frame

_SHADES = "░▒▓█"  # undecided, by how sure the model is of its candidate
_GIVEN = "#7d8fa8"
_UNDECIDED = "grey35"
_NOISE = "italic grey42"
_AGES = ("bold #06210f on #6ee787", "#7ee787", "#a8dcb0", "#c9dccd")  # since it was written
_EDITED = ("bold #2b1d00 on #f2cc60", "#f2cc60", "#e3d3a0")
_TAKEN = "bold #ff8f87 on #4a1512"
_END = "∎"
_BAR = 20
_WIDEST = 100


@dataclass
class Screen:
    """The canvases of a run as they stand, with the time since each token was written.

    Attributes:
        header: The trace's own, for the mask, the end tokens and the cost of a step.
        rows: What was given of each canvas.
        texts: Tokens as people read them.
    """

    header: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    texts: Callable[[int], str]
    _frame: Frame = field(init=False)
    _last: list[dict[int, tuple[int, Action]]] = field(init=False)
    _steps: list[int] = field(init=False)
    _sure: list[dict[int, float]] = field(init=False)
    _given: list[set[int]] = field(init=False)

    def __post_init__(self) -> None:
        self._frame = Frame(0, tuple(tuple(row["tokens"]) for row in self.rows), ())
        self._last = [{} for _ in self.rows]
        self._sure = [{} for _ in self.rows]
        self._steps = [0] * len(self.rows)
        self._given = [trace.given_places(dict(row)) for row in self.rows]

    def advance(self, frame: Frame) -> None:
        """Take in one step."""
        self._frame = frame
        for moment in frame.moments:
            self._steps[moment.row] += 1
            self._sure[moment.row] = {c.position: c.confidence for c in moment.candidates}
            for action in moment.actions:
                self._last[moment.row][action.position] = frame.step, action

    def drawn(self, width: int, height: int) -> RenderableType:
        """Return the canvases and a status line, as many rows as fit."""
        wide = min(width, _WIDEST)
        panels: list[RenderableType] = []
        room = height - 4  # status and legend
        for number in range(len(self.rows)):
            lines = folded(self.pieces(number), wide - 4)
            room -= len(lines) + 2
            if panels and room < 0:
                break
            panels.append(self._panel(number, lines, wide))
        hidden = len(self.rows) - len(panels)
        more = [Text(f"  and {hidden} more", _GIVEN)] if hidden else []
        return Group(*panels, *more, self._status(), legend(self.header["model"]["mask_id"]))

    def _panel(self, number: int, lines: list[Text], width: int) -> Panel:
        title = Text(f" {number} ", "bold") if len(self.rows) > 1 else None
        told = self._told(number)
        return Panel(
            Text("\n").join(lines),
            title=title,
            title_align="left",
            subtitle=Text(f" {told} ", _GIVEN) if len(self.rows) > 1 else None,
            subtitle_align="right",
            border_style=_UNDECIDED,
            width=width,
        )

    def pieces(self, number: int) -> Iterator[tuple[str, str]]:
        """Yield what to write for each token of a row, and how."""
        for position, token in enumerate(self._frame.canvases[number]):
            yield self._piece(number, position, token)

    def _piece(self, number: int, position: int, token: int) -> tuple[str, str]:
        if position in self._given[number]:
            return self._text(token), _GIVEN
        model = self.header["model"]
        step, action = self._last[number].get(position, (0, None))
        age = self._frame.step - step
        if token == model["mask_id"]:
            shade = _shade(self._sure[number].get(position, 0.0))
            taken = action is not None and action.kind == "remask" and age == 0
            return shade, _TAKEN if taken else _UNDECIDED
        if action is None or action.kind == "renoise":
            taken = action is not None and age == 0
            return self._text(token), _TAKEN if taken else _NOISE
        styles = _EDITED if action.kind == "edit" else _AGES
        return self._text(token), styles[age] if age < len(styles) else ""

    def _text(self, token: int) -> str:
        if token in self.header["model"]["eos_ids"]:
            return _END
        return self.texts(token) or "·"

    def _counts(self, number: int) -> tuple[int, int]:
        """Return tokens written, and tokens to write.

        Where any token may still change, those count that the last step left as they were.
        """
        canvas, mask = self._frame.canvases[number], self.header["model"]["mask_id"]
        open_ = [i for i in range(len(canvas)) if i not in self._given[number]]
        if mask is not None:
            return sum(canvas[i] != mask for i in open_), len(open_)
        last, now = self._last[number], self._frame.step
        return sum(now > (last[i][0] if i in last else 0) for i in open_), len(open_)

    def _told(self, number: int) -> str:
        written, wanted = self._counts(number)
        evaluations = self._steps[number] * self.header["evaluations_per_step"]
        return f"{written}/{wanted} tokens{self._rest} · {_evaluations(evaluations)}"

    @property
    def _rest(self) -> str:
        return " at rest" if self.header["model"]["mask_id"] is None else ""

    def _status(self) -> Text:
        counts = [self._counts(number) for number in range(len(self.rows))]
        written, wanted = (sum(values) for values in zip(*counts, strict=True))
        evaluations = sum(self._steps) * self.header["evaluations_per_step"]
        full = round(_BAR * written / max(wanted, 1))
        said = Text("  ", no_wrap=True, overflow="ellipsis")
        said.append("━" * full, "#6ee787").append("━" * (_BAR - full), _UNDECIDED)
        said.append(f"  step {self._frame.step}", "bold")
        said.append(f"   {written}/{wanted} tokens{self._rest}   {_evaluations(evaluations)}")
        if evaluations and not self._rest:
            said.append(f", {written / evaluations:.2f} tokens each", _GIVEN)
        return said


def _evaluations(count: int) -> str:
    return f"{count} evaluation{'' if count == 1 else 's'}"


def legend(mask_id: int | None) -> Text:
    """Return what the colours mean."""
    said = Text("  ")
    undecided = (_SHADES, "undecided, by confidence", _UNDECIDED)
    entries = [
        ("given", "", _GIVEN),
        undecided if mask_id is not None else ("noise", "", _NOISE),
        ("new", "", _AGES[0]),
        ("edited", "", _EDITED[0]),
        ("taken back", "", _TAKEN),
    ]
    for sign, words, style in entries:
        said.append(sign, style).append(f" {words}" if words else "", _GIVEN).append("   ")
    return said


def folded(pieces: Iterator[tuple[str, str]], width: int) -> list[Text]:
    """Break pieces into lines of a width, at the cell: text that appears moves no other text."""
    lines, room = [Text(no_wrap=True)], width
    for words, style in pieces:
        for letter in words:
            if letter == "\n":
                lines[-1].append("↵", style)
                lines.append(Text(no_wrap=True))
                room = width
                continue
            shown = letter if letter.isprintable() else "·"
            size = cell_len(shown)
            if size > room - 1:  # one cell is kept for the sign of a line's end
                lines.append(Text(no_wrap=True))
                room = width
            lines[-1].append(shown, style)
            room -= size
    return lines


def require_terminal() -> None:
    """Raise ValueError if there is no terminal to draw on."""
    if not sys.stdout.isatty():
        raise ValueError(
            "--show draws on a terminal, and the output is none here; use --trace FILE and look at "
            "it with unison replay, or leave --show out."
        )


@contextmanager
def drawing(console: Console | None = None) -> Iterator[Callable[[Screen], None]]:
    """Yield a function that draws a screen in place of the one before."""
    board = Console() if console is None else console
    with Live(console=board, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda screen: live.update(screen.drawn(board.width, board.height), refresh=True)


def _shade(sure: float) -> str:
    return _SHADES[min(int(sure * len(_SHADES)), len(_SHADES) - 1)]
