"""What came after these words the last time? Copy it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from unison.drafters.copying import Copying
from unison.speculation.parts import Target

GLANCES = 8  # places looked at for each candidate, so that a frequent n-gram costs no more


@dataclass(frozen=True)
class Lookup:
    """Copy what followed an earlier occurrence of the last n tokens, longest n first.

    Prompt lookup (Saxena, 2023; the same as "n-gram" speculation elsewhere). A copy that reaches
    the end of the text goes on with itself, so that a repetition is continued.

    Attributes:
        longest: Most tokens compared.
        shortest: Fewest tokens that must agree; 1, as published, makes many weak guesses.
        candidates: Different continuations, where the text has them.
        first: Copy from the first occurrence instead of the most recent.
    """

    copies: ClassVar[bool] = True
    longest: int = 3
    shortest: int = 2
    candidates: int = 1
    first: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(
                "shortest must be at least 1 and at most longest, got "
                f"shortest={self.shortest} and longest={self.longest}."
            )
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}.")

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> Copying:
        """Return the drafting of empty texts."""
        del target
        return Copying([Occurrences(self) for _ in range(rows)])


class Occurrences:
    """Where each n-gram of one text was followed by what; a token costs the same at any length."""

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.text: list[int] = []
        self.places: dict[tuple[int, ...], list[int]] = {}  # of the token behind an n-gram

    def extend(self, tokens: Sequence[int]) -> None:
        """Read on."""
        for token in tokens:
            here = len(self.text)
            for size in range(self.lookup.shortest, min(self.lookup.longest, here) + 1):
                self.places.setdefault(tuple(self.text[here - size :]), []).append(here)
            self.text.append(token)

    def continuations(self, depth: int, nodes: int) -> list[list[int]]:
        """Return different copies of so many tokens; the builder cuts them to the nodes."""
        del nodes
        if depth <= 0:
            return []
        found: dict[tuple[int, ...], None] = {}
        for place in self._matches():
            found.setdefault(tuple(self._copied(place, depth)))
            if len(found) == self.lookup.candidates:
                break
        return [list(text) for text in found]

    def _matches(self) -> Iterator[int]:
        end, glances = len(self.text), GLANCES * self.lookup.candidates
        for size in range(min(self.lookup.longest, end), self.lookup.shortest - 1, -1):
            places = self.places.get(tuple(self.text[end - size :]), [])
            yield from places[:glances] if self.lookup.first else places[: -glances - 1 : -1]

    def _copied(self, place: int, depth: int) -> list[int]:
        period = len(self.text) - place
        return [self.text[place + i % period] for i in range(depth)]
