"""What is a belief, given that the text must be in a language? Exact marginals and joint draws."""

from unison.constrain.joint.conditioner import Conditioner
from unison.constrain.joint.law import Conditioned
from unison.constrain.joint.stretch import Stretch

__all__ = ["Conditioned", "Conditioner", "Stretch"]
