"""What can be chosen, and what does each choice mean? Told by the code itself.

Names, defaults and sentences are those of the strategies' classes and their docstrings, ranges are
what they themselves say when they refuse a value: the page can say nothing that is not so.
"""

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, Literal, get_args, get_origin

from unison.constrain import GRAMMARS
from unison.decode import STRATEGIES, Strategy
from unison.decode.diffusion.composed import Composed
from unison.decode.parts import PARTS, part_names, required_settings
from unison.decode.presets import PRESETS
from unison.engine import CACHES
from unison.engine.compatible import unfit
from unison.engine.none import Uncached
from unison.generation import Sampling, choose, facts_of
from unison.generation.settings import settings_of
from unison.language_model import LanguageModel
from unison.process import Sequential
from unison.serve.service import Hosted, Service
from unison.types import Law

Plain = dict[str, Any]

_LAWS = {
    Law.EXACT: "Exact: samples the law it names, whatever the model says.",
    Law.GREEDY: "Greedy: always writes the same text for the same model and prompt.",
    Law.BIASED: "Heuristic: fast and often good, without a promise about the law of its texts.",
}
# Settings that have a place of their own on the page, or that a browser cannot give.
_ELSEWHERE = ("steps", "block_length", "temper", "eos_ids", "judge", "path")
_ABSURD = {"int": (-(10**9), 10**18), "float": (-1e9, 1e18, math.nan)}


def of_service(service: Service) -> Plain:
    """Return everything the page needs to know of a server."""
    settings = service.settings
    return {
        "version": metadata.version("unison"),
        "models": [of_model(service.model(name)) for name in service.names],
        "strategies": strategies(),
        "parts": {part: parts(part) for part in PARTS},
        "caches": {name: said(kind)[0] for name, kind in CACHES.items()},
        "grammars": list(GRAMMARS),
        "limits": {"prompt_tokens": settings.prompt_tokens, "new_tokens": settings.new_tokens},
        "logs": settings.log_prompts,
        "sure": settings.logprobs > 0,
    }


def of_model(hosted: Hosted) -> Plain:
    """Return what can be asked of one model."""
    model = hosted.model
    process = model.process
    return {
        "name": hosted.name,
        "version": hosted.version,
        "process": facts_of(model).process,
        "infills": not isinstance(process, Sequential) or process.holes is not None,
        "guidable": facts_of(model).process == "absorbing",
        "parameters": sum(weight.numel() for weight in model.network.parameters()),
        "max_length": model.max_length,
        "strategy": model.defaults.strategy,
        "steps": model.defaults.steps,
        "temperature": model.defaults.temperature,
        "block_length": facts_of(model).block_length,
        "strategies": [name for name in {**PRESETS, **STRATEGIES} if _fits(model, name)],
        "caches": [name for name, kind in CACHES.items() if _remembers(model, kind)],
    }


def _fits(model: LanguageModel, name: str) -> bool:
    """Whether a strategy can be had by its name alone."""
    try:
        choose(model, Sampling(strategy=name))
    except ValueError:
        return False
    return True


def _remembers(model: LanguageModel, kind: Callable[[], Any]) -> bool:
    policy = kind()
    plain = isinstance(policy, Uncached)
    return plain or unfit(policy, model.network, model.process) is None


def strategies() -> Plain:
    """Return every strategy and preset that has a value for each setting, by name."""
    known: dict[str, Any] = {**PRESETS, **STRATEGIES}
    made = {name: _made(kind) for name, kind in known.items()}
    return {
        name: of_strategy(strategy, known[name], preset=name in PRESETS)
        for name, strategy in made.items()
        if strategy is not None
    }


def _made(kind: Callable[[], Strategy]) -> Strategy | None:
    try:
        return kind()
    except ValueError:  # it needs something that has no default
        return None


def of_strategy(strategy: Strategy, source: Any, *, preset: bool) -> Plain:
    """Return what a strategy is, in words, and what can be set.

    Args:
        strategy: With its own settings.
        source: Its class, or the function that a preset is: the first sentence is its own.
        preset: Whether it is one.
    """
    sentence, about = said(source)
    own = settings_of(strategy)
    composed = isinstance(strategy, Composed)
    return {
        "preset": preset,
        "kind": type(strategy).__name__,
        "summary": sentence,
        "about": about,
        "law": {"name": strategy.law.name, "words": _LAWS[strategy.law]},
        "processes": list(strategy.processes),
        "steps": "steps" in own,
        "block_length": "block_length" in own,
        "parts": part_names(strategy) if composed else {},
        "fields": [
            *fields(strategy),
            *(f for part in PARTS if composed for f in fields(getattr(strategy, part), f"{part}.")),
        ],
    }


def parts(part: str) -> Plain:
    """Return what can stand for one part of a composed strategy, by name."""
    usable = {name: kind for name, kind in PARTS[part].items() if not required_settings(kind)}
    return {
        name: {"summary": said(kind)[0], "fields": fields(kind(), f"{part}.")}
        for name, kind in usable.items()
    }


def fields(value: Any, prefix: str = "") -> list[Plain]:
    """Return the settings of a strategy or part that a page can change: plain values only."""
    words = described(type(value))
    found = []
    for field in dataclasses.fields(value):
        if field.name in _ELSEWHERE:
            continue
        kind, choices = _kind(field.type)
        if kind is not None:
            standing = getattr(value, field.name)
            found.append(
                {
                    "name": prefix + field.name,
                    "kind": kind,
                    "default": standing,
                    "choices": choices,
                    "range": allowed(value, field.name, _ABSURD.get(kind, ())),
                    "about": words.get(field.name, ""),
                }
            )
    return found


def _kind(annotation: Any) -> tuple[str | None, list[str]]:
    """Return what is entered for a type, and the words to choose from."""
    if get_origin(annotation) is Literal:
        return "choice", list(get_args(annotation))
    options = [kind for kind in get_args(annotation) if kind is not type(None)]
    plain = options[0] if len(options) == 1 else annotation
    return (plain.__name__ if plain in (bool, int, float, str) else None), []


def allowed(value: Any, name: str, absurd: Iterable[int | float]) -> str | None:
    """Return which numbers a setting takes, in the words with which others are refused."""
    for number in absurd:
        try:
            dataclasses.replace(value, **{name: number})
        except ValueError as error:
            match = re.search(rf"\b{name} must be (.+?), got", str(error))
            if match:
                return match[1]
    return None


def said(thing: Any) -> tuple[str, str]:
    """Return the first paragraph of a docstring, and what follows before its sections."""
    words = inspect.getdoc(thing) or ""
    first, *rest = re.split(r"\n\s*\n", words)
    plain = [p for p in rest if not re.match(r"(Args|Attributes|Returns|Raises):", p)]
    return _prose(first), "\n\n".join(map(_prose, plain))


def described(kind: type) -> Mapping[str, str]:
    """Return what a class's docstring says of each attribute."""
    words = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {5,}.+)*)", words, re.MULTILINE)
    return {name: _prose(text) for name, text in found}


def _prose(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("``", "")).strip()
