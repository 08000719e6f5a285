"""How does a model answer what a benchmark asks? Texts are scored, and answers are written."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import torch

from unison.decode.diffusion.composed import Composed
from unison.decode.order import Confidence, Perturbed, Random
from unison.decode.temper import Temper
from unison.evaluate.log_likelihood import Likelihood, OnText, log_likelihood
from unison.evaluate.request_settings import Answering, Settings, answering, check, sampling
from unison.evaluate.windows import encoded
from unison.generation import Sample, Sampling, filled, generate
from unison.generation.canvases import Size, rows
from unison.generation.settings import choose
from unison.language_model import LanguageModel
from unison.process import Sequential

OnFound = Callable[[int], None]
OnTexts = Callable[[int, list[str]], None]


class Pair(NamedTuple):
    """A text to score.

    Attributes:
        context: Stands before it.
        text: Is scored.
        label: What messages call it.
    """

    context: str
    text: str
    label: str


class Prompt(NamedTuple):
    """A text to continue.

    Attributes:
        context: Is continued.
        asked: Its ``generation_kwargs``.
        num: Different answers wanted.
        label: What messages call it.
    """

    context: str
    asked: Mapping[str, Any]
    num: int
    label: str


def ready(
    model: LanguageModel, settings: Settings, pairs: Sequence[Pair], *, rolling: bool = False
) -> list[Pair]:
    """Return texts with as much of their contexts as the model reads.

    Args:
        model: Says how text is encoded and how much of it is read.
        settings: Say whether contexts may be cut.
        pairs: The texts.
        rolling: Whether the texts are scored in windows, and may be of any length.

    Raises:
        ValueError: A text is empty, has letters the tokenizer does not know, or does not fit; the
            message names its request.
    """
    found = []
    for pair in pairs:
        with _named(pair.label):
            found.append(_fitted(model, settings, pair, rolling))
    return found


def _fitted(model: LanguageModel, settings: Settings, pair: Pair, rolling: bool) -> Pair:
    def size(context: str) -> int:
        return sum(map(len, encoded(model, context, pair.text)))

    tokens = size(pair.context)
    if rolling or tokens <= model.max_length:
        return pair
    if not settings.truncate:
        raise ValueError(
            f"context and continuation have {tokens} tokens and the model reads "
            f"{model.max_length}; give fewer examples in the context, or let it be cut at its "
            "beginning with truncate=true."
        )
    return pair._replace(context=_end(pair.context, model.max_length, size))


def _end(context: str, room: int, size: Callable[[str], int]) -> str:
    """Return the longest end of a context that leaves a text within its room.

    Raises:
        ValueError: Not even the empty one does.
    """
    letters = range(len(context) + 1)
    keep = bisect_right(letters, room, key=lambda kept: size(context[len(context) - kept :])) - 1
    if keep < 0:
        raise ValueError(
            f"the continuation alone has {size('')} tokens and the model reads {room}; it is never "
            "cut: leave the request out, or score it as loglikelihood_rolling."
        )
    return context[len(context) - keep :]


def scored(
    model: LanguageModel,
    settings: Settings,
    pairs: Sequence[Pair],
    *,
    rolling: bool = False,
    on_text: OnText | None = None,
) -> list[Likelihood]:
    """Return log p(text | context) of every text.

    Raises:
        ValueError: The model cannot be scored by the method, or a text cannot be scored.
    """
    return log_likelihood(
        model,
        [pair.text for pair in pairs],
        [pair.context for pair in pairs],
        method=settings.method,
        precision=settings.precision,
        draws=settings.draws,
        max_draws=settings.max_draws,
        rolling=rolling,
        seed=settings.seed,
        variance_reduction=settings.variance_reduction,
        on_progress=on_text,
    )


def greedily(
    model: LanguageModel,
    settings: Settings,
    pairs: Sequence[Pair],
    on_found: OnFound | None = None,
) -> list[bool]:
    """Return for every text whether greedy decoding writes it after its context.

    An autoregressive model takes the likeliest token at each position in turn. Any other model is
    given as many open positions as the text has tokens and writes one token a step, the likeliest:
    where, its own order says, or the surest position if it has none or one by chance.

    Args:
        model: Decodes.
        settings: Say how; with ``greedy=False`` every answer is no.
        pairs: Texts that fit the model.
        on_found: Called with the number of texts whenever more of them are done.
    """
    if not settings.greedy:
        return [False] * len(pairs)
    tokens = [encoded(model, pair.context, pair.text) for pair in pairs]
    if isinstance(model.process, Sequential):
        return [_chained(model, before, after, on_found) for before, after in tokens]
    return _filled(model, settings, pairs, [after for _, after in tokens], on_found)


@torch.no_grad()
def _chained(
    model: LanguageModel, before: list[int], after: list[int], on_found: OnFound | None
) -> bool:
    """Return whether every token is the likeliest after those before it."""
    ids = torch.tensor([before + after], device=model.device)
    time = torch.ones(1, dtype=torch.float64, device=model.device)
    likeliest = model.denoiser()(ids, time).argmax(-1)
    if on_found is not None:
        on_found(1)
    return bool((likeliest == ids)[0, len(before) :].all())


def _filled(
    model: LanguageModel,
    settings: Settings,
    pairs: Sequence[Pair],
    texts: Sequence[list[int]],
    on_found: OnFound | None,
) -> list[bool]:
    """Return whether the open positions are filled with the texts; equal ones are filled once."""
    chosen = greedy_sampling(model, settings)
    sharing: dict[tuple[int, str], list[int]] = {}
    for number, (pair, text) in enumerate(zip(pairs, texts, strict=True)):
        sharing.setdefault((len(text), pair.context.rstrip()), []).append(number)
    found = [False] * len(pairs)
    for size, group in groupby(sorted(sharing), key=lambda key: key[0]):
        for keys in _batches(list(group), settings.batch_size):
            contexts = [context for _, context in keys]
            samples = _generate(model, settings, contexts, Answering(chosen, size, ()), 1)
            for key, sample in zip(keys, samples, strict=True):
                for number in sharing[key]:
                    found[number] = sample.tokens[-size:] == texts[number]
            if on_found is not None:
                on_found(sum(len(sharing[key]) for key in keys))
    return found


def greedy_sampling(model: LanguageModel, settings: Settings) -> Sampling:
    """Return how a diffusion model decodes greedily.

    Raises:
        ValueError: The settings do not fit the model.
    """
    own = sampling(settings.writing)
    strategy = choose(model, own)
    if not isinstance(strategy, Composed):
        strategy = Composed()
    by_chance = isinstance(strategy.order, Random | Perturbed)
    greedy = Composed(
        order=Confidence() if by_chance else strategy.order,
        temper=Temper(),
        block_length=strategy.block_length,
        anchor=strategy.anchor,
    )
    return Sampling(greedy, cfg=own.cfg, cache=own.cache)


def written(
    model: LanguageModel,
    settings: Settings,
    prompts: Sequence[Prompt],
    on_texts: OnTexts | None = None,
) -> list[list[str]]:
    """Return answers to every prompt, each cut where it ends.

    An answer depends on the model, its own request and the seed, and not on the other requests.

    Args:
        model: Writes.
        settings: Hold for all requests.
        prompts: The requests.
        on_texts: Called with the number of each prompt and its answers.

    Raises:
        ValueError: A request asks for what is unknown or unsupported, or does not fit; the message
            names it, and nothing was written.
    """
    ways = _ways(model, settings, prompts)
    contexts = [_cut(model, settings, prompt, ways[_way(prompt)]) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: (_way(prompts[i]), len(contexts[i])))
    answers: list[list[str]] = [[] for _ in prompts]
    for way, group in groupby(order, key=lambda i: _way(prompts[i])):
        num = way[1] if ways[way].sampling.temperature else 1  # nothing is drawn: all are equal
        for numbers in _batches(list(group), max(1, settings.batch_size // num)):
            asked = [contexts[number] for number in numbers]
            samples = _generate(model, settings, asked, ways[way], num)
            texts = [_answer(model, sample, ways[way].until) for sample in samples]
            for place, number in enumerate(numbers):
                answers[number] = texts[place * num : (place + 1) * num] * (way[1] // num)
                if on_texts is not None:
                    on_texts(number, answers[number])
    return answers


Way = tuple[str, int]


def _way(prompt: Prompt) -> Way:
    """Return what prompts that can be continued together have in common."""
    return repr(sorted(prompt.asked.items())), prompt.num


def _ways(
    model: LanguageModel, settings: Settings, prompts: Sequence[Prompt]
) -> dict[Way, Answering]:
    ways: dict[Way, Answering] = {}
    for prompt in prompts:
        if _way(prompt) not in ways:
            with _named(prompt.label):
                ways[_way(prompt)] = answering(model, settings, prompt.asked)
                check(model, ways[_way(prompt)].sampling)
    return ways


def _cut(model: LanguageModel, settings: Settings, prompt: Prompt, way: Answering) -> str:
    """Return a context that leaves room for its answer."""

    def size(context: str) -> int:
        return len(model.tokenizer.encode(context))

    context, room = prompt.context, model.max_length - way.new_tokens
    with _named(prompt.label):
        if settings.truncate:
            context = _end(context, room, size)
        elif size(context) > room:
            raise ValueError(
                f"the context has {size(context)} tokens and its answer {way.new_tokens}, and the "
                f"model reads {model.max_length}; ask for less with max_gen_toks, or let contexts "
                "be cut at their beginning with truncate=true."
            )
        rows(model, context, "", None, Size(new_tokens=way.new_tokens))  # refuses unknown letters
    return context


def _generate(
    model: LanguageModel,
    settings: Settings,
    contexts: Sequence[str],
    way: Answering,
    num: int,
) -> list[Sample]:
    asked = way.sampling
    return generate(
        model,
        contexts,
        new_tokens=way.new_tokens,
        num=num,
        strategy=asked.strategy,
        steps=asked.steps,
        block_length=asked.block_length,
        temperature=asked.temperature,
        top_k=asked.top_k,
        top_p=asked.top_p,
        cfg=asked.cfg,
        cache=asked.cache,
        seed=settings.seed,
        batch_size=settings.batch_size,
    )


def _answer(model: LanguageModel, sample: Sample, until: Sequence[str]) -> str:
    """Return what was written up to the first end of document or text that ends it."""
    ends = [model.tokenizer.id_of(text) for text in until]
    text, _ = filled(model, sample, [end for end in ends if end is not None])
    return text[: min((text.find(end) for end in until if end in text), default=len(text))]


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Name the request in an error about it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
