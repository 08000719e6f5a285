"""How is one cell run, batch by batch, so that a kill loses at most one batch?"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from unison import files
from unison.bench import asking, memory, record, tally
from unison.bench.cell import Cell
from unison.bench.record import Answer, Batch, Result
from unison.bench.watch import Watch
from unison.generation import Sample, generate

Tick = Callable[[int], None]  # how many more texts are written


def run(cell: Cell, folder: Path, tick: Tick) -> Result:
    """Write and grade what is still missing of a cell; return its result.

    Raises:
        OSError: A file cannot be written.
    """
    path = record.answers_path(folder, cell.asked)
    path.parent.mkdir(exist_ok=True)
    whole = record.whole_lines(path)
    files.write_text(path, "".join(files.to_json(line) + "\n" for line in whole))
    answers, batches = record.read_answers(folder, cell.asked)
    tick(len(answers))
    with memory.watched(cell.model.device) as peak:
        for some in _missing(cell, len(answers)):
            graded, batch = _done(cell, some, path)
            answers, batches = [*answers, *graded], [*batches, batch]
            tick(len(graded))
    files.sync(path)
    return tally.result(cell, answers, batches, peak)


def _missing(cell: Cell, done: int) -> Iterator[range]:
    """Yield the numbers of problems that are written together."""
    several = max(1, cell.plan.batch_size // cell.plan.samples)
    first, count = done // cell.plan.samples, len(cell.problems)
    for start in range(first, count, several):
        yield range(start, min(start + several, count))


def _done(cell: Cell, some: range, path: Path) -> tuple[list[Answer], Batch]:
    """Write and grade some problems, and put both on the disk."""
    watch = Watch(getattr(cell.strategy, "block_length", None))
    start, cpu = time.perf_counter(), time.process_time()
    samples = _written(cell, some, watch)
    if cell.model.device.type == "cuda":
        torch.cuda.synchronize(cell.model.device)
    written, cpu = time.perf_counter(), time.process_time() - cpu
    task, each = cell.questions.task, cell.plan.samples
    graded = [
        asking.answered(cell.model, cell.problems[some[i // each]], i % each, sample, task)
        for i, sample in enumerate(samples)
    ]
    _append(path, graded)
    times = written - start, cpu, time.perf_counter() - written
    batch = Batch(len(samples), *times, watch.first_token(), watch.first_block())
    _append(path, [batch])
    return graded, batch


def _written(cell: Cell, some: range, watch: Watch) -> list[Sample]:
    how = cell.sampling
    return generate(
        cell.model,
        parts=[cell.canvases[i] for i in some],
        num=cell.plan.samples,
        strategy=how.strategy,
        steps=how.steps,
        block_length=how.block_length,
        temperature=how.temperature,
        top_k=how.top_k,
        top_p=how.top_p,
        cfg=how.cfg,
        cache=how.cache,
        seed=[asking.seed_of(cell.plan.seed, cell.problems[i]) for i in some],
        batch_size=cell.plan.batch_size,
        on_step=watch,
    )


def _append(path: Path, lines: Sequence[Answer | Batch]) -> None:
    """Put lines at the end of a file, out of reach of a kill; the cell's end sees to the disk."""
    with path.open("a", encoding="utf-8") as out:
        out.write("".join(files.to_json(asdict(line)) + "\n" for line in lines))
