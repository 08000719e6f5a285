"""How does a trained model become smaller? Rounded weights, heads, units and layers taken out.

Everything that is decided from text is decided over all noise levels: a diffusion model reads
other things at other levels.
"""

from unison.compress.config import Compress
from unison.compress.levels import CompressError, Levels
from unison.compress.pruning import Prune, dropped, pruned
from unison.compress.quantising import Quantise, quantised, suffering
from unison.compress.recovery import Recover, recovered
from unison.compress.run import Compressed, Material, checked, compress, material

__all__ = [
    "Compress",
    "CompressError",
    "Compressed",
    "Levels",
    "Material",
    "Prune",
    "Quantise",
    "Recover",
    "checked",
    "compress",
    "dropped",
    "material",
    "pruned",
    "quantised",
    "recovered",
    "suffering",
]
