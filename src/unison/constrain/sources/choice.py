"""Which of a few texts?"""

from collections.abc import Sequence

from unison.constrain.language import Alt, ConstraintError, Grammar, Text


def choice(texts: Sequence[str], about: str = "the choice") -> Grammar:
    """Return the language of exactly these texts; one that is listed twice counts once.

    Raises:
        ConstraintError: No text at all, one text instead of a list, or one that UTF-8 cannot spell.
    """
    if isinstance(texts, str):
        raise ConstraintError(f"{about} must be a list of texts, got one text: {texts!r}.")
    if not texts:
        raise ConstraintError(f"{about} is empty: list at least one text.")
    for text in texts:
        _check(text, about)
    return Grammar({"choice": Alt(tuple(map(Text, dict.fromkeys(texts))))}, "choice", about=about)


def _check(text: str, about: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConstraintError(
            f"{text!r} in {about} has half of a surrogate pair, which is no character."
        ) from error
