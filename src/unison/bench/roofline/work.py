"""What is one thing that is measured? A name, a call, and how much text it is about."""

from collections.abc import Callable
from dataclasses import dataclass, field

from unison.bench.training.machine import Work as Call


class Pulse:
    """Counts the steps of a work that takes several in one call."""

    def __init__(self) -> None:
        self.number = 0

    def beat(self) -> None:
        """Begin the next step."""
        self.number += 1


@dataclass(frozen=True)
class Work:
    """A piece of work that can be done again and again.

    Attributes:
        name: Of its row.
        call: Does it.
        tokens: Tokens one step is about: of the text that is learnt from, or of the canvas.
        pulse: Told of every step, where a call takes several.
        decodes: Whether what is spent outside the network is told.
    """

    name: str
    call: Call
    tokens: int
    pulse: Pulse = field(default_factory=Pulse)
    decodes: bool = False


def observed(pulse: Pulse) -> Callable[[object], None]:
    """Return an observer of anything that begins a step at every call."""
    return lambda _: pulse.beat()
