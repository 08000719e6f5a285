"""What does reading a few tokens more cost? Measured once for a model on a machine."""

import json
import os
import platform
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from unison import files
from unison.speculation import tree as trees
from unison.speculation.parts import Drafter, Plan, Reading, Target, Text
from unison.speculation.tree import How, Level, Tree, planted

FORMAT_VERSION = 1
Table = tuple[tuple[tuple[float, ...], ...], ...]  # seconds by batch, context and tokens


class CostError(ValueError):
    """A cost model that cannot be read, or that speaks of another model or machine."""


@dataclass(frozen=True)
class CostModel:
    """Seconds of one evaluation of a target, and of one step of its drafter.

    Attributes:
        tokens: New tokens of a row that were measured, rising.
        contexts: Inputs remembered before them, rising.
        batches: Rows, rising.
        seconds: By batch, context and tokens.
        draft: Seconds of one level of drafts; 0 for a drafter that copies.
        overhead: Seconds of everything else in a round.
        model: Name of what was measured.
        machine: Where; empty for a model that was made up.
    """

    tokens: tuple[int, ...]
    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: Table
    draft: float = 0.0
    overhead: float = 0.0
    model: str = ""
    machine: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        axes = (self.batches, self.contexts, self.tokens)
        if any(not axis or list(axis) != sorted(set(axis)) or axis[0] < 0 for axis in axes):
            raise CostError(
                "tokens, contexts and batches must be rising numbers, at least one of each, got "
                f"{self.tokens}, {self.contexts} and {self.batches}."
            )
        wrong = _shape(self.seconds) != tuple(len(axis) for axis in axes)
        if wrong or any(x <= 0 for plane in self.seconds for row in plane for x in row):
            raise CostError("seconds must be above 0, one for each batch, context and tokens.")
        if self.draft < 0 or self.overhead < 0:
            raise CostError(
                f"draft and overhead must be at least 0, got {self.draft} and {self.overhead}."
            )

    def target(
        self, tokens: int | float, batch: int | float = 1, context: int | None = None
    ) -> float:
        """Return the seconds in which the target reads so many tokens in each row.

        Linear between measurements; beyond the last, as from the last but one to it.

        Args:
            tokens: Of each row.
            batch: Rows.
            context: Inputs before them; ``None`` for the shortest measured.
        """
        at = self.contexts[0] if context is None else context
        by_batch = [
            _between(self.contexts, [_between(self.tokens, row, tokens) for row in plane], at)
            for plane in self.seconds
        ]
        return _between(self.batches, by_batch, batch)

    def round(self, nodes: int | float, levels: int | float) -> float:
        """Return the seconds of a round of one row that drafts some nodes beside the root."""
        return self.target(1 + nodes) + levels * self.draft + self.overhead

    def speedup(self, tau: int | float, nodes: int | float, levels: int | float) -> float:
        """Return how many times faster than plain decoding rounds of a kind are.

        Args:
            tau: Mean tokens written by a round.
            nodes: Drafts of a round.
            levels: Their levels, each a step of the drafter.
        """
        return tau * self.target(1) / self.round(nodes, levels)

    def save(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            OSError: The file could not be written; nothing was overwritten.
        """
        head = {"format": "unison-cost", "format_version": FORMAT_VERSION}
        files.write_json(path, {**head, **asdict(self)})


class Grid(NamedTuple):
    """What is measured.

    Attributes:
        tokens: New tokens of a row.
        contexts: Inputs remembered before them.
        batches: Rows.
        best_of: Measurements, of which the shortest counts.
    """

    tokens: Sequence[int] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    contexts: Sequence[int] = (256,)
    batches: Sequence[int] = (1,)
    best_of: int = 5


def linear(slope: float, draft: float = 0.0) -> CostModel:
    """Return the model where a token more costs a share of the first; the first costs 1."""
    return CostModel((1, 2), (0,), (1,), (((1.0, 1.0 + slope),),), draft)


def profiled(
    target: Target,
    grid: Grid | None = None,
    model: str = "",
    clock: Callable[[], float] = time.process_time,
) -> CostModel:
    """Measure a target on one thread.

    What else the machine does only ever adds time: of several measurements the shortest counts,
    and fewer tokens never take longer than more.

    Args:
        target: What is measured.
        grid: Where; ``None`` for one row of 256 inputs.
        model: Its name.
        clock: Seconds; those of the process, waiting left out, unless on another device.

    Raises:
        ValueError: The context is too short for it.
    """
    grid = Grid() if grid is None else grid
    need = max(grid.contexts) + max(grid.tokens)
    if need > target.max_length:
        raise ValueError(
            f"the target takes {target.max_length} inputs and the measurement needs {need}; "
            "measure shorter contexts."
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = tuple(
            tuple(_timed(target, grid, batch, context, clock) for context in grid.contexts)
            for batch in grid.batches
        )
    finally:
        torch.set_num_threads(threads)
    axes = (tuple(grid.tokens), tuple(grid.contexts), tuple(grid.batches))
    return CostModel(*axes, seconds, model=model, machine=machine())


def with_drafter(
    cost: CostModel,
    drafter: Drafter,
    target: Target,
    best_of: int = 5,
    clock: Callable[[], float] = time.process_time,
) -> CostModel:
    """Return the cost model with the measured time of one level of one drafter's guesses."""
    tokens = torch.arange(cost.contexts[0] + 1)[None] % target.vocab_size
    length = torch.tensor([tokens.shape[1]])
    times = []
    for _ in range(best_of):
        reading, drafting = target.open(1, drafter.taps), drafter.open(target, 1)
        scores = reading.read(tokens[:, :-1], length - 1)
        drafting.begin(Text(tokens, length), scores)
        root = planted(tokens[:, -1], target.vocab_size)
        start = clock()
        if drafter.copies:
            drafting.texts(Plan((8,), (8,)))
        else:
            drafting.guess(root, torch.zeros_like(root.tokens))
        times.append(clock() - start)
    return replace(cost, draft=0.0 if drafter.copies else min(times))


def load(path: str | Path, model: str | None = None) -> CostModel:
    """Return a saved cost model.

    Args:
        path: The file.
        model: The model it should be of; ``None`` for any.

    Raises:
        CostError: The file is missing, damaged or newer than this version, or was measured for
            another model or on another machine.
    """
    again = "measure again with unison.speculation.cost.profiled"
    content = _content(Path(path), again)
    try:
        cost = CostModel(
            tuple(content["tokens"]),
            tuple(content["contexts"]),
            tuple(content["batches"]),
            tuple(tuple(tuple(row) for row in plane) for plane in content["seconds"]),
            content["draft"],
            content["overhead"],
            content["model"],
            content["machine"],
        )
    except (KeyError, TypeError, CostError) as error:
        raise CostError(f"{path} is damaged ({error}); {again}.") from error
    if model is not None and cost.model != model:
        raise CostError(f"{path} speaks of {cost.model!r} and not of {model!r}; {again}.")
    here = machine()
    strange = [name for name in ("processor", "cores") if cost.machine.get(name) != here[name]]
    if cost.machine and strange:
        name = strange[0]
        raise CostError(
            f"{path} was measured on another machine: its {name} was "
            f"{cost.machine.get(name)!r} and this one's is {here[name]!r}; {again}."
        )
    return cost


def machine() -> dict[str, str]:
    """Return facts about this machine."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.system(),
        "torch": torch.__version__,
        "threads": "1",
    }


def _processor() -> str:
    """Return the processor's name; Linux tells it in a file."""
    told = Path("/proc/cpuinfo")
    if told.exists():
        for line in told.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _content(path: Path, again: str) -> Any:
    if not path.exists():
        raise CostError(f"there is no cost model at {path}; {again}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CostError(f"{path} is damaged ({error}); {again}.") from error
    if not isinstance(content, dict) or content.get("format") != "unison-cost":
        raise CostError(f"{path} is no cost model; {again}.")
    if content.get("format_version") != FORMAT_VERSION:
        raise CostError(
            f"{path} has format version {content.get('format_version')} and this version of "
            f"unison reads {FORMAT_VERSION}; {again}, or update unison."
        )
    return content


def _timed(
    target: Target, grid: Grid, batch: int, context: int, clock: Callable[[], float]
) -> tuple[float, ...]:
    """Return the seconds for each number of tokens, never falling."""
    reading = target.open(batch)
    tokens = (torch.arange(context) % target.vocab_size).expand(batch, -1)
    reading.read(tokens, torch.full((batch,), context))
    best = []
    for count in grid.tokens:
        tree = _chain(target, batch, count)
        _seconds(reading, tree, clock)  # warm
        best.append(min(_seconds(reading, tree, clock) for _ in range(grid.best_of)))
    for i in reversed(range(len(best) - 1)):
        best[i] = min(best[i], best[i + 1])
    return tuple(best)


def _seconds(reading: Reading, tree: Tree, clock: Callable[[], float]) -> float:
    start = clock()
    logits = reading.score(tree).logits
    assert logits is not None
    float(logits[0, -1, 0])  # waits for the device
    return max(clock() - start, 1e-9)


def _chain(target: Target, batch: int, count: int) -> Tree:
    """Return chains of ``count`` nodes, the root included."""
    tree = planted(torch.ones(batch, dtype=torch.int64), target.vocab_size)
    if count == 1:
        return tree
    number = torch.arange(1, count).expand(batch, -1)
    zero, real = torch.zeros_like(number), torch.zeros(number.shape)
    fixed = zero + int(How.FIXED)
    token = number % target.vocab_size
    level = Level(token, number - 1, zero, fixed, real, real + 1, zero == 0)
    return trees.sized(trees.grown(tree, level, number), 1, count - 1)


def _between(axis: Sequence[int], values: Sequence[float], at: int | float) -> float:
    """Return a value between measured ones; below the first, the first."""
    if len(axis) == 1 or at <= axis[0]:
        return values[0]
    high = min(max(bisect_right(axis, at), 1), len(axis) - 1)
    share = (at - axis[high - 1]) / (axis[high] - axis[high - 1])
    return values[high - 1] + share * (values[high] - values[high - 1])


def _shape(seconds: Table) -> tuple[int, ...]:
    """Return the shape of a nested table, or nothing where it is ragged."""
    contexts = {len(plane) for plane in seconds}
    tokens = {len(row) for plane in seconds for row in plane}
    if len(contexts) != 1 or len(tokens) != 1:
        return ()
    return (len(seconds), contexts.pop(), tokens.pop())
