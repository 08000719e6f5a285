"""What is learnt from besides text? Images, sound and music, scaled and divided.

A built-in set is one function and a line of ``builtin.BUILTIN``; a degradation is one dataclass and
a line of ``degrading.DEGRADATIONS``.
"""

from unison.data.continuous.builtin import BUILTIN
from unison.data.continuous.degrading import DEGRADATIONS, Degradation, Pair, degraded
from unison.data.continuous.events import Events, EventsError, Scaling, Side, made_noisy
from unison.data.continuous.reading import Reading, read

__all__ = [
    "BUILTIN",
    "DEGRADATIONS",
    "Degradation",
    "Events",
    "EventsError",
    "Pair",
    "Reading",
    "Scaling",
    "Side",
    "degraded",
    "made_noisy",
    "read",
]
