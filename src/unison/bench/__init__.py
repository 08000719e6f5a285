"""How well and how fast does a model write? Cells of model, task and strategy, all recorded."""

from unison.bench.plan import Plan
from unison.bench.record import BenchError, Result, read_answers, read_results
from unison.bench.run import Progress, run

__all__ = ["BenchError", "Plan", "Progress", "Result", "read_answers", "read_results", "run"]
