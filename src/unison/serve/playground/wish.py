"""What does the page ask for, and what is wrong with it? A request becomes an order, or a refusal.

The page says the whole canvas in parts, so that prompt, holes and suffix are one thing; everything
else is called what ``unison.generate`` calls it.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unison import constrain
from unison.constrain import Grammar
from unison.decode import Strategy
from unison.decode.parts import configured, with_parts
from unison.generation import Sampling
from unison.generation.ordering import Asked, Order, ordered
from unison.generation.settings import settings_of, strategy_named
from unison.language_model import LanguageModel
from unison.serve.http.bodies import parsed
from unison.serve.http.errors import Refused
from unison.serve.service import Service
from unison.serve.settings import Settings

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_MOST_PARTS = 512
_Name = Annotated[str, Field(max_length=200)]


class Rule(BaseModel):
    """What the text must obey.

    Attributes:
        kind: The notation.
        text: In it; choices are one a line.
    """

    model_config = _STRICT
    kind: Literal["json_schema", "regex", "choices", "grammar"]
    text: str


class Wish(BaseModel):
    """What to write, and how.

    Attributes:
        canvas: Given text, and numbers of tokens to write.
        model: Which; ``None`` for the default.
        strategy: A name; ``None`` for the model's own.
        parts: Names of the parts of a composed strategy, by what they do.
        settings: Of the strategy and its parts, by dotted name.
        constraint: What the text must obey.

    The others are as in ``unison.generate``.
    """

    model_config = _STRICT
    canvas: Annotated[list[str | Annotated[int, Field(ge=0)]], Field(max_length=_MOST_PARTS)]
    model: _Name | None = None
    strategy: _Name | None = None
    parts: dict[_Name, _Name] = {}
    settings: dict[_Name, bool | int | float | str] = {}
    steps: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    cfg: float = 0.0
    block_length: int | None = None
    cache: _Name | None = None
    seed: Annotated[int, Field(ge=0, lt=2**53)] = 0  # what a browser's numbers hold
    constraint: Rule | None = None


def read(body: bytes) -> Wish:
    """Return a request's body as a wish.

    Raises:
        Refused: It is no strict JSON, or a field is unknown or of another type.
    """
    try:
        return Wish.model_validate(parsed(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = [str(step) for step in first["loc"]]
        field = ".".join(path[:2] if path[:1] in (["settings"], ["parts"]) else path[:1]) or None
        raise Refused(f"{field or 'the request'}: {first['msg']}.", field) from None


def order_of(service: Service, wish: Wish) -> tuple[Order, Grammar | None]:
    """Return what is to be written, and the language it must be in.

    Raises:
        UnknownModel: There is no such model.
        Refused: It cannot be; says which field is wrong.
    """
    model = service.model(wish.model).model
    _check_canvas(model, wish)
    grammar = None if wish.constraint is None else _grammar(wish.constraint)
    sampling = Sampling(
        _strategy(wish), wish.steps, wish.block_length, wish.temperature, wish.top_k, wish.top_p,
        wish.cfg, wish.cache,
    )  # fmt: skip
    asked = Asked(parts=wish.canvas, constraint=grammar, seed=wish.seed)
    try:
        order = ordered(model, asked, sampling)
    except ValueError as error:
        ruled = isinstance(error, constrain.ConstraintError)
        param = "constraint" if ruled else field_in(str(error)) or "strategy"
        raise Refused(str(error), param) from None
    _check_limits(order, service.settings)
    return order, grammar


def _check_canvas(model: LanguageModel, wish: Wish) -> None:
    """Refuse what would be large before it is found too long."""
    holes = [part for part in wish.canvas if isinstance(part, int)]
    if not any(holes):
        raise Refused("the canvas has no hole: there is nothing to write.", "canvas")
    if sum(holes) > model.max_length:
        raise Refused(
            f"the holes have {sum(holes)} tokens; the model's longest canvas is "
            f"{model.max_length}, text included.",
            "canvas",
        )


def _check_limits(order: Order, settings: Settings) -> None:
    given = order.texts[0].row.given
    for count, most, what in (
        (sum(given), settings.prompt_tokens, "given tokens"),
        (len(given) - sum(given), settings.new_tokens, "tokens to write"),
    ):
        if most is not None and count > most:
            raise Refused(f"the canvas has {count} {what}; this server takes {most}.", "canvas")


def _strategy(wish: Wish) -> Strategy | str | None:
    """Return the strategy, changed as the wish says; its name if it stays as it is."""
    if not (wish.parts or wish.settings):
        return wish.strategy
    if wish.strategy is None:
        raise Refused("settings and parts go with a strategy: name it.", "strategy")
    try:
        strategy = strategy_named(wish.strategy)
    except ValueError as error:
        raise Refused(str(error), "strategy") from None
    asked = {"steps": wish.steps, "block_length": wish.block_length}
    known = settings_of(strategy)
    numbers = {name: n for name, n in asked.items() if n is not None and name in known}
    try:
        strategy = with_parts(configured(strategy, numbers), wish.parts)
        _check_types(strategy, wish.settings)
        return configured(strategy, wish.settings)
    except Refused:
        raise
    except ValueError as error:
        raise Refused(str(error), _setting_in(str(error), wish)) from None


def _check_types(strategy: Strategy, settings: Mapping[str, Any]) -> None:
    """Refuse values of another type than the setting has; names are checked where they are set."""
    for name, value in settings.items():
        standing: Any = strategy
        for step in name.split("."):
            standing = getattr(standing, step, None)
        wanted = int if standing is None else type(standing)
        if wanted is float and type(value) is int:
            wanted = int
        if wanted in (bool, int, float, str) and type(value) is not wanted:
            raise Refused(
                f"{name} is of type {wanted.__name__}, got {value!r}.", f"settings.{name}"
            )


def _setting_in(message: str, wish: Wish) -> str | None:
    """Return which setting or part a message speaks of."""
    words = set(re.findall(r"\w+", message))
    for name in wish.settings:
        if name.rpartition(".")[2] in words:
            return f"settings.{name}"
    for part in wish.parts:
        if part in words:
            return f"parts.{part}"
    return field_in(message) or "strategy"


def _grammar(rule: Rule) -> Grammar:
    """Return the language of a rule.

    Raises:
        Refused: It has errors, told with their place.
    """
    try:
        if rule.kind == "json_schema":
            return constrain.json_schema(json.loads(rule.text))
        if rule.kind == "regex":
            return constrain.regex(rule.text)
        if rule.kind == "choices":
            return constrain.choice([line for line in rule.text.splitlines() if line])
        if rule.text.strip() in constrain.GRAMMARS:
            return constrain.GRAMMARS[rule.text.strip()]()
        return constrain.grammar(rule.text)
    except RecursionError:
        raise Refused("the constraint is nested too deeply.", "constraint") from None
    except json.JSONDecodeError as error:
        raise Refused(f"the schema is no JSON: {error}.", "constraint") from None
    except ValueError as error:
        raise Refused(str(error), "constraint") from None


# Which field a message speaks of, by the words it uses.
_WORDS: Mapping[str, str] = {
    "temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "steps": "steps",
    "block_length": "block_length", "cfg": "cfg", "cache": "cache", "canvas": "canvas",
    "hole": "canvas",
    "tokenizer": "canvas", "strategy": "strategy", "constraint": "constraint", "undo": "strategy",
}  # fmt: skip


def field_in(message: str) -> str | None:
    """Return the field whose word comes first in a message."""
    words = re.findall(r"[a-z_]+", message.lower())
    return next((_WORDS[word] for word in words if word in _WORDS), None)
