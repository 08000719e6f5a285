"""Which texts does a request allow? Its ``response_format`` becomes a language.

``text``, ``json_object`` and ``json_schema`` are those of the OpenAI interface; ``regex`` and
``grammar`` are extensions of ours. Every answer under one of them obeys it: the law of the model
is conditioned on the language while it writes, nothing is repaired afterwards.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from unison import constrain
from unison.constrain import ConstraintError, Grammar
from unison.serve.http.bounds import shallow, short, small
from unison.serve.http.fields import Strict


class TextFormat(Strict):
    """Any text."""

    type: Literal["text"]


class JsonObject(Strict):
    """A JSON object of any kind."""

    type: Literal["json_object"]


class NamedSchema(BaseModel):
    """A JSON schema with a name.

    Attributes:
        name: For people.
        description: For people.
        schema_: The schema, draft 2020-12; older drafts are understood where they cannot be
            mistaken.
        strict: ``false`` takes keywords that no draft knows for annotations; otherwise they are
            refused, since they may be misspelt.
    """

    model_config = ConfigDict(extra="forbid", strict=True)  # `schema` is no name of a field

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | bool = Field(alias="schema")
    strict: bool | None = None


class JsonSchema(Strict):
    """JSON that a schema accepts."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class RegexFormat(Strict):
    """Texts that a regular expression matches whole, in the notation of Python's ``re``."""

    type: Literal["regex"]
    pattern: str


class GrammarFormat(Strict):
    """Texts of a context-free grammar.

    Attributes:
        syntax: ``lark`` or ``gbnf``.
        text: The grammar; whole texts follow its rule ``start`` (Lark) or ``root`` (GBNF).
    """

    type: Literal["grammar"]
    syntax: Literal["lark", "gbnf"]
    text: str


ResponseFormat = Annotated[
    TextFormat | JsonObject | JsonSchema | RegexFormat | GrammarFormat, Field(discriminator="type")
]


def language(asked: ResponseFormat | None) -> Grammar | None:
    """Return the language of a response format; ``None`` for any text.

    Raises:
        ConstraintError: What it says cannot be read, cannot be met, or is too large to serve.
    """
    match asked:
        case JsonObject():
            return constrain.json_schema({"type": "object"})
        case JsonSchema(json_schema=named):
            loose = named.strict is False
            return schema_language(named.schema_, f"the schema {named.name!r}", loose=loose)
        case RegexFormat(pattern=pattern):
            return bounded(lambda: constrain.regex(short(pattern, "the pattern")), "the pattern")
        case GrammarFormat(syntax=syntax, text=text):
            return bounded(
                lambda: constrain.grammar(short(text, "the grammar"), notation=syntax),
                "the grammar",
            )
    return None


def schema_language(
    schema: dict[str, Any] | bool, about: str = "the schema", *, loose: bool = False
) -> Grammar:
    """Return the language of a JSON schema, spaced as ``json.dumps`` writes.

    Args:
        schema: The schema.
        about: What it is called in messages.
        loose: Whether keywords that no draft knows are taken for annotations.

    Raises:
        ConstraintError: It cannot be read, cannot be met, or is too large to serve.
    """
    unknown = "ignore" if loose else "refuse"
    return bounded(lambda: constrain.json_schema(shallow(schema, about), unknown=unknown), about)


def bounded(make: Callable[[], Grammar], about: str) -> Grammar:
    """Return a language that unfolds to little enough.

    Raises:
        ConstraintError: It cannot be made, or is too large to serve.
    """
    try:
        return small(make())
    except RecursionError:  # the readers follow what is written inside each other
        raise ConstraintError(f"{about} is nested too deeply; flatten it.") from None
