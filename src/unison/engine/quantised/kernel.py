"""How is a product with packed weights computed fast on a CPU? One pass, dequantised in registers.

The program is written in LLVM's intermediate language and compiled by llvmlite for the CPU it runs
on. Sixteen rows of the weight fill the lanes of a vector. A vector of levels becomes the weights
themselves (exactly those of ``packed.dense``), and is multiplied with every row of x it meets
before the next is read, so a weight is read from memory once for up to a dozen rows. Each output
is the sum of two running sums, over even and odd halves of the groups, whatever the number of
rows: a row's answer does not depend on the others, to the last bit.
"""

import array
import ctypes
import functools
import importlib
import importlib.util
import platform
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison.engine.quantised.grid import GROUP, Bits
from unison.engine.quantised.packed import HEADER, LANES, LEVELS, Packed, span, width

_V = f"<{LANES} x float>"
_I = f"<{LANES} x i32>"
_WORTH_SHARING = 1 << 17  # multiplications below which waking other threads takes longer
_FEW_VECTORS = 16  # a thread passes over so many at least


JOB = 9  # numbers that a pass is told


def product(x: Float[Tensor, "M K"], weights: Packed, bits: Bits) -> Float[Tensor, "M N"]:
    """Return x times the weight transposed, float32; N is a multiple of 16.

    Runs on ``torch.get_num_threads()`` threads where torch's own are OpenMP's, else on one.
    """
    x = x.contiguous()
    y = x.new_empty(len(x), len(weights) * LANES)
    told = array.array("q", jobs(x.data_ptr(), weights, bits, y.data_ptr(), len(x)))
    start, end = told.buffer_info()[0], len(told)
    for job in range(0, end, JOB):
        _runner().call(start + job * told.itemsize)
    return y


def jobs(x: int, weights: Packed, bits: Bits, y: int, rows: int) -> list[int]:
    """Return what the passes of a product are told, ``JOB`` numbers each, for ``runs``.

    Args:
        x: Address of the rows that are multiplied.
        weights: Must live until the passes were run, unlike what is returned.
        bits: Of a weight.
        y: Address of the answer.
        rows: Of x and y.
    """
    told, (blocks, groups, _), machine = [], weights.shape, _machine()
    each, entries = span(weights, bits), width(weights, bits)
    source, threads = weights.data_ptr(), torch.get_num_threads() if machine.team else 1
    for left in range(-(-rows // machine.rows), 0, -1):  # parts of like size
        some = -(-rows // left)
        work = some * entries * blocks * LANES
        crew = 1 if threads == 1 or work < _WORTH_SHARING else threads
        told += [_compiled(bits, some).address, x, source, y, groups | each << 32, blocks]
        told += [crew, machine.team, 0 if crew == 1 else _shared().address]
        rows -= some
        x += 4 * some * entries
        y += 4 * some * blocks * LANES
    return told


def share(function: int, told: array.array, vectors: int) -> None:
    """Run a compiled pass over vectors, on torch's own threads where ``product`` runs on those.

    Args:
        function: Address of a function of seven int64; see ``passes.compiled``.
        told: The table it reads.
        vectors: How many; a thread gets a range of them.
    """
    machine, threads = _machine(), torch.get_num_threads()
    crew = min(threads, vectors // _FEW_VECTORS) if machine.team else 1
    several = (crew, machine.team, _shared().address) if crew > 1 else (1, 0, 0)
    job = array.array("q", (function, told.buffer_info()[0], 0, 0, 0, vectors, *several))
    _runner().call(job.buffer_info()[0])


def runs() -> int:
    """Return the address of the function that runs one pass, given the address of its job."""
    return _runner().address


@functools.cache
def available() -> bool:
    """Return whether llvmlite is installed and the CPU has what the program needs."""
    if importlib.util.find_spec("llvmlite") is None:
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return platform.machine().lower() in ("arm64", "aarch64")
    features = importlib.import_module("llvmlite.binding").get_host_cpu_features()
    return bool(features.get("fma") and features.get("f16c"))


@functools.cache
def able() -> bool:
    """Return whether numba is there too, which compiles what lies between products."""
    return available() and importlib.util.find_spec("numba") is not None


class _Machine(NamedTuple):
    """The compiler, what shares work among threads (0: none), and the rows that registers hold."""

    binding: Any
    features: Any
    team: int
    rows: int


@functools.cache
def _machine() -> _Machine:
    binding = importlib.import_module("llvmlite.binding")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features()
    try:  # torch's own threads, if they are OpenMP's: a second set would compete with them
        team = ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):
        team = 0
    # Two sums a row: 24 of 32 registers as wide as a sum, or 12 of 16 half as wide.
    return _Machine(binding, features, team, 12 if features.get("avx512f") else 3)


_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Compiled(NamedTuple):
    """A function and the code it lives in; ``call`` is for functions of one address."""

    call: Any
    address: int
    engine: Any


@functools.cache
def _compiled(bits: Bits, rows: int) -> _Compiled:
    return _build("\n".join(_program(bits, rows)), "product")


@functools.cache
def _shared() -> _Compiled:
    return _build(_SHARE, "share")


@functools.cache
def _runner() -> _Compiled:
    return _build(_RUN, "run")


def _build(program: str, name: str) -> _Compiled:
    machine = _machine()
    module = machine.binding.parse_assembly(program)
    module.verify()
    target = machine.binding.Target.from_default_triple().create_target_machine(
        cpu=machine.binding.get_host_cpu_name(),
        features=machine.features.flatten(),
        opt=3,
        jit=True,
    )  # the engine owns it: each needs its own
    engine = machine.binding.create_mcjit_compiler(module, target)
    engine.finalize_object()
    address = engine.get_function_address(name)
    return _Compiled(_CALL(address), address, engine)


_JOB = f"""
  %at1 = getelementptr i64, ptr %job, i64 1
  %at2 = getelementptr i64, ptr %job, i64 2
  %at3 = getelementptr i64, ptr %job, i64 3
  %at4 = getelementptr i64, ptr %job, i64 4
  %at5 = getelementptr i64, ptr %job, i64 5
  %at6 = getelementptr i64, ptr %job, i64 6
  %at7 = getelementptr i64, ptr %job, i64 7
  %at8 = getelementptr i64, ptr %job, i64 8
  %kernel = load ptr, ptr %job
  %x = load ptr, ptr %at1
  %w = load ptr, ptr %at2
  %y = load ptr, ptr %at3
  %groups = load i64, ptr %at4
  %blocks = load i64, ptr %at5
  %width = mul i64 %blocks, {LANES}
"""
_SHARE = f"""
declare i32 @omp_get_thread_num()
declare i32 @omp_get_num_threads()
define void @share(ptr %job) {{{_JOB}
  %me32 = call i32 @omp_get_thread_num()
  %all32 = call i32 @omp_get_num_threads()
  %me = zext i32 %me32 to i64
  %all = zext i32 %all32 to i64
  %before = mul i64 %me, %blocks
  %first = udiv i64 %before, %all
  %through = add i64 %before, %blocks
  %last = udiv i64 %through, %all
  call void %kernel(ptr %x, ptr %w, ptr %y, i64 %groups, i64 %first, i64 %last, i64 %width)
  ret void
}}
"""
_RUN = f"""
define void @run(ptr %job) {{{_JOB}
  %crew64 = load i64, ptr %at6
  %crew = trunc i64 %crew64 to i32
  %team = load ptr, ptr %at7
  %share = load ptr, ptr %at8
  %alone = icmp eq i32 %crew, 1
  br i1 %alone, label %one, label %several
one:
  call void %kernel(ptr %x, ptr %w, ptr %y, i64 %groups, i64 0, i64 %blocks, i64 %width)
  ret void
several:
  call void %team(ptr %share, ptr %job, i32 %crew, i32 0)
  ret void
}}
"""
_START = f"""
declare {_V} @llvm.fma.v{LANES}f32({_V}, {_V}, {_V})
define void @product(ptr noalias %x, ptr noalias %w, ptr noalias %y, i64 %groups,
                     i64 %first, i64 %last, i64 %width) #0 {{
entry:"""
_END = """end: ret void
}
attributes #0 = { nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }"""


def _program(bits: Bits, rows: int) -> Iterator[str]:
    """Yield the kernel for one number of rows of x: blocks ``first`` to ``last`` of the weight.

    In short: for every block, for every group, for every column, for every row of x, one fused
    multiplication and addition of 16 lanes. ``groups`` holds how many there are in its lower half
    and how often 32 columns each is in its upper.
    """
    yield _START
    yield from _sizes(bits)
    for row in range(rows):
        yield f"%skip{row} = mul i64 %K, {row}"
        yield f"%x{row} = getelementptr float, ptr %x, i64 %skip{row}"
    yield "br label %blocks"
    yield "blocks:"
    yield "%block = phi i64 [%first, %entry], [%following, %done]"
    yield "%some = icmp ult i64 %block, %last"
    yield "br i1 %some, label %inside, label %end"
    yield "inside:"
    yield "%from = mul i64 %block, %bytes"
    yield "%here = getelementptr i8, ptr %w, i64 %from"
    yield "br label %group"
    yield from _group(bits, rows)
    yield "done:"
    yield f"%column = mul i64 %block, {LANES}"
    for row in range(rows):
        yield f"%sum{row} = fadd {_V} %low{row}_{GROUP // 2}, %high{row}_{GROUP // 2}"
        yield f"%line{row} = mul i64 %width, {row}"
        yield f"%place{row} = add i64 %line{row}, %column"
        yield f"%into{row} = getelementptr float, ptr %y, i64 %place{row}"
        yield f"store {_V} %sum{row}, ptr %into{row}, align 4"
    yield "%following = add i64 %block, 1"
    yield "br label %blocks"
    yield _END


def _sizes(bits: Bits) -> Iterator[str]:
    """Yield numbers of groups and columns, and of the bytes of a group and a block."""
    yield "%each = lshr i64 %groups, 32"
    yield f"%count = and i64 %groups, {2**32 - 1}"
    yield "%parts = mul i64 %count, %each"
    yield f"%K = mul i64 %parts, {GROUP}"
    yield f"%levels = mul i64 %each, {LEVELS[bits]}"
    yield f"%size = add i64 %levels, {HEADER[bits]}"
    yield "%bytes = mul i64 %count, %size"


def _group(bits: Bits, rows: int) -> Iterator[str]:
    """Yield the loop over the groups of a block, and in it that over every 32 columns."""
    half = GROUP // 2
    sums = [f"%{part}{row}" for row in range(rows) for part in ("low", "high")]
    yield "group:"
    yield "%g = phi i64 [0, %inside], [%next, %closed]"
    for total in sums:
        yield f"{total}_g = phi {_V} [zeroinitializer, %inside], [{total}_{half}, %closed]"
    yield "%past = mul i64 %g, %size"
    yield "%top = getelementptr i8, ptr %here, i64 %past"
    yield "%before = mul i64 %g, %each"
    for name, offset in (("d", 0), ("m", 2 * LANES))[: 2 if bits == 4 else 1]:
        yield f"%at_{name} = getelementptr i8, ptr %top, i64 {offset}"
        yield f"%half_{name} = load <{LANES} x half>, ptr %at_{name}, align 1"
        yield f"%{name} = fpext <{LANES} x half> %half_{name} to {_V}"
    yield "br label %part"
    yield "part:"
    yield "%s = phi i64 [0, %group], [%following_part, %part]"
    for total in sums:
        yield f"{total}_0 = phi {_V} [{total}_g, %group], [{total}_{half}, %part]"
    yield from _columns(bits, rows)
    yield "%following_part = add i64 %s, 1"
    yield "%ended = icmp eq i64 %following_part, %each"
    yield "br i1 %ended, label %closed, label %part"
    yield "closed:"
    yield "%next = add i64 %g, 1"
    yield "%over = icmp eq i64 %next, %count"
    yield "br i1 %over, label %done, label %group"


def _columns(bits: Bits, rows: int) -> Iterator[str]:
    """Yield what is done with 32 columns."""
    half, weights = GROUP // 2, _weights4 if bits == 4 else _weights8
    yield f"%gone = mul i64 %s, {LEVELS[bits]}"
    yield "%p = getelementptr i8, ptr %top, i64 %gone"
    yield "%number = add i64 %before, %s"
    yield f"%k = mul i64 %number, {GROUP}"
    for row in range(rows):
        yield f"%xs{row} = getelementptr float, ptr %x{row}, i64 %k"
    for pair in range(half):
        for part, column in (("low", pair), ("high", pair + half)):
            yield from weights(column)
            for row in range(rows):
                yield from _multiplied(row, column, f"%{part}{row}_", pair)


def _weights4(column: int) -> Iterator[str]:
    """Yield the 16 weights of a column from half of a byte each."""
    below = column - GROUP // 2
    if below < 0:
        yield f"%at{column} = getelementptr i8, ptr %p, i64 {HEADER[4] + LANES * column}"
        yield f"%byte{column} = load <{LANES} x i8>, ptr %at{column}, align 1"
        yield f"%both{column} = zext <{LANES} x i8> %byte{column} to {_I}"
        yield f"%level{column} = and {_I} %both{column}, splat (i32 15)"
    else:
        yield f"%level{column} = lshr {_I} %both{below}, splat (i32 4)"
    yield f"%real{column} = sitofp {_I} %level{column} to {_V}"
    yield f"%w{column} = call {_V} @llvm.fma.v{LANES}f32({_V} %real{column}, {_V} %d, {_V} %m)"


def _weights8(column: int) -> Iterator[str]:
    """Yield the 16 weights of a column from a byte each."""
    yield f"%at{column} = getelementptr i8, ptr %p, i64 {HEADER[8] + LANES * column}"
    yield f"%byte{column} = load <{LANES} x i8>, ptr %at{column}, align 1"
    yield f"%level{column} = sext <{LANES} x i8> %byte{column} to {_I}"
    yield f"%real{column} = sitofp {_I} %level{column} to {_V}"
    yield f"%w{column} = fmul {_V} %real{column}, %d"


def _multiplied(row: int, column: int, total: str, number: int) -> Iterator[str]:
    """Yield one entry of x in every lane, times the weights, plus what there was."""
    name = f"{column}_{row}"
    yield f"%one{name} = getelementptr float, ptr %xs{row}, i64 {column}"
    yield f"%entry{name} = load float, ptr %one{name}, align 4"
    yield f"%lane{name} = insertelement {_V} poison, float %entry{name}, i64 0"
    yield f"%all{name} = shufflevector {_V} %lane{name}, {_V} poison, {_I} zeroinitializer"
    yield (
        f"{total}{number + 1} = call {_V} @llvm.fma.v{LANES}f32({_V} %w{column}, "
        f"{_V} %all{name}, {_V} {total}{number})"
    )
