"""Shape checks keep one memory per thread; computations that take turns in a thread need their own.

Only tests check shapes, so only tests need it.
"""

import contextlib

from unison.serve.batching import hub


@contextlib.contextmanager
def own_shapes():
    """Let every turn of a hub have its own memory of the shapes it has seen."""
    from jaxtyping._storage import _shape_storage as memory  # there is no public way to it

    switch, drop = hub.switch, hub.Turn.drop

    def kept(leave):
        def leaving(*arguments):
            mine = list(getattr(memory, "memo_stack", []))
            memory.memo_stack = []
            try:
                return leave(*arguments)
            finally:
                memory.memo_stack = mine

        return leaving

    hub.switch, hub.Turn.drop = kept(switch), kept(drop)
    try:
        yield
    finally:
        hub.switch, hub.Turn.drop = switch, drop
