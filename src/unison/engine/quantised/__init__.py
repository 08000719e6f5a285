"""How do weights take less memory and time? Packed grids of 4 and 8 bits, and products with them.

Reading weights is most of the work of a step that computes a few positions. Here they are read as
they are stored, at 5 or 8.5 bits each, while activations and sums stay float32: the model is the
one whose weights lie on the grid, not an approximation of it.
"""

from unison.engine.quantised.grid import Bits
from unison.engine.quantised.linear import QuantisedEmbedding, QuantisedLinear, from_dense
from unison.engine.quantised.network import Precision, quantised

__all__ = [
    "Bits",
    "Precision",
    "QuantisedEmbedding",
    "QuantisedLinear",
    "from_dense",
    "quantised",
]
