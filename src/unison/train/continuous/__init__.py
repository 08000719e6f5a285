"""How do models of continuous data learn? Configuration, preparation, loop."""

from unison.train.continuous.config import TrainEvents
from unison.train.continuous.loop import MODEL, Finished, Passed, Standing, score, train
from unison.train.continuous.setup import Prepared, binder, prepare

__all__ = [
    "MODEL",
    "Finished",
    "Passed",
    "Prepared",
    "Standing",
    "TrainEvents",
    "binder",
    "prepare",
    "score",
    "train",
]
