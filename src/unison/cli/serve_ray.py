"""unison serve-ray: serve a model from several processes or machines, with Ray Serve."""

import signal
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from unison.cli import shared
from unison.serve.replicas import Place, Plan, Share, deployed
from unison.serve.settings import Settings


@dataclass(frozen=True)
class Flags:
    """Serve copies of a model behind one address: unison serve-ray MODEL --replicas 2.

    A request whose copy is lost is answered 503 and may be repeated; with a seed it gets the same
    text. Ctrl-C lets running requests end, and takes the deployment down.

    Attributes:
        replicas: Copies of the model; with --max-replicas, the fewest.
        max_replicas: The most copies; Ray adds and removes them by load.
        target: Requests in flight that a copy should have, with --max-replicas.
        tensor_parallel: Devices of one machine that each copy lies on.
        gateways: Processes that take requests in.
        cpus: Of each device's process; may be a fraction.
        gpus: Of each device's process.
        device: auto, cpu or cuda.
        ray: local for a Ray of this machine's own, or the address of a cluster, such as auto.
        detach: Leave the deployment running on the cluster.
        host: Address to listen on; loopback unless told otherwise.
        port: Port to listen on; 0 for any free one.
        keys: File with hashed API keys, on every machine.
        rows: Texts each copy writes at once.
        waiting: Requests that may wait for each copy.
        drain: Seconds that running requests get when a copy goes down.
    """

    replicas: int = 2
    max_replicas: int | None = None
    target: float = 8.0
    tensor_parallel: int = 1
    gateways: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    device: str = "auto"
    ray: str = "local"
    detach: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    keys: Path | None = None
    rows: int = 64
    waiting: int = 256
    drain: float = 30.0


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "serve-ray", arguments)
    path = shared.unnamed() if name is None else name
    plan, place = planned(flags, path), Place(flags.ray, flags.detach)
    try:
        with deployed(plan, place) as url:
            shared.log(f"serving {plan.name} at {url}")
            if flags.detach:
                return
            _wait()
            shared.log("letting running requests end")
    except KeyboardInterrupt:  # before it was up, or again while it goes down
        pass
    shared.log("stopped")


def _wait() -> None:
    """Return when the process is told to end; Ray has put handlers of its own by now."""
    stop = threading.Event()
    before = {
        told: signal.signal(told, lambda number, frame: stop.set())
        for told in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        stop.wait()
    finally:
        for told, handler in before.items():
            signal.signal(told, handler)


def planned(flags: Flags, path: str) -> Plan:
    """Return what the flags deploy."""
    here = Path(path).expanduser()
    settings = replace(
        Settings(),
        **{name: getattr(flags, name) for name in _SETTINGS},
    )
    return Plan(
        str(here.resolve()) if here.exists() else path,  # workers have another current folder
        here.name,
        flags.device,
        flags.replicas,
        flags.max_replicas,
        flags.target,
        flags.tensor_parallel,
        Share(flags.cpus, flags.gpus),
        flags.gateways,
        settings,
    )


_SETTINGS = ("host", "port", "keys", "rows", "waiting", "drain")
