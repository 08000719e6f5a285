"""Promises of taking heads, MLP units and layers out: what is left is a plain smaller model."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from compress.compressing import model, text

from unison import checkpoints
from unison.compress import CompressError, Levels, Prune, dropped, pruned
from unison.compress.calibration import moments
from unison.compress.levels import losses, mean_losses, noisy
from unison.compress.pruning import choosing, cutting, importance, solving
from unison.compress.pruning.solving import Affine

LEVELS = Levels(rows=8, count=2, batch_size=4)
PLAIN = Prune(0.5, 0.5, "energy", False, LEVELS)


def bound(one, rows) -> float:
    return float(mean_losses(LEVELS, one.process, one.network, rows).mean())


@torch.no_grad()
def silenced(one, heads: list[int], units: list[int]):
    """Make some heads and units of every layer say nothing."""
    for block in one.network.blocks:
        out = block.attention.out.weight
        wide = one.network.config.head_dim
        out.view(len(out), -1, wide)[:, heads] = 0
        block.mlp.down.weight[:, units] = 0
    return one


def belief(one, rows):
    with torch.no_grad():
        return one.denoiser()(rows, torch.full((len(rows),), 0.5))


@pytest.mark.parametrize("family", ["duo", "mdlm"])
@pytest.mark.parametrize("kind", ["gradient", "energy", "surgeon"])
def test_what_says_nothing_goes_first_and_nothing_changes(family, kind) -> None:
    one = silenced(model(family), [1, 2], list(range(0, 64, 2)))
    rows = text(one)
    smaller, kept = pruned(one, rows, Prune(0.5, 0.5, kind, kind == "surgeon", LEVELS))
    assert [part.heads.tolist() for part in kept] == [[0, 3]] * 2
    assert [part.mlp.tolist() for part in kept] == [list(range(1, 64, 2))] * 2
    config = smaller.network.config
    assert (config.heads, config.kv_heads, config.head_width, config.mlp_hidden) == (2, 2, 8, 32)
    assert torch.allclose(belief(smaller, rows), belief(one, rows), atol=2e-4)


@pytest.mark.parametrize("family", ["duo", "mdlm", "ar"])
def test_a_pruned_model_is_smaller_and_saves_and_loads_as_any_other(family, tmp_path) -> None:
    one = model(family)
    smaller = pruned(one, text(one), replace(PLAIN, refit=True)).model
    checkpoints.save(smaller, tmp_path / "model")
    back = checkpoints.load(tmp_path / "model")
    count = [sum(w.numel() for w in m.network.parameters()) for m in (one, smaller, back)]
    assert count[1] == count[2] < count[0]
    assert torch.equal(belief(back, text(one)), belief(smaller, text(one)))
    assert back.notes["pruned"]["heads"] == 0.5


@pytest.mark.parametrize("family", ["duo", "mdlm"])
def test_the_importance_of_a_unit_is_the_loss_change_when_it_is_cut_out(family) -> None:
    one = model(family, mlp_hidden=6, hidden=16, heads=2)
    rows = text(one)
    told = importance.removals(one.network, one.process, rows, LEVELS)
    heads, units = torch.arange(2), torch.arange(6)
    for layer, unit in itertools.product(range(2), range(6)):
        kept = [choosing.Kept(heads, heads, units)] * 2
        zeroed = model(family, mlp_hidden=6, hidden=16, heads=2)
        with torch.no_grad():
            zeroed.network.blocks[layer].mlp.down.weight[:, unit] = 0
        change = bound(zeroed, rows) - bound(one, rows)
        assert abs(float(told[f"blocks.{layer}.mlp.down"][unit]) - change) < 1e-5
        left = torch.tensor([u for u in range(6) if u != unit])
        kept[0] = kept[1] = choosing.Kept(heads, heads, left)
    both = cutting.cut(one.network, kept, None)
    for block in (network := model(family, mlp_hidden=6, hidden=16, heads=2).network).blocks:
        block.mlp.down.weight.data[:, 5] = 0
    cut = [mean_losses(LEVELS, one.process, n, rows) for n in (both, network)]
    assert torch.allclose(*cut, rtol=1e-5)


def test_gradients_are_derivatives_in_a_gate_and_of_quiet_units_the_loss_change() -> None:
    one = model(mlp_hidden=6, hidden=16, heads=2)
    with torch.no_grad():
        for block in one.network.blocks:
            block.mlp.down.weight *= 3e-3
    levels = Levels(rows=1, count=1)
    rows = text(one, 1)
    told = importance.gradients(one.network, one.process, rows, levels)
    removal = importance.removals(one.network, one.process, rows, levels)
    for name in ("blocks.0.mlp.down", "blocks.1.mlp.down"):
        change = removal[name].abs() * rows.shape[1]  # of the row, not of a token
        assert float(((told[name] - change).abs() / told[name].mean()).max()) < 0.05
    [part] = noisy(levels, one.process, rows)
    weight, step, sides = one.network.blocks[1].attention.out.weight, 1e-2, []
    for gate in (1 + step, 1 - step):
        kept = weight.detach().clone()
        weight.data[:, :8] *= gate
        sides.append(float(losses(one.process, one.network, part).detach().double().sum()))
        weight.data.copy_(kept)
    slope = abs(sides[0] - sides[1]) / (2 * step)
    assert abs(float(told["blocks.1.attention.out"][0]) - slope) < 0.02 * slope + 1e-3


def test_the_surgeon_knows_what_the_best_refit_leaves() -> None:
    one = model(heads=2)
    names = list(importance.readers(one.network))
    known = moments(one.network, one.process, text(one, 64), names, Levels(rows=64, count=2))
    told = importance.surgeons(one.network, known)
    for name, size in importance.readers(one.network).items():
        weight = one.network.get_submodule(name).weight.detach().double().numpy()
        second = solving.damped(known[name].second).numpy()
        gone = np.arange(size, 2 * size)  # the second unit
        left = np.setdiff1d(np.arange(weight.shape[1]), gone)
        best = np.zeros_like(weight)
        best[:, left] = np.linalg.solve(second[np.ix_(left, left)], second[left] @ weight.T).T
        change = weight - best
        want = np.trace(change @ second @ change.T)
        assert abs(float(told[name][1]) - want) < 1e-6 * want


def test_refitting_is_least_squares() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(500, 12)) @ generator.normal(size=(12, 12)) + 1
    weight, bias = generator.normal(size=(5, 12)), generator.normal(size=5)
    kept = np.array([0, 3, 4, 8, 11])
    known = importance.Moments(torch.tensor(x.T @ x / 500), torch.tensor(x.mean(0)))
    layer = Affine(torch.tensor(weight), torch.tensor(bias))
    found = solving.refitted(layer, known, torch.tensor(kept))
    one = np.column_stack([x[:, kept], np.ones(500)])
    want = np.linalg.lstsq(one, x @ weight.T + bias, rcond=None)[0]
    left = [np.square(one @ w - x @ weight.T - bias).sum() for w in (
        want, np.vstack([found.weight.numpy().T, found.bias.numpy()]))]  # fmt: skip
    assert left[0] <= left[1] < 1.001 * left[0]
    plain = solving.refitted(Affine(layer.weight, None), known, torch.tensor(kept))
    want = np.linalg.lstsq(x[:, kept], x @ weight.T, rcond=None)[0]
    np.testing.assert_allclose(plain.weight, want.T, atol=0.02)


def test_a_unit_that_repeats_another_is_made_good_by_it() -> None:
    one = model()
    with torch.no_grad():
        for block in one.network.blocks:
            block.mlp.up.weight[32:] = block.mlp.up.weight[:32]
            block.mlp.up.bias[32:] = block.mlp.up.bias[:32]
    rows = text(one, 64)
    how = Prune(0.0, 0.5, "surgeon", True, Levels(rows=64, count=2))
    smaller = pruned(one, rows, how).model
    plain = pruned(one, rows, replace(how, refit=False)).model
    whole = belief(one, rows)
    near, far = ((belief(m, rows) - whole).abs().mean() for m in (smaller, plain))
    assert float(near) < 0.15 * float(far)


def shallower(one, left: list[int]):
    """The model of some of its layers, put together anew."""
    other = model(depth=4)
    other.network.load_state_dict(one.network.state_dict())
    other.network.blocks = torch.nn.ModuleList(other.network.blocks[i] for i in left)
    return other


def test_layers_go_one_after_another_each_the_cheapest() -> None:
    one = model(depth=4)
    rows = text(one)
    smaller, gone = dropped(one, rows, 2, LEVELS)
    left = [0, 1, 2, 3]
    for layer in gone:
        tries = {i: bound(shallower(one, [j for j in left if j != i]), rows) for i in left}
        assert layer == min(tries, key=tries.__getitem__)
        left.remove(layer)
    assert smaller.network.config.depth == 2
    assert abs(bound(smaller, rows) - bound(shallower(one, left), rows)) < 1e-5
    none, gone = dropped(one, rows, 0, LEVELS)
    assert gone == []
    assert none.network.config.depth == 4


def test_a_layer_that_adds_nothing_goes_without_a_trace() -> None:
    one = model(depth=3)
    with torch.no_grad():
        for weight in one.network.blocks[1].modulation.parameters():
            weight.zero_()
    less = cutting.without(one.network, 1)
    rows, sigma = text(one), torch.full((12,), 0.5)
    assert torch.equal(less(rows, sigma), one.network(rows, sigma))


def test_shared_heads_go_with_all_their_queries_or_none_goes() -> None:
    config = model("ar", heads=8, kv_heads=2).network.config
    assert choosing.heads_left(config, 0.5) == (4, 1)
    assert choosing.heads_left(config, 0.25) == (6, 2)
    assert choosing.heads_left(config, 0.75) == (2, 2)
    with pytest.raises(CompressError, match="1 of 8 heads cannot go evenly where 4 share"):
        choosing.heads_left(config, 0.125)
    scores = importance.Scores(
        (torch.tensor([5.0, 1, 2, 9, 0, 3, 4, 1]),) * 2, (torch.arange(64.0),) * 2
    )
    [half, _] = choosing.kept(config, scores, 0.5, 0.0)
    assert (half.heads.tolist(), half.shared.tolist()) == ([0, 1, 2, 3], [0])
    [most, _] = choosing.kept(config, scores, 0.25, 0.5)
    assert (most.heads.tolist(), most.shared.tolist()) == ([0, 2, 3, 5, 6, 7], [0, 1])
    assert most.mlp.tolist() == list(range(32, 64))


def test_grouped_heads_are_cut_where_they_lie() -> None:
    one = silenced(model("ar", heads=8, kv_heads=2, head_width=8), [1, 4], [])
    rows = text(one)
    smaller = pruned(one, rows, Prune(0.25, 0.0, "energy", False, LEVELS)).model
    config = smaller.network.config
    assert (config.heads, config.num_kv_heads, config.head_dim) == (6, 2, 8)
    assert torch.allclose(belief(smaller, rows), belief(one, rows), atol=2e-4)


def test_widths_stay_multiples_of_32_where_they_were() -> None:
    config = model(mlp_hidden=160).network.config
    assert choosing.units_left(config, 0.25) == 128
    assert choosing.units_left(config, 0.5) == 96
    odd = model(mlp_hidden=100).network.config
    assert choosing.units_left(odd, 0.29) == 71


def test_shares_that_do_not_fit_are_refused() -> None:
    config = model().network.config
    with pytest.raises(CompressError, match=r"0\.1 of heads is less than 1 of 4"):
        choosing.heads_left(config, 0.1)
    with pytest.raises(CompressError, match=r"less than 32 of 64; take at least 0\.5"):
        choosing.units_left(config, 0.25)
    with pytest.raises(CompressError, match=r"in \[0, 1\), got 1\.5"):
        Prune(heads=1.5)
    with pytest.raises(CompressError, match="at most 1"):
        dropped(model(), text(model()), 2, LEVELS)
