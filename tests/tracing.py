"""Whole graphs without a compiler behind them, for tests of what is compiled."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
import torch


@contextmanager
def unchecked() -> Iterator[None]:
    """Check no shapes inside: what follows a program cannot see through the checks of tests."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def traced(function):
    """Make one graph of forward and one of backward, and run them operation by operation."""
    graph = torch.compile(function, fullgraph=True, dynamic=False, backend="aot_eager")

    def call(*arguments):
        with unchecked():
            return graph(*arguments)

    return call
