"""What does every network offer, ours or a wrapped one?"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from unison.models.config import TransformerConfig
from unison.models.view import View
from unison.types import Mask, SoftTokens, Time, Tokens

Earlier = Float[Tensor, "B K V"] | Tokens  # a belief as probabilities, or tokens taken for certain
Own = TypeVar("Own")


@runtime_checkable
class Network(Protocol):
    """A ``torch.nn.Module`` from noisy tokens and a noise level to logits over the vocabulary."""

    @property
    def config(self) -> TransformerConfig:
        """Shape and alignment; of a wrapped network at least the fields decoding reads."""
        ...

    def __call__(
        self,
        inputs: Tokens | SoftTokens,
        sigma: Time,
        valid: Mask | None = None,
        earlier: Earlier | None = None,
        view: View | None = None,
    ) -> Float[Tensor, "B F V"]:
        """Return logits [batch, length or positions read, vocab]; position i speaks of i."""
        ...

    def parameters(self) -> Iterator[Parameter]:
        """Return the weights."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name."""
        ...


class Call(NamedTuple):
    """One evaluation of a network; fields as it takes them."""

    inputs: Tokens | SoftTokens
    sigma: Time
    valid: Mask | None = None
    earlier: Earlier | None = None
    view: View | None = None


def by_call(answer: Callable[[Own, Call], Any]) -> Callable[..., Any]:
    """Turn a method of a ``Call`` into one that is called as a network is.

    Whatever answers in a network's place is written by it, so that what a network takes is said
    here alone.
    """

    def asked(
        self: Own,
        inputs: Tokens | SoftTokens,
        sigma: Time,
        valid: Mask | None = None,
        earlier: Earlier | None = None,
        view: View | None = None,
    ) -> Any:
        return answer(self, Call(inputs, sigma, valid, earlier, view))

    asked.__name__, asked.__doc__ = answer.__name__, answer.__doc__
    return asked


@runtime_checkable
class Together(Protocol):
    """A network that would rather hear several questions at once."""

    def together(self, calls: Sequence[Call]) -> list[Tensor]:
        """Return what it answers to each call, to the last bit as if asked alone."""
        ...


def answers(network: Network, calls: Sequence[Call]) -> list[Tensor]:
    """Return what a network answers to several calls, asked as it likes best."""
    if isinstance(network, Together):
        return network.together(calls)
    return [network(*call) for call in calls]


@runtime_checkable
class Remembering(Protocol):
    """A network that may take part of its canvas from a memory of keys and values."""

    @property
    def remembers(self) -> bool:
        """Whether it does; one that stands in for another answers for that one."""
        ...
