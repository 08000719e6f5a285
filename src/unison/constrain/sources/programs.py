"""How does a context-free grammar know of indentation? Rules of blocks are copied for each depth.

A line ends with a lexeme that says how deep the next one is, and a block of some depth is lines
that such lexemes part. So no lexeme depends on what was read before, as it does in Python's own
lexer (The Python Language Reference, 2.1.8).
"""

from collections.abc import Mapping
from dataclasses import replace

from unison.constrain.language import Chars, Expr, Grammar, Repeat, Seq

_PLACES = ("module", "loop", "function", "loop_in_function")
_IN_LOOP = {"module": "loop", "function": "loop_in_function"}
_BLANKS = Repeat(Chars(((9, 9), (32, 32))))


def unfolded(text: str, indent: int, depth: int) -> str:
    """Return the grammar of programs with its parts copied.

    Args:
        text: Parts "once", "expressions", "lines" and "blocks", each after its heading.
        indent: How many spaces deeper a block within a block is.
        depth: How deep blocks may be.
    """
    once, expressions, lines, blocks = text.split("\n// ---- ")[1:]
    ends = [f'END_{d}: _EMPTY_LINES "\\n{" " * indent * d}"' for d in range(depth + 1)]
    broken = "broken: END_ODD | " + " | ".join(f"END_{d}" for d in range(depth + 1))
    copies = [_headless(once), *ends, broken]
    copies.append(_copied(expressions, {"__": "_t", "|>": ""}))
    copies.append(_copied(expressions, {"__": "_i", "|>": "broken?"}))
    for place in _PLACES:
        copies.append(_copied(lines, {"_LINE": f"_{place}"}))
        copies += [_copied(blocks, _names(place, d)) for d in range(depth + 1)]
        copies.append(f'block_{place}_{depth + 1}: ":" simple_{place}')
    return "\n".join(copies)


def with_blanks(grammar: Grammar, apart: str) -> Grammar:
    """Return the grammar with blanks behind each lexeme, not ignored anywhere.

    Args:
        grammar: What to add blanks to.
        apart: What names of lexemes begin with that blanks are not part of.
    """
    rules: dict[str, Expr] = dict(grammar.rules)
    for name in grammar.lexemes:
        if not name.startswith(apart) and name not in grammar.ignored:
            rules[name] = Seq((rules[name], _BLANKS))
    return replace(grammar, rules=rules)


def _names(place: str, depth: int) -> dict[str, str]:
    return {
        "END_HERE": f"END_{depth}",
        "_HERE": f"_{place}_{depth}",
        "_INNER": f"_{place}_{depth + 1}",
        "_LOOP": f"_{_IN_LOOP.get(place, place)}_{depth + 1}",
        "_DEF": f"_function_{depth + 1}",
        "_CLASS": f"_module_{depth + 1}",
        "_LINE": f"_{place}",
    }


def _copied(part: str, names: Mapping[str, str]) -> str:
    part = _headless(part)
    for name, new in names.items():
        part = part.replace(name, new)
    return part


def _headless(part: str) -> str:
    return part.split("\n", 1)[1]
