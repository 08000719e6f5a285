"""Schemas to test with, texts of grammars, and a recogniser written from what expressions mean."""

import random
from typing import Any

import numpy as np

from unison.constrain.compiling import machine
from unison.constrain.language import Alt, Both, Chars, Grammar, Minus, Ref, Repeat, Seq, Text

NAMES = ("a", "b c", 'quo"te', "d", "é")
EACH_KEYWORD: list[Any] = [
    True,
    {},
    {"type": "null"},
    {"type": "boolean"},
    {"type": ["integer", "null"]},
    {"type": "number"},
    {"type": "integer", "minimum": -120, "maximum": 1205},
    {"type": "integer", "exclusiveMinimum": 9, "multipleOf": 4},
    {"type": "integer", "multipleOf": 3, "maximum": 500},
    {"type": "integer", "multipleOf": 60},
    {"type": "integer", "multipleOf": 7, "minimum": 100},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"type": "number", "minimum": -2.75, "exclusiveMaximum": -0.5},
    {"type": "number", "multipleOf": 0.25, "minimum": 3},
    {"type": "number", "multipleOf": 0.01, "maximum": 100},
    {"type": "number", "multipleOf": 2.5},
    {"type": "number", "not": {"type": "integer"}, "minimum": 0, "maximum": 9},
    {"type": "integer", "not": {"enum": [0, 7]}, "minimum": -2, "maximum": 12},
    {"type": "integer", "not": {"multipleOf": 5}},
    {"type": "string"},
    {"type": "string", "minLength": 2, "maxLength": 4},
    {"type": "string", "pattern": "^[a-c]{2,}x?$", "maxLength": 6},
    {"type": "string", "pattern": "\\d\\\\\"", "not": {"pattern": "9"}, "maxLength": 9},
    {"type": "string", "not": {"const": "no"}, "maxLength": 2, "pattern": "^[no]*$"},
    {"enum": [1, 1.5, "x", None, [1, {"k": True}], {"a": []}, 'es"c\n', False]},
    {"const": {"a": [1, 2], "b": "é"}},
    {"enum": [1, 5, 9, "x"], "type": "integer", "minimum": 4},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "items": {"type": "boolean"}},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": False},
    {"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 1},
    {"type": "array", "uniqueItems": True, "items": {"enum": ["p", "q", "r"]}, "minItems": 2},
    {"type": "array", "uniqueItems": True, "maxItems": 1, "items": {"type": "number"}},
    {"type": "array", "uniqueItems": True, "prefixItems": [{"type": "string"}, {"type": "null"}],
     "items": False},
    {"type": "array", "contains": {"const": 5}, "items": {"type": "integer"}},
    {"type": "array", "contains": {"type": "string"}, "maxContains": 2, "minContains": 1,
     "items": {"type": ["string", "null"]}},
    {"type": "array", "not": {"contains": {"const": 1}}, "items": {"enum": [1, 2]}},
    {"type": "array", "not": {"const": []}, "items": {"const": 0}},
    {"type": "array", "prefixItems": [{"const": 1}], "contains": {"const": "z"}, "minItems": 1},
    {"type": "object"},
    {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
    {"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 1},
    {"type": "object", "propertyNames": {"pattern": "^k[0-9]$"}},
    {"type": "object", "patternProperties": {"^n": {"type": "number"}, "s$": {"type": "string"}},
     "additionalProperties": False},
    {"type": "object", "properties": {n: {"type": "integer"} for n in NAMES}},
    {"type": "object", "properties": {n: {"const": i} for i, n in enumerate(NAMES)},
     "required": ["d", "a"], "additionalProperties": False},
    {"type": "object", "properties": {n: {"const": 0} for n in NAMES}, "minProperties": 3},
    {"type": "object", "properties": {n: {"const": 0} for n in NAMES}, "maxProperties": 2,
     "minProperties": 1, "required": ["b c"]},
    {"type": "object", "required": ["x"], "additionalProperties": {"type": "boolean"}},
    {"type": "object", "properties": {n: {"const": 0} for n in NAMES},
     "dependentRequired": {"a": ["d"]}, "dependentSchemas": {"d": {"required": ["é"]}}},
    {"type": "object", "properties": {"a": {"type": "integer"}},
     "patternProperties": {"^a": {"minimum": 3}}, "propertyNames": {"maxLength": 1}},
    {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["a"]},
               {"properties": {"a": {"minimum": 3}}}], "type": "object"},
    {"allOf": [{"properties": {"a": {"const": 1}}}], "properties": {"b": {"const": 2}},
     "type": "object", "unevaluatedProperties": False},
    {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "integer"}]},
    {"anyOf": [{"required": ["a"]}, {"required": ["d"]}], "type": "object",
     "properties": {n: {"const": 0} for n in NAMES}},
    {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 2}]},
    {"oneOf": [{"type": "integer", "multipleOf": 3}, {"type": "integer", "multipleOf": 5}]},
    {"oneOf": [{"pattern": "^a"}, {"pattern": "b$"}], "type": "string", "maxLength": 4},
    {"oneOf": [{"properties": {"k": {"const": c}, c: {"type": "null"}}, "required": ["k", c]}
               for c in "xyz"], "type": "object"},
    {"oneOf": [{"properties": {"a": {"const": 1}}, "additionalProperties": False},
               {"properties": {"d": {"const": 1}}, "additionalProperties": False}],
     "type": "object"},
    {"not": {"type": ["object", "array", "string"]}},
    {"if": {"properties": {"k": {"const": 1}}, "required": ["k"]}, "then": {"required": ["v"]},
     "else": {"properties": {"v": False}}, "type": "object",
     "properties": {"k": {"enum": [1, 2]}, "v": {"type": "null"}}},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "required": ["v"], "properties":
        {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}}},
    {"type": "array", "items": {"$ref": "#node"}, "$defs": {"n": {"$anchor": "node", "const": 3}}},
    {"$id": "http://x.test/root.json", "type": "array", "items": {"$ref": "part.json"},
     "$defs": {"p": {"$id": "part.json", "enum": ["p"]}}},
    {"type": "array", "items": {"$ref": "#/$defs/a~1b%20c"}, "$defs": {"a/b c": {"const": 1}}},
    {"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", "minimum": 1,
     "exclusiveMinimum": True, "maximum": 2},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array",
     "items": [{"const": 1}, {"const": 2}], "additionalItems": {"const": 3}},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
     "properties": {n: {"const": 0} for n in NAMES},
     "dependencies": {"a": ["d"], "d": {"required": ["é"]}}},
    {"title": "t", "description": "d", "default": 1, "examples": [1], "deprecated": True,
     "$comment": "c", "contentEncoding": "base64", "x-mine": 1, "type": "boolean"},
]  # fmt: skip


def schema(rng: random.Random, depth: int = 2) -> Any:
    """Return a random schema of many keywords that some value fits."""
    makers = [_integer, _number, _string, _choice]
    if depth:
        makers += [_array, _object, _object, _any, _one, _all]
    return rng.choice(makers)(rng, depth)


def _integer(rng: random.Random, _: int) -> Any:
    low = rng.randint(-300, 300)
    return {"type": "integer", "minimum": low, "maximum": low + rng.choice([30, 99, 2000])} | (
        {"multipleOf": rng.choice([2, 3, 4, 5, 7, 12])} if rng.random() < 0.4 else {}
    )


def _number(rng: random.Random, _: int) -> Any:
    low = rng.randint(-3000, 3000) / rng.choice([1, 10, 100])
    strict = rng.choice(["minimum", "exclusiveMinimum"])
    return {"type": "number", strict: low, "maximum": low + rng.choice([0.5, 10, 1234.5])}


def _string(rng: random.Random, _: int) -> Any:
    least = rng.randint(0, 3)
    pattern = rng.choice([None, "^[a-f0-9]+$", "[xyz]$", "^(foo|bar)?", "^\\w+ \\w+$"])
    sized = {"type": "string", "minLength": least, "maxLength": least + rng.randint(5, 9)}
    return sized | ({"pattern": pattern} if pattern else {})


def _choice(rng: random.Random, _: int) -> Any:
    return {"enum": rng.sample([None, True, 0, 1.5, "x", 'q"', [], [1], {"a": 1}, {}], 4)}


def _array(rng: random.Random, depth: int) -> Any:
    least = rng.randint(0, 2)
    prefix = [schema(rng, depth - 1) for _ in range(rng.randint(0, 2))]
    made = {"type": "array", "items": schema(rng, depth - 1), "minItems": least}
    made |= {"prefixItems": prefix} if prefix else {}
    return made | ({"maxItems": least + rng.randint(0, 3)} if rng.random() < 0.6 else {})


def _object(rng: random.Random, depth: int) -> Any:
    names = rng.sample(NAMES, rng.randint(1, len(NAMES)))
    made: Any = {"type": "object", "properties": {n: schema(rng, depth - 1) for n in names}}
    made["required"] = rng.sample(names, rng.randint(0, len(names)))
    if rng.random() < 0.3:
        made["minProperties"] = rng.randint(0, len(names))
    if rng.random() < 0.3:
        made["maxProperties"] = rng.randint(max(1, len(made["required"])), len(names) + 1)
        made["minProperties"] = min(made.get("minProperties", 0), made["maxProperties"])
    if rng.random() < 0.3:
        made["dependentRequired"] = {names[0]: [names[-1]]}
        made.pop("maxProperties", None)
    if rng.random() < 0.3:
        made["additionalProperties"] = False
    return made


def _any(rng: random.Random, depth: int) -> Any:
    return {"anyOf": [schema(rng, depth - 1) for _ in range(rng.randint(1, 3))]}


def _one(rng: random.Random, depth: int) -> Any:
    return {"oneOf": [{"const": "only"}, *(schema(rng, depth - 1) for _ in range(2))]}


def _all(rng: random.Random, depth: int) -> Any:
    return {"allOf": [schema(rng, depth - 1), {"not": {"enum": [0, "x", 17]}}]}


def texts(grammar: Grammar, rng: random.Random, count: int, most: int = 120) -> list[str]:
    """Return random texts of a grammar, walked byte by byte with a liking for plain ones."""
    reader = machine(grammar)
    likely = b'"{}[],: 0123456789.-abcdefghijklmnopqrstuvwxyz'
    found = []
    for _ in range(count):
        state, written, stop = reader.start, bytearray(), rng.choice([0.05, 0.3, 0.8])
        while len(written) < most:
            if reader.accepts(np.array([state], np.int32))[0] and rng.random() < stop:
                break
            every = np.full(256, state, np.int32)
            after = reader.advance(every, np.arange(256, dtype=np.uint8))
            alive = np.flatnonzero(after >= 0).tolist()
            plain = [byte for byte in alive if byte in likely]
            if not alive:
                break
            byte = rng.choice(plain if plain and rng.random() < 0.8 else alive)
            written.append(byte)
            state = int(after[byte])
        found.append((bytes(written) + reader.shortest(state)).decode())
    return found


class Recogniser:
    """Decides whether a text follows a grammar without left recursion, by trying every split."""

    def __init__(self, grammar: Grammar, text: str) -> None:
        self.rules, self.text = grammar.rules, text
        self.known: dict[tuple[int, int], frozenset[int]] = {}

    def ends(self, expr: Any, start: int) -> frozenset[int]:
        """Return where a text of an expression that begins at ``start`` may end."""
        key = (id(expr), start)
        if key not in self.known:
            self.known[key] = MEANINGS[type(expr)](self, expr, start)
        return self.known[key]

    def text_(self, expr: Any, start: int) -> frozenset[int]:
        fits = self.text.startswith(expr.text, start)
        return frozenset([start + len(expr.text)] if fits else [])

    def chars(self, expr: Any, start: int) -> frozenset[int]:
        fits = start < len(self.text) and any(
            first <= ord(self.text[start]) <= last for first, last in expr.ranges
        )
        return frozenset([start + 1] if fits else [])

    def seq(self, expr: Any, start: int) -> frozenset[int]:
        here = frozenset([start])
        for part in expr.parts:
            here = frozenset(end for at in here for end in self.ends(part, at))
        return here

    def alt(self, expr: Any, start: int) -> frozenset[int]:
        return frozenset(end for option in expr.options for end in self.ends(option, start))

    def repeat(self, expr: Any, start: int) -> frozenset[int]:
        here, found, times = {start}, set[int](), 0
        while here and (expr.most is None or times <= expr.most):
            if times >= expr.least:
                if here <= found:
                    break
                found |= here
            here = {end for at in here for end in self.ends(expr.item, at)}
            times += 1
        return frozenset(found)


MEANINGS: dict[type, Any] = {
    Text: Recogniser.text_,
    Chars: Recogniser.chars,
    Seq: Recogniser.seq,
    Alt: Recogniser.alt,
    Repeat: Recogniser.repeat,
    Ref: lambda this, expr, start: this.ends(this.rules[expr.name], start),
    Both: lambda this, expr, start: this.ends(expr.left, start) & this.ends(expr.right, start),
    Minus: lambda this, expr, start: this.ends(expr.left, start) - this.ends(expr.right, start),
}


def accepts(grammar: Grammar, text: str) -> bool:
    """Return whether a text follows a grammar."""
    return len(text) in Recogniser(grammar, text).ends(grammar.rules[grammar.start], 0)
