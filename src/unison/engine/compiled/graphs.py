"""How does a function run as one compiled graph per shape, and what if that fails?

``torch.compile`` (Ansel et al., 2024, "PyTorch 2", doi:10.1145/3620665.3640366) with the whole
function as one graph and every size fixed. Graphs are kept on disk by torch's own caches, beside
our other cached files unless ``TORCHINDUCTOR_CACHE_DIR`` names another place. What cannot be
compiled runs as it is written, after one line that says so.
"""

import os
from collections.abc import Callable, Hashable
from types import FunctionType
from typing import Any

import torch
from torch.utils import _pytree as pytree

from unison.data.store import default_cache

Function = Callable[..., Any]
Compiler = Callable[[Function], Function]
Say = Callable[[str], object]
FAILURES = (RuntimeError, OSError, ImportError)  # all that compilers raise


def whole(function: Function) -> Function:
    """Return a function as one graph of fixed sizes, compiled at its first call."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(default_cache() / "compiled"))
    return torch.compile(function, fullgraph=True, dynamic=False)


class Graphs:
    """A function that is compiled anew for every shape of its arguments.

    Args:
        function: What is compiled.
        compiler: Makes the graph.
        say: Told, in one line, of a shape that could not be compiled.
    """

    def __init__(self, function: Function, compiler: Compiler, say: Say) -> None:
        self._function, self._compiler, self._say = function, compiler, say
        self._made: dict[Hashable, Function] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function answers."""
        shape = shape_of(arguments)
        if shape in self._made:
            return self._made[shape](*arguments)
        graph = self._compiler(_alone(self._function))
        try:
            answer = graph(*arguments)
        except FAILURES as error:
            graph, answer = self._function, self._function(*arguments)  # raises if it was not that
            self._say(f"not compiled, runs as it is: {reason(error)}")
        self._made[shape] = graph
        return answer

    @property
    def compiled(self) -> int:
        """Shapes that have a graph."""
        return sum(graph is not self._function for graph in self._made.values())

    @property
    def failed(self) -> int:
        """Shapes that could not be compiled."""
        return len(self._made) - self.compiled


def shape_of(arguments: Any) -> Hashable:
    """Return what a graph is for: structure, sizes, dtypes, devices, modes of the thread."""
    leaves, structure = pytree.tree_flatten(arguments)
    sizes = tuple(
        (leaf.shape, leaf.stride(), leaf.dtype, leaf.device, leaf.requires_grad)
        if isinstance(leaf, torch.Tensor)
        else leaf
        for leaf in leaves
    )
    kinds = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}
    cast = tuple((kind, autocast(kind)) for kind in sorted(kinds))
    return str(structure), sizes, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), cast


def autocast(kind: str) -> torch.dtype | None:
    """Return the dtype that a kind of device computes in now; ``None`` for as it comes."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def reason(error: BaseException) -> str:
    """Return the first line of what went wrong, and its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def _alone(function: Function) -> Function:
    """Return the same function with code of its own.

    The compiler counts the graphs of a piece of code, over all networks, and stops at a few.
    """

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    return FunctionType(
        call.__code__.replace(), call.__globals__, call.__name__, None, call.__closure__
    )
