"""Which questions come from a file? Published sets, named by their path."""
