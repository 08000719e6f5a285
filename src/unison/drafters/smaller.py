"""What would a smaller model write?"""

from dataclasses import dataclass, field
from typing import ClassVar

from unison.drafters.stepwise import Stepwise
from unison.drafters.vocabulary import Vocabulary, between
from unison.engine.reading import target_of
from unison.language_model import LanguageModel
from unison.speculation.parts import Target


@dataclass(frozen=True)
class Smaller:
    """Draft with another left-to-right model (Leviathan et al., 2023, arXiv:2211.17192).

    Attributes:
        model: Drafts, with a memory of its own.
        temperature: Of its law; 0 is sure of its likeliest token.
        vocabulary: Its tokens and the target's; ``None`` where they are the same.
    """

    copies: ClassVar[bool] = False
    model: Target = field(repr=False)
    temperature: float = 1.0
    vocabulary: Vocabulary | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}.")

    @staticmethod
    def of(draft: LanguageModel, target: LanguageModel, temperature: float = 1.0) -> "Smaller":
        """Return the drafter for a target, whose tokens are matched by spelling if need be.

        Raises:
            ValueError: The drafting model is not autoregressive, or knows too few of the tokens.
        """
        return Smaller(target_of(draft), temperature, between(target, draft))

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> Stepwise:
        """Return the drafting of empty texts.

        Raises:
            ValueError: The vocabularies differ and were not matched.
        """
        sizes = target.vocab_size, self.model.vocab_size
        if self.vocabulary is None and sizes[0] != sizes[1]:
            raise ValueError(
                f"the target has {sizes[0]} tokens and the drafter {sizes[1]}; match them with "
                "Smaller.of(draft, target)."
            )
        words = Vocabulary.same(sizes[0]) if self.vocabulary is None else self.vocabulary
        words.fit(*sizes)
        return Stepwise.of(self.model, target, words, self.temperature, rows)
