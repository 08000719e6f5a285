"""How do models of continuous data answer in fewer steps, or in more ways?

One method a file; each is a frozen configuration and functions. To add one: write a module next to
this file and add one line below, and one in ``students`` if it makes a model of a model.
"""

from typing import Any

from unison.distil.continuous.consistency import Consistency, ConsistencySteps, consistency
from unison.distil.continuous.f_distill import FDistil, f_distil
from unison.distil.continuous.handover import HandingOver, HandOver, handed_over
from unison.distil.continuous.mmd import MMDFinetune, adjusted, finetuned, mmd2
from unison.distil.continuous.pupil import OfEvents
from unison.distil.continuous.students import STUDENTS, distilled, within
from unison.distil.continuous.transport_start import TransportStart, fitted, transported
from unison.distil.continuous.vsd import VSD, vsd

DISTILLATIONS: dict[str, type[Any]] = {
    "consistency": Consistency,
    "f_distil": FDistil,
    "handover": HandingOver,
    "mmd": MMDFinetune,
    "transport_start": TransportStart,
    "vsd": VSD,
}

__all__ = [
    "DISTILLATIONS",
    "STUDENTS",
    "VSD",
    "Consistency",
    "ConsistencySteps",
    "FDistil",
    "HandOver",
    "HandingOver",
    "MMDFinetune",
    "OfEvents",
    "TransportStart",
    "adjusted",
    "consistency",
    "distilled",
    "f_distil",
    "finetuned",
    "fitted",
    "handed_over",
    "mmd2",
    "transported",
    "vsd",
    "within",
]
