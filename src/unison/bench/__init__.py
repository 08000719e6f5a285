"""How well and how fast does a model write? Cells of model, task and strategy, all recorded."""
