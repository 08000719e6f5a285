"""Processes that are killed by SIGKILL at a chosen moment: nothing of theirs can clean up.

Children are forked from a server that has already imported everything, so that one costs
milliseconds. What runs in them is the real thing; an audit hook, which Python calls at every
change to the file system, counts and pulls the trigger.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch._dynamo", "unison.cli.main", "unison.recipes.run"])


def run(job: Callable[..., Any], *arguments: Any, die_at: int | None = None, below: Path) -> bool:
    """Run a job in its own process; return whether it finished.

    Args:
        job: An importable function.
        arguments: Its arguments.
        die_at: Kill it at this change to the file system, counted from 1; never if ``None``.
        below: Only changes below this folder count.
    """
    process = _context.Process(target=_child, args=(job, arguments, die_at, str(below)))
    process.start()
    process.join()
    killed = process.exitcode == -signal.SIGKILL
    assert killed or process.exitcode == 0, f"the job failed with exit code {process.exitcode}"
    return not killed


def _child(job: Callable[..., Any], arguments: tuple, die_at: int | None, below: str) -> None:
    import torch

    torch.set_num_threads(1)
    seen = 0

    def watch(event: str, details: tuple) -> None:
        nonlocal seen
        if event not in _CHANGES or not str(details[0]).startswith(below):
            return
        seen += 1
        if seen == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    job(*arguments)
