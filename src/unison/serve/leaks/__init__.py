"""What do the numbers a server tells give away of a prompt it does not show? The audit."""

from unison.serve.leaks.knobs import OFF, Knobs, Told, floored, floored_one, told

__all__ = ["OFF", "Knobs", "Told", "floored", "floored_one", "told"]
