"""How is a deployment brought up, and down again? With Ray Serve, here or on a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from unison.serve.replicas.cluster import LOCAL, connected, free_port
from unison.serve.replicas.deployment import Gateway, Plan, Replica

APPLICATION = "unison"
COPIES = "Replica"
_GATEWAY_CPUS = 0.1  # it passes bytes on
_HEALTH = 5.0  # seconds between looks at a copy
_LONGER = 5.0  # seconds that a gateway outlives the copies, to say that they are gone


@dataclass(frozen=True)
class Place:
    """Where it is deployed.

    Attributes:
        address: ``local``, or that of a cluster.
        detached: Whether it stays when this process ends; on a cluster only.
    """

    address: str = LOCAL
    detached: bool = False

    def __post_init__(self) -> None:
        if self.detached and self.address == LOCAL:
            raise ValueError("a local Ray ends with this process; name a cluster to detach from.")


@contextmanager
def deployed(plan: Plan, place: Place | None = None) -> Iterator[str]:
    """Yield the address of a deployment that answers.

    Args:
        plan: What is deployed; its settings name host and port, 0 for any free one.
        place: Where.

    Raises:
        ValueError: Ray is not there, or other machines could use it without keys.
        RuntimeError: The deployment did not come up; the message says why.
    """
    from unison.serve.running import check

    place = Place() if place is None else place
    check(plan.settings)
    cpus = plan.replicas if plan.most is None else plan.most
    cpus = plan.share.cpus * plan.tensor_parallel * cpus + _GATEWAY_CPUS * plan.gateways
    with connected(place.address, cpus):
        from ray import serve

        host, port = plan.settings.host, plan.settings.port or free_port(plan.settings.host)
        serve.start(http_options={"host": host, "port": port})
        try:
            serve.run(application(plan), name=APPLICATION, route_prefix="/")
            yield f"http://{host}:{port}"
        finally:
            _down(serve, place)


def _down(serve: Any, place: Place) -> None:
    if place.detached:
        return
    serve.delete(APPLICATION)  # waits for what runs; the proxy still passes it on
    if place.address == LOCAL:
        serve.shutdown()


def application(plan: Plan) -> Any:
    """Return what Ray Serve runs: a gateway before copies of a model.

    For ``serve run`` and a configuration file, see docs/many-machines.md.
    """
    from ray import serve

    settings = plan.settings
    copies = serve.deployment(Replica).options(
        name=COPIES,
        ray_actor_options=plan.share.times(plan.tensor_parallel),
        max_ongoing_requests=settings.rows,
        max_queued_requests=settings.waiting,
        health_check_period_s=_HEALTH,
        graceful_shutdown_timeout_s=settings.drain,
        **_count(plan),
    )
    gateway = serve.deployment(Gateway).options(
        num_replicas=plan.gateways,
        ray_actor_options={"num_cpus": _GATEWAY_CPUS},
        max_ongoing_requests=2 * (settings.rows + settings.waiting) * (plan.most or plan.replicas),
        graceful_shutdown_timeout_s=settings.drain + _LONGER,
    )
    return gateway.bind(copies.bind(plan), settings)


def _count(plan: Plan) -> dict[str, Any]:
    """Return how many copies there are, as Ray Serve names it."""
    if plan.most is None:
        return {"num_replicas": plan.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": plan.replicas,
            "max_replicas": plan.most,
            "target_ongoing_requests": plan.target,
        }
    }
