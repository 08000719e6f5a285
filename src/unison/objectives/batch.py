"""What does an objective see? Rows of clean tokens, and where in time each row stands."""

from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from unison.prob.rng import Key
from unison.types import Mask, Nats, Network, Time, Tokens

SITE_CORRUPT, SITE_TOP, SITE_TRUE, SITE_OTHERS = 0, 1, 2, 3


class Batch(NamedTuple):
    """Clean text for one training or evaluation step.

    Attributes:
        tokens: x_0.
        strata: One uniform per row in (0, 1), stratified over the *global* batch by whoever made
            it; objectives turn it into a time.
        valid: False at padding; ``None`` if there is none.
    """

    tokens: Tokens
    strata: Float[Tensor, " B"]
    valid: Mask | None = None


@runtime_checkable
class Loss(Protocol):
    """A loss: frozen dataclass whose fields are its configuration; pure in all its arguments.

    Training uses the sum and count; scoring looks at single positions.
    """

    def __call__(self, process: Any, network: Network, batch: Batch, key: Key) -> Nats:
        """Return the summed loss in nats and the number of positions it is over."""
        ...

    def losses(
        self, process: Any, network: Network, batch: Batch, key: Key
    ) -> Float[Tensor, "B L"]:
        """Return the loss of every position in nats; padding is not left out."""
        ...


@runtime_checkable
class Objective(Loss, Protocol):
    """A loss of one network, for the process it names."""

    process: ClassVar[str]  # name in unison.process.PROCESSES


def summed(loss: Float[Tensor, "B L"], valid: Mask | None) -> Nats:
    """Add up a per-position loss over the valid positions."""
    if valid is None:
        count = loss.new_tensor(loss.numel(), dtype=loss.dtype).long()
        return Nats(loss.sum(), count)
    return Nats(loss.where(valid, 0.0).sum(), valid.sum())


def time_of(strata: Float[Tensor, " B"], t_min: float) -> Time:
    """Map stratified uniforms to times in (t_min, 1), float64."""
    return t_min + (1 - t_min) * strata.double()


def check_t_min(t_min: float) -> None:
    """Refuse a smallest time outside (0, 1), where the NELBO's weight is infinite."""
    if not 0 < t_min < 1:
        raise ValueError(f"objective.t_min must be in (0, 1), got {t_min}.")
