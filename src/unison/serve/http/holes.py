"""What may fill the holes of a canvas? A type for each, and its language."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

from pydantic import Discriminator, Field, Tag

from unison import constrain
from unison.constrain import ConstraintError, Grammar
from unison.constrain.sources.template import JSON, TYPES
from unison.generation import PerHole
from unison.serve.http.bounds import short
from unison.serve.http.errors import Refused
from unison.serve.http.fields import Strict, one_of
from unison.serve.http.response_format import bounded, schema_language

MOST = 256  # parts of one canvas
_Tokens = Annotated[int, Field(ge=1, le=65_536)]
_Kind = one_of("type", (*TYPES, JSON))


class RegexHole(Strict):
    """Texts that a regular expression matches whole, in the notation of Python's ``re``."""

    regex: str


class SchemaHole(Strict):
    """JSON that a schema accepts."""

    json_schema: dict[str, Any] | bool


class ChoicesHole(Strict):
    """One of some texts."""

    choices: Annotated[list[str], Field(min_length=1, max_length=1000)]


def _sort_of_type(said: Any) -> str:
    """Return which form of type is meant, so that messages speak of that one."""
    if isinstance(said, RegexHole | SchemaHole | ChoicesHole):
        return _FORMS[type(said)]
    if not isinstance(said, dict):
        return "a name"
    return next((form for form in ("json_schema", "choices") if form in said), "regex") + " form"


_FORMS = {
    RegexHole: "regex form",
    SchemaHole: "json_schema form",
    ChoicesHole: "choices form",
}
HoleType = Annotated[
    Annotated[_Kind, Tag("a name")]
    | Annotated[RegexHole, Tag("regex form")]
    | Annotated[SchemaHole, Tag("json_schema form")]
    | Annotated[ChoicesHole, Tag("choices form")],
    Discriminator(_sort_of_type),
]


class Hole(Strict):
    """Open tokens, and what they may say."""

    tokens: _Tokens = Field(description="How many; text that is shorter leaves the rest empty.")
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="What the answer calls it."
    )
    type: HoleType | None = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=None,
        description=f"What fills it: {', '.join((*TYPES, JSON))}, or a regular expression, a JSON "
        "schema or choices. Anything if left out.",
    )


class HolePart(Strict):
    """A hole in a canvas."""

    hole: Hole


def _sort_of_part(said: Any) -> str:
    """Return which form of part is meant, so that messages speak of that one."""
    if isinstance(said, dict | HolePart):
        return "a hole"
    return "a number" if isinstance(said, int | float) else "a text"


Part = Annotated[
    Annotated[str, Field(min_length=1, max_length=1_000_000), Tag("a text")]
    | Annotated[_Tokens, Tag("a number")]
    | Annotated[HolePart, Tag("a hole")],
    Discriminator(_sort_of_part),
]


class Span(NamedTuple):
    """Where a hole is.

    Attributes:
        hole: The hole.
        part: Number of its part of the canvas.
    """

    hole: Hole
    part: int


def spans(canvas: Sequence[str | int | HolePart]) -> list[Span]:
    """Return the holes of a canvas; a number is one of any text.

    Raises:
        Refused: There is none, two have one name, or one with a type touches another.
    """
    found = [
        Span(Hole(tokens=part) if isinstance(part, int) else part.hole, i)
        for i, part in enumerate(canvas)
        if not isinstance(part, str)
    ]
    if not found:
        raise Refused(
            "the canvas has no hole; put a number of tokens where text is to be.", "canvas"
        )
    names = [span.hole.name for span in found if span.hole.name is not None]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Refused(f"two holes of the canvas are called {twice!r}.", "canvas")
    for left, right in pairwise(found):
        typed = left.hole.type is not None or right.hole.type is not None
        if typed and right.part == left.part + 1:
            raise Refused(
                f"holes {left.part} and {right.part} of the canvas touch, so nothing says where "
                "the text of one type ends; put text between them, or make them one hole.",
                f"canvas.{right.part}",
            )
    return found


def languages(holes: Sequence[Span]) -> PerHole | None:
    """Return the language of each hole; ``None`` where none has a type.

    Raises:
        Refused: Naming the part: a type cannot be read or met, or is too large to serve.
    """
    if all(span.hole.type is None for span in holes):
        return None
    return PerHole(
        tuple(
            None if span.hole.type is None else kind_of(span.hole, f"canvas.{span.part}.hole.type")
            for span in holes
        )
    )


def kind_of(hole: Hole, field: str) -> Grammar:
    """Return the language of a hole.

    Raises:
        Refused: Naming the field.
    """
    try:
        match hole.type:
            case RegexHole(regex=pattern):
                made = constrain.regex(short(pattern, "the pattern"), "the pattern of the hole")
            case SchemaHole(json_schema=schema):
                made = schema_language(schema, "the schema of the hole")
            case ChoicesHole(choices=choices):
                made = constrain.choice(choices, "the choices of the hole")
            case str(name):
                made = constrain.template(f"{{:{name}}}")
            case other:
                raise TypeError(other)
        return bounded(lambda: made, "the type of the hole")
    except ConstraintError as error:
        raise Refused(str(error), field) from error
