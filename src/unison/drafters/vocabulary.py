"""How does a drafter with a vocabulary of its own read and guess the target's tokens?

By spelling: a token of one vocabulary is that of the other with the same bytes. A guess outside
the common tokens is impossible, and the others share its chance (Timor et al., 2025,
arXiv:2502.05202, "token-level intersection"). A token without a counterpart is read as the
drafter's own tokens for its text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.data import Tokenizer
from unison.data.spellings import spellings
from unison.language_model import LanguageModel

LEAST = 0.1  # share of the target's tokens that must be common for guesses to be worth their time


@dataclass(frozen=True)
class Vocabulary:
    """Which tokens of a drafter are which of a target.

    Attributes:
        own: The drafter's token for each of the target's, -1 where there is none; no two alike.
        spelled: What the drafter reads for each token of the target: one of its own or more.
        size: The drafter's V.
    """

    own: tuple[int, ...]
    spelled: tuple[tuple[int, ...], ...]
    size: int

    @staticmethod
    def same(size: int, drafters: int | None = None) -> "Vocabulary":
        """Return the vocabulary of a drafter with the target's tokens, padded or not.

        Args:
            size: The target's V.
            drafters: The drafter's V; ``None`` for the same.
        """
        have = size if drafters is None else drafters
        own = tuple(i if i < have else -1 for i in range(size))
        return Vocabulary(own, tuple((max(i, 0),) for i in own), have)

    @cached_property
    def alike(self) -> bool:
        """Whether the drafter reads one token for each of the target's."""
        return all(len(tokens) == 1 for tokens in self.spelled)

    def read(self, tokens: Sequence[int]) -> list[int]:
        """Return the drafter's tokens for a text of the target's."""
        return [mine for token in tokens for mine in self.spelled[token]]

    def table(self, device: torch.device) -> Int[Tensor, " V"]:
        """Return ``own`` as a tensor."""
        return torch.tensor(self.own, dtype=torch.int64, device=device)

    def fit(self, size: int, drafters: int) -> None:
        """Raise ValueError where a target or a drafter has another number of tokens."""
        if (len(self.own), self.size) != (size, drafters):
            raise ValueError(
                f"the vocabularies were matched for a target of {len(self.own)} and a drafter of "
                f"{self.size} tokens, but these have {size} and {drafters}; match theirs with "
                "unison.drafters.vocabulary.between."
            )


def common_law(logits: Float[Tensor, "*B W"], own: Int[Tensor, " V"]) -> Float[Tensor, "*B V"]:
    """Return a drafter's law of the target's tokens, float64, normalised over the common ones.

    What is drawn from it must be weighed by the very chances it was drawn with.

    Args:
        logits: What the drafter says of its own tokens.
        own: The drafter's token for each of the target's, -1 where there is none.
    """
    known = logits[..., own.clamp(min=0)].masked_fill(own < 0, -torch.inf)
    return known.double().log_softmax(-1)


def between(target: LanguageModel, draft: LanguageModel) -> Vocabulary:
    """Return which tokens of a drafting model are which of a target.

    Raises:
        ValueError: Too few are common.
    """
    sizes = target.process.vocab_size, draft.process.vocab_size
    same = target.tokenizer.fingerprint == draft.tokenizer.fingerprint
    return Vocabulary.same(*sizes) if same else matched(target.tokenizer, draft.tokenizer, *sizes)


def matched(target: Tokenizer, draft: Tokenizer, size: int, drafters: int) -> Vocabulary:
    """Return which tokens of two tokenizers are spelled alike.

    Args:
        target: The target's tokenizer.
        draft: The drafter's.
        size: The target's V; tokens its tokenizer does not know have no counterpart.
        drafters: The drafter's V.

    Raises:
        ValueError: Too few are.
    """
    mine = _by_name(draft)
    own, free = [-1] * size, set(mine.values()) & set(range(drafters))
    for token, name in enumerate(_names(target)[:size]):
        if name is not None and mine.get(name) in free:
            own[token] = mine[name]
            free.remove(own[token])
    common = sum(token >= 0 for token in own)
    if common < LEAST * target.vocab_size:
        raise ValueError(
            f"the drafter knows {common} of the target's {target.vocab_size} tokens, too few to "
            f"guess with (at least {LEAST:.0%} are needed); draft with a model whose tokenizer is "
            "closer to the target's, or with lookup, suffix or lookahead."
        )
    spelled = _spelled(target, draft, own)
    return Vocabulary(tuple(own), tuple(spelled), drafters)


Name = bytes | str  # what a token spells, or what a special one is called


def _names(tokenizer: Tokenizer) -> list[Name | None]:
    """Return what each token spells; the name of one that is no text, the end's always alike."""
    names: list[Name | None] = []
    for token, said in enumerate(spellings(tokenizer)):
        name = said if said is not None else tokenizer.decode([token], show_special=True)
        names.append("" if token == tokenizer.eos_id else name or None)
    return names


def _by_name(tokenizer: Tokenizer) -> dict[Name, int]:
    """Return the first token of each name."""
    first: dict[Name, int] = {}
    for token, name in enumerate(_names(tokenizer)):
        if name is not None:
            first.setdefault(name, token)
    return first


def _spelled(target: Tokenizer, draft: Tokenizer, own: Sequence[int]) -> list[tuple[int, ...]]:
    """Return what the drafter reads for each token: an end of text where it knows no better."""
    names = _names(target)
    lacking = [token for token in range(min(len(own), len(names))) if own[token] < 0]
    texts = [_text(names[token]) for token in lacking]
    spelled: list[tuple[int, ...]] = [(mine,) if mine >= 0 else (draft.eos_id,) for mine in own]
    for token, tokens in zip(lacking, draft.encode_batch(texts), strict=True):
        if tokens and draft.unk_id not in tokens:
            spelled[token] = tuple(tokens)
    return spelled


def _text(name: Name | None) -> str:
    """Return a name as text, nothing where its bytes are none."""
    if isinstance(name, bytes):
        text = name.decode(errors="replace")
        return "" if "\N{REPLACEMENT CHARACTER}" in text else text
    return name or ""
