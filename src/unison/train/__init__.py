"""How do weights move? Configuration, step, loop, averages, checkpoints, logs."""

from unison.train.config import Data, Optimizer, Train, TrainError
from unison.train.loop import Event, Hooks, State, fit
from unison.train.setup import Prepared, prepare

__all__ = [
    "Data",
    "Event",
    "Hooks",
    "Optimizer",
    "Prepared",
    "State",
    "Train",
    "TrainError",
    "fit",
    "prepare",
]
