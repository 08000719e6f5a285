"""What was to be expected? Perfect models, and what more tries would bring."""
