"""What a network takes is said once, and whoever answers in its place takes the same."""

import inspect

import torch

from unison.models import Network, Transformer, View
from unison.models.network import Call, by_call


class Echo:
    """Answers with what it was asked."""

    @by_call
    def __call__(self, call: Call):
        """Return the call."""
        return call

    @by_call
    def features(self, call: Call):
        """Return the call, by another name."""
        return call


TOKENS, SIGMA = torch.zeros(2, 3, dtype=torch.int64), torch.ones(2)
VALID, VIEW = torch.ones(2, 3, dtype=torch.bool), View()
BELIEF = torch.full((2, 3, 5), 0.2)


def taken(function):
    return list(inspect.signature(function).parameters)


def test_a_method_of_a_call_is_called_as_a_network_is():
    echo = Echo()
    assert echo(TOKENS, SIGMA) == Call(TOKENS, SIGMA)
    want = Call(TOKENS, SIGMA, VALID, BELIEF, VIEW)
    for got in (
        echo(TOKENS, SIGMA, VALID, BELIEF, VIEW),
        echo.features(TOKENS, SIGMA, view=VIEW, earlier=BELIEF, valid=VALID),
    ):
        assert all(one is other for one, other in zip(got, want, strict=True))
    assert echo(TOKENS, SIGMA, earlier=TOKENS).earlier is TOKENS  # tokens taken for certain


def test_it_keeps_its_name_and_what_is_said_of_it():
    assert Echo.features.__name__ == "features"
    assert Echo.features.__doc__ == "Return the call, by another name."


def test_a_transformer_a_call_and_what_stands_in_take_the_same():
    want = ["self", *Call._fields]
    for function in (Echo.__call__, Network.__call__, Transformer.forward, Transformer.features):
        assert taken(function) == want
