"""Checkpoints of the transformer families and of experts come back from disk as they went."""

import json

import pytest
import tiny_checkpoints as tiny
import torch
from oracle import checkpoints_moe as oracle
from safetensors.torch import load_file, save_file
from tiny_checkpoints import words

from unison import checkpoints
from unison.models.formats.blueprint import CheckpointError

CASES = {
    "mdlm": (tiny.MDLM, tiny.DIT),
    "duo": (tiny.DUO, tiny.DIT),
    "bd3lm": (tiny.BD3LM, tiny.DIT),
    "llada_moe": (tiny.llada_moe_config(tiny.ONE), oracle.llada_moe(tiny.ONE)),
    "llada2": (tiny.llada2_config(tiny.TWO), oracle.llada2(tiny.TWO)),
}
every_family = pytest.mark.parametrize("name", CASES)
TOKENS = torch.randint(tiny.VOCAB, (2, 10), generator=torch.Generator().manual_seed(1))
LEVELS = torch.tensor([0.4, 3.0])


def folder(path, name):
    path.mkdir()
    config, tensors = CASES[name]
    (path / "config.json").write_text(json.dumps(config | {"torch_dtype": "float32"}))
    save_file(tensors, path / "model.safetensors")
    return path


@torch.no_grad()
def logits(model):
    return model.network(TOKENS, LEVELS)


@every_family
@pytest.mark.parametrize("format", ["as it came", "unison"])
def test_a_model_saved_and_read_again_is_the_same(tmp_path, name, format):
    held = words(tmp_path / "words")
    first = checkpoints.load(folder(tmp_path / "first", name), tokenizer=held)
    assert first.format == name
    checkpoints.save(first, tmp_path / "second", name if format == "as it came" else format)
    again = checkpoints.load(tmp_path / "second")  # with the tokenizer it was saved with
    assert torch.equal(logits(again), logits(first))
    assert again.network.config == first.network.config
    assert again.process == first.process
    assert {*again.eos_ids} == {*first.eos_ids}
    assert again.defaults == first.defaults or format == "as it came"
    if format != "unison":
        tensors = CASES[name][1]
        written = load_file(tmp_path / "second" / "model.safetensors")
        kept = {n for n in tensors if "inv_freq" not in n}
        assert written.keys() == kept
        assert all(torch.equal(written[n], tensors[n]) for n in kept)
        stated = json.loads((tmp_path / "second" / "config.json").read_text())
        assert stated["torch_dtype"] == "float32"


def test_a_folder_without_a_tokenizer_asks_for_one(tmp_path):
    with pytest.raises(CheckpointError, match="tokenizer="):
        checkpoints.load(folder(tmp_path / "bare", "mdlm"))


@every_family
def test_the_process_is_that_of_the_family(tmp_path, name):
    model = checkpoints.load(folder(tmp_path / "m", name), tokenizer=words(tmp_path / "w"))
    if name == "duo":
        assert type(model.process).__name__ == "Uniform"
    else:
        assert model.process.mask_id == (38 if "llada" in name else tiny.VOCAB - 1)
