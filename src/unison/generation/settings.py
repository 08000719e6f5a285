"""How is it written? Names and numbers become one strategy that fits the model."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from unison import residual
from unison.decode import STRATEGIES, Strategy
from unison.decode.diffusion.edlm import Edlm
from unison.decode.fitting import Facts, Fitting
from unison.decode.parts import configured
from unison.decode.presets import PRESETS
from unison.decode.temper import Temper
from unison.engine import CACHES, Policy, check
from unison.language_model import LanguageModel
from unison.process import PROCESSES, Absorbing, Process
from unison.suggest import nearest


@dataclass(frozen=True)
class Sampling:
    """How to write. ``None`` means the strategy's own, or else the model's own default.

    Attributes:
        strategy: A strategy, or its name in ``unison.decode.STRATEGIES`` or
            ``unison.decode.presets.PRESETS``.
        steps: Denoiser evaluations, for strategies that take a number of steps.
        block_length: Positions of a block, for strategies that work in blocks.
        temperature: 0 for the most probable token, 1 for the model's own law.
        top_k: Keep this many tokens.
        top_p: Keep the smallest set of tokens with this mass.
        cfg: Scale of classifier-free guidance; 0 for none.
        cache: What is remembered between steps: a policy, or its name in
            ``unison.engine.CACHES``.
        judge: The causal model that strategies guided by one ask, or the energy of ``edlm``; it
            shares the tokenizer.
    """

    strategy: Strategy | str | None = None
    steps: int | None = None
    block_length: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    cfg: float = 0.0
    cache: Policy | str | None = None
    judge: LanguageModel | None = None


def choose(model: LanguageModel, sampling: Sampling) -> Strategy:
    """Return the strategy to use, with the caller's settings and the model's.

    Raises:
        ValueError: The strategy is unknown, cannot undo the model's process, does not fit the
            model, or lacks a setting that was given.
    """
    facts = facts_of(model)
    strategy = _asked_for(model, sampling, facts)
    for name in ("steps", "block_length"):
        strategy = _set(strategy, name, getattr(sampling, name))
    _check_process(strategy, facts.process)
    if isinstance(strategy, Fitting):
        return _tempered(model, strategy.fitted(facts), sampling)
    if facts.block_length is not None:
        raise ValueError(
            f"{type(strategy).__name__} writes the whole canvas at once and this model blocks of "
            f"{facts.block_length} tokens; use {_IN_BLOCKS[facts.process]}, or composed."
        )
    if "eos_ids" in settings_of(strategy) and not strategy.eos_ids:  # pyright: ignore
        strategy = replace(strategy, eos_ids=facts.eos_ids)  # pyright: ignore
    return _judged(model, strategy, sampling.judge)


def policy_of(model: LanguageModel, strategy: Strategy, cache: Policy | str | None) -> Policy:
    """Return what is remembered between steps.

    Raises:
        ValueError: The cache is unknown, or does not go with the strategy or the model.
    """
    if isinstance(cache, str):
        if cache not in CACHES:
            raise ValueError(
                f"unknown cache {cache!r}{nearest(cache, CACHES)}; known: {', '.join(CACHES)}."
            )
        cache = CACHES[cache]()
    policy = CACHES["none"]() if cache is None else cache
    check(policy, strategy, model.network, model.process)
    return policy


def temper_of(model: LanguageModel, sampling: Sampling) -> Temper:
    """Return how sharply a strategy draws that has no temper of its own.

    Raises:
        ValueError: A setting is out of range.
    """
    return Temper(
        model.defaults.temperature if sampling.temperature is None else sampling.temperature,
        top_k=sampling.top_k,
        top_p=model.defaults.top_p if sampling.top_p is None else sampling.top_p,
    )


def _judged(model: LanguageModel, strategy: Strategy, judge: LanguageModel | None) -> Strategy:
    """Return a strategy that asks a judge with it.

    Raises:
        ValueError: There is none and the strategy needs one, or the other way round, or it has
            another tokenizer or is not of the kind the strategy asks.
    """
    if "judge" not in settings_of(strategy):
        if judge is not None:
            raise ValueError(f"{type(strategy).__name__} asks no judge; leave it out.")
        return strategy
    if judge is None:
        if strategy.judge is None:  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError(
                f"{type(strategy).__name__} needs a judge: a causal model with the same tokenizer."
            )
        return strategy
    if isinstance(strategy, Edlm):
        energy = residual.energy_of(model, judge, carry_over=strategy.carry_over)
        return replace(strategy, judge=energy)
    if process_name(judge.process) != "sequential" or judge.tokenizer != model.tokenizer:
        raise ValueError(
            "a judge must be a causal model with the same tokenizer, got one of the "
            f"{process_name(judge.process)} process"
            + ("." if judge.tokenizer == model.tokenizer else " with another tokenizer.")
        )
    return replace(strategy, judge=judge.denoiser())  # pyright: ignore


def _asked_for(model: LanguageModel, sampling: Sampling, facts: Facts) -> Strategy:
    """Return the strategy that was asked for, or the model's, before it is fitted."""
    chosen = sampling.strategy
    if chosen is not None and not isinstance(chosen, str):
        return chosen
    strategy = strategy_named(model.defaults.strategy if chosen is None else chosen)
    if chosen in (None, model.defaults.strategy):
        strategy = configured(strategy, model.defaults.settings)
    if chosen is None and facts.block_length is not None and not isinstance(strategy, Fitting):
        strategy = strategy_named(_IN_BLOCKS[facts.process])
    return with_defaults(model, strategy, sampling)


_IN_BLOCKS = {"absorbing": "bd3", "uniform": "diffusion-gemma"}  # who denoises block by block


def strategy_named(name: str) -> Strategy:
    """Return a strategy or a preset by name, with its own settings.

    Raises:
        ValueError: There is none of that name; the message suggests the nearest.
    """
    known = {**PRESETS, **STRATEGIES}
    if name not in known:
        raise ValueError(
            f"unknown strategy {name!r}{nearest(name, known)}; known: "
            f"{', '.join({**STRATEGIES, **PRESETS})}."
        )
    return known[name]()


def with_defaults(model: LanguageModel, strategy: Strategy, sampling: Sampling) -> Strategy:
    """Return a strategy named by someone with the model's steps and blocks where none are given.

    The number of steps is the model's where it sets the pace and is open, or where the strategy
    itself was the model's choice. A model that was trained on blocks fills in its own; any other
    says how long they are for strategies that work in blocks.
    """
    own = sampling.strategy is None
    known, changes = settings_of(strategy), {}
    if sampling.steps is None and "steps" in known and _open_steps(strategy, own):
        changes["steps"] = model.defaults.steps
    if sampling.block_length is None and "block_length" in known:
        in_blocks = own or strategy.block_length is not None  # pyright: ignore
        length = model.defaults.block_length
        if facts_of(model).block_length is not None:
            changes["block_length"] = None
        elif in_blocks and length is not None:
            changes["block_length"] = length
    return replace(strategy, **changes) if changes else strategy  # pyright: ignore


def _open_steps(strategy: Strategy, own: bool) -> bool:
    if not isinstance(strategy, Fitting):
        return True
    unset = strategy.steps is None  # pyright: ignore[reportAttributeAccessIssue]
    return strategy.paced() if unset else own


def process_name(process: Process) -> str:
    """Return the process's name in ``unison.process.PROCESSES``."""
    return next(name for name, kind in PROCESSES.items() if isinstance(process, kind))


def settings_of(strategy: Strategy) -> set[str]:
    """Return the names of a strategy's settings."""
    return {field.name for field in fields(strategy)}  # pyright: ignore[reportArgumentType]


def takes_steps(strategy: Strategy) -> bool:
    """Return whether a strategy takes a number of steps."""
    return "steps" in settings_of(strategy)


def facts_of(model: LanguageModel) -> Facts:
    """Return what a strategy may need to know of a model."""
    config, process = model.network.config, process_name(model.process)
    return Facts(
        process,
        model.eos_ids,
        config.block_length if config.attention == "block_causal" else None,
        "answer" if process == "uniform" else "canvas",
    )


def evaluations(model: LanguageModel, strategy: Strategy, cfg: float = 0.0) -> int:
    """Return the network evaluations behind one step of a strategy.

    A self-conditioned network is called twice unless the strategy hands it an earlier belief;
    guidance asks everything twice.
    """
    carries = isinstance(strategy, Fitting) and strategy.carries(process_name(model.process))
    return (1 if carries else model.evaluations_per_step) * (2 if cfg else 1)


_LACKS = {
    "steps": "decides its own number of steps; leave steps out.",
    "block_length": "does not work in blocks; leave block_length out or use the strategy composed.",
}


def check_guidance(model: LanguageModel, cfg: float) -> None:
    """Raise ValueError if a model cannot be guided like that."""
    if not 0 <= cfg < math.inf:
        raise ValueError(f"cfg must be at least 0 and finite, got {cfg}; 0 leaves guidance out.")
    if cfg and not isinstance(model.process, Absorbing):
        raise ValueError(
            f"cfg={cfg} hides the prompt behind masks, and this model's "
            f"{process_name(model.process)} process has none; leave cfg out."
        )


def _set(strategy: Strategy, name: str, value: int | None) -> Strategy:
    if value is None:
        return strategy
    if name not in settings_of(strategy):
        raise ValueError(f"{type(strategy).__name__} {_LACKS[name]}")
    return replace(strategy, **{name: value})  # pyright: ignore


def _check_process(strategy: Strategy, process: str) -> None:
    if process in strategy.processes:
        return
    fitting: Iterable[str] = [name for name, k in STRATEGIES.items() if process in k.processes]
    raise ValueError(
        f"{type(strategy).__name__} cannot undo the {process} process of this model; use one of "
        f"{', '.join(fitting)}."
    )


def _tempered(model: LanguageModel, strategy: Fitting, sampling: Sampling) -> Fitting:
    """Return the strategy with the caller's temper, or the model's where both leave it open.

    A default of 1 says nothing: it is the model's own law.
    """
    temperature, top_p = sampling.temperature, sampling.top_p
    if temperature is None and sampling.strategy is None and model.defaults.temperature != 1:
        temperature = model.defaults.temperature
    if top_p is None and model.defaults.top_p != 1:
        top_p = model.defaults.top_p
    return strategy.tempered(temperature, sampling.top_k, top_p)
