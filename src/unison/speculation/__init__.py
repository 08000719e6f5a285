"""How does a left-to-right model write several tokens for one evaluation, and keep its law?"""

from unison.speculation.loop import Ask, Round, Speculation, Spoken, speculate
from unison.speculation.parts import Text
from unison.speculation.proof import Proof, prove
from unison.speculation.table import Table

__all__ = [
    "Ask",
    "Proof",
    "Round",
    "Speculation",
    "Spoken",
    "Table",
    "Text",
    "prove",
    "speculate",
]
