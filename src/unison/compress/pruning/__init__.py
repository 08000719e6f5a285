"""What of a network can be taken out whole? Heads, MLP units and layers, and what is left."""

from unison.compress.pruning.importance import Importance, Scores
from unison.compress.pruning.run import Prune, Pruned, checked, dropped, pruned

__all__ = ["Importance", "Prune", "Pruned", "Scores", "checked", "dropped", "pruned"]
