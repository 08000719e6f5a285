"""How are steps removed? Methods that teach a student to jump as far as its teacher walks.

To add one: write a module next to this file and add one line below.
"""

from unison.distil.config import Distil
from unison.distil.dcd import ConsistencyDistillation
from unison.distil.sdtt import SelfDistillation
from unison.distil.teaching import Taught, Teaching

METHODS: dict[str, type[Teaching]] = {
    "dcd": ConsistencyDistillation,
    "sdtt": SelfDistillation,
}

__all__ = [
    "METHODS",
    "ConsistencyDistillation",
    "Distil",
    "SelfDistillation",
    "Taught",
    "Teaching",
]
