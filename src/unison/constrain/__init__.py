"""What text is allowed? Languages, the machines that read them, and draws that obey them.

A language is a ``Grammar``, made by one of the functions here; ``unison.generate`` takes it as
``constraint``.
"""

from unison.constrain.caching import compiled
from unison.constrain.infilling import Gap, Slots, completion, fitting, member
from unison.constrain.language import (
    Alt,
    Both,
    Chars,
    ConstraintError,
    Expr,
    Grammar,
    Minus,
    Ref,
    Repeat,
    Seq,
    Text,
)
from unison.constrain.sources.choice import choice
from unison.constrain.sources.json_schema import json_schema
from unison.constrain.sources.notation import grammar
from unison.constrain.sources.regex import regex
from unison.constrain.sources.scaffold import scaffold
from unison.constrain.sources.shipped import GRAMMARS, cpp, json, python, smiles
from unison.constrain.sources.template import parts as template_parts
from unison.constrain.sources.template import template
from unison.constrain.sources.template import values as template_values
from unison.constrain.vocabulary import Vocabulary

__all__ = [
    "GRAMMARS",
    "Alt",
    "Both",
    "Chars",
    "ConstraintError",
    "Expr",
    "Gap",
    "Grammar",
    "Minus",
    "Ref",
    "Repeat",
    "Seq",
    "Slots",
    "Text",
    "Vocabulary",
    "choice",
    "compiled",
    "completion",
    "cpp",
    "fitting",
    "grammar",
    "json",
    "json_schema",
    "member",
    "python",
    "regex",
    "scaffold",
    "smiles",
    "template",
    "template_parts",
    "template_values",
]
