"""Which clean events could have given this measurement? Samplers of p(x_0 | y) with particles."""

from unison.search.posterior.active import Acquired, Active
from unison.search.posterior.ensemble import Ensemble
from unison.search.posterior.particles import Posterior

__all__ = ["Acquired", "Active", "Ensemble", "Posterior"]
