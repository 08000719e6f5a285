"""How is one network trained that holds many, each an ordinary model when it is cut out?"""

from unison.compress.elastic.config import Elastic, stated
from unison.compress.elastic.inside import cut, view
from unison.compress.elastic.measuring import Row, best_within, markdown, plain, table
from unison.compress.elastic.space import Choice, Space

__all__ = [
    "Choice",
    "Elastic",
    "Row",
    "Space",
    "best_within",
    "cut",
    "markdown",
    "plain",
    "stated",
    "table",
    "view",
]
