"""Where in a schema is what? Loading, JSON pointers and references inside one document.

JSON Schema 2020-12 core (json-schema.org/draft/2020-12/json-schema-core), sections 8 and 9;
RFC 6901 for pointers. Documents of draft-04 to draft-07 ignore the siblings of ``$ref``.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite
from typing import Any, NoReturn
from urllib.parse import unquote, urldefrag, urljoin

from unison.constrain.language import ConstraintError

Json = Any  # None, bool, int, Decimal, str, list or dict; numbers that were floats are Decimal
DATA = frozenset({"enum", "const", "default", "examples", "example"})  # hold values, not schemas
OLD_DRAFTS = ("draft-03", "draft-04", "draft-05", "draft-06", "draft-07")


@dataclass(frozen=True)
class Claim:
    """A value fits the schema at a pointer, or (``holds`` false) does not fit it."""

    pointer: str
    holds: bool = True

    def __str__(self) -> str:
        return self.pointer if self.holds else f"not {self.pointer}"


Node = tuple[Claim, ...]  # claims that one value has to meet together; none is any value


IMPOSSIBLE = Claim("", holds=False)  # the empty pointer stands for the schema ``true``


@dataclass(frozen=True)
class Problem:
    """Why no value can be written: where, and what is wrong there."""

    pointer: str
    text: str

    def error(self) -> ConstraintError:
        """Return the problem as the error to raise."""
        return ConstraintError(f"in the schema, at {self.pointer}: {self.text}.")


@dataclass(frozen=True, eq=False)
class Document:
    """A schema and its names.

    Attributes:
        root: The schema.
        places: The pointer of every identifier and anchor, by absolute URI.
        bases: The URI of every pointer that declares one.
        old: Whether ``$ref`` hides its siblings, as it did up to draft-07.
        lenient: Whether keywords that no draft knows are taken for annotations.
        memo: Results by question, so that shared parts are worked out once.
    """

    root: Json
    places: Mapping[str, str]
    bases: Mapping[str, str]
    old: bool
    lenient: bool = False
    memo: dict[Any, Any] = field(default_factory=dict)

    def at(self, pointer: str) -> Json:
        """Return what stands at a pointer such as ``#/properties/name``."""
        here = self.root
        for step in steps(pointer):
            try:
                here = here[int(step)] if isinstance(here, list) else here[step]
            except (KeyError, IndexError, ValueError, TypeError):
                refuse(pointer, "nothing stands there, though a $ref leads there")
        return here

    def schema(self, pointer: str) -> bool | dict[str, Json]:
        """Return the schema at a pointer; refuse what is none."""
        found = self.at(pointer) if pointer else True
        if not isinstance(found, bool | dict):
            refuse(pointer, f"a schema is an object, true or false; {brief(found)} is none")
        return found

    def target(self, pointer: str, reference: str) -> str:
        """Return the pointer a ``$ref`` at a pointer leads to.

        Raises:
            ConstraintError: If it leads out of the document or nowhere.
        """
        base = self.base(pointer)
        local = reference.startswith("#")  # urljoin does not know urn: and the like
        uri, fragment = urldefrag(base + reference if local else urljoin(base, reference))
        home = "#" if uri == urldefrag(self.base("#"))[0] else self.places.get(uri)
        if home is None:
            refuse(
                f"{pointer}/$ref",
                f"{reference!r} lies outside the document, and nothing is fetched; "
                "copy the schema it names under $defs",
            )
        if not fragment:
            return home
        if fragment.startswith("/"):
            return home + unquote(fragment)
        named = self.places.get(f"{uri}#{fragment}")
        if named is None:
            refuse(f"{pointer}/$ref", f"no $anchor is called {fragment!r}")
        return named

    def base(self, pointer: str) -> str:
        """Return the URI that references at a pointer are relative to."""
        while pointer not in self.bases and "/" in pointer:
            pointer = pointer.rpartition("/")[0]
        return self.bases.get(pointer, "")


def load(schema: Mapping[str, Any] | bool | str, lenient: bool = False) -> Document:
    """Return a schema, given as data or as JSON text, ready for look-ups."""
    if isinstance(schema, str):
        try:
            root = json.loads(schema, parse_float=Decimal)
        except json.JSONDecodeError as error:
            raise ConstraintError(f"the schema is not JSON: {error}.") from error
    else:
        root = exact(schema, "#")
    if not isinstance(root, bool | dict):
        refuse("#", f"a schema is an object, true or false; {brief(root)} is none")
    dialect = root.get("$schema", "") if isinstance(root, dict) else ""
    bases: dict[str, str] = {}
    places: dict[str, str] = {}
    for pointer, part in walk(root, "#"):
        base = bases.get(pointer) or nearest_base(bases, pointer)
        name = part.get("$id", part.get("id"))
        if isinstance(name, str) and name:
            note_identifier(name, base, pointer, bases, places)
            base = bases.get(pointer, base)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(part.get(keyword), str):
                places[f"{urldefrag(base)[0]}#{part[keyword]}"] = pointer
    old = any(draft in str(dialect) for draft in OLD_DRAFTS)
    return Document(root, places, bases, old, lenient)


def note_identifier(
    name: str, base: str, pointer: str, bases: dict[str, str], places: dict[str, str]
) -> None:
    """Write down an identifier: ``#name`` is an anchor of old drafts, else it is a new base."""
    absolute = urljoin(base, name)
    uri, fragment = urldefrag(absolute)
    if name.startswith("#"):
        places[f"{urldefrag(base)[0]}#{fragment}"] = pointer
        return
    bases[pointer] = uri
    places[uri] = pointer


def nearest_base(bases: Mapping[str, str], pointer: str) -> str:
    """Return the base that the nearest part around a pointer declares."""
    while "/" in pointer:
        pointer = pointer.rpartition("/")[0]
        if pointer in bases:
            return bases[pointer]
    return ""


def walk(part: Json, pointer: str) -> Iterator[tuple[str, dict[str, Json]]]:
    """Yield every object of a document that may be a schema, outer ones first."""
    stack = [(pointer, part)]
    while stack:
        here, part = stack.pop()
        if isinstance(part, dict):
            yield here, part
            inner = [(below(here, key), item) for key, item in part.items() if key not in DATA]
        elif isinstance(part, list):
            inner = [(below(here, i), item) for i, item in enumerate(part)]
        else:
            inner = []
        stack += reversed(inner)


def steps(pointer: str) -> list[str]:
    """Return the keys a pointer goes down by."""
    return [s.replace("~1", "/").replace("~0", "~") for s in pointer.split("/")[1:]]


def below(pointer: str, *keys: str | int) -> str:
    """Return the pointer some keys further down."""
    return "/".join([pointer, *(str(k).replace("~", "~0").replace("/", "~1") for k in keys)])


def refuse(pointer: str, text: str) -> NoReturn:
    """Refuse a part of the schema."""
    raise Problem(pointer, text).error()


def brief(value: Json, most: int = 40) -> str:
    """Return a value as a message shows it."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= most else text[: most - 1] + "…"


def exact(value: Any, pointer: str) -> Json:
    """Return data as JSON holds it, floats as the decimals they print as."""
    if isinstance(value, Mapping):
        return {str(key): exact(item, below(pointer, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [exact(item, below(pointer, i)) for i, item in enumerate(value)]
    if isinstance(value, float):
        if not isfinite(value):
            refuse(pointer, f"JSON has no number {value}")
        return Decimal(repr(value))
    if value is None or isinstance(value, bool | int | str | Decimal):
        return value
    refuse(pointer, f"JSON has no {type(value).__name__}")
