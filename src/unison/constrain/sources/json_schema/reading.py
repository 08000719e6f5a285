"""From a JSON schema to the grammar of its texts (draft 2020-12 core).

json-schema.org/draft/2020-12: core and validation vocabularies, read as conditions on a value; the
grammar then writes only values that meet them. Recursion through ``$ref`` stays recursion, all
else is regular.
"""

from collections.abc import Mapping
from typing import Any, Literal

from unison.constrain.language import Expr, Grammar, Ref
from unison.constrain.sources.json_schema.document import Claim, Document, Node, Problem, load
from unison.constrain.sources.json_schema.layout import LAYOUTS, Spacing
from unison.constrain.sources.json_schema.nodes import node
from unison.constrain.sources.json_schema.pruning import pruned
from unison.constrain.sources.json_schema.regular import seq
from unison.constrain.sources.json_schema.vacancy import problem
from unison.constrain.sources.json_schema.writing import Writer, value

START = "JSON"


def json_schema(
    schema: Mapping[str, Any] | bool | str,
    *,
    spacing: Spacing = "spaced",
    extra: bool = False,
    unknown: Literal["refuse", "ignore"] = "refuse",
) -> Grammar:
    """Return the texts of a schema's values: every text is valid, while not all valid ones are in.

    Properties come in the order of ``properties``, required ones missing there afterwards;
    optional ones may be left out. Properties the schema does not name are written only where it
    names none at all, or with ``extra``. Each number has no exponent and no leading plus, unless
    nothing bounds it; characters that need no escape have none, unless only a least length is
    asked for. ``contains`` is met by the first items, ``uniqueItems`` keeps the order of the enum.
    Formats are asserted. A schema that has to be exclusive (``oneOf``, ``if``, ``not``) is so.

    Args:
        schema: A schema as data, or as JSON text. Older drafts are understood where they cannot
            be mistaken.
        spacing: ``compact`` without spaces, ``spaced`` as ``json.dumps`` writes, ``free`` with any
            white space up to a few characters.
        extra: Whether objects may have properties beside those the schema names, where it allows.
        unknown: Whether keywords that no draft knows are refused, since they may be misspelt, or
            taken for annotations.

    Raises:
        ConstraintError: Names the keyword or the contradiction and its JSON pointer.
    """
    document = load(schema, lenient=unknown == "ignore")
    start = node(document, Claim("#"))
    impossible = problem(document, start)
    if impossible is not None:
        raise impossible.error()
    layout = LAYOUTS[spacing]
    writer = Writer(document, layout, extra)
    whole: Expr = seq(layout.pad, value(writer, start), layout.pad)
    rules = pruned({**writer.rules, START: whole}, START)
    if not rules:
        raise _unwritable(document, start, writer).error()
    alias = rules[START]
    if isinstance(alias, Ref):
        return Grammar(rules, alias.name, about="the schema")
    return Grammar(rules, START, about="the schema")


def _unwritable(document: Document, start: Node, writer: Writer) -> Problem:
    """Return why nothing can be written although nothing is plainly impossible."""
    if writer.notes:
        return writer.notes[0]
    where = start[0].pointer if start else "#"
    return Problem(where, "each of its values would hold another one inside, without end")
