"""unison replay: watch a trace of generate --trace again."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from unison import trace
from unison.cli import shared, show


@dataclass(frozen=True)
class Flags:
    """Animate a trace in the terminal. The first argument is the file.

    Where the output is no terminal, the last canvases are printed.

    Attributes:
        delay: Seconds between two steps.
        step: Show the canvases after this step alone, without animation.
        json: Print the trace's header and texts as one JSON document on stdout.
    """

    delay: float = 0.12
    step: int | None = None
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "replay", arguments)
    if name is None:
        raise ValueError("name the trace first: unison replay FILE; generate --trace writes one.")
    if not 0 <= flags.delay <= 60:
        raise ValueError(f"delay must be in [0, 60] seconds, got {flags.delay}.")
    document = trace.read(Path(name))
    if flags.json:
        shared.emit(_summary(document))
    elif sys.stdout.isatty() and flags.step is None:
        _animate(document, flags.delay)
    else:
        _still(document, flags.step)


def screen_of(document: dict[str, Any]) -> show.Screen:
    """Return the first screen of a trace."""
    texts = document["texts"]
    return show.Screen(document, document["rows"], lambda token: texts.get(str(token), ""))


def _animate(document: dict[str, Any], delay: float) -> None:
    screen = screen_of(document)
    with show.drawing() as draw:
        for frame in trace.replayed(document):
            screen.advance(frame)
            draw(screen)
            time.sleep(delay)


def _still(document: dict[str, Any], step: int | None) -> None:
    most = len(document["steps"])
    if step is not None and not 0 <= step <= most:
        raise ValueError(f"step must be in [0, {most}], the steps of this trace, got {step}.")
    screen = screen_of(document)
    for frame in trace.replayed(document):
        screen.advance(frame)
        if frame.step == step:
            break
    console = Console()
    console.print(screen.drawn(console.width, sys.maxsize))


def _summary(document: dict[str, Any]) -> dict[str, Any]:
    left_out = ("rows", "steps", "texts", "result")
    told = {name: value for name, value in document.items() if name not in left_out}
    texts = document["texts"]
    result = ["".join(texts.get(str(token), "") for token in row) for row in document["result"]]
    return {**told, "steps": len(document["steps"]), "result": result}
