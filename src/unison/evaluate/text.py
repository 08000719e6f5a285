"""How well does a model predict a text someone names?"""

from collections.abc import Sequence
from typing import Literal

from unison.data import encode_split, read_all
from unison.evaluate import likelihood
from unison.language_model import LanguageModel
from unison.types import Estimate


def evaluate(
    model: LanguageModel,
    text: Sequence[str],
    *,
    split: Literal["auto", "file", "blank", "line"] = "auto",
    passes: int = 4,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Score every token of the text; each number carries its standard error and unit.

    For a diffusion model these are upper bounds (the NELBO); for an autoregressive one exact.

    Args:
        model: Is scored.
        text: Files, folders or built-in corpora.
        split: Where one document of a text file ends.
        passes: Noise draws per block; more draws, smaller error.
        batch_size: Blocks per forward pass; does not change the noise.
        seed: Names the noise.

    Raises:
        ValueError: The text cannot be used, or passes or batch_size is below 1.
    """
    for name, value in (("passes", passes), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    scored_split = encode_split(read_all(text, split), model.tokenizer)
    tokens, valid = likelihood.split_blocks(scored_split, model.max_length)
    scored = likelihood.score(
        model.process,
        model.network,
        (tokens.to(model.device), valid.to(model.device)),
        seed=seed,
        passes=passes,
        batch_size=batch_size,
    )
    return likelihood.report(scored, scored_split)
