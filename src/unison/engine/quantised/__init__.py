"""How do weights take less memory and time? Grids of 4 and 8 bits, bytes of both sides, halves.

Reading weights is most of the work of a step that computes a few positions. For those weights are
packed and read as they are stored, at 4 to 8.5 bits each, while activations and sums stay float32:
the model is the one whose weights lie on the grid, not an approximation of it. Multiplying is most
of the work of a step that computes a whole canvas. For those activations are rounded too, to bytes
whose products are summed exactly, or to bfloat16.
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
