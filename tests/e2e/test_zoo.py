"""Every checkpoint family, from a folder to text, in one process and with its own defaults."""

import json
from pathlib import Path

import checkpoints
import pytest
import tiny_checkpoints
from oracle import checkpoints_moe
from safetensors.torch import save_file

import unison
from unison.cli.main import main
from unison.generation import facts_of, process_name

DIT = tiny_checkpoints.DIT
OTHERS = {
    "mdlm": (tiny_checkpoints.MDLM, DIT),
    "duo": (tiny_checkpoints.DUO, DIT),
    "bd3lm": (tiny_checkpoints.BD3LM, DIT),
    "llada_moe": (
        tiny_checkpoints.llada_moe_config(tiny_checkpoints.ONE),
        checkpoints_moe.llada_moe(tiny_checkpoints.ONE),
    ),
    "llada2": (
        tiny_checkpoints.llada2_config(tiny_checkpoints.TWO),
        checkpoints_moe.llada2(tiny_checkpoints.TWO),
    ),
}


def written(path: Path, family: str) -> Path:
    """Write a small random checkpoint of any family, with a tokenizer."""
    if family in checkpoints.FAMILIES:
        return checkpoints.make(path, family)
    config, tensors = OTHERS[family]
    tiny_checkpoints.words(path)
    (path / "config.json").write_text(json.dumps(config))
    save_file(tensors, path / "model.safetensors")
    return path


@pytest.mark.parametrize("family", [*checkpoints.FAMILIES, *OTHERS])
def test_a_checkpoint_writes_with_its_own_defaults(tmp_path, family):
    model = unison.load(written(tmp_path / "model", family), "cpu")
    prompts = ["", "w1"]  # ragged
    texts = unison.generate(model, prompts, new_tokens=8)
    for sample in texts:
        assert len(sample.tokens) == sample.given.count(True) + 8
        assert all(0 <= token < model.network.config.vocab_size for token in sample.tokens)
        if process_name(model.process) == "absorbing":
            assert model.process.mask_id not in sample.tokens
    alone = unison.generate(model, prompts[1], new_tokens=8)
    assert alone[0].tokens == texts[1].tokens


def test_diffusion_gemma_writes_with_its_own_defaults(tmp_path):
    pytest.importorskip("transformers")
    import tiny_gemma

    path = tiny_checkpoints.words(tmp_path / "model")
    tiny_gemma.made().save_pretrained(path)
    model = unison.load(path, "cpu")
    assert facts_of(model).block_length == tiny_gemma.CANVAS
    [sample] = unison.generate(model, "w1", new_tokens=2 * tiny_gemma.CANVAS)
    assert len(sample.tokens) == 1 + 2 * tiny_gemma.CANVAS
    assert sample.nfe <= 2 * 48


@pytest.mark.parametrize("family", ["llada", "mdlm", "qwen2"])
def test_doctor_says_what_a_checkpoint_is(tmp_path, family, capsys):
    path = written(tmp_path / "model", family)
    assert main(["doctor", str(path), "--device", "cpu", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["model"]
    assert said["format"] == {"qwen2": "causal"}.get(family, family)
    assert said["belief_sums_to_one"] is True
