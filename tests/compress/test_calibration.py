"""Promises of what is measured of a network's activations over all noise levels."""

import numpy as np
import pytest
import torch
from compress.compressing import model, text

from unison.compress.calibration import moments, output_errors
from unison.compress.levels import CompressError, Levels, losses, mean_losses, noisy

LEVELS = Levels(rows=12, count=4, batch_size=2)


def captured(network, process, rows, name: str, levels: Levels) -> list[np.ndarray]:
    """Every input of a layer, level by level, seen without the code under test."""
    seen: list[list[np.ndarray]] = []

    def hook(layer, read, answer) -> None:
        seen[-1].append(read[0].flatten(0, -2).double().numpy())

    handle = network.get_submodule(name).register_forward_hook(hook)
    with torch.no_grad():
        for one in noisy(levels, process, rows):
            if one.level == len(seen):
                seen.append([])
            losses(process, network, one)
    handle.remove()
    return [np.concatenate(parts) for parts in seen]


def test_rows_stand_at_every_level_as_often_as_the_objective_draws_it() -> None:
    one = model()
    parts = list(noisy(LEVELS, one.process, text(one)))
    strata = torch.cat([part.batch.strata for part in parts])
    assert (strata * 12).long().tolist() == list(range(12))
    levels = [part.level for part in parts for _ in part.batch.strata]
    assert levels == (strata * 4).long().tolist()
    rows = torch.cat([part.batch.tokens for part in parts])
    assert sorted(rows.tolist()) == sorted(text(one).tolist())


def test_noise_does_not_depend_on_the_batch_size() -> None:
    one = model()
    few, many = (
        mean_losses(Levels(rows=12, count=4, batch_size=size), one.process, one.network, text(one))
        for size in (1, 3)
    )
    assert torch.allclose(few, many, rtol=1e-5)


def test_a_left_to_right_model_has_one_level_and_one_stratum_is_one_level() -> None:
    one = model("ar")
    assert {part.level for part in noisy(LEVELS, one.process, text(one))} == {0}
    two = model()
    parts = list(noisy(Levels(rows=4, count=4, only=0.3), two.process, text(two)))
    assert {part.level for part in parts} == {0}
    assert torch.equal(
        torch.cat([p.batch.strata for p in parts]), torch.full((4,), 0.3, dtype=torch.float64)
    )


def test_short_texts_are_read_several_times_under_other_noise() -> None:
    one = model()
    parts = list(noisy(LEVELS, one.process, text(one, rows=5)))
    seeds = torch.cat([part.key.seed for part in parts])
    assert len(seeds.unique()) == 12
    with pytest.raises(CompressError, match="fills not a single row"):
        next(noisy(LEVELS, one.process, text(one)[:0]))


@pytest.mark.parametrize("family", ["duo", "mdlm", "ar"])
def test_moments_are_means_over_every_position_of_every_level(family: str) -> None:
    one = model(family)
    name = "blocks.1.mlp.down"
    found = moments(one.network, one.process, text(one), [name], LEVELS)[name]
    x = np.concatenate(captured(one.network, one.process, text(one), name, LEVELS))
    np.testing.assert_allclose(found.second, x.T @ x / len(x), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-4, atol=1e-6)


def test_positions_that_the_bound_leaves_out_do_not_count_by_gradient() -> None:
    one = model("mdlm", tied=False)
    levels = Levels(rows=4, count=1, batch_size=4)
    [part] = noisy(levels, one.process, text(one))
    told = []
    handle = one.network.head.register_forward_hook(
        lambda layer, read, answer: told.append(read[0])
    )
    loss = losses(one.process, one.network, part)
    handle.remove()
    logits = one.network.logits(told[0])
    looked_at = (loss != 0).flatten()
    found = moments(one.network, one.process, text(one), ["head"], levels, "gradient")["head"]
    x = told[0].flatten(0, 1)[looked_at].detach().double().numpy()
    assert logits.isfinite().all()
    assert 0 < len(x) < loss.numel()
    spanned = np.linalg.lstsq(x.T, found.second.numpy(), rcond=None)[0]
    np.testing.assert_allclose(x.T @ spanned, found.second, atol=1e-4)  # of those rows alone
    assert all(weight.requires_grad for weight in one.network.parameters())


def test_gradients_weigh_positions_as_autograd_says() -> None:
    one = model()
    levels = Levels(rows=2, count=1, batch_size=2)
    name = "blocks.0.attention.qkv"
    found = moments(one.network, one.process, text(one), [name], levels, "gradient")[name]
    kept: dict[str, torch.Tensor] = {}

    def hook(layer, read, answer) -> None:
        answer.retain_grad()
        kept["x"], kept["y"] = read[0], answer

    handle = one.network.get_submodule(name).register_forward_hook(hook)
    [part] = noisy(levels, one.process, text(one))
    losses(one.process, one.network, part).sum().backward()
    handle.remove()
    weight = kept["y"].grad.double().square().sum(-1).flatten().numpy()
    x = kept["x"].detach().flatten(0, 1).double().numpy()
    want = (x * weight[:, None]).T @ x / weight.sum()
    np.testing.assert_allclose(found.second, want, rtol=1e-3, atol=1e-6)


def test_errors_of_outputs_are_told_level_by_level() -> None:
    one = model()
    name = "blocks.0.mlp.up"
    weight = one.network.get_submodule(name).weight.detach()
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) / 50
    found = output_errors(one.network, one.process, text(one), {name: change}, LEVELS)[name]
    reads = captured(one.network, one.process, text(one), name, LEVELS)
    want = [
        np.square(x @ change.double().numpy().T).sum()
        / np.square(x @ weight.double().numpy().T).sum()
        for x in reads
    ]
    np.testing.assert_allclose(found, want, rtol=1e-4)
    assert len(found) == 4


def test_settings_out_of_range_are_refused() -> None:
    for settings, said in (
        ({"rows": 0}, "at least 1"),
        ({"rows": 3, "count": 4}, "as many rows"),
        ({"only": 1.0}, r"\(0, 1\)"),
    ):
        with pytest.raises(CompressError, match=said):
            Levels(**settings)
