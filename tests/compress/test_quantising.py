"""Promises of rounding a whole model."""

import pytest
import torch
from compress.compressing import model, text

from unison import checkpoints
from unison.compress import (
    CompressError,
    Levels,
    Quantise,
    quantised,
    quantising,
    rounding,
    suffering,
)
from unison.compress.calibration import moments
from unison.engine.quantised import grid
from unison.engine.quantised import quantised as packed
from unison.engine.quantised.storage import packing

LEVELS = Levels(rows=12, count=4, batch_size=6)


@pytest.mark.parametrize(("family", "bits"), [("duo", 4), ("mdlm", 8), ("ar", 4)])
def test_rounded_weights_are_packed_and_stored_without_a_change(family, bits, tmp_path) -> None:
    one = model(family)
    rounded, layers = quantised(one, text(one), Quantise(bits, levels=LEVELS))
    kept = packed(rounded.network, "exact")
    for layer in layers:
        own = rounded.network.get_submodule(layer.name).weight
        assert bool(grid.nearest(own, layer.bits).exact.all())
        assert layer.bits == (8 if layer.name == "head" else bits)
        assert torch.equal(kept.get_submodule(layer.name).weight, own)
        assert layer.error <= layer.nearest
    checkpoints.save(rounded, tmp_path / "small", pack=packing("exact"))
    checkpoints.save(rounded, tmp_path / "plain")
    back = checkpoints.load(tmp_path / "small")
    for name, weight in rounded.network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], weight)
    small, plain = ((tmp_path / n / "model.safetensors").stat().st_size for n in ("small", "plain"))
    assert small < plain / 2
    assert back.notes["quantised"]["bits"] == bits


def test_the_original_is_left_alone() -> None:
    one = model()
    before = {name: weight.clone() for name, weight in one.network.state_dict().items()}
    quantised(one, text(one), Quantise(4, levels=LEVELS))
    assert all(torch.equal(w, before[name]) for name, w in one.network.state_dict().items())


def test_calibrating_at_all_levels_beats_calibrating_at_one() -> None:
    """Errors on the mixture of levels, of layers behind an untouched network."""
    one = model(length=32)
    rows = text(one, 64)
    names = ["blocks.0.mlp.down", "blocks.1.mlp.down", "blocks.1.attention.out"]
    every = Levels(rows=64, count=4)
    true = moments(one.network, one.process, rows, names, every)
    for stratum in (0.02, 0.98):
        at_one = Levels(rows=64, count=1, only=stratum)
        single = moments(one.network, one.process, rows, names, at_one)
        for name in names:
            weight = one.network.get_submodule(name).weight.detach()
            errors = []
            for known in (true[name], single[name]):
                values = rounding.rounded(weight, known.second, 4)
                errors.append(float(rounding.error(values - weight, true[name].second)))
            assert errors[0] < errors[1]


def test_suffering_is_nothing_where_nothing_was_changed() -> None:
    one = model()
    told = suffering(one, one, text(one), LEVELS)
    assert torch.equal(told.outputs, torch.zeros(4).double())
    assert torch.equal(told.before, told.after)
    assert bool((told.divergence.abs() < 1e-6).all())
    rounded, _ = quantised(one, text(one), Quantise(4, levels=LEVELS))
    told = suffering(one, rounded, text(one, seed=1), LEVELS)
    assert len(told.outputs) == len(told.after) == 4
    assert bool((told.divergence > 1e-6).all())
    assert bool((told.outputs > 0).all())
    assert bool((told.outputs < 0.05).all())


def test_what_cannot_be_rounded_is_refused() -> None:
    with pytest.raises(CompressError, match="no number of groups of 32"):
        quantising.checked(model(hidden=48).network)
    with pytest.raises(CompressError, match="damping must be above 0"):
        Quantise(4, damping=0.0)
