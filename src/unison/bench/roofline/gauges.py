"""How is a machine measured? Loops that do one thing: multiply, move, attend, normalise, draw."""

from collections.abc import Iterator

import torch
from torch.nn import functional as F

from unison.bench.roofline.ceiling import Gauge
from unison.bench.training import machine
from unison.bench.training.machine import Work
from unison.models import TransformerConfig
from unison.prob import categorical, rng
from unison.prob.rng import Key


def gauges(
    config: TransformerConfig, rows: int, dtypes: tuple[str, ...], device: torch.device
) -> list[Gauge]:
    """Return all gauges: square products and those of a model, memory, and single kernels.

    Args:
        config: Of the model.
        rows: Rows of a step, each as long as the model's canvas.
        dtypes: Types of operands besides int8, which is measured where the CPU multiplies it.
        device: What is measured.
    """
    on_gpu = device.type == "cuda"
    shapes = [(size, size, size) for size in (_LARGE if on_gpu else _SQUARE)]
    shapes += _shapes(config, rows * config.max_length)
    types = [*dtypes, *(["int8"] if _multiplies_int8(device) else [])]
    found = [_product(shape, name, device) for name in types for shape in dict.fromkeys(shapes)]
    found += [gauge for size in _ARRAYS for gauge in _memory(size, device)]
    found += [gauge for name in dtypes for gauge in _attention(config, rows, name, device)]
    return [*found, *_streams(rows * config.max_length, config.vocab_size, device)]


def _shapes(config: TransformerConfig, tokens: int) -> Iterator[tuple[int, int, int]]:
    """Yield rows, inner and columns of the linear maps of a block, and of the output layer."""
    width, into = config.heads * config.head_dim, 2 * config.num_kv_heads * config.head_dim
    yield tokens, config.hidden, width + into
    yield tokens, config.hidden, config.mlp_width
    yield tokens, config.mlp_width, config.hidden
    yield tokens, config.hidden, config.vocab_size


def _product(shape: tuple[int, int, int], dtype: str, device: torch.device) -> Gauge:
    """Return a product with weights as layers keep them: rows are outputs."""
    rows, inner, columns = shape
    if dtype == "int8":
        left, right = (_bytes(size, device) for size in ((rows, inner), (columns, inner)))
        multiply = torch._int_mm  # pyright: ignore[reportPrivateImportUsage]  # has 32-bit sums
    else:
        kind = getattr(torch, dtype)
        left, right = (machine.noise(s, device, kind) for s in ((rows, inner), (columns, inner)))
        multiply = torch.mm
    once = 2 * rows * inner * columns
    times = max(1, _ENOUGH_FLOPS[device.type] // once)

    def run() -> None:
        for _ in range(times):
            multiply(left, right.T)

    name = " x ".join(map(str, shape))
    return Gauge("products", name, dtype, 0, times * once, run)


def _memory(size: int, device: torch.device) -> Iterator[Gauge]:
    """Yield a copy and a reading loop over arrays of so many bytes together."""
    a, b = (machine.noise((size // 8,), device) for _ in range(2))
    times = max(1, _ENOUGH_BYTES // size)

    def again(work: Work) -> Work:
        def run() -> None:
            for _ in range(times):
                work()

        return run

    for name, work in (("copy", lambda: a.copy_(b)), ("read", lambda: torch.dot(a, b))):
        label = f"{name} of {size >> 10:,} KiB"
        yield Gauge("memory", label, "", size, times * size, again(work))


def _attention(
    config: TransformerConfig, rows: int, dtype: str, device: torch.device
) -> Iterator[Gauge]:
    """Yield attention over whole rows of the model's heads, forward, and with its gradient."""
    shape = (rows, config.heads, config.max_length, config.head_dim)
    query, key, value = (machine.noise(shape, device, getattr(torch, dtype)) for _ in range(3))
    once = 4 * rows * config.heads * config.max_length**2 * config.head_dim
    first, second, third = (part.clone().requires_grad_() for part in (query, key, value))

    def forward() -> None:
        F.scaled_dot_product_attention(query, key, value)

    def both() -> None:
        found = F.scaled_dot_product_attention(first, second, third)
        torch.autograd.grad(found, (first, second, third), value)

    name = " x ".join(map(str, shape))
    yield Gauge("attention", f"forward, {name}", dtype, 0, once, forward)
    yield Gauge("attention", f"forward and backward, {name}", dtype, 0, 3 * once, both)


def _streams(tokens: int, vocab_size: int, device: torch.device) -> Iterator[Gauge]:
    """Yield the softmax of a model's answers, and exact draws from it."""
    tokens = min(tokens, max(1, _ENOUGH_BYTES // (4 * vocab_size)))
    logits = machine.noise((tokens, vocab_size), device)
    belief = logits.log_softmax(-1)
    u = rng.uniform(Key(rng.rows(0, 0, 1)), 0, tokens)[0].to(device)
    size, name = 4 * tokens * vocab_size, f"{tokens} x {vocab_size}"
    yield Gauge("streams", f"log-softmax, {name}", "float32", size, 2 * size,
                lambda: logits.log_softmax(-1))  # fmt: skip
    yield Gauge("streams", f"exact draws, {name}", "float32", size, size,
                lambda: categorical.sample(belief, u))  # fmt: skip


def _bytes(shape: tuple[int, int], device: torch.device) -> torch.Tensor:
    return (20 * machine.noise(shape, device)).round().clamp(-100, 100).to(torch.int8)


def _multiplies_int8(device: torch.device) -> bool:
    return device.type == "cpu" and torch.cpu._is_vnni_supported()


_SQUARE, _LARGE = (256, 512, 1024), (2048, 4096, 8192)
_ARRAYS = (1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 28)  # bytes: within caches, and beyond all
_ENOUGH_FLOPS = {"cpu": 1 << 30, "cuda": 1 << 38}  # of a reading
_ENOUGH_BYTES = 1 << 26
