"""What is given and what is to be written? Prompts, suffixes and parts become rows of tokens."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from unison.decode import Canvas, start
from unison.language_model import LanguageModel
from unison.prob.rng import Key

Part = str | int
Parts = Sequence[Part] | Sequence[Sequence[Part]]


class Row(NamedTuple):
    """One canvas before it is written.

    Attributes:
        tokens: What is given; 0 where open.
        given: Which tokens are.
        answer: Where the answer begins and one past its end, if some of it is given; ``None`` for
            the first open token to the last.
    """

    tokens: tuple[int, ...]
    given: tuple[bool, ...]
    answer: tuple[int, int] | None = None


class Size(NamedTuple):
    """How long a canvas is, said one way or the other; the model's default if neither.

    Attributes:
        length: Tokens in all, prompt and suffix included.
        new_tokens: Open tokens between prompt and suffix.
        scaffold: What stands between them instead: given text and numbers of open tokens.
    """

    length: int | None = None
    new_tokens: int | None = None
    scaffold: Sequence[Part] | None = None


def rows(
    model: LanguageModel,
    prompt: str | Sequence[str],
    suffix: str | Sequence[str],
    parts: Parts | None,
    size: Size,
) -> list[Row]:
    """Return one row per prompt, or per canvas in parts.

    Raises:
        ValueError: Too long, too short, said twice, or with letters the tokenizer does not know.
    """
    said = [f"{name}={value}" for name, value in size._asdict().items() if value is not None]
    if len(said) > 1:
        raise ValueError(
            f"{' and '.join(said)} both say how long the canvas is; give one: length counts prompt "
            "and suffix, new_tokens does not, a scaffold says it by itself."
        )
    if parts is None:
        pairs = _paired(prompt, suffix)
        return [_edges(model, left, right, size) for left, right in pairs]
    if prompt or suffix or size != Size():
        raise ValueError(
            "parts already say the whole canvas: leave prompt, suffix, length out, and new_tokens."
        )
    several = bool(parts) and not isinstance(parts[0], str | int)
    canvases: Sequence[Sequence[Part]] = parts if several else [parts]  # pyright: ignore
    return [_pieces(model, canvas) for canvas in canvases]


def batch(model: LanguageModel, asked: Sequence[Row], key: Key) -> Canvas:
    """Return rows as one canvas, short ones padded at the right."""
    longest = max(len(row.tokens) for row in asked)
    tokens = [[*row.tokens, *[0] * (longest - len(row.tokens))] for row in asked]
    given = [[*row.given, *[True] * (longest - len(row.given))] for row in asked]
    lengths = torch.tensor([len(row.tokens) for row in asked])
    valid = torch.arange(longest) < lengths[:, None]
    return start(
        model.process,
        torch.tensor(tokens, device=model.device),
        torch.tensor(given, device=model.device),
        key,
        None if bool(valid.all()) else valid.to(model.device),
    )


def _paired(prompt: str | Sequence[str], suffix: str | Sequence[str]) -> list[tuple[str, str]]:
    """Return prompts with their suffixes; a single one goes with all of the others."""
    given = {"prompt": prompt, "suffix": suffix}
    counts = {name: len(texts) for name, texts in given.items() if not isinstance(texts, str)}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"there are {counts['prompt']} prompts and {counts['suffix']} suffixes; give as many "
            "of the one as of the other, or a single text for all."
        )
    if 0 in counts.values():
        raise ValueError(f"{next(iter(counts))} is an empty list; give at least one text.")
    count = next(iter(counts.values()), 1)
    left, right = ([t] * count if isinstance(t, str) else list(t) for t in given.values())
    return list(zip(left, right, strict=True))


def _edges(model: LanguageModel, prompt: str, suffix: str, size: Size) -> Row:
    if size.scaffold is not None:
        row = _pieces(model, [prompt, *size.scaffold, suffix])
        left, right = (len(model.tokenizer.encode(text)) for text in (prompt, suffix))
        return row._replace(answer=(left, len(row.tokens) - right))
    ends = sum(len(model.tokenizer.encode(text)) for text in (prompt, suffix))
    if size.new_tokens is not None:
        return _pieces(model, [prompt, _new(model, ends, size.new_tokens), suffix])
    length = min(model.defaults.length, model.max_length) if size.length is None else size.length
    if not 1 <= length <= model.max_length:
        raise ValueError(
            f"length must be in [1, {model.max_length}], the model's longest canvas, got {length}."
        )
    if ends > length:
        raise ValueError(
            f"prompt and suffix take {ends} tokens, more than the canvas of {length}; shorten "
            f"them or raise length (at most {model.max_length})."
        )
    return _pieces(model, [prompt, length - ends, suffix])


def _new(model: LanguageModel, ends: int, count: int) -> int:
    if count < 1 or ends + count > model.max_length:
        raise ValueError(
            f"new_tokens must be at least 1 and leave room for the {ends} tokens of prompt and "
            f"suffix on the model's longest canvas of {model.max_length}, got {count}."
        )
    return count


def _pieces(model: LanguageModel, parts: Sequence[Part]) -> Row:
    tokens: list[int] = []
    given: list[bool] = []
    for part in parts:
        if isinstance(part, int) and part < 0:
            raise ValueError(f"a hole must have at least 0 tokens, got {part}.")
        ids = _given(model, part) if isinstance(part, str) else [0] * part
        tokens += ids
        given += [isinstance(part, str)] * len(ids)
    if not 1 <= len(tokens) <= model.max_length:
        raise ValueError(
            f"the canvas has {len(tokens)} tokens; it must have 1 to {model.max_length}, the "
            "model's longest canvas."
        )
    return Row(tuple(tokens), tuple(given))


def _given(model: LanguageModel, text: str) -> list[int]:
    ids = model.tokenizer.encode(text)
    if model.tokenizer.unk_id is not None and model.tokenizer.unk_id in ids:
        foreign = sorted({c for c in text if model.tokenizer.unk_id in model.tokenizer.encode(c)})
        raise ValueError(
            f"the model's tokenizer does not know {', '.join(map(repr, foreign))}; leave it out of "
            "prompt, suffix and canvas, or use a model with a byte or bpe tokenizer."
        )
    return ids
