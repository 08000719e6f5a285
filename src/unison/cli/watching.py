"""What does one see of writing while it goes on, and what is kept of it? --show and --trace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from unison import trace
from unison.cli import shared, show
from unison.decode import Canvas, StepInfo
from unison.generation import OnStep, Sampling
from unison.language_model import LanguageModel


class Watch(NamedTuple):
    """What is asked for.

    Attributes:
        trace: File that remembers every step; ``None`` for none.
        show: Whether canvases are drawn.
        seed: The run's.
        num: Texts written for each prompt.
    """

    trace: Path | None
    show: bool
    seed: int
    num: int


@contextmanager
def watched(model: LanguageModel, sampling: Sampling, watch: Watch) -> Iterator[OnStep | None]:
    """Yield an observer of every step, ``None`` if nobody looks; in the end write the trace.

    Args:
        model: What writes.
        sampling: How.
        watch: Who looks.
    """
    if watch.trace is None and not watch.show:
        yield None
        return
    recorder = trace.Recorder(model, sampling, seed=watch.seed, num=watch.num)
    if watch.show:
        with show.drawing() as draw:
            yield _drawn(model, recorder, draw)
    else:
        yield recorder
    if watch.trace is not None:
        document = recorder.document()
        trace.write(watch.trace, document)
        shared.log(f"{len(document['steps'])} steps; watch them with unison replay {watch.trace}")


def _drawn(
    model: LanguageModel, recorder: trace.Recorder, draw: Callable[[show.Screen], None]
) -> OnStep:
    """Return an observer that remembers and draws."""
    screens: list[show.Screen] = []

    def text(token: int) -> str:
        return trace.texts(model, [token]).get(str(token), "")

    def observe(step: int, canvas: Canvas, info: StepInfo) -> None:
        recorder(step, canvas, info)
        if step == 0:
            screens[:] = [show.Screen(recorder.header, recorder.batch, text)]
        screens[0].advance(recorder.frame)
        draw(screens[0])

    return observe
