"""How is the best one found? Searches, by name.

To add one: copy the nearest file and add one line to ``named``.
"""

from unison.search.api import Found, Moved, Reward, Run, Search
from unison.search.best_of import BestOf
from unison.search.events import EventRun
from unison.search.named import SEARCHES, search_named
from unison.search.particles import Particles
from unison.search.paths import Paths
from unison.search.svdd import SVDD
from unison.search.texts import TextRun
from unison.search.value import Given, Guessed, Value
from unison.search.zero_order import ZeroOrder

__all__ = [
    "SEARCHES",
    "SVDD",
    "BestOf",
    "EventRun",
    "Found",
    "Given",
    "Guessed",
    "Moved",
    "Particles",
    "Paths",
    "Reward",
    "Run",
    "Search",
    "TextRun",
    "Value",
    "ZeroOrder",
    "search_named",
]
