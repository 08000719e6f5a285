"""How do many requests share one model, and none of them notice the others?"""

from unison.serve.batching.engine import Engine
from unison.serve.batching.limits import Limits
from unison.serve.batching.listening import collect, listen
from unison.serve.batching.work import (
    Answered,
    Event,
    Failed,
    Finished,
    Full,
    Question,
    Started,
    Stats,
    Step,
    Terms,
    Work,
    Write,
    Wrote,
)

__all__ = [
    "Answered",
    "Engine",
    "Event",
    "Failed",
    "Finished",
    "Full",
    "Limits",
    "Question",
    "Started",
    "Stats",
    "Step",
    "Terms",
    "Work",
    "Write",
    "Wrote",
    "collect",
    "listen",
]
