"""How good is it? Likelihood bounds, sample metrics, judges, reports."""
