"""How much is drafted? One file per rule; adding one takes a file and a line here."""

from collections.abc import Mapping

from unison.speculation.parts import Scheduler
from unison.speculation.schedulers.adaptive import Adaptive
from unison.speculation.schedulers.confidence import Confidence
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.schedulers.heuristic import Heuristic
from unison.speculation.schedulers.optimal import Optimal
from unison.speculation.schedulers.specdec import SpecDec

SCHEDULERS: Mapping[str, type[Scheduler]] = {
    "fixed": Fixed,
    "confidence": Confidence,
    "specdec": SpecDec,
    "adaptive": Adaptive,
    "heuristic": Heuristic,
    "optimal": Optimal,
}
