"""Does the target have to be fitted with something before a drafter can read it?"""

from typing import Protocol, runtime_checkable

from unison.engine.reading import NetworkTarget
from unison.speculation.parts import Drafter


@runtime_checkable
class Fitting(Protocol):
    """A drafter that lives inside its target."""

    def fitted(self, target: NetworkTarget) -> NetworkTarget:
        """Return the target with what the drafter puts into it; its own answers stay the same."""
        ...


def prepared(target: NetworkTarget, drafter: Drafter | None) -> NetworkTarget:
    """Return the target as a drafter needs it: itself, for most."""
    return drafter.fitted(target) if isinstance(drafter, Fitting) else target
