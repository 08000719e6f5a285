"""Weights of few bits in files: small, and the same model to the last bit."""

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from unison import checkpoints
from unison.engine.quantised import grid, storage
from unison.models.formats import levels
from unison.models.formats.blueprint import CheckpointError


def _model():
    return tiny.model("duo", hidden=128, depth=2, cond_dim=32)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_weight_on_the_grid_comes_back_to_the_last_bit(bits):
    torch.manual_seed(1)
    fitted = grid.nearest(torch.randn(48, 96), bits)
    d, m = fitted.scale.float()[..., None], fitted.minimum
    dense = (d * fitted.levels + (0 if m is None else m.float()[..., None])).flatten(1)
    parts = storage.packing("exact")(dense)
    assert parts is not None
    assert (levels.MINIMUM in parts) == (bits == 4)
    assert torch.equal(levels.restored(*parts.values()), dense)


def test_a_model_saved_again_is_the_same_model(tmp_path):
    checkpoints.save(_model(), tmp_path / "a", pack=storage.packing(8))
    once = checkpoints.load(tmp_path / "a")
    checkpoints.save(once, tmp_path / "b", pack=storage.packing("exact"))
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    twice = checkpoints.load(tmp_path / "b").network.state_dict()
    assert a.keys() == b.keys()
    for name, weight in once.network.state_dict().items():
        assert torch.equal(weight, twice[name]), name


@pytest.mark.parametrize(("bits", "most"), [(8, 0.30), (4, 0.20)])
def test_few_bits_take_little_room(tmp_path, bits, most):
    model = _model()
    checkpoints.save(model, tmp_path / "dense")
    checkpoints.save(model, tmp_path / "packed", pack=storage.packing(bits))
    whole, small = (
        (tmp_path / name / "model.safetensors").stat().st_size for name in ("dense", "packed")
    )
    assert small < most * whole


def test_what_lies_on_no_grid_is_stored_as_it_is(tmp_path):
    model = _model()
    checkpoints.save(model, tmp_path, pack=storage.packing("exact"))
    stored = load_file(tmp_path / "model.safetensors")
    for name, weight in model.network.state_dict().items():
        if name.endswith("up.weight"):
            assert torch.equal(stored[name], weight)


def test_several_files_hold_levels_too(tmp_path):
    model = _model()
    checkpoints.save(model, tmp_path / "m", shard_bytes=200_000, pack=storage.packing(8))
    assert len(list((tmp_path / "m").glob("model-*-of-*.safetensors"))) > 1
    checkpoints.save(model, tmp_path / "n", pack=storage.packing(8))
    many, one = (checkpoints.load(tmp_path / n).network.state_dict() for n in "mn")
    assert all(torch.equal(many[name], one[name]) for name in many)


def test_other_formats_are_not_packed(tmp_path):
    with pytest.raises(CheckpointError, match="only unison's own format"):
        checkpoints.save(_model(), tmp_path / "m", "llada", pack=storage.packing(8))


@pytest.mark.parametrize("damage", ["scale", "shape"])
def test_damaged_levels_are_refused(tmp_path, damage):
    checkpoints.save(_model(), tmp_path, pack=storage.packing(8))
    file = tmp_path / "model.safetensors"
    stored = load_file(file)
    if damage == "scale":
        del stored["head.weight.scale"]
    else:
        stored["head.weight.levels"] = stored["head.weight.levels"][:, :32].contiguous()
    save_file(stored, file)
    with pytest.raises(CheckpointError, match=r"head\.weight\.levels"):
        checkpoints.load(tmp_path)
