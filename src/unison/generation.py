"""How does a model write for someone? Prompts and holes become canvases, tokens become text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from unison.decode import STRATEGIES, Canvas, StepInfo, Strategy, decode, shaped, start
from unison.language_model import LanguageModel
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import PROCESSES, Process

Part = str | int
OnStep = Callable[[int, Canvas, StepInfo], None]


@dataclass(frozen=True)
class Sample:
    """One text a model wrote.

    Attributes:
        text: The whole canvas as text, given parts included, up to the first end of document
            after the last given part.
        tokens: The canvas.
        nfe: Network evaluations spent on it.
    """

    text: str
    tokens: list[int]
    nfe: int


@dataclass(frozen=True)
class Sampling:
    """How to write. ``None`` means the model's own default.

    Attributes:
        strategy: A strategy, or its name in ``unison.decode.STRATEGIES``.
        steps: Denoiser evaluations, for strategies that take a number of steps.
        temperature: 0 for the most probable token, 1 for the model's own law.
        top_k: Keep this many tokens.
        top_p: Keep the smallest set of tokens with this mass.
    """

    strategy: Strategy | str | None = None
    steps: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None


def generate(  # noqa: PLR0913  # one keyword per flag of the command line
    model: LanguageModel,
    prompt: str = "",
    *,
    suffix: str = "",
    parts: Sequence[Part] | None = None,
    length: int | None = None,
    num: int = 1,
    strategy: Strategy | str | None = None,
    steps: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    batch_size: int = 64,
    on_step: OnStep | None = None,
) -> list[Sample]:
    r"""Write ``num`` texts on the same canvas.

    Row i's text depends on the model, the canvas, ``seed`` and i: not on ``num``, nor on
    ``batch_size``.

    Args:
        model: Writes.
        prompt: Given text at the left.
        suffix: Given text at the right.
        parts: The whole canvas instead: given text and numbers of open tokens, in order, such as
            ``["def f(", 4, "):\n", 40]``.
        length: Tokens of the canvas, prompt and suffix included.
        num: Texts to write.
        strategy: A strategy, or its name; see ``Sampling`` for this and the next four.
        steps: Denoiser evaluations.
        temperature: Of the belief.
        top_k: Of the belief.
        top_p: Of the belief.
        seed: Names all randomness.
        batch_size: Rows decoded together; changes speed and memory, never text.
        on_step: Observer of every step.

    Raises:
        ValueError: A setting is out of range, unknown, or unsupported by the model.
    """
    for name, value in (("num", num), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if parts is not None and (prompt or suffix or length is not None):
        raise ValueError("parts already say the whole canvas: leave prompt, suffix, length out.")
    sampling = Sampling(strategy, steps, temperature, top_k, top_p)
    canvas = _edges(model, prompt, suffix, length) if parts is None else _pieces(model, parts)
    how = choose(model, sampling), sampling
    samples: list[Sample] = []
    for seeds in rng.rows(seed, 0, num).split(batch_size):
        samples += _write(model, canvas, seeds, how, on_step)
    return samples


def choose(model: LanguageModel, sampling: Sampling) -> Strategy:
    """Return the strategy to use, with its number of steps.

    Raises:
        ValueError: The strategy is unknown, cannot undo the model's process, or takes no steps.
    """
    strategy = sampling.strategy if sampling.strategy is not None else model.defaults.strategy
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            raise ValueError(f"unknown strategy {strategy!r}; known: {', '.join(STRATEGIES)}.")
        strategy = STRATEGIES[strategy]()
        if sampling.steps is None and takes_steps(strategy):
            strategy = replace(strategy, steps=model.defaults.steps)  # pyright: ignore
    if sampling.steps is not None:
        if not takes_steps(strategy):
            raise ValueError(
                f"{type(strategy).__name__} decides its own number of steps; leave steps out."
            )
        strategy = replace(strategy, steps=sampling.steps)  # pyright: ignore
    name = process_name(model.process)
    if name not in strategy.processes:
        fitting = [key for key, kind in STRATEGIES.items() if name in kind.processes]
        raise ValueError(
            f"{type(strategy).__name__} cannot undo the {name} process of this model; use one of "
            f"{', '.join(fitting)}."
        )
    return strategy


def process_name(process: Process) -> str:
    """Return the process's name in ``unison.process.PROCESSES``."""
    return next(name for name, kind in PROCESSES.items() if isinstance(process, kind))


def takes_steps(strategy: Strategy) -> bool:
    """Return whether a strategy takes a number of steps."""
    return "steps" in {field.name for field in fields(strategy)}  # pyright: ignore


def _edges(
    model: LanguageModel, prompt: str, suffix: str, length: int | None
) -> tuple[Tensor, Tensor]:
    size = min(model.defaults.length, model.max_length) if length is None else length
    if not 1 <= size <= model.max_length:
        raise ValueError(
            f"length must be in [1, {model.max_length}], the model's longest canvas, got {size}."
        )
    left, right = (model.tokenizer.encode(text) for text in (prompt, suffix))
    if len(left) + len(right) > size:
        raise ValueError(
            f"prompt and suffix take {len(left) + len(right)} tokens, more than the canvas of "
            f"{size}; shorten them or raise length (at most {model.max_length})."
        )
    return _pieces(model, [prompt, size - len(left) - len(right), suffix])


def _pieces(model: LanguageModel, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """Return the canvas's tokens, 0 where open, and which of them are given."""
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
    return torch.tensor(tokens), torch.tensor(given)


def _given(model: LanguageModel, text: str) -> list[int]:
    ids = model.tokenizer.encode(text)
    if model.tokenizer.unk_id is not None and model.tokenizer.unk_id in ids:
        foreign = sorted({c for c in text if model.tokenizer.unk_id in model.tokenizer.encode(c)})
        raise ValueError(
            f"the model's tokenizer does not know {', '.join(map(repr, foreign))}; leave it out of "
            "prompt, suffix and canvas, or use a model with a byte or bpe tokenizer."
        )
    return ids


def _write(
    model: LanguageModel,
    canvas: tuple[Tensor, Tensor],
    seeds: Tensor,
    how: tuple[Strategy, Sampling],
    on_step: OnStep | None,
) -> Iterator[Sample]:
    strategy, sampling = how
    tokens, given = (row.expand(len(seeds), -1).to(model.device) for row in canvas)
    key = Key(seeds.to(model.device))
    denoise = shaped(
        model.denoiser(),
        model.defaults.temperature if sampling.temperature is None else sampling.temperature,
        sampling.top_k,
        model.defaults.top_p if sampling.top_p is None else sampling.top_p,
    )
    blank = start(model.process, tokens, given, key)
    done = decode(strategy, model.process, denoise, blank, key, on_step)
    for row, nfe in zip(done.tokens.tolist(), done.nfe.tolist(), strict=True):
        yield Sample(read(model, row, _last(canvas[1])), row, nfe * model.evaluations_per_step)


def read(model: LanguageModel, tokens: Sequence[int], given: int = 0) -> str:
    """Return a canvas as text, up to its first end of document.

    Args:
        model: Knows the tokens.
        tokens: The canvas.
        given: Ends of document among this many first tokens do not count: a given part that
            follows one is still part of the text.
    """
    end = model.tokenizer.eos_id
    ids = list(tokens)
    return model.tokenizer.decode(ids[: ids.index(end, given)] if end in ids[given:] else ids)


def _last(given: Tensor) -> int:
    """Return the number of tokens up to and including the last given one."""
    return int(given.nonzero().max()) + 1 if given.any() else 0
