"""How do several devices of one machine hold one model? One process each; the first one asks."""

import contextlib
import multiprocessing
import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.nn import Parameter

from unison.language_model import LanguageModel
from unison.models import Transformer, TransformerConfig
from unison.models.network import Call, by_call
from unison.models.view import View
from unison.scale.tensor import refused, shard
from unison.types import SoftTokens

Load = Callable[[str], LanguageModel]  # from a device to the model, loaded there
_PATIENCE = timedelta(seconds=60)  # with a rank that does not add its part
_LEAVE = 5.0  # seconds for a process to end by itself


class LostRankError(RuntimeError):
    """A process that holds part of the model is gone; the model is of no use any more."""


class _Place(NamedTuple):
    """Which part of the whole a process is.

    Attributes:
        rank: From 0, which asks.
        size: Processes.
        meeting: File where they find each other.
        device: ``cpu``, or ``cuda``, of which each takes the one with its rank.
    """

    rank: int
    size: int
    meeting: str
    device: str

    @property
    def own(self) -> str:
        """The device of this rank."""
        return self.device if self.device == "cpu" else f"cuda:{self.rank}"


@dataclass(frozen=True)
class Ranks:
    """The other processes.

    Attributes:
        processes: Ranks 1 and up.
        pipes: To each, in the same order.
    """

    processes: tuple[BaseProcess, ...]
    pipes: tuple[Connection, ...]

    @property
    def alive(self) -> bool:
        """Whether all of them run."""
        return all(process.is_alive() for process in self.processes)

    def tell(self, what: Any) -> None:
        """Hand all of them the same.

        Raises:
            LostRankError: One is gone.
        """
        message = pickle.dumps(what)
        try:
            for pipe in self.pipes:
                pipe.send_bytes(message)
        except OSError as error:
            raise LostRankError("a process that holds part of the model is gone.") from error

    def end(self) -> None:
        """Let all of them end, and wait; one that does not is ended."""
        with contextlib.suppress(LostRankError):
            self.tell(None)
        for process in self.processes:
            process.join(_LEAVE)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self.pipes:
            pipe.close()


class Spread:
    """A transformer of which this process holds one part, and others the rest.

    It remembers nothing between evaluations: keys and values lie on all ranks.

    Attributes:
        part: What this process holds.
        config: Of the whole.
        ranks: The other processes.
    """

    remembers = False

    def __init__(self, part: Transformer, config: TransformerConfig, ranks: Ranks) -> None:
        self.part, self.config, self.ranks = part, config, ranks
        self._one = threading.Lock()  # every rank must see evaluations in one order
        self._broken = False

    @property
    def alive(self) -> bool:
        """Whether it can be evaluated."""
        return not self._broken and self.ranks.alive

    def parameters(self) -> Iterator[Parameter]:
        """Return the weights of this rank."""
        return self.part.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of this rank, by name."""
        return self.part.state_dict()

    @by_call
    @torch.no_grad()
    def __call__(self, call: Call) -> Float[Tensor, "B F V"]:
        """Return what the whole network answers.

        Raises:
            ValueError: The view brings a memory.
            LostRankError: One of the ranks is gone.
        """
        if call.view is not None and call.view.memory is not None:
            raise ValueError("a model on several devices takes no cache; leave the cache out.")
        kind = call.sigma.device.type
        with self._one:
            if not self.alive:
                raise LostRankError("a process that holds part of the model is gone.")
            self.ranks.tell((torch.is_autocast_enabled(kind), _moved(call, "cpu")))
            try:
                return self.part(*call)
            except RuntimeError as error:  # the ranks may wait for different sums now
                self._broken = True
                raise LostRankError(f"a device did not add its part: {error}") from error


@contextmanager
def spread(load: Load, size: int, device: str = "cpu") -> Iterator[LanguageModel]:
    """Yield a model that lies on several devices of this machine; its network is a ``Spread``.

    Each process loads the whole model and keeps its part.

    Args:
        load: Loads the model; must be picklable, since every process calls it.
        size: Devices.
        device: ``cpu`` or ``cuda``, of which the first ``size`` are used.

    Raises:
        ValueError: The model cannot be split into so many, or torch cannot do it here.
    """
    if not distributed.is_available() or distributed.is_initialized():
        raise ValueError("this process cannot lead: torch.distributed is absent or already used.")
    with tempfile.TemporaryDirectory(prefix="unison-") as folder:
        place = _Place(0, size, str(Path(folder) / "meeting"), device)
        model = load(place.own)
        reason = refused(model.network, size)
        if reason is not None:
            raise ValueError(reason)
        ranks = _started(load, place)
        try:
            _meet(place)
            yield replace(model, network=_part(model, place, ranks))
        finally:
            ranks.end()
            if distributed.is_initialized():
                distributed.destroy_process_group()


def kind_of(device: str) -> str:
    """Return ``cpu`` or ``cuda`` for any of the words a device is chosen by.

    Raises:
        ValueError: One device is named, and several are wanted.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ValueError(f"a model on several devices lies on cpu or cuda, got {device!r}.")
    return device


def _part(model: LanguageModel, place: _Place, ranks: Ranks) -> Spread:
    network = model.network
    assert isinstance(network, Transformer)  # refused otherwise
    return Spread(shard(network, place.rank, place.size, _add), network.config, ranks)


def _started(load: Load, place: _Place) -> Ranks:
    context = multiprocessing.get_context("spawn")  # a fork would share the device's state
    processes, pipes = [], []
    for rank in range(1, place.size):
        mine, theirs = context.Pipe()
        process = context.Process(
            target=_follow, args=(load, place._replace(rank=rank), theirs), daemon=True
        )
        process.start()
        theirs.close()  # ours would keep it open when the process is gone
        processes.append(process)
        pipes.append(mine)
    return Ranks(tuple(processes), tuple(pipes))


def _meet(place: _Place) -> None:
    """Join the other processes; on one machine they talk over the loopback interface."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "gloo" if place.device == "cpu" else "cpu:gloo,cuda:nccl",
        init_method=f"file://{place.meeting}",
        rank=place.rank,
        world_size=place.size,
        timeout=_PATIENCE,
    )


def _follow(load: Load, place: _Place, pipe: Connection) -> None:
    """Hold one part, and take part in every evaluation until there are no more."""
    model = load(place.own)
    _meet(place)
    network = model.network
    assert isinstance(network, Transformer)  # the first rank refuses others
    part = shard(network, place.rank, place.size, _add)
    del model, network
    try:
        while (asked := pickle.loads(pipe.recv_bytes())) is not None:
            _take_part(part, place, *asked)
    except EOFError:  # who asks is gone
        return
    finally:
        distributed.destroy_process_group()


@torch.no_grad()
def _take_part(part: Transformer, place: _Place, autocast: bool, asked: Sequence[Any]) -> None:
    kind = torch.device(place.own).type
    with (
        torch.autocast(kind, torch.bfloat16, enabled=autocast),
        contextlib.suppress(ValueError),  # refused before anything is added; so it is by the first
    ):
        part(*_moved(asked, place.own))


def _add(part: Tensor) -> Tensor:
    part = part.contiguous()
    distributed.all_reduce(part)
    return part


def _moved(asked: Any, device: str) -> Any:
    """Return the same with every tensor in it on a device."""
    if isinstance(asked, Tensor):
        return asked.detach().to(device)
    if isinstance(asked, Call | View | SoftTokens):
        return type(asked)(*(_moved(part, device) for part in asked))
    return tuple(_moved(part, device) for part in asked) if isinstance(asked, tuple) else asked
