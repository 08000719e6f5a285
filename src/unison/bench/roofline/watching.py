"""What does each operation of a piece of work take, compute and move? A mode that sees them all."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unison.bench.roofline.clock import Moment, between, now
from unison.bench.roofline.kinds import kind_of
from unison.bench.training.flops import Attention, Product, call_of


class Operation(NamedTuple):
    """One call of a kernel.

    Attributes:
        kind: What kind of work it is, with its pass: ``attention, backward``.
        name: Of the kernel.
        shape: Of what it works on, in words.
        dtype: Of its first operand.
        flops: Of the matrix products in it.
        bytes: Its operands and results, each once.
        far: Of these, the bytes of what was there before the work.
    """

    kind: str
    name: str
    shape: str
    dtype: str
    flops: int
    bytes: int
    far: int


class Spent(NamedTuple):
    """What equal operations took together.

    Attributes:
        calls: How often.
        seconds: In all.
    """

    calls: int
    seconds: float


class Watched(NamedTuple):
    """What was seen of one call of a work.

    Attributes:
        operations: What the operations that compute or move anything took.
        flops: Of matrix products, by type of the operands.
        bytes: What must be moved even if a cache held everything that is made on the way: what
            was there before is read once in each step, and written once where it changes.
        traffic: All operands and results of all operations, as if there were no cache.
    """

    operations: Mapping[Operation, Spent]
    flops: Mapping[str, int]
    bytes: int
    traffic: int


class Watching(TorchDispatchMode):
    """Times every operation inside a ``with`` block; those of a backward pass too.

    Args:
        device: Where the work runs.
        step: Says which step of the work is under way; what is there before is read anew in each.
    """

    def __init__(self, device: torch.device, step: Callable[[], Hashable] = lambda: 0) -> None:
        super().__init__()
        self._device, self._step = device, step
        self._seen: list[tuple[Operation, Moment, Moment]] = []
        self._made: set[int] = set()
        self._moved: dict[tuple[Hashable, str, int], int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and remember it."""
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # where operations arrive before they are taken apart
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        began = now(self._device)
        result = func(*args, **kwargs)
        ended = now(self._device)
        touched = _touched(func, args, kwargs, result)
        self._made.update(touched.fresh)
        if func is torch.ops.aten.lift_fresh.default:  # a number that Python made a tensor of
            self._made.add(_storage(args[0]))
        if touched.reads or touched.writes:
            far = self._move("read", touched.reads) + self._move("write", touched.writes)
            self._seen.append((_operation(func, args, touched, far), began, ended))
        return result

    def seen(self) -> Sequence[tuple[Operation, Moment, Moment]]:
        """Return all operations so far, when each began and ended; waits for a GPU."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._seen

    def watched(self) -> Watched:
        """Return what was seen so far; waits for a GPU."""
        operations: dict[Operation, Spent] = {}
        flops: dict[str, int] = {}
        for one, began, ended in self.seen():
            before = operations.get(one, Spent(0, 0.0))
            seconds = before.seconds + between(began, ended)
            operations[one] = Spent(before.calls + 1, seconds)
            if one.flops:
                flops[one.dtype] = flops.get(one.dtype, 0) + one.flops
        traffic = sum(one.bytes for one, _, _ in self._seen)
        return Watched(operations, flops, sum(self._moved.values()), traffic)

    def _move(self, way: str, parts: Iterable[tuple[int, int]]) -> int:
        """Remember what was there before and moves; return its bytes."""
        step, far = self._step(), 0
        for storage, size in parts:
            if storage not in self._made:
                place = (step, way, storage)
                self._moved[place] = max(self._moved.get(place, 0), size)
                far += size
        return far


def price(device: torch.device) -> float:
    """Return the seconds that an operation on one number takes while it is watched.

    That is what calling any operation costs, whatever it works on.
    """
    number = torch.zeros(1, device=device)
    with Watching(device) as watching:
        for _ in range(_CALLS):
            number.add_(1.0)
    return min(between(began, ended) for _, began, ended in watching.seen())


class _Touched(NamedTuple):
    """What an operation reads and writes: storages and bytes, and which storages it made."""

    reads: tuple[tuple[int, int], ...]
    writes: tuple[tuple[int, int], ...]
    fresh: frozenset[int]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in (*self.reads, *self.writes))


def _touched(func: Any, args: tuple[Any, ...], kwargs: Any, result: Any) -> _Touched:
    """Return what an operation touches; a view, or room that is set aside, is no work."""
    name, wanted = func.overloadpacket.__name__, func._schema.arguments
    given = [*zip(wanted, args, strict=False)]
    given += [(argument, kwargs[argument.name]) for argument in wanted if argument.name in kwargs]
    known = {_storage(t) for _, value in given for t in _tensors(value)}
    fresh = [t for t in _tensors(result) if _storage(t) not in known]
    made = frozenset(map(_storage, fresh))
    written = [t for argument, value in given if argument.is_write for t in _tensors(value)]
    if name in _UNWRITTEN or not (fresh or written):
        return _Touched((), (), made)
    read = [t for argument, value in given if not argument.is_out for t in _tensors(value)]
    reads = [(_storage(t), _size(t)) for t in read]
    writes = [(_storage(t), _size(t)) for t in (*written, *fresh)]
    if name in _LOOKUPS and read:  # as much of the table as is looked up
        reads[0] = (reads[0][0], sum(map(_size, fresh)))
    if name in _OVERWRITTEN:  # what stood there is not read
        reads = reads[1:]
    if name in _PLACED and written:  # as much of the room as is put there
        reads, writes = reads[1:], [(writes[0][0], _size(read[-1]))]
    return _Touched(tuple(reads), tuple(writes), made)


def _operation(func: Any, args: tuple[Any, ...], touched: _Touched, far: int) -> Operation:
    name = func.overloadpacket.__name__
    call = call_of(func, args)
    backward = torch._C._current_graph_task_id() != -1
    kind = kind_of(name) + (", backward" if backward else "")
    first = next(_tensors(args), None)
    dtype = "" if first is None else str(first.dtype).removeprefix("torch.")
    flops = 0 if call is None else call.flops
    return Operation(kind, name, _shape(call, first), dtype, flops, touched.bytes, far)


def _shape(call: Product | Attention | None, first: Tensor | None) -> str:
    """Return what an operation works on, in words: rows x inner x columns of a product."""
    if isinstance(call, Product):
        return " x ".join(map(str, (*call.left.shape, call.right.shape[-1])))
    return "" if first is None else " x ".join(map(str, first.shape))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _size(tensor: Tensor) -> int:
    """Return the bytes of a tensor; what its strides repeat counts once."""
    shape = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * math.prod(n for n, stride in shape if stride)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


_CALLS = 100
_UNWRITTEN = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_LOOKUPS = {"embedding", "gather", "index", "index_select"}
_OVERWRITTEN = {"copy_", "fill_", "zero_"}
_PLACED = {"scatter_", "scatter_add_", "index_put_", "_index_put_impl_", "index_copy_"}
