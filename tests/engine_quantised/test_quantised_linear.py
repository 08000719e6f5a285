"""Quantised layers are the dense layers of the weights they hold."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unison.engine.quantised import from_dense, grid, kernel


def draw(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).float()


def q4_1(seed, rows, groups):
    """Random blocks of GGUF's type Q4_1 and the numbers they mean."""
    scale = (draw(seed, rows, groups) * 0.02).half()
    minimum = ((draw(seed + 1, rows, groups) - 0.7) * 0.3).half()
    levels = (draw(seed + 2, rows, groups, 32) * 16).floor()
    return scale, minimum, levels


def meant(scale, minimum, levels):
    return (scale.float()[..., None] * levels + minimum.float()[..., None]).flatten(1)


def q8_0(seed, rows, groups):
    scale = (draw(seed, rows, groups) * 0.002).half()
    levels = (draw(seed + 2, rows, groups, 32) * 255).floor() - 127
    return (scale.float()[..., None] * levels).flatten(1)


WEIGHTS = {4: lambda seed, rows, groups: meant(*q4_1(seed, rows, groups)), 8: q8_0}


@pytest.fixture(params=["compiled", "dense"])
def way(request, monkeypatch):
    if request.param == "compiled":
        pytest.importorskip("llvmlite", reason="needs the extra 'fast'")
        assert kernel.available()
    else:
        monkeypatch.setattr(kernel, "available", lambda: False)
    return request.param


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("seed", range(5))
def test_a_weight_that_lies_on_a_grid_stays_as_it_is_to_the_last_bit(bits, seed):
    weight = WEIGHTS[bits](seed, 37, 3)
    assert torch.equal(from_dense(weight, bits).weight, weight)


@pytest.mark.parametrize("low", [0, 3, 9])
@pytest.mark.parametrize("high", [4, 9, 12])
def test_a_group_need_not_use_the_ends_of_its_grid(low, high):
    scale, minimum, levels = q4_1(low, 40, 2)
    weight = meant(scale, minimum, levels.clamp(low, max(low, high)))
    assert torch.equal(from_dense(weight, 4).weight, weight)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.333251953125])
def test_a_group_of_one_value_keeps_it(value):
    weight = torch.full((5, 64), value)
    for bits in (4, 8):
        assert torch.equal(from_dense(weight, bits).weight, weight)


def test_few_levels_of_eight_bits_are_found():
    scale = (draw(0, 33, 2) * 0.02).half().float()
    steps = 1 + (draw(1, 33, 2) * 126).floor()
    levels = ((draw(2, 33, 2, 32) * 2 - 1) * steps[..., None]).round()
    weight = (scale[..., None] * levels).flatten(1)
    assert torch.equal(from_dense(weight, 8).weight, weight)


def test_only_the_groups_off_every_grid_are_said_to_be():
    weight = WEIGHTS[4](0, 20, 3)
    weight[7, 40] += 0.001
    exact = grid.nearest(weight, 4).exact
    assert (~exact).nonzero().tolist() == [[7, 1]]
    assert torch.equal(from_dense(weight, 4).weight[exact.repeat_interleave(32, 1)],
                       weight[exact.repeat_interleave(32, 1)])  # fmt: skip


@pytest.mark.parametrize("bits", [4, 8])
def test_other_weights_move_by_half_a_step_at_most(bits):
    weight = draw(0, 32, 96) - 0.5
    fitted = grid.nearest(weight, bits)
    step = fitted.scale.float().repeat_interleave(32, 1)
    # The ends of a group move with the rounding of its scale and minimum to half precision.
    off = (from_dense(weight, bits).weight - weight).abs()
    assert (off <= step / 2 + 2**-10 * weight.abs().amax()).all()
    assert off.max() > 0


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 12, 13, 31])
@pytest.mark.parametrize("out", [1, 16, 33])
def test_the_product_is_that_with_the_dense_weight(way, bits, rows, out):
    weight, x = WEIGHTS[bits](0, out, 3), draw(5, rows, 96) - 0.5
    bias = draw(6, out)
    exact = x.double() @ weight.double().T + bias.double()
    size = x.double().abs() @ weight.double().abs().T + bias.double()
    y = from_dense(weight, bits, bias)(x)
    assert y.shape == (rows, out)
    assert ((y - exact).abs() <= 1e-6 * size).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [2, 7, 12, 30])
def test_a_row_is_answered_the_same_alone_and_beside_others(bits, rows):
    pytest.importorskip("llvmlite", reason="needs the extra 'fast'")
    layer, x = from_dense(WEIGHTS[bits](0, 48, 5), bits), draw(5, rows, 160) - 0.5
    together = layer(x)
    for row in range(rows):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


@pytest.mark.parametrize("bits", [4, 8])
def test_the_number_of_threads_changes_nothing(bits):
    pytest.importorskip("llvmlite", reason="needs the extra 'fast'")
    layer, x = from_dense(WEIGHTS[bits](0, 80, 8), bits), draw(5, 40, 256)
    before, one = torch.get_num_threads(), None
    try:
        torch.set_num_threads(1)
        one = layer(x)
        torch.set_num_threads(3)
        assert torch.equal(layer(x), one)
    finally:
        torch.set_num_threads(before)


def test_the_answer_has_the_shape_and_dtype_of_what_is_asked(way):
    weight, x = WEIGHTS[4](0, 20, 2), (draw(5, 2, 3, 64) - 0.5).bfloat16()
    y = from_dense(weight, 4)(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, F.linear(x.float(), weight).bfloat16())


def test_rows_that_lie_apart_in_memory_are_read_where_they_lie(way):
    weight, x = WEIGHTS[8](0, 20, 2), draw(5, 64, 6) - 0.5
    torch.testing.assert_close(from_dense(weight, 8)(x.T), x.T @ weight.T, rtol=1e-5, atol=1e-6)


def test_gradients_reach_what_is_asked(way):
    weight = WEIGHTS[4](0, 20, 2)
    x = (draw(5, 3, 64) - 0.5).requires_grad_()
    from_dense(weight, 4)(x).square().sum().backward()
    expected = 2 * (x.detach() @ weight.T) @ weight
    torch.testing.assert_close(x.grad, expected, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(ValueError, match="row of 40 weights is not a number of groups of 32"):
        from_dense(torch.zeros(4, 40), 4)
    with pytest.raises(ValueError, match="not finite or its size is above 65504"):
        from_dense(torch.full((4, 32), 1e6), 8)
    with pytest.raises(ValueError, match="maps vectors of 32 entries, got 64"):
        from_dense(torch.zeros(4, 32), 8)(torch.zeros(2, 64))
