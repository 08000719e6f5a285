"""Layers of bytes answer what their whole numbers say, beside whatever else."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unison.engine.quantised import activations, dynamic, integers, kernel
from unison.engine.quantised.activations import Columns
from unison.engine.quantised.dynamic import DynamicGelu, DynamicSwiGlu, from_dense, nearest


def draw(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def whole(seed, *shape):
    drawn = np.random.default_rng(seed).integers(-127, 128, shape)
    return torch.from_numpy(drawn).to(torch.int8)


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch):
    if request.param == "compiled":
        pytest.importorskip("numba", reason="needs the extra 'fast'")
        assert kernel.able()
    else:
        monkeypatch.setattr(activations, "_native", lambda vectors: False)
        monkeypatch.setattr(integers, "native", lambda: False)
    return request.param


@pytest.mark.parametrize("rows", [1, 3, 17])
@pytest.mark.parametrize("inner", [5, 1024, 2500])
def test_a_product_of_bytes_is_exact_for_any_numbers(way, rows, inner):
    most = torch.full((rows, inner), 127, dtype=torch.int8)
    factor = torch.full((inner, 9), 127, dtype=torch.int8)
    drawn = (whole(0, rows, inner), whole(1, inner, 9))
    for levels, weights in (drawn, (most, factor), (most, -factor)):
        into = torch.full((rows, 9), 7, dtype=torch.int32)
        integers.product(levels, weights, into)
        assert torch.equal(into.double(), levels.double() @ weights.double())


def test_a_kernel_that_cuts_large_sums_off_is_found_out(monkeypatch):
    def cut(levels, weights):
        pairs = levels.int()[:, :, None] * weights.int()
        return pairs.unflatten(1, (-1, 2)).sum(2).clamp(-(2**15), 2**15 - 1).sum(1).int()

    integers.native.cache_clear()
    with monkeypatch.context() as changed:
        changed.setattr(torch, "_int_mm", lambda a, b: cut(a, b.clamp(-2, 2) * 64))
        assert not integers.native()
    integers.native.cache_clear()


def test_a_vector_keeps_its_largest_entry_and_moves_by_half_a_step(way):
    x = draw(0, 40, 65)
    levels, scale = activations.rounded(x)
    assert levels.abs().amax(1).eq(127).all()
    assert ((levels * scale[:, None] - x).abs() <= scale[:, None] * (0.5 + 1e-4)).all()


def test_compiled_passes_make_the_bytes_that_torch_makes(monkeypatch):
    pytest.importorskip("numba", reason="needs the extra 'fast'")
    x = draw(0, 300, 65) * draw(1, 300, 1).exp()
    x[7] = 0
    x[8] = 1e-35
    compiled = activations.rounded(x)
    monkeypatch.setattr(activations, "_native", lambda vectors: False)
    plain = activations.rounded(x)
    assert torch.equal(compiled.levels, plain.levels)
    assert torch.equal(compiled.scale, plain.scale)
    assert not plain.scale[7:9].any()


@pytest.mark.parametrize("wrong", [torch.inf, torch.nan])
def test_what_is_not_finite_stays_so_and_touches_no_neighbour(way, wrong):
    layer, x = from_dense(draw(0, 9, 20)), draw(1, 3, 20)
    good = layer(x)
    x[1, 4] = wrong
    y = layer(x)
    assert not y[1].isfinite().any()
    assert torch.equal(y[::2], good[::2])


@pytest.mark.parametrize("bias", [None, draw(5, 34)])
def test_sums_become_the_numbers_they_stand_for(way, bias):
    sums, scale = (draw(0, 20, 34) * 1e5).int(), draw(1, 20).abs() * 1e-3
    columns = Columns(draw(2, 34).abs() * 1e-3, bias)
    exact = sums.double() * scale.double()[:, None] * columns.scale.double()
    exact = exact if bias is None else exact + bias.double()
    gelu = F.gelu(exact, approximate="tanh")
    gated = F.silu(exact[:, :17]) * exact[:, 17:]
    for bend, want in (("gelu", gelu), ("gated", gated)):
        levels, step = activations.bent(sums.clone(), scale, columns, bend)
        torch.testing.assert_close(step.double() * 127, want.abs().amax(1), rtol=1e-5, atol=1e-7)
        off = (levels * step[:, None] - want).abs()
        assert (off <= step[:, None] * (0.5 + 1e-3)).all()
    y = activations.finished(sums, scale, columns)
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("far", [-200.0, -90.0, 90.0, 200.0])
def test_far_from_zero_a_gelu_is_zero_or_the_number_itself(way, far):
    columns = Columns(torch.ones(2), torch.tensor([far, 1.0]))
    levels, step = activations.bent(torch.zeros(1, 2).int(), torch.ones(1), columns, "gelu")
    want = F.gelu(torch.tensor([far, 1.0]), approximate="tanh")
    assert ((levels[0] * step - want).abs() <= step * 0.51).all()


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_a_layer_is_the_exact_sum_of_its_bytes_scaled(way, rows):
    weight, bias, x = draw(0, 21, 50), draw(1, 21), draw(2, rows, 50)
    layer = from_dense(weight, bias)
    levels, scale = activations.rounded(x)
    rounded = levels.double() * scale.double()[:, None]
    want = rounded @ layer.weight.double().T + bias.double()
    torch.testing.assert_close(layer(x).double(), want, rtol=1e-5, atol=1e-5)
    assert float((layer(x) - F.linear(x, weight, bias)).norm() / layer(x).norm()) < 0.02


def test_a_weight_is_rounded_on_a_scale_near_the_best_of_four_hundred():
    weight = draw(0, 30, 64)
    levels, scale = nearest(weight)
    error = (levels * scale[:, None] - weight).square().sum(1)
    most = weight.abs().amax(1, keepdim=True)
    for part in np.linspace(0.4, 1.1, 400):
        step = most * float(part) / 127
        other = ((weight / step).round().clamp(-127, 127) * step - weight).square().sum(1)
        assert (error <= other * 1.6).all()
    plain = ((weight / most * 127).round() * most / 127 - weight).square().sum(1)
    assert (error <= plain * (1 + 1e-5)).all()


def test_what_lies_on_bytes_stays_there():
    layer = from_dense(draw(0, 20, 64))
    again = from_dense(layer.weight)
    assert torch.equal(again.levels, layer.levels)
    torch.testing.assert_close(again.scale, layer.scale, rtol=1e-6, atol=0)


def test_a_row_of_zeros_stays_zero():
    weight = draw(0, 3, 32)
    weight[1] = 0
    assert not from_dense(weight).weight[1].any()


MLPS = {
    "gelu": lambda: DynamicGelu(
        from_dense(draw(0, 96, 32), draw(1, 96)), from_dense(draw(2, 32, 96), draw(3, 32))
    ),
    "gated": lambda: DynamicSwiGlu(from_dense(draw(0, 96, 32)), from_dense(draw(2, 32, 48))),
}


@pytest.mark.parametrize("kind", MLPS)
def test_an_mlp_in_one_go_is_its_layers_one_by_one(way, kind):
    mlp, x = MLPS[kind](), draw(5, 2, 150, 32)
    if kind == "gelu":
        want = mlp.down(F.gelu(mlp.up(x), approximate="tanh"))
    else:
        gate, up = mlp.gate_up(x).chunk(2, dim=-1)
        want = mlp.down(F.silu(gate) * up)
    assert mlp(x).shape == x.shape
    # A number on the edge between two bytes may fall on either side.
    assert float((mlp(x) - want).norm() / want.norm()) < 1e-3


@pytest.mark.parametrize("kind", ["layer", *MLPS])
def test_a_vector_is_answered_the_same_alone_and_beside_others(way, kind):
    layer = from_dense(draw(0, 48, 32), draw(1, 48)) if kind == "layer" else MLPS[kind]()
    x = draw(5, 300, 32)
    together = layer(x)
    for rows in (slice(0, 1), slice(7, 12), slice(250, 299), slice(3, 270)):
        assert torch.equal(layer(x[rows]), together[rows])


@pytest.mark.parametrize("kind", MLPS)
def test_the_number_of_threads_changes_nothing(kind):
    mlp, x, before = MLPS[kind](), draw(5, 300, 32), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = mlp(x)
        torch.set_num_threads(3)
        assert torch.equal(mlp(x), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", MLPS)
def test_gradients_are_those_of_the_dense_map_with_the_weights_held(kind):
    mlp, x = MLPS[kind](), draw(5, 4, 32).requires_grad_()
    mlp(x).square().sum().backward()
    other = x.detach().clone().requires_grad_()
    if kind == "gelu":
        inner = F.gelu(F.linear(other, mlp.up.weight, mlp.up.bias), approximate="tanh")
    else:
        gate, up = F.linear(other, mlp.gate_up.weight).chunk(2, dim=-1)
        inner = F.silu(gate) * up
    F.linear(inner, mlp.down.weight, mlp.down.bias).square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-4, atol=1e-3)


def test_no_vectors_have_no_answers(way):
    assert from_dense(draw(0, 9, 20))(torch.zeros(2, 0, 20)).shape == (2, 0, 9)


def test_the_answer_has_the_dtype_of_what_is_asked(way):
    layer, x = from_dense(draw(0, 9, 20)), draw(1, 2, 3, 20).bfloat16()
    assert layer(x).dtype == torch.bfloat16
    torch.testing.assert_close(layer(x), layer(x.float()).bfloat16())


def test_what_cannot_be_rounded_or_mapped_is_refused():
    with pytest.raises(ValueError, match="a weight is not finite"):
        from_dense(torch.full((4, 32), torch.nan))
    with pytest.raises(ValueError, match="maps vectors of 32 entries, got 64"):
        from_dense(torch.zeros(4, 32))(torch.zeros(2, 64))


def test_a_table_of_bytes_gives_each_token_its_row():
    table = dynamic.DynamicEmbedding(nearest(draw(0, 40, 24)))
    tokens = torch.tensor([[3, 39], [0, 3]])
    assert torch.equal(table(tokens), table.weight[tokens])
