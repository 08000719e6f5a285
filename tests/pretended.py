"""A GPU that is not there: what would wait for it?

torch's fake tensors say they lie on a GPU and hold no numbers. Code then takes the branches it
takes there, and every operation shows whether the host would have to wait: one that brings a
number to the host, or one that sends the device something the host holds.
"""

from contextlib import ExitStack, contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "unique_dim", "_unique2"}


class Waits(TorchDispatchMode):
    """Note what would wait."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        devices = {
            x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)
        }
        if name in READS and "cuda" in devices:
            self.found.append(name)
        target = torch.device((kwargs or {}).get("device") or "meta").type
        if name == "_to_copy" and {target} | devices == {"cpu", "cuda"}:
            self.found.append("sent" if target == "cuda" else "fetched")
        return func(*args, **(kwargs or {}))


class Roundabout(TorchFunctionMode):
    """Spell out what asks for a device that has to be there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        instead = SPELT.get(func) if args and getattr(args[0], "is_cuda", False) else None
        return (instead or func)(*args, **(kwargs or {}))


def indexed(x, index):
    """``x[index]``."""
    index = index if isinstance(index, tuple) else (index,)
    real = sum(part is not None and part is not ... for part in index)
    flat = []
    for part in index:
        flat += [slice(None)] * (x.ndim - real) if part is ... else [part]
    chosen, dim = [], 0
    for part in flat:
        if part is None:
            x = x.unsqueeze(dim)
        elif isinstance(part, int):
            x = x.select(dim, part)
            continue
        elif isinstance(part, slice):
            x = torch.ops.aten.slice.Tensor(x, dim, part.start, part.stop, part.step or 1)
        chosen.append(part if isinstance(part, torch.Tensor) else None)
        dim += 1
    if all(part is None for part in chosen):
        return x
    return torch.ops.aten.index.Tensor(x, chosen)


SPELT = {
    torch.Tensor.__getitem__: indexed,
    torch.Tensor.__invert__: torch.bitwise_not,
}


@contextmanager
def pretended():
    """Yield what waited, while tensors made with device="cuda" only pretend."""
    waits = Waits()
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        stack.enter_context(Roundabout())
        stack.enter_context(waits)
        yield waits.found
