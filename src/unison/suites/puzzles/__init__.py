"""Which questions have exact answers that anyone can check? Lists, grids and sums."""
