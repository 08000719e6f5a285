"""What did the model write, when, how surely and at what cost?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unison.generation.canvases import Row
from unison.language_model import LanguageModel


@dataclass(frozen=True)
class Sample:
    """One text a model wrote.

    Attributes:
        text: The whole canvas as text, given parts included, up to the first end of document
            after the last given part.
        tokens: The canvas.
        nfe: Network evaluations spent on it, those of guidance and self-conditioning included.
        step: The step, from 1, that wrote each token; 0 where it was given.
        confidence: Probability of each token when it was written; 1 where it was given, ``None``
            where the strategy does not say.
        given: Which tokens were.
        tokens_per_forward: Tokens of the text that were written, its end included, per network
            evaluation; 0 where none was needed.
        prompt: Number of the prompt, or canvas, it continues.
        lossless: Whether speculation kept the law it was asked for; ``None`` where a strategy
            wrote.
    """

    text: str
    tokens: list[int]
    nfe: int
    step: list[int]
    confidence: list[float | None]
    given: list[bool]
    tokens_per_forward: float
    prompt: int
    lossless: bool | None = None


def finished(
    model: LanguageModel,
    asked: Row,
    prompt: int,
    nfe: int,
    written: tuple[list[int], list[int], list[float]],
) -> Sample:
    """Return a decoded row as a sample, without its padding.

    Args:
        model: Wrote it.
        asked: The canvas before.
        prompt: Its number.
        nfe: Network evaluations.
        written: Token, step and confidence of each position.
    """
    size = len(asked.tokens)
    tokens, step, confidence = written[0][:size], written[1][:size], written[2][:size]
    last = max((i + 1 for i, given in enumerate(asked.given) if given), default=0)
    text = tokens[: _end(model, tokens, last) + 1]  # the end itself was written too
    made = len(text) - sum(asked.given[: len(text)])
    return Sample(
        read(model, tokens, last),
        tokens,
        nfe,
        step,
        [None if math.isnan(sure) else sure for sure in confidence],
        list(asked.given),
        made / nfe if nfe else 0.0,
        prompt,
    )


def filled(model: LanguageModel, sample: Sample, until: Sequence[int] = ()) -> tuple[str, int]:
    """Return what stands between the given parts, up to its end, and how many tokens that took.

    Of several gaps, all that lies between the first open token and the last. The end itself is
    counted, not shown.

    Args:
        model: Wrote it.
        sample: What it wrote.
        until: Tokens that end it, besides the model's own.
    """
    start = sample.given.index(False) if False in sample.given else len(sample.given)
    past = next((i for i in range(len(sample.given), start, -1) if not sample.given[i - 1]), start)
    made, ends = sample.tokens[start:past], {*model.eos_ids, *until}
    last = next((i for i, token in enumerate(made) if token in ends), len(made))
    prompt, whole = (model.text(sample.tokens[:end]) for end in (start, start + last))
    # Some tokenizers write the first word of a text otherwise than the same word inside it.
    text = whole.removeprefix(prompt) if whole.startswith(prompt) else model.text(made[:last])
    return text, min(last + 1, len(made))


def read(model: LanguageModel, tokens: Sequence[int], given: int = 0) -> str:
    """Return a canvas as text, up to its first end of document.

    Args:
        model: Knows the tokens.
        tokens: The canvas.
        given: Ends of document among this many first tokens do not count: a given part that
            follows one is still part of the text.
    """
    return model.text(list(tokens)[: _end(model, tokens, given)])


def _end(model: LanguageModel, tokens: Sequence[int], given: int) -> int:
    """Return where the text ends: at an end token or behind the last."""
    return next((i for i in range(given, len(tokens)) if tokens[i] in model.eos_ids), len(tokens))
