"""How are many texts written together, and none of them the other for it?"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from unison.constrain import Grammar
from unison.decode import Canvas, Decoded, StepInfo, Strategy, decode, guidance, shaped
from unison.decode.composition import refuses_constraint
from unison.decode.constrained import ConstrainedDenoiser
from unison.decode.fitting import Fitting
from unison.decode.jointly import Jointly
from unison.decode.temper import Temper
from unison.engine import Policy, cached
from unison.generation import canvases, constraining, infilling, settings, speculating
from unison.generation.canvases import Part, Parts, Row, Size
from unison.generation.constraining import Covers, Rule
from unison.generation.sample import Sample, finished
from unison.generation.settings import Sampling
from unison.language_model import LanguageModel
from unison.prob import rng
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
    constraint: Grammar | Sequence[Grammar | None] | None = None,
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
            or one for each, ``None`` for none. Every text is in it, whatever the model believes.
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
    for name, value in (("num", num), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    asked = canvases.rows(model, prompt, suffix, parts, Size(length, new_tokens, scaffold))
    if isinstance(strategy, Speculation | Pearl):
        sampling = Sampling(None, steps, block_length, temperature, top_k, top_p, cfg, cache, judge)
        obeys = constraining.rules(model, asked, constraint, covers)
        return _spoken(model, asked, (strategy, sampling), (num, seed), obeys)
    sampling = Sampling(strategy, steps, block_length, temperature, top_k, top_p, cfg, cache, judge)
    how = _how(model, sampling, asked)
    obeys = constraining.rules(model, asked, constraint, covers)
    _check_constrained(model, how[0], asked, obeys)
    seeds = _seeds(seed, len(asked), num).to(model.device)
    many = [
        (number, row, rule)
        for number, (row, rule) in enumerate(zip(asked, obeys, strict=True))
        for _ in range(num)
    ]
    samples: list[Sample | None] = [None] * len(many)
    for part in _batches([rule is None for *_, rule in many], batch_size):
        written = _write(model, [many[i] for i in part], Key(seeds[part]), how, on_step)
        for i, sample in zip(part, written, strict=True):
            samples[i] = sample
    return [sample for sample in samples if sample is not None]


def _spoken(
    model: LanguageModel,
    asked: Sequence[Row],
    how: tuple[Speculation | Pearl, Sampling],
    wanted: tuple[int, int | Sequence[int]],
    obeys: Sequence[Rule | None],
) -> list[Sample]:
    """Return what speculation writes: ``wanted`` texts for each row."""
    fitting = speculating.fitted(model, *how)
    speculating.check(asked)
    num, seed = wanted
    gated = [speculating.gated(fitting, rule) for rule in obeys]
    rows = zip(asked, gated, strict=True)
    many = [(number, *row) for number, row in enumerate(rows) for _ in range(num)]
    key = Key(_seeds(seed, len(asked), num).to(model.device))
    return list(speculating.write(model, many, key))


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
    return _how(model, sampling, canvases.rows(model, "", "", parts, Size()))[0]


def _how(
    model: LanguageModel, sampling: Sampling, asked: Sequence[Row]
) -> tuple[Strategy, Sampling]:
    """Return the strategy, and the settings with the cache as a policy."""
    settings.check_guidance(model, sampling.cfg)
    chosen = settings.choose(model, sampling)
    policy = settings.policy_of(model, chosen, sampling.cache)
    _check_steps(model, (chosen, sampling), asked)
    return chosen, dataclasses.replace(sampling, cache=policy)


def _seeds(seed: int | Sequence[int], prompts: int, num: int) -> Int[Tensor, " N"]:
    """Return the seed of every text; texts of prompts with one seed share their noise."""
    if isinstance(seed, int):
        return rng.rows(seed, 0, num).repeat(prompts)
    if len(seed) != prompts:
        raise ValueError(
            f"there are {len(seed)} seeds and {prompts} prompts; give one seed for all or one each."
        )
    return torch.cat([rng.rows(one, 0, num) for one in seed])


def _check_steps(
    model: LanguageModel, how: tuple[Strategy, Sampling], asked: Sequence[Row]
) -> None:
    """Refuse a number of steps that is too small for some row's blocks, unless nobody asked for it.

    The model's default yields: each block then gets a step.
    """
    strategy, sampling = how
    if not isinstance(strategy, Fitting):
        return
    default = strategy.steps == model.defaults.steps  # pyright: ignore[reportAttributeAccessIssue]
    if sampling.steps is not None or not default:
        strategy.refuse(canvases.batch(model, asked, Key(rng.rows(0, 0, len(asked)))))


def _write(
    model: LanguageModel,
    asked: Sequence[tuple[int, Row, Rule | None]],
    key: Key,
    how: tuple[Strategy, Sampling],
    on_step: OnStep | None,
) -> Iterator[Sample]:
    strategy, sampling = how
    obeys = [rule for *_, rule in asked]

    def run(rows: Sequence[Row], streams: Key) -> Decoded:
        blank = canvases.batch(model, rows, streams)
        denoise = _denoiser(model, blank, strategy, sampling)
        if not any(obeys):
            denoise = _tempered(model, denoise, strategy, sampling)
            return decode(strategy, model.process, denoise, blank, streams, on_step)
        bound = tuple(None if rule is None else rule.bound() for rule in obeys)
        denoise = ConstrainedDenoiser(denoise, model.process, bound)
        tied = _tied(model, strategy, sampling)
        return decode(tied, model.process, denoise, blank, streams, on_step)

    rows = [row for _, row, _ in asked]
    if any(infilling.has_hole(model, row) for row in rows):
        written = infilling.fill(model, rows, key, run)
    else:
        written = infilling.as_written(rows, run(rows, key))
    cost = settings.evaluations(model, strategy, sampling.cfg)
    for (prompt, row, _), full in zip(asked, written, strict=True):
        yield finished(model, row, prompt, full.nfe * cost, full.values)


def _denoiser(
    model: LanguageModel, blank: Canvas, strategy: Strategy, sampling: Sampling
) -> Denoiser:
    """Return the model's own belief, guided and cached as asked."""
    policy = settings.policy_of(model, strategy, sampling.cache)
    denoise, without = (cached(model.network, model.process, policy, blank.valid) for _ in range(2))
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
    temper = _temper(model, sampling)
    return shaped(denoise, temper.temperature, temper.top_k, temper.top_p)


def _tied(model: LanguageModel, strategy: Strategy, sampling: Sampling) -> Strategy:
    """Return a strategy whose tokens are drawn together; composed ones do so by themselves."""
    return (
        strategy if isinstance(strategy, Fitting) else Jointly(strategy, _temper(model, sampling))
    )


def _temper(model: LanguageModel, sampling: Sampling) -> Temper:
    return Temper(
        model.defaults.temperature if sampling.temperature is None else sampling.temperature,
        top_k=sampling.top_k,
        top_p=model.defaults.top_p if sampling.top_p is None else sampling.top_p,
    )


def _check_constrained(
    model: LanguageModel, strategy: Strategy, asked: Sequence[Row], obeys: Sequence[Rule | None]
) -> None:
    """Raise ValueError where a constraint does not go with how texts are written."""
    if not any(obeys):
        return
    reason = refuses_constraint(strategy)
    if reason is not None:
        raise ValueError(reason)
    if any(infilling.has_hole(model, row) for row in asked):
        raise ValueError(
            "this left-to-right model writes fillings behind the text, where a constraint does not "
            "see both sides of a hole; leave the constraint out, or use a diffusion model."
        )
