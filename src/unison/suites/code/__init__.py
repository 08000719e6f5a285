"""Which questions are answered by programs? Holes, bodies and whole functions, run in a sandbox."""
