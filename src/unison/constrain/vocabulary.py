"""What does each token spell? A tokenizer as bytes, and the tree of all its spellings."""

from collections.abc import Sequence
from dataclasses import dataclass

from unison.constrain.language import ConstraintError


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The bytes each token adds to a text.

    Attributes:
        spellings: By token id; ``None`` where a token is no text (special tokens, padding), which
            then never stands inside a constrained text. Several tokens may spell the same.
        nulls: Tokens that end a text or fill what is left of a hole behind its text.
        name: Tells vocabularies apart in caches: the tokenizer's fingerprint.
    """

    spellings: tuple[bytes | None, ...]
    nulls: tuple[int, ...]
    name: str

    def __post_init__(self) -> None:
        if not any(self.spellings):
            raise ConstraintError("no token of this vocabulary spells any text.")


def vocabulary(spellings: Sequence[bytes | None], nulls: Sequence[int], name: str) -> Vocabulary:
    """Return a vocabulary in which nulls and empty spellings are no text."""
    none = set(nulls)
    said = tuple(None if i in none or not text else text for i, text in enumerate(spellings))
    return Vocabulary(said, tuple(nulls), name)
