"""Is one bench better than another? Pairs of cells, problem by problem."""
