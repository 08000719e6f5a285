"""Which texts does an expression describe? The smallest deterministic automaton over bytes.

An expression becomes a net of states with byte ranges (``net``, ``utf8``), the net a deterministic
automaton (``subsets``), that the smallest one (``minimal``), and that a table (``table``).
"""

from unison.constrain.automaton.compiled import dfa
from unison.constrain.automaton.draft import TooManyStatesError
from unison.constrain.automaton.table import Dfa

__all__ = ["Dfa", "TooManyStatesError", "dfa"]
