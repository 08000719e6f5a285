"""Which machines? A Ray started here, or a cluster that runs already."""

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LOCAL = "local"
# Without clusters Ray's processes listen on loopback, as they do on other systems than Linux. Read
# when Ray is imported.
_ALONE = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
_STORE = 80 * 2**20  # bytes of shared memory; requests and answers are small


@dataclass(frozen=True)
class Share:
    """What one process gets of a machine; fractions let several share.

    Attributes:
        cpus: Cores.
        gpus: Graphics cards.
    """

    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0:
            raise ValueError(
                f"a share of a machine is not negative, got {self.cpus} and {self.gpus}."
            )

    def times(self, count: int) -> dict[str, float]:
        """Return what so many shares are, as Ray names it."""
        return {"num_cpus": self.cpus * count, "num_gpus": self.gpus * count}


@contextmanager
def connected(address: str, cpus: float) -> Iterator[Any]:
    """Yield the ``ray`` package, connected; a Ray that was started here ends with it.

    Args:
        address: ``local`` to start one on this machine alone, else that of a cluster, such as
            ``auto``.
        cpus: What a local one may hand out.

    Raises:
        ValueError: Ray is not installed, or no cluster answers there.
    """
    if address == LOCAL:
        os.environ.setdefault(*_ALONE)
    ray = required()
    already = ray.is_initialized()
    if not already:
        _connect(ray, address, cpus)
    try:
        yield ray
    finally:
        if not already:
            ray.shutdown()


def required() -> Any:
    """Return the ``ray`` package.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ValueError("this needs Ray; pip install 'unison[serve,ray]'.") from None
    return ray


def _connect(ray: Any, address: str, cpus: float) -> None:
    if address == LOCAL:
        ray.init(
            address="local",
            num_cpus=max(1, round(cpus + 0.5)),
            object_store_memory=_STORE,
            include_dashboard=False,
            log_to_driver=False,
        )
        return
    try:
        ray.init(address=address, log_to_driver=False)
    except ConnectionError as error:
        raise ValueError(f"no Ray cluster answers at {address!r}: {error}") from None


def free_port(host: str) -> int:
    """Return a port that is free at the moment."""
    with contextlib.closing(socket.socket()) as found:
        found.bind((host, 0))
        return found.getsockname()[1]
