"""How are many texts written together, and none of them the other for it?"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

from unison.constrain import Grammar
from unison.decode import Canvas, Decoded, StepInfo, Strategy, decode, guidance, shaped
from unison.decode.constrained import ConstrainedDenoiser
from unison.decode.fitting import Fitting
from unison.decode.jointly import Jointly
from unison.engine import Policy, cached, replaying
from unison.engine.prefixes import Prefixes
from unison.generation import canvases, infilling, settings, speculating
from unison.generation.canvases import Part, Parts, Row
from unison.generation.constraining import Covers, PerHole
from unison.generation.ordering import Asked, Order, ordered
from unison.generation.sample import Sample, finished
from unison.generation.settings import Sampling
from unison.language_model import LanguageModel
from unison.prob.rng import Key
from unison.speculation import Speculation
from unison.speculation.pearl import Pearl
from unison.types import Denoiser

OnStep = Callable[[int, Canvas, StepInfo], None]


def generate(  # noqa: PLR0913  # one keyword per flag of the command line
    model: LanguageModel,
    prompt: str | Sequence[str] = "",
    *,
    suffix: str | Sequence[str] = "",
    parts: Parts | None = None,
    length: int | None = None,
    new_tokens: int | None = None,
    scaffold: Sequence[Part] | None = None,
    constraint: Grammar | PerHole | Sequence[Grammar | PerHole | None] | None = None,
    covers: Covers = "answer",
    num: int = 1,
    strategy: Strategy | Speculation | Pearl | str | None = None,
    steps: int | None = None,
    block_length: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    cfg: float = 0.0,
    cache: Policy | str | None = None,
    judge: LanguageModel | None = None,
    seed: int | Sequence[int] = 0,
    batch_size: int = 64,
    on_step: OnStep | None = None,
) -> list[Sample]:
    r"""Write ``num`` texts for each prompt, or on each canvas.

    Text i of a prompt depends on the model, its own canvas, ``seed`` and i: not on ``num``, nor
    on ``batch_size``, nor on the other prompts.

    Args:
        model: Writes.
        prompt: Given text at the left; several for several canvases.
        suffix: Given text at the right; one for all, or one for each prompt.
        parts: The whole canvas instead: given text and numbers of open tokens, in order, such as
            ``["def f(", 4, "):\n", 40]``; or a list of such canvases.
        length: Tokens of each canvas, prompt and suffix included.
        new_tokens: Open tokens between prompt and suffix, instead of ``length``.
        scaffold: What stands between prompt and suffix, instead of ``new_tokens``: given text and
            numbers of open tokens; see ``unison.constrain.scaffold``.
        constraint: The language the text must be in (``unison.constrain``), one for all canvases
            or one for each, ``None`` for none; or ``unison.constrain``'s for each hole, as
            ``unison.generation.PerHole``. Every text is in it, whatever the model believes.
        covers: Whether ``constraint`` speaks of the answer, from the first open token (or the
            scaffold's first) to the last, or of the whole canvas.
        num: Texts to write for each.
        strategy: A strategy, or its name; see ``Sampling`` for this and the next eight. A
            ``unison.speculation.Speculation`` lets a left-to-right model write several tokens for
            one evaluation.
        steps: Denoiser evaluations.
        block_length: Positions of a block.
        temperature: Of the belief tokens are drawn from.
        top_k: Of that belief.
        top_p: Of that belief.
        cfg: Scale of classifier-free guidance.
        cache: What is remembered between steps, or its name.
        judge: Of strategies that ask one.
        seed: Names all randomness; one for all prompts, or one for each.
        batch_size: Rows decoded together; changes speed and memory, never text.
        on_step: Observer of every step, batch by batch; each begins with step 0.

    Returns:
        The texts of the first prompt, then those of the second, and so on.

    Raises:
        ValueError: A setting is out of range, unknown, or unsupported by the model; no text of
            the constraint fits the canvas.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    asked = Asked(
        prompt, suffix, parts, length, new_tokens, scaffold, constraint, covers, num, seed
    )
    spoken = strategy if isinstance(strategy, Speculation | Pearl) else None
    named = None if isinstance(strategy, Speculation | Pearl) else strategy
    sampling = Sampling(named, steps, block_length, temperature, top_k, top_p, cfg, cache, judge)
    order = ordered(model, asked, sampling, spoken)
    if spoken is not None:
        return list(speculating.write(order))
    samples: list[Sample | None] = [None] * len(order.texts)
    for part in _batches([text.rule is None for text in order.texts], batch_size):
        for i, sample in zip(part, together(order.some(part), on_step), strict=True):
            samples[i] = sample
    return [sample for sample in samples if sample is not None]


def _batches(free: Sequence[bool], size: int) -> Iterator[list[int]]:
    """Yield which texts are written together: never a constrained one with one that is free.

    They are drawn in different ways, and no text may depend on the others of its batch.
    """
    for kind in (False, True):
        alike = [i for i, other in enumerate(free) if other is kind]
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def check(model: LanguageModel, parts: Parts, sampling: Sampling) -> Strategy:
    """Return the strategy that ``generate`` would use, without writing anything.

    Args:
        model: Would write.
        parts: Canvases, as ``generate`` takes them.
        sampling: How.

    Raises:
        ValueError: It could not.
    """
    return cast(Strategy, ordered(model, Asked(parts=parts), sampling).how)


def together(order: Order, on_step: OnStep | None = None) -> Iterator[Sample]:
    """Yield the texts of an order, written as one batch by a strategy.

    Args:
        order: All of its texts are under a constraint, or none.
        on_step: Observer of every step.
    """

    def run(rows: Sequence[Row], streams: Key) -> Decoded:
        begun = beginning(order, rows, streams)
        way = replaying.strategy(begun.strategy, replaying.graphs_of(order.model))
        return decode(way, order.model.process, *begun[1:], streams, on_step)

    rows = [text.row for text in order.texts]
    if any(infilling.has_hole(order.model, row) for row in rows):
        written = infilling.fill(order.model, rows, order.key, run)
    else:
        written = infilling.as_written(rows, run(rows, order.key))
    for text, full in zip(order.texts, written, strict=True):
        yield finished(order.model, text.row, text.prompt, full.nfe * order.cost, full.values)


class Beginning(NamedTuple):
    """A batch before its first step.

    Attributes:
        strategy: What is done each step.
        denoise: The belief it reads, guided, cached, constrained and tempered as ordered.
        canvas: What is given, and noise.
    """

    strategy: Strategy
    denoise: Denoiser
    canvas: Canvas


def beginning(
    order: Order, rows: Sequence[Row], streams: Key, prefixes: Prefixes | None = None
) -> Beginning:
    """Return a batch of canvases, those of the order's texts or ones made from them.

    Args:
        order: By a strategy; of its texts come the constraints.
        rows: Canvases, as many as texts under a constraint.
        streams: A random stream for each.
        prefixes: Beginnings of texts of this network that need not be read again.
    """
    model, strategy = order.model, cast(Strategy, order.how)
    blank = canvases.batch(model, rows, streams)
    denoise = _denoiser(order, blank, strategy, prefixes)
    if not any(text.rule for text in order.texts):
        return Beginning(strategy, _tempered(model, denoise, strategy, order.sampling), blank)
    bound = tuple(() if text.rule is None else text.rule.bounds() for text in order.texts)
    tied = _tied(model, strategy, order.sampling)
    return Beginning(tied, ConstrainedDenoiser(denoise, model.process, bound), blank)


def _denoiser(
    order: Order, blank: Canvas, strategy: Strategy, prefixes: Prefixes | None
) -> Denoiser:
    """Return the model's own belief, guided and cached as asked."""
    model, sampling = order.model, order.sampling
    policy = settings.policy_of(model, strategy, sampling.cache)
    denoise, without = (
        cached(model.network, model.process, policy, blank.valid, prefixes) for _ in range(2)
    )
    if sampling.cfg:  # each remembers its own
        without = guidance.unprompted(without, model.process, blank)
        denoise = guidance.free(denoise, without, sampling.cfg)
    return denoise


def _tempered(
    model: LanguageModel, denoise: Denoiser, strategy: Strategy, sampling: Sampling
) -> Denoiser:
    """Return the belief a strategy reads; one that tempers by itself reads the model's own."""
    if isinstance(strategy, Fitting):
        return denoise
    temper = settings.temper_of(model, sampling)
    return shaped(denoise, temper.temperature, temper.top_k, temper.top_p)


def _tied(model: LanguageModel, strategy: Strategy, sampling: Sampling) -> Strategy:
    """Return a strategy whose tokens are drawn together; composed ones do so by themselves."""
    if isinstance(strategy, Fitting):
        return strategy
    return Jointly(strategy, settings.temper_of(model, sampling))
