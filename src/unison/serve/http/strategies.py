"""Which strategy does a request describe? Its name, and settings of it and its parts."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_type_hints

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from unison.decode import Strategy
from unison.decode.parts import PARTS, configured, required_settings, with_parts
from unison.generation import Sampling, settings_of, strategy_named, with_defaults
from unison.language_model import LanguageModel
from unison.serve.http.errors import Refused
from unison.suggest import nearest

_SLOTS = (*PARTS, "order.order")
_MOST = 1 << 20  # of any number: of steps, blocks and tokens, weights and odds, more than enough


def strategy_of(
    model: LanguageModel,
    name: str | None,
    settings: Mapping[str, Any] | None,
    plain: Sampling,
) -> Sampling:
    """Return how to write, with the strategy a request describes.

    Args:
        model: Writes.
        name: Of the strategy; ``None`` for the model's own.
        settings: Of it and its parts, by dotted name; a part's own name chooses the part.
        plain: The rest.

    Raises:
        ValueError: A setting is unknown, of the wrong type or out of range.
    """
    if not settings:
        return replace(plain, strategy=name)
    parts = {slot: said for slot, said in settings.items() if slot in _SLOTS}
    numbers = {slot: said for slot, said in settings.items() if slot not in _SLOTS}
    if name is None and not parts:
        raise Refused("settings are those of a strategy; name it in strategy.", "settings")
    try:
        strategy = _made(model, name, parts, plain)
        for slot, said in numbers.items():
            strategy = configured(strategy, {slot: _typed(strategy, slot, said)})
    except Refused:
        raise
    except ValueError as error:
        raise Refused(f"settings: {error}", "settings") from error
    asked = replace(plain, strategy=strategy)
    return replace(asked, strategy=with_defaults(model, strategy, asked))


def _made(
    model: LanguageModel, name: str | None, parts: Mapping[str, Any], plain: Sampling
) -> Strategy:
    """Return the strategy with its parts, and with the numbers that settings may go with."""
    strategy = strategy_named(name or "composed")
    if name == model.defaults.strategy:
        strategy = configured(strategy, model.defaults.settings)
    for field in ("steps", "block_length"):
        value = getattr(plain, field)
        if value is not None and field in settings_of(strategy):
            strategy = replace(strategy, **{field: value})  # pyright: ignore
    for slot, said in parts.items():
        known = PARTS[slot.partition(".")[0]]
        if not isinstance(said, str) or said not in known:
            hint = nearest(said, known) if isinstance(said, str) else ""
            raise Refused(
                f"settings: {slot} must be one of {', '.join(known)}{hint}; got {said!r}.",
                f"settings.{slot}",
            )
        if required_settings(known[said]):
            raise Refused(
                f"settings: {slot} {said} reads a file of the server, which requests cannot name.",
                f"settings.{slot}",
            )
    return with_parts(strategy, parts)


def _typed(strategy: Strategy, slot: str, said: Any) -> Any:
    """Return a setting's value as its declared type.

    Raises:
        Refused: There is no such setting, or it is of another type.
    """
    owner: Any = strategy
    *path, name = slot.split(".")
    for part in path:
        owner = getattr(owner, part, None)
    known = [field.name for field in fields(owner)] if is_dataclass(owner) else []
    if name not in known:
        raise Refused(
            f"settings: there is no setting {slot!r}{nearest(name, known)}; "
            f"{type(owner).__name__ if known else 'it'} has {', '.join(known) or 'none'}.",
            f"settings.{slot}",
        )
    hint = get_type_hints(type(owner))[name]
    kind = None if hint is str or is_dataclass(getattr(owner, name)) else _json_kind(hint)
    if kind is None:
        raise Refused(
            f"settings: {slot} cannot be set over HTTP; set the fields of a part by dotted name.",
            f"settings.{slot}",
        )
    try:
        value = kind.validate_json(json.dumps(said), strict=True)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise Refused(f"settings: {slot}: {reason}, got {said!r}.", f"settings.{slot}") from None
    if any(abs(number) > _MOST for number in _numbers(value)):
        raise Refused(f"settings: {slot} must be at most {_MOST}, got {value}.", f"settings.{slot}")
    return value


def _numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, int | float):
        yield value
    for part in value if isinstance(value, list | tuple) else ():
        yield from _numbers(part)


def _json_kind(hint: Any) -> TypeAdapter | None:
    """Return how JSON is read as a type; ``None`` for one that JSON has no words for."""
    try:
        return TypeAdapter(hint)
    except PydanticSchemaGenerationError:  # a model that is asked, for example
        return None
