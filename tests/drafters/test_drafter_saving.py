"""A drafter on disk: it comes back the same, for its own target and for no other."""

import dataclasses
import json

import pytest
import tiny
import torch
from safetensors.torch import load_file

from unison import files
from unison.drafters import KINDS
from unison.drafters.saving import (
    DrafterError,
    Trained,
    fingerprint,
    kind_named,
    load_drafter,
    load_trained,
    save_drafter,
)
from unison.engine.quantised.network import quantised
from unison.engine.reading import target_of
from unison.speculation import Ask, Speculation, Text, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.policies.plain import Plain

MINE = ("dflash", "dspark", "eagle", "eagle3", "fspad", "msd")


@pytest.fixture(scope="module")
def model():
    return tiny.model("ar", length=48, depth=2)


def made(name, model):
    kind = KINDS[name]()
    module = kind.module(model.network)
    tiny.randomise(module)
    return Trained(kind, module.eval())


@pytest.fixture
def saved(model, tmp_path):
    trained = made("eagle", model)
    save_drafter(tmp_path / "eagle", trained, fingerprint(model))
    return tmp_path / "eagle"


def edited(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", MINE)
def test_a_drafter_comes_back_with_its_settings_and_weights(name, model, tmp_path):
    trained = made(name, model)
    save_drafter(tmp_path, trained, fingerprint(model))
    back = load_trained(tmp_path, model)
    assert back.kind == trained.kind
    weights = back.module.state_dict()
    for key, weight in trained.module.state_dict().items():
        assert torch.equal(weights[key], weight)
    assert not any(w.requires_grad for w in back.module.parameters())


def test_a_loaded_drafter_drafts(saved, model):
    target = target_of(model)
    ask = Ask(
        Text(torch.tensor([[target.begin, 3, 1]]), torch.tensor([3])), [8], torch.zeros(1).long()
    )
    plain = speculate(Speculation(policy=Plain(0.0)), target, ask)
    how = Speculation(load_drafter(saved, model), Chain(), policy=Plain(0.0))
    assert speculate(how, target, ask).tokens == plain.tokens


def test_the_same_model_in_another_precision_is_the_same_target(saved, model):
    half = dataclasses.replace(model, network=_copy(model.network).to(torch.bfloat16))
    module = load_trained(saved, half).module
    assert next(module.parameters()).dtype == torch.bfloat16


def _copy(network):
    made = type(network)(network.config)
    made.load_state_dict(network.state_dict())
    return made.eval()


def test_a_quantised_copy_is_the_same_target(tmp_path):
    model = tiny.model("ar", length=16, hidden=32)
    trained = made("eagle", model)
    save_drafter(tmp_path, trained, fingerprint(model))
    rounded = dataclasses.replace(model, network=quantised(model.network, "8"))
    assert load_trained(tmp_path, rounded).kind == trained.kind


def test_a_drafter_of_another_target_is_refused_with_the_difference(saved, model):
    other_weights = dataclasses.replace(model, network=_copy(model.network))
    tiny.randomise(other_weights.network, seed=7)
    with pytest.raises(DrafterError, match="another target, with other weights"):
        load_drafter(saved, other_weights)
    with pytest.raises(DrafterError, match="depth=2, not 3"):
        load_drafter(saved, tiny.model("ar", length=48, depth=3))
    with pytest.raises(DrafterError, match="hidden=16, not 32"):
        load_drafter(saved, tiny.model("ar", length=48, depth=2, hidden=32))
    target = json.loads((saved / "config.json").read_text())["target"]
    edited(saved, target=target | {"tokenizer": "0"})
    with pytest.raises(DrafterError, match="another tokenizer"):
        load_drafter(saved, model)


def test_a_model_that_is_no_target_is_refused(saved):
    with pytest.raises(ValueError, match="a target of speculation is autoregressive"):
        load_drafter(saved, tiny.model("mdlm"))


def test_missing_damaged_and_newer_folders_are_refused(saved, model, tmp_path):
    with pytest.raises(DrafterError, match=r"no drafter: there is no config\.json"):
        load_drafter(tmp_path / "nothing", model)
    edited(saved, format_version=99)
    with pytest.raises(DrafterError, match=r"format version 99.*upgrade unison"):
        load_drafter(saved, model)
    edited(saved, format_version=1, format="other")
    with pytest.raises(DrafterError, match="describes no drafter"):
        load_drafter(saved, model)
    edited(saved, format="unison-drafter", target={"vocab_size": 3})
    with pytest.raises(DrafterError, match="damaged"):
        load_drafter(saved, model)
    (saved / "config.json").write_text("{")
    with pytest.raises(DrafterError, match="damaged"):
        load_drafter(saved, model)


def test_damaged_or_foreign_weights_are_refused(saved, model):
    path = saved / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("fuse.bias")
    files.write_tensors(path, tensors)
    with pytest.raises(DrafterError, match=r"does not hold the weights of a eagle"):
        load_drafter(saved, model)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DrafterError, match="cannot be read"):
        load_drafter(saved, model)
    path.unlink()
    with pytest.raises(DrafterError, match="cannot be read"):
        load_drafter(saved, model)


def test_unknown_kinds_and_settings_are_refused_with_the_nearest_name(saved, model):
    with pytest.raises(DrafterError, match="'eagel'; did you mean 'eagle'"):
        kind_named("eagel")
    with pytest.raises(DrafterError, match="no setting 'unrol'; did you mean 'unroll'"):
        kind_named("eagle", {"unrol": 3})
    with pytest.raises(ValueError, match="unroll must be at least 1"):
        kind_named("eagle", {"unroll": 0})
    assert kind_named("eagle", {"unroll": 3}).unroll == 3  # pyright: ignore
    edited(saved, settings={"wings": 2})
    with pytest.raises(DrafterError, match="no setting 'wings'"):
        load_drafter(saved, model)
