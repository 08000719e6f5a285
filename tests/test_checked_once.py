"""What the tests check of every function's types is what jaxtyping would: planted mistakes."""

from collections.abc import Iterator
from dataclasses import dataclass

import jaxtyping
import pytest
import torch
from beartype import beartype
from checked_once import jaxtyped
from jaxtyping import Float, Int, TypeCheckError
from torch import Tensor

ROWS, OTHERS = torch.ones(2, 3), torch.ones(4, 3)
check = jaxtyped(typechecker=beartype)


@check
def scaled(x: Float[Tensor, "B L"], by: Float[Tensor, " B"]) -> Float[Tensor, "B L"]:
    return x * by[:, None]


@check
def cut(x: Float[Tensor, "B L"], out: int) -> Float[Tensor, "B L"]:
    return x[:, :out]


@check
def twice(x: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    scaled(x.T, torch.ones(x.shape[1]))  # its axes have the same names and other sizes
    return x


@check
def counted(length: int) -> Int[Tensor, " {length}"]:
    return torch.arange(3)


@check
def told(x: "int | None", later: "Whole", never: "Unheard") -> "float":
    return 0.5


@check
def pieces(x: Float[Tensor, "B L"]) -> Iterator[Float[Tensor, " L"]]:
    yield from x


@check
@dataclass(frozen=True)
class Whole:
    x: Float[Tensor, "B L"]
    y: Float[Tensor, "B K"]

    @classmethod
    @check
    def of(cls, x: Float[Tensor, "B L"]) -> "Whole":
        return cls(x, x)

    @property
    @check
    def size(self) -> int:
        return len(self.x) if len(self.x) > 2 else 0.5


def test_what_is_as_said_passes():
    assert scaled(ROWS, torch.ones(2)).equal(ROWS)
    assert twice(ROWS) is ROWS
    assert counted(3).tolist() == [0, 1, 2]
    assert told(None, Whole.of(ROWS), object()) == 0.5
    assert len(list(pieces(ROWS))) == 2
    assert Whole(OTHERS, OTHERS).size == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda: scaled(ROWS.long(), torch.ones(2)),
        lambda: scaled(torch.ones(3), torch.ones(3)),
        lambda: scaled(ROWS, torch.ones(3)),
        lambda: cut(ROWS, 2.0),
        lambda: cut(ROWS, 2),
        lambda: counted(4),
        lambda: told("1", Whole(ROWS, ROWS), 0),
        lambda: pieces(torch.ones(3)),
        lambda: Whole(ROWS, OTHERS),
        lambda: Whole.of(torch.ones(3)),
        lambda: Whole(ROWS, ROWS).size,
    ],
    ids=[
        "numbers of another kind", "too few axes", "two sizes of one axis", "a float for an int",
        "returned another size", "returned another number than asked for", "a type in quotes",
        "arguments of a generator", "fields of a dataclass", "a class method", "a property",
    ],
)  # fmt: skip
def test_what_is_not_as_said_is_an_error(call):
    with pytest.raises(TypeCheckError):
        call()


def test_an_error_tells_the_sizes_that_were_known():
    with pytest.raises(TypeCheckError) as caught:
        scaled(ROWS, torch.ones(3))
    assert "B=2" in "".join(caught.value.__notes__)
    assert "L=3" in "".join(caught.value.__notes__)


def test_errors_of_the_function_itself_come_through():
    with pytest.raises(IndexError):
        check(lambda x: [][x])(0)

    @check
    def failing(x: int) -> int:
        raise KeyError(x)

    with pytest.raises(KeyError):
        failing(1)


def test_nothing_is_checked_where_checks_are_off():
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        assert scaled(ROWS, torch.ones(2, 1)[:, 0].double()).dtype == torch.float64
        assert cut(ROWS, 2).shape == (2, 2)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_a_checked_function_still_says_what_it_is():
    assert scaled.__name__ == "scaled"
    assert told.__annotations__["later"] == "Whole"
    assert check(scaled.__wrapped__).__module__ == __name__
