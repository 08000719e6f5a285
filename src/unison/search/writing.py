"""How does a model write the text someone wants most? ``generate``, with a search on top."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode import Strategy
from unison.engine import CACHES
from unison.generation import Sampling, read
from unison.generation.canvases import Parts, Row
from unison.generation.infilling import has_hole
from unison.generation.ordering import Asked, Order, ordered
from unison.generation.write import beginning
from unison.language_model import LanguageModel
from unison.search.api import Reward, Search
from unison.search.named import search_named
from unison.search.rewards import TextReward
from unison.search.texts import TextRun
from unison.types import Tokens


@dataclass(frozen=True)
class Chosen:
    """A text that a search chose.

    Attributes:
        text: The whole canvas as text, up to the first end of document after the last given part.
        tokens: The canvas.
        reward: Of the text.
        log_weight: Log importance weight, as ``search.Found`` has it.
        nfe: Network evaluations spent on it, those of all candidates and guesses included.
        judged: Texts the reward was asked about.
        prompt: Number of the prompt, or canvas, it continues.
    """

    text: str
    tokens: list[int]
    reward: float
    log_weight: float
    nfe: int
    judged: int
    prompt: int


def searched(  # noqa: PLR0913  # one keyword per setting of ``generate`` that goes with a search
    model: LanguageModel,
    prompt: str | Sequence[str] = "",
    *,
    reward: TextReward,
    search: Search | str = "best_of",
    suffix: str | Sequence[str] = "",
    parts: Parts | None = None,
    length: int | None = None,
    new_tokens: int | None = None,
    num: int = 1,
    strategy: Strategy | str | None = None,
    steps: int | None = None,
    block_length: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    cfg: float = 0.0,
    seed: int | Sequence[int] = 0,
    batch_size: int = 16,
) -> list[Chosen]:
    """Write ``num`` texts for each prompt, each the find of a search of its own.

    Text i of a prompt depends on the model, its own canvas, ``seed`` and i: not on ``num``, nor
    on ``batch_size``, nor on the other prompts. The reward reads whole texts, prompt included,
    and must judge each by itself.

    Args:
        model: Writes.
        prompt: Given text at the left; several for several canvases.
        reward: Texts to a number each, higher for better, -infinity for never
            (``unison.search.rewards``).
        search: A search, or a line such as ``svdd:candidates=8,temperature=0.5``.
        suffix: This and the next twelve as ``unison.generate`` takes them.
        parts: The whole canvas instead.
        length: Tokens of each canvas.
        new_tokens: Open tokens between prompt and suffix.
        num: Texts to write for each.
        strategy: A strategy, or its name.
        steps: Denoiser evaluations of one run.
        block_length: Positions of a block.
        temperature: Of the belief tokens are drawn from.
        top_k: Of that belief.
        top_p: Of that belief.
        cfg: Scale of classifier-free guidance.
        seed: Names all randomness.
        batch_size: Texts searched for together, each with all its candidates.

    Raises:
        ValueError: A setting is out of range, unknown, or unsupported by the model or the search.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    rule = search_named(search) if isinstance(search, str) else search
    asked = Asked(prompt, suffix, parts, length, new_tokens, num=num, seed=seed)
    sampling = Sampling(
        strategy, steps, block_length, temperature, top_k, top_p, cfg, CACHES["none"]()
    )
    order = ordered(model, asked, sampling)
    if any(has_hole(model, text.row) for text in order.texts):
        raise ValueError(
            "a left-to-right model writes fillings behind the text, where no search looks; give a "
            "prompt alone, or use a diffusion model."
        )
    found: dict[int, Chosen] = {}
    for part in _batches([len(text.row.tokens) for text in order.texts], batch_size):
        found |= zip(part, _together(order.some(part), rule, reward), strict=True)
    return [found[number] for number in range(len(order.texts))]


def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield which texts are searched for together: those of one length, as a run needs them."""
    for length in sorted(set(lengths)):
        alike = [i for i, other in enumerate(lengths) if other == length]
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def _together(order: Order, search: Search, reward: TextReward) -> list[Chosen]:
    model, rows = order.model, [text.row for text in order.texts]
    begun = beginning(order, rows, order.key)
    timeless = model.network.config.time == "none"
    run = TextRun(begun.strategy, model.process, begun.denoise, begun.canvas, timeless)
    found = search.search(run, _of_tokens(model, rows, reward), order.key)
    return [
        Chosen(
            _text(model, text.row, tokens),
            tokens,
            value,
            weight,
            spent * order.cost,
            found.judged,
            text.prompt,
        )
        for text, tokens, value, weight, spent in zip(
            order.texts,
            found.sample.tolist(),
            found.reward.tolist(),
            found.log_weight.tolist(),
            found.evaluations.tolist(),
            strict=True,
        )
    ]


def _of_tokens(model: LanguageModel, rows: Sequence[Row], reward: TextReward) -> Reward:
    """Return the reward of canvases; those of a row stand next to each other."""

    def of(tokens: Tokens) -> Float[Tensor, " R"]:
        each = len(tokens) // len(rows)
        lists = tokens.tolist()
        texts = [_text(model, rows[i // each], one) for i, one in enumerate(lists)]
        said = list(reward(texts))
        return torch.tensor(said, dtype=torch.float64, device=tokens.device)

    return of


def _text(model: LanguageModel, row: Row, tokens: Sequence[int]) -> str:
    last = max((i + 1 for i, given in enumerate(row.given) if given), default=0)
    return read(model, tokens, last)


__all__ = ["Chosen", "searched"]
