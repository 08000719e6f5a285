"""How does a chain of a thousand small launches become one? It is recorded, then replayed.

A CUDA graph is a chain of launches at fixed addresses. What goes in is copied to where it lay when
the chain was recorded, the chain is replayed, and what came out is copied away, so that a replayed
function is as pure as the function itself. Whatever would make the host wait cannot be recorded;
there, and where memory runs out, the function is called as ever, after one line to the log.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

Work = Callable[[Any], Any]
Log = Callable[[str], None]
MOST = 32  # recordings kept: their addresses are memory that nothing else can use


class Recording(NamedTuple):
    """A chain of launches.

    Attributes:
        replay: Runs it; does not wait.
        answer: What it leaves behind, at the same addresses after every replay.
    """

    replay: Callable[[], object]
    answer: Any


Record = Callable[[Callable[[], Any]], Recording]


class Leaves(NamedTuple):
    """A tree with tensors at some of its leaves: nested tuples, and dataclasses of some kinds.

    Attributes:
        tree: Itself.
        kinds: Dataclasses whose fields belong to the tree; all else is a constant of the function.
    """

    tree: Any
    kinds: tuple[type, ...] = ()


class _Kept(NamedTuple):
    inputs: tuple[Tensor, ...]
    recording: Recording


def on_gpu() -> Record:
    """Return what records on the GPU in use; all recordings share one pool of memory.

    They may: no two of them run at once, and answers are copied before the next one runs.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], Any]) -> Recording:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            work()  # libraries make room for themselves at the first call on a stream
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            answer = work()
        return Recording(graph.replay, answer)

    return record


class Graphs:
    """Functions that were recorded, by what they are and the shapes they are given.

    Something is recorded when it is asked for the second time: shapes that come once are not worth
    it, and the first call lets kernels be compiled and chosen. Of too many recordings the one that
    was not used for longest goes.

    Attributes:
        record: How something is recorded.
        log: Is told, once for each, what cannot be.
        most: Recordings kept.
    """

    def __init__(self, record: Record, log: Log, most: int = MOST) -> None:
        if most < 1:
            raise ValueError(f"most must be at least 1, got {most}; it counts recordings kept.")
        self.record, self.log, self.most = record, log, most
        self._met: set[Hashable] = set()
        self._refused: set[Hashable] = set()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._busy = False

    def __len__(self) -> int:
        """Return how many recordings are kept."""
        return len(self._kept)

    def __call__(self, name: Hashable, work: Work, told: Leaves) -> Any:
        """Return ``work(told.tree)``, replayed if it can be; pure as ``work`` must be.

        Args:
            name: Equal for functions that do the same; holds whatever they hang on besides their
                argument, so that it lives as long as the recording.
            work: Hangs on nothing else, and keeps no tensor it is given.
            told: Its argument.
        """
        tensors, shape = flattened(told)
        which = (name, shape)
        if self._busy or which in self._refused:
            return work(told.tree)
        if not self._known(which):
            return self._alone(lambda: work(told.tree))
        kept = self._kept.get(which) or self._recorded(which, work, told, tensors)
        if kept is None:
            return work(told.tree)
        self._kept.move_to_end(which)
        for room, fresh in zip(kept.inputs, tensors, strict=True):
            room.copy_(fresh)
        kept.recording.replay()
        return mapped(torch.clone, kept.recording.answer, ())

    def _alone(self, work: Callable[[], Any]) -> Any:
        """Return what something answers; what it asks for inside is part of it, and not met."""
        self._busy = True
        try:
            return work()
        finally:
            self._busy = False

    def _known(self, which: Hashable) -> bool:
        """Return whether something was asked for before; from now on it was."""
        known = which in self._met
        self._met.add(which)
        return known

    def _recorded(
        self, which: Hashable, work: Work, told: Leaves, tensors: tuple[Tensor, ...]
    ) -> _Kept | None:
        """Record; return nothing, and say so once, where that cannot be done."""
        inputs = tuple(torch.clone(one, memory_format=torch.contiguous_format) for one in tensors)
        places = iter(inputs)
        tree = mapped(lambda _: next(places), told.tree, told.kinds)
        while len(self._kept) >= self.most:
            self._kept.popitem(last=False)
        try:
            recording = self._alone(lambda: self.record(lambda: work(tree)))
        except RuntimeError as error:  # what CUDA answers to a wait, and to too little memory
            self._refused.add(which)
            self.log(f"a step goes on without a CUDA graph, which could not be recorded: {error}")
            return None
        self._kept[which] = _Kept(inputs, recording)
        return self._kept[which]


def mapped(change: Callable[[Tensor], Tensor], tree: Any, kinds: tuple[type, ...]) -> Any:
    """Return a tree with every tensor changed, in the order of ``flattened``."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, tuple):
        parts = [mapped(change, part, kinds) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    if isinstance(tree, kinds) and is_dataclass(tree):
        parts = {name: mapped(change, part, kinds) for name, part in _parts(tree)}
        return replace(tree, **parts)  # pyright: ignore[reportArgumentType]
    return tree


def flattened(told: Leaves) -> tuple[tuple[Tensor, ...], Hashable]:
    """Return a tree's tensors, and a name for all the rest of it: shapes, kinds and constants."""
    tree, kinds = told
    if isinstance(tree, Tensor):
        return (tree,), (tuple(tree.shape), tree.dtype, tree.device)
    if isinstance(tree, tuple):
        parts, name = tree, type(tree)
    elif isinstance(tree, kinds) and is_dataclass(tree):
        parts, name = tuple(part for _, part in _parts(tree)), type(tree)
    elif isinstance(tree, partial):
        return (), (partial, tree.func, tree.args, tuple(sorted(tree.keywords.items())))
    else:
        return (), tree
    below = [flattened(Leaves(part, kinds)) for part in parts]
    return sum((tensors for tensors, _ in below), ()), (name, tuple(shape for _, shape in below))


def _parts(tree: Any) -> Iterator[tuple[str, Any]]:
    return ((field.name, getattr(tree, field.name)) for field in fields(tree) if field.init)
