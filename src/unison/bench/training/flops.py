"""How many multiplications does training need? A formula for one pass, a count for any step.

FLOPs are those of matrix products, two for a multiplication and its addition. Products that a
fused attention kernel computes again in its backward pass are not counted, nor are those spared by
a mask: the scores of a causal network are a full square. So the count speaks of the method, not of
the kernel that ran it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unison.bench.memory import Alive
from unison.bench.training.machine import Work, noise
from unison.models import TransformerConfig

_FREQUENCIES = 256  # sinusoids of the noise level


class Pass(NamedTuple):
    """FLOPs of the matrix products of a network.

    Attributes:
        projections: Queries, keys, values and the output of attention.
        attention: Scores, and the values they weigh.
        mlp: MLPs, or the experts that are visited and their router.
        conditioning: Embedding of the noise level, and the modulations made of it.
        head: The output layer, over the whole vocabulary.
    """

    projections: int
    attention: int
    mlp: int
    conditioning: int
    head: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def forward(config: TransformerConfig, rows: int, length: int, read: int | None = None) -> Pass:
    """Return what one evaluation of a network costs.

    Args:
        config: Shape, with its vocabulary. What ``scalar`` and ``self_conditioning`` add is left
            out.
        rows: Rows.
        length: Inputs of a row.
        read: Outputs that are read; ``None`` for one per input.
    """
    tokens, width = rows * length, config.heads * config.head_dim
    into = width + 2 * config.num_kv_heads * config.head_dim
    timed, cond = config.time == "adaln", config.cond_dim
    modulations = (6 * config.depth + 2) * config.hidden
    return Pass(
        2 * config.depth * tokens * config.hidden * (into + width),
        2 * config.depth * tokens * length * 2 * width,
        2 * tokens * sum(_inner(config, layer) for layer in range(config.depth)) * config.hidden,
        2 * rows * cond * (_FREQUENCIES + cond + modulations) if timed else 0,
        2 * rows * (length if read is None else read) * config.hidden * config.vocab_size,
    )


def training(config: TransformerConfig, rows: int, length: int, read: int | None = None) -> Pass:
    """Return what one evaluation and its gradient cost: three times ``forward``, but for waves.

    The sinusoids of the noise level are no function of any weight and get no gradient.
    """
    once = forward(config, rows, length, read)
    tripled = Pass(*(3 * part for part in once))
    waves = 2 * rows * _FREQUENCIES * config.cond_dim if config.time == "adaln" else 0
    return tripled._replace(conditioning=tripled.conditioning - waves)


def _inner(config: TransformerConfig, layer: int) -> int:
    """Return the multiplications a layer's MLP makes for each entry of a token."""
    mixture = config.mixture
    if mixture is not None and layer >= mixture.dense:
        return mixture.experts + 3 * (mixture.chosen * mixture.hidden + mixture.shared)
    return (3 if config.mlp == "swiglu" else 2) * config.mlp_width


class Operand(NamedTuple):
    """A matrix, or a pile of them, as it lies in memory."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class Product(NamedTuple):
    """One matrix product, or a pile of them."""

    left: Operand
    right: Operand

    @property
    def flops(self) -> int:
        """Two for each multiplication."""
        return 2 * torch.Size(self.left.shape).numel() * self.right.shape[-1]


class Attention(NamedTuple):
    """One call of a fused attention kernel, or of its backward pass.

    Attributes:
        query: [rows, heads, asking, width].
        key: [rows, heads, told, width].
        value: [rows, heads, told, width].
        backward: Whether it is the backward pass.
    """

    query: Operand
    key: Operand
    value: Operand
    backward: bool

    @property
    def flops(self) -> int:
        """Two products forward and four backward."""
        rows, heads, asking, width = self.query.shape
        once = 2 * rows * heads * asking * self.key.shape[2] * (width + self.value.shape[3])
        return 2 * once if self.backward else once


class Tally:
    """What the operations of a step were.

    Attributes:
        calls: Matrix products and how often each was made, by part of the step.
        bytes: Bytes of all operands and results, by part: the traffic if nothing stayed in a
            cache. What a table is looked up for counts as often as it is, not the whole table.
        alive: Tensors the operations had to do with, and the most bytes of them at once.
    """

    def __init__(self) -> None:
        self.calls: dict[str, Counter[Product | Attention]] = {}
        self.bytes: Counter[str] = Counter()
        self.alive = Alive()

    def of(self, *parts: str) -> Counter[Product | Attention]:
        """Return the matrix products of some parts, or of all."""
        chosen = parts or tuple(self.calls)
        return sum((self.calls.get(part, Counter()) for part in chosen), Counter())

    def flops(self, *parts: str) -> int:
        """Return the FLOPs of some parts, or of all."""
        return sum(call.flops * times for call, times in self.of(*parts).items())


class Counting(TorchDispatchMode):
    """Watches every operation inside a ``with`` block; backward passes and optimisers too.

    Args:
        part: Says which part of the step is under way.
    """

    def __init__(self, part: Callable[[], str] = lambda: "step") -> None:
        super().__init__()
        self.tally = Tally()
        self._part = part

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and remember it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        part = self._part()
        self.tally.alive(_tensors([*args, *kwargs.values()]), _tensors(result))
        self.tally.bytes[part] += _traffic(func, args, kwargs, result)
        call = call_of(func, args)
        if call is not None:
            self.tally.calls.setdefault(part, Counter())[call] += 1
        return result


def alone(calls: Mapping[Product | Attention, int], device: torch.device) -> Work:
    """Return work that makes the same matrix products and nothing else.

    Operands have the same shapes, strides and types and are made beforehand. Attention is piles of
    products: of one row at a time on a CPU, so that scores stay in its cache, of all on a GPU.
    """
    made: dict[Operand, Tensor] = {}
    work = [
        (times * again, torch.bmm if len(product.left.shape) > 2 else torch.mm,
         _made(product.left, device, made), _made(product.right, device, made))
        for call, times in calls.items()
        for again, product in _products(call, device)
    ]  # fmt: skip

    def run() -> None:
        for times, multiply, left, right in work:
            for _ in range(times):
                multiply(left, right)

    return run


def _made(operand: Operand, device: torch.device, made: dict[Operand, Tensor]) -> Tensor:
    """Return a tensor that lies in memory as an operand did; equal ones are made once."""
    if operand not in made:
        last = sum((n - 1) * s for n, s in zip(operand.shape, operand.stride, strict=True))
        flat = noise((last + 1,), device, operand.dtype)
        made[operand] = flat.as_strided(operand.shape, operand.stride)
    return made[operand]


def _products(call: Product | Attention, device: torch.device) -> Iterator[tuple[int, Product]]:
    """Yield the products a call consists of, and how often each is made."""
    if isinstance(call, Product):
        yield 1, call
        return
    rows, heads, asking, width = call.query.shape
    told, deep = call.value.shape[2:]
    pile = heads * (rows if device.type == "cuda" else 1)
    times = rows * heads // pile
    dtype = call.query.dtype

    def pair(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, Product]:
        return times, Product(_plain((pile, *left), dtype), _plain((pile, *right), dtype))

    if not call.backward:
        yield pair((asking, width), (width, told))
        yield pair((asking, told), (told, deep))
        return
    yield pair((asking, deep), (deep, told))
    yield pair((told, asking), (asking, deep))
    yield pair((asking, told), (told, width))
    yield pair((told, asking), (asking, width))


def _plain(shape: tuple[int, int, int], dtype: torch.dtype) -> Operand:
    return Operand(shape, (shape[1] * shape[2], shape[2], 1), dtype)


def _operand(tensor: Tensor) -> Operand:
    return Operand(tuple(tensor.shape), tensor.stride(), tensor.dtype)


def call_of(func: Any, args: tuple[Any, ...]) -> Product | Attention | None:
    """Return the matrix product an operation is, if it is one."""
    name = func.overloadpacket.__name__
    if name in _PRODUCTS:
        return Product(*(_operand(args[i]) for i in _PRODUCTS[name]))
    if name in _ATTENTION:
        return Attention(*(_operand(tensor) for tensor in args[:3]), backward=False)
    if name.removesuffix("_backward") in _ATTENTION:
        return Attention(*(_operand(tensor) for tensor in args[1:4]), backward=True)
    return None


def _traffic(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> int:
    """Return the bytes of what an operation reads and writes; views of its operands are free."""
    name, wanted = func.overloadpacket.__name__, func._schema.arguments
    given = [*zip(wanted, args, strict=False)]
    given += [(argument, kwargs[argument.name]) for argument in wanted if argument.name in kwargs]
    known = {_storage(t) for _, value in given for t in _tensors(value)}
    fresh = [t for t in _tensors(result) if _storage(t) not in known]
    written = [value for argument, value in given if argument.is_write]
    if name in _UNWRITTEN or not (fresh or written):
        return 0
    read = [value for argument, value in given if not argument.is_out]
    if name in _LOOKUPS:
        read[0] = fresh  # as much of the table as is looked up
    return _size(read) + _size(written) + _size(fresh)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _size(value: Any) -> int:
    """Return the bytes a value holds; what its strides repeat counts once."""
    return sum(
        t.element_size() * math.prod(n for n, s in zip(t.shape, t.stride(), strict=True) if s)
        for t in _tensors(value)
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


_PRODUCTS = {  # operands' places
    "mm": (0, 1),
    "addmm": (1, 2),
    "bmm": (0, 1),
    "baddbmm": (1, 2),
    "_int_mm": (0, 1),
}
_ATTENTION = {
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
}
_UNWRITTEN = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_LOOKUPS = {"embedding", "gather", "index", "index_select"}
