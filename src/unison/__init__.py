"""Language models that write many tokens at once: train, distil, decode, evaluate, serve.

``unison.evaluate`` is the function; the room of the same name is reached by
``from unison.evaluate import ...``.
"""

from importlib.metadata import version

from unison.checkpoints import save
from unison.engine.precision import quantised
from unison.evaluate.choosing import choose
from unison.evaluate.log_likelihood import log_likelihood
from unison.evaluate.marginals import log_marginal
from unison.evaluate.text import evaluate
from unison.generation import generate
from unison.recipes.run import load
from unison.search.writing import searched
from unison.speculation.optimal import optimal_acceptance

__version__ = version("unison")

__all__ = [
    "__version__",
    "choose",
    "evaluate",
    "generate",
    "load",
    "log_likelihood",
    "log_marginal",
    "optimal_acceptance",
    "quantised",
    "save",
    "searched",
]
