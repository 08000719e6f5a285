"""Grammars that people write, and texts that are nearly in their languages."""

import random
from collections.abc import Iterator

from unison.constrain.language import Alt, Chars, Expr, Grammar, Minus, Ref, Repeat, Seq, Text

CALC = r"""
// A calculator with variables; its rules use themselves first.
?start: sum
      | NAME "=" sum        -> assign
?sum: product
    | sum "+" product       -> add
    | sum "-" product       -> sub
?product: atom
        | product "*" atom  -> mul
        | product "/" atom
?atom: NUMBER
     | "-" atom
     | NAME
     | "(" sum ")"
%import common.CNAME -> NAME
%import common.NUMBER
%import common.WS_INLINE
%ignore WS_INLINE
"""

JSON = r"""
start: value
?value: object | array
      | ESCAPED_STRING -> string
      | SIGNED_NUMBER
      | "true" | "false" | "null"
array: "[" [_separated{value, ","}] "]"
object: "{" _separated{pair, ","}? "}"
pair: ESCAPED_STRING ":" value
_separated{item, mark}: item (mark item)*   # templates are written out
%import common (ESCAPED_STRING, SIGNED_NUMBER, WS)
%ignore WS
"""

SQL = r"""
start: query ";"
query: "select" columns "from" NAME ("where" condition)? ["limit" INT]
columns: "*" | NAME ("," NAME)*
condition: comparison
         | condition "and" comparison
         | condition "or" comparison
         | "(" condition ")"
comparison: operand OPERATOR operand
!operand: NAME | INT | STRING | "null"
OPERATOR: "=" | "<" ["="|">"] | ">" "="?
STRING: /'[^'\n]*'/
NAME: ("_"|LETTER) ("_"|LETTER|DIGIT)~0..8
SQL_COMMENT: "--" /[^\n]*/
%import common.INT
%import common.LETTER
%import common.DIGIT
%import common.WS
%ignore WS
%ignore SQL_COMMENT
"""

WORDS = r"""
start: (greeting | COUNT UNIT+ | /<[a-f]+>/)+ "."
greeting: "hi"i NAME? | "hello,"
        | "BYE"
NAME: "@" "A".."Z" ("a".."z")*
COUNT.2: /[0-9]{1,3}/ | "a" "dozen"
UNIT: ("k"|"M")? "g" | "m"
%ignore " "
%ignore /\t+/
"""


def near(grammar: Grammar, number: int, seed: int) -> Iterator[str]:
    """Short texts, some of the language and most of the others one to three edits away from it."""
    draw = random.Random(seed)
    for _ in range(number):
        text = sampled(grammar, Ref(grammar.start), draw, 7)
        while len(text) > 40:
            text = sampled(grammar, Ref(grammar.start), draw, 4)
        for _ in range(draw.choice((0, 0, 1, 1, 2, 3))):
            text = edited(text, draw)
        yield text


def sampled(grammar: Grammar, expr: Expr, draw: random.Random, depth: int) -> str:
    """A text of an expression; past the depth, options that lead to few rules."""
    match expr:
        case Text(text):
            return text
        case Chars(ranges):
            first, last = draw.choice(ranges)
            return chr(draw.randint(first, min(last, first + 25)))
        case Ref(name):
            text = sampled(grammar, grammar.rules[name], draw, depth - 1)
            spaced = bool(grammar.lexemes) and name in grammar.lexemes
            return text + draw.choice(("", " ")) if spaced else text
        case Seq(parts):
            return "".join(sampled(grammar, part, draw, depth) for part in parts)
        case Alt(options):
            option = min(options, key=_uses) if depth < 0 else draw.choice(options)
            return sampled(grammar, option, draw, depth)
        case Repeat(item, least, most):
            extra = 0 if depth < 0 else draw.choice((0, 0, 1, 2))
            times = least + (extra if most is None else min(extra, most - least))
            return "".join(sampled(grammar, item, draw, depth) for _ in range(times))
        case Minus(left, _):
            return sampled(grammar, left, draw, depth)
    raise AssertionError(expr)


def edited(text: str, draw: random.Random) -> str:
    """The text with a character left out, put in, doubled or exchanged."""
    at = draw.randrange(len(text) + 1)
    letters = text + ' ,.()"ae0\t'
    return draw.choice(
        (
            text[:at] + text[at + 1 :],
            text[:at] + draw.choice(letters) + text[at:],
            text[:at] + draw.choice(letters) + text[at + 1 :],
            text[:at] + text[at - 1 :],
        )
    )


def _uses(expr: Expr) -> int:
    match expr:
        case Ref():
            return 1
        case Seq(parts) | Alt(parts):
            return sum(map(_uses, parts))
        case Repeat(item, least, _):
            return _uses(item) if least else 0
    return 0
