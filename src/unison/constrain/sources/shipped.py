"""Which languages come along? JSON, Python, C++ and the molecules of SMILES, in useful subsets."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources

from unison.constrain.language import Grammar
from unison.constrain.sources import molecules, programs
from unison.constrain.sources.ebnf import ebnf
from unison.constrain.sources.gbnf import gbnf


@cache
def json() -> Grammar:
    """Return any JSON value (RFC 8259) that is Unicode: escaped surrogates stand in pairs."""
    return gbnf(_text("json.gbnf"), about="JSON")


@cache
def smiles(rings: int = 4) -> Grammar:
    """Return molecules in SMILES that RDKit reads, as drawings: valences are not checked.

    Args:
        rings: How many rings may be open at a time, 1 to 4; fewer compile faster. Of drug-like
            molecules (MOSES) and small ones (QM9), 4 hold 99.9 %, 3 hold 97 %, 2 hold 74 %.
    """
    atoms = gbnf(_text("smiles.gbnf"), "molecule", "SMILES")
    return molecules.molecules(atoms, "1234"[:rings])


@cache
def python(indent: int = 4, depth: int = 6) -> Grammar:
    """Return Python programs: statements, functions and classes without async, match, f-strings.

    What ``return``, ``yield``, ``break`` and ``continue`` need is around them.

    Args:
        indent: How many spaces a block is deeper than what it belongs to.
        depth: How deep blocks may be.
    """
    text = programs.unfolded(_text("python.lark"), indent, depth)
    return programs.with_blanks(ebnf(text, "file", "Python"), apart="END_")


@cache
def cpp() -> Grammar:
    """Return C++ files of functions, classes and templates in plain forms."""
    return ebnf(_text("cpp.lark"), "file", "C++")


GRAMMARS: Mapping[str, Callable[[], Grammar]] = {
    "json": json,
    "python": python,
    "cpp": cpp,
    "smiles": smiles,
}


def _text(name: str) -> str:
    return (resources.files("unison.constrain") / "grammars" / name).read_text("utf-8")
