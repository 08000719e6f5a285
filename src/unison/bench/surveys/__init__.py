"""Which texts are judged as a whole? Sets of samples that are measured, not graded one by one."""

from collections.abc import Callable, Mapping

from unison.bench.surveys.prose import Prose
from unison.bench.surveys.survey import Survey

SURVEYS: Mapping[str, Callable[..., Survey]] = {
    "prose": Prose,
}

__all__ = ["SURVEYS", "Survey"]
