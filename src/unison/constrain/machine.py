"""How is a language read byte by byte? The contract between languages and everything above them."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Int32, UInt8
from numpy import ndarray

DEAD = -1


@runtime_checkable
class Machine(Protocol):
    """A deterministic automaton over UTF-8 bytes whose states may be found as they are needed.

    States are numbers from 0. Every state has a continuation that the language accepts: where
    none is left, a step leads to ``DEAD``. Growing is thread-safe, and a machine can be pickled.
    """

    @property
    def start(self) -> int:
        """The state of the empty text; never ``DEAD``, since empty languages are refused."""
        ...

    @property
    def size(self) -> int | None:
        """How many states there are; ``None`` if they are found on the way, perhaps forever."""
        ...

    def advance(
        self, states: Int32[ndarray, " n"], data: UInt8[ndarray, " n"]
    ) -> Int32[ndarray, " n"]:
        """Return where each state leads with its byte, ``DEAD`` where nowhere; none is ``DEAD``."""
        ...

    def accepts(self, states: Int32[ndarray, " n"]) -> Bool[ndarray, " n"]:
        """Return in which states the text may end."""
        ...

    def shortest(self, state: int) -> bytes:
        """Return a continuation of the fewest bytes after which the text may end."""
        ...
