"""How do coverage and accuracy grow with the number of tries? Estimates, fits and selection."""
