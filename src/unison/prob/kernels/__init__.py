"""Which passes over logits are one program on a GPU? Those in these files, written in Triton.

Triton comes with CUDA builds of torch and is asked for nowhere else: importing this room needs no
Triton, importing a file of it does. Every program has a chain of torch operations as its reference.
"""

import functools
import importlib.util

import torch
from torch import Tensor

_READ = (torch.float32, torch.bfloat16, torch.float16)


def fits(logits: Tensor) -> bool:
    """Return whether a program can read these logits: on a GPU, in at most single precision."""
    return logits.is_cuda and logits.dtype in _READ and _installed()


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None
