"""How much is drafted? One file per rule; adding one takes a file and a line here."""

from collections.abc import Mapping

from unison.speculation.parts import Scheduler
from unison.speculation.schedulers.fixed import Fixed

SCHEDULERS: Mapping[str, type[Scheduler]] = {
    "fixed": Fixed,
}
