"""MDLM, BD3-LM and Duo checkpoints answer as the papers' network does, whatever their file."""

import dataclasses
import json
import sys
import types
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from oracle import checkpoints_dit as oracle
from safetensors.torch import save_file
from tiny_checkpoints import (
    BD3LM,
    DEPTH,
    DUO,
    HEADS,
    HIDDEN,
    LENGTH,
    MDLM,
    SHAPE,
    VOCAB,
    network,
    source,
)
from tiny_checkpoints import DIT as TENSORS

from unison.models.formats import bd3lm, dit, duo, lightning, mdlm, reading
from unison.models.formats.blueprint import CheckpointError

TOKENS = torch.randint(VOCAB, (2, 10), generator=torch.Generator().manual_seed(1))
LEVELS = torch.tensor([0.4, 3.0])
FAMILIES = [(mdlm, MDLM), (duo, DUO), (bd3lm, BD3LM)]
every_family = pytest.mark.parametrize(("family", "config"), FAMILIES, ids=["mdlm", "duo", "bd3lm"])


@torch.no_grad()
def answers(blueprint, tensors=TENSORS):
    return network(blueprint, tensors)(TOKENS, LEVELS)


def expected(levels=(0.4, 3.0), **changes):
    rows = zip(TOKENS, levels, strict=True)
    return torch.stack(
        [oracle.logits(TENSORS, row, level, HEADS, **changes) for row, level in rows]
    )


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_mdlm_reads_no_time_and_yet_its_modulations_act():
    blueprint = mdlm.read(source(MDLM, TENSORS))
    close(answers(blueprint), expected((0.0, 0.0)))
    aware = mdlm.read(source(MDLM | {"time_conditioning": True}, TENSORS))
    close(answers(aware), expected())
    assert (expected() - expected((0.0, 0.0))).abs().max() > 1e-2


def test_mdlm_without_the_key_is_read_as_blind_to_time_and_says_so():
    config = {name: value for name, value in MDLM.items() if name != "time_conditioning"}
    blueprint = mdlm.read(source(config, TENSORS))
    assert blueprint.config.time_zeroed
    assert any("noise level" in told for told in blueprint.inferred)


def test_the_last_token_of_an_absorbing_model_is_its_mask_and_stays_in_the_vocabulary():
    blueprint = mdlm.read(source(MDLM, TENSORS))
    assert (blueprint.process, blueprint.mask_id) == ("absorbing", VOCAB - 1)
    assert blueprint.config.vocab_size == blueprint.config.num_states == VOCAB
    assert any(str(VOCAB - 1) in told for told in blueprint.inferred)
    stated = mdlm.read(source(MDLM, TENSORS, tokens={"[MASK]": 5, "<|endoftext|>": 3}))
    assert (stated.mask_id, stated.eos_ids) == (5, (3,))


def test_published_vocabularies_have_gpt2s_end_of_text():
    wide = TENSORS | {"backbone.vocab_embed.embedding": torch.empty(50258, HIDDEN)}
    published = {"vocab_size": 50258}
    masked, uniform = (
        family.read(source(config | published, wide)) for family, config in FAMILIES[:2]
    )
    assert (masked.mask_id, masked.eos_ids, masked.pad_id) == (50257, (50256,), None)
    assert (uniform.mask_id, uniform.eos_ids, uniform.pad_id) == (None, (50256,), 50257)


def test_duo_reads_the_noise_level_although_its_config_does_not_say_so():
    blueprint = duo.read(source(DUO, TENSORS))
    assert blueprint.process == "uniform"
    assert any("-log(alpha)" in told for told in blueprint.inferred)
    close(answers(blueprint), expected())


@pytest.mark.parametrize(
    "change", [{"time_conditioning": False}, {"causal": True}], ids=["blind", "causal"]
)
def test_a_duo_that_cannot_be_is_refused(change):
    with pytest.raises(CheckpointError, match=next(iter(change))):
        duo.read(source(DUO | change, TENSORS))


def test_a_distilled_duo_takes_eight_steps_unless_told_otherwise():
    distilled = duo.read(source(DUO, TENSORS, Path("hub/duo-distilled")))
    assert distilled.defaults["steps"] == 8
    assert any("distilled" in told for told in distilled.inferred)
    assert "steps" not in duo.read(source(DUO, TENSORS, Path("hub/duo"))).defaults
    cached = Path("hub/models--s-sahoo--duo-distilled/snapshots/0a1b")
    assert duo.read(source(DUO, TENSORS, cached)).defaults["steps"] == 8
    trained = duo.read(source(DUO | {"algorithm": "distillation"}, TENSORS))
    assert trained.defaults == distilled.defaults


@every_family
@pytest.mark.parametrize("prefix", ["", "model.backbone.", "backbone._orig_mod."])
def test_the_prefix_of_the_names_does_not_matter(family, config, prefix):
    renamed = {prefix + name.removeprefix("backbone."): tensor for name, tensor in TENSORS.items()}
    usual, other = family.read(source(config, TENSORS)), family.read(source(config, renamed))
    assert torch.equal(answers(usual), answers(other, renamed))


def test_a_teacher_stored_beside_the_network_is_not_taken():
    teacher = {n.replace("backbone", "teacher"): tensor + 1 for n, tensor in TENSORS.items()}
    both = teacher | TENSORS
    alone = duo.read(source(DUO, TENSORS))
    assert torch.equal(answers(duo.read(source(DUO, both)), both), answers(alone))


def test_bd3_sees_its_block_and_those_before_when_config_lacks_newer_keys():
    assert not {"adaln", "causal"} & {*BD3LM}
    blueprint = bd3lm.read(source(BD3LM, TENSORS))
    close(answers(blueprint), expected((0.0, 0.0), block=4))
    whole = bd3lm.read(source(BD3LM | {"cross_attn": False}, TENSORS))
    close(answers(whole), expected((0.0, 0.0)))


def test_bd3_without_modulations_takes_no_time():
    plain = oracle.tensors(VOCAB, HIDDEN, DEPTH, HEADS, adaln=False)
    blueprint = bd3lm.read(source(BD3LM | {"adaln": False}, plain))
    assert blueprint.config.time == "none"
    wanted = torch.stack([oracle.logits(plain, row, 0.0, HEADS, block=4) for row in TOKENS])
    close(answers(blueprint, plain), wanted)
    with pytest.raises(CheckpointError, match="adaln=True"):
        bd3lm.read(source(BD3LM, plain))


@pytest.mark.parametrize(
    ("change", "told"),
    [({"block_size": None}, "block_size"), ({"causal": True}, "autoregressive baseline")],
)
def test_a_bd3_that_is_not_supported_is_refused_by_name(change, told):
    with pytest.raises(CheckpointError, match=told):
        bd3lm.read(source(BD3LM | change, TENSORS))


def test_nothing_but_buffers_is_left_over():
    extra = {"backbone.sampling_eps_min", "sampling_eps_max", "backbone.rotary_emb.inv_freq"}
    held = TENSORS | {name: torch.tensor(0.001) for name in extra}
    for family, config in FAMILIES:
        blueprint = family.read(source(config, held))
        taken = [name for piece in blueprint.pieces for name in piece.theirs]
        assert len(taken) == len(set(taken))
        left = {*held} - {*taken}
        assert left == extra
        assert all(any(fnmatch(name, end) for end in blueprint.ignored) for name in left)


@every_family
def test_what_is_written_reads_back_the_same(family, config):
    config = config | {"transformers_version": "4.57"}
    first = family.read(source(config, TENSORS))
    written = family.write(first)
    again = family.read(source(written, TENSORS))
    assert written["transformers_version"] == "4.57"
    for name in ("config", "pieces", "process", "mask_id", "eos_ids", "pad_id", "defaults"):
        assert getattr(again, name) == getattr(first, name)


@every_family
def test_a_network_of_another_kind_is_not_written(family, config):
    blueprint = family.read(source(config, TENSORS))
    for change in ({"norm": "rms"}, {"kv_heads": 1}, {"tied": True}):
        other = dataclasses.replace(
            blueprint, config=dataclasses.replace(blueprint.config, **change)
        )
        with pytest.raises(CheckpointError, match="cannot be written"):
            family.write(other)


def test_config_and_tensors_of_different_models_are_told_apart():
    with pytest.raises(CheckpointError, match=r"n_blocks=5 and the tensors 2"):
        mdlm.read(source(MDLM | {"n_blocks": 5}, TENSORS))
    with pytest.raises(CheckpointError, match="model_length"):
        mdlm.read(source({**MDLM, "model_length": None}, TENSORS))
    unnamed = {n: t for n, t in TENSORS.items() if "inv_freq" not in n}
    with pytest.raises(CheckpointError, match="n_heads"):
        mdlm.read(source({**MDLM, "n_heads": None}, unnamed))
    assert mdlm.read(source({**MDLM, "n_heads": None}, TENSORS)).config.heads == HEADS


def test_a_family_is_recognised_by_its_type_or_else_by_its_folder():
    for family, config in FAMILIES:
        held = source(config, TENSORS)
        assert [other.recognises(held) for other, _ in FAMILIES] == [
            other is family for other, _ in FAMILIES
        ]
        assert not family.recognises(source(config, {"model.embed_tokens.weight": torch.ones(1)}))
    assert duo.recognises(source(SHAPE, TENSORS, Path("weights/duo-base")))
    assert not duo.recognises(source(SHAPE, TENSORS, Path("weights/other")))


# Training checkpoints


class Average:
    """The moving average as the training code keeps it: parameters in the network's order."""

    def __init__(self, tensors):
        self.parameters = [w for name, w in tensors.items() if "inv_freq" not in name]

    def state_dict(self):
        return {"decay": 0.9999, "num_updates": 7, "shadow_params": self.parameters}


def foreign_config(monkeypatch, **sections):
    """Return settings in a class that the reader cannot import, shaped like OmegaConf's."""
    module = types.ModuleType("omegaconf_like")

    class DictConfig:
        def __init__(self, content):
            self._content = content

    class AnyNode:
        def __init__(self, value):
            self._val = value

    for kind in (DictConfig, AnyNode):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def wrapped(value):
        if isinstance(value, dict):
            return DictConfig({key: wrapped(item) for key, item in value.items()})
        return AnyNode(value)

    return wrapped(sections)


MODEL = {"hidden_size": HIDDEN, "cond_dim": 6, "n_blocks": DEPTH, "n_heads": HEADS}
MODEL |= {"length": LENGTH, "dropout": 0.1}


def training_file(monkeypatch, path, algo, average=None, **sections):
    config = foreign_config(monkeypatch, model=MODEL, algo=algo, **sections)
    content = {"state_dict": TENSORS, "hyper_parameters": {"config": config, "tokenizer": None}}
    content["ema"] = average
    torch.save(content, path)
    monkeypatch.delitem(sys.modules, "omegaconf_like")
    return path


@pytest.mark.parametrize("name", ["duo", "duo_base", "distillation", "mdlm"])
def test_the_moving_average_of_a_training_checkpoint_is_taken(monkeypatch, tmp_path, name):
    better = oracle.tensors(VOCAB, HIDDEN, DEPTH, HEADS, seed=5)
    ema = Average(better).state_dict()
    algo = {"name": name, "time_conditioning": name != "mdlm"}
    path = training_file(monkeypatch, tmp_path / "last.ckpt", algo, ema)
    config, weights = lightning.read(path)
    family = mdlm if name == "mdlm" else duo
    assert config["architectures"] == [family.ARCHITECTURES[0]]
    blueprint = family.read(source(config, weights))
    assert any("moving average" in told for told in blueprint.inferred)
    level = 0.0 if name == "mdlm" else 0.4
    close(answers(blueprint, weights)[0], oracle.logits(better, TOKENS[0], level, HEADS))


def test_a_training_checkpoint_without_an_average_gives_its_last_weights(monkeypatch, tmp_path):
    algo = {"name": "bd3lm", "cross_attn": True, "time_conditioning": False}
    path = training_file(monkeypatch, tmp_path / "last.ckpt", algo, block_size=4)
    config, weights = lightning.read(path)
    blueprint = bd3lm.read(source(config, weights))
    assert any("no moving average" in told for told in blueprint.inferred)
    close(answers(blueprint, weights), expected((0.0, 0.0), block=4))


def test_the_older_training_code_of_mdlm_names_its_parameterisation_alone(monkeypatch, tmp_path):
    older = {"parameterization": "subs", "time_conditioning": False}
    path = training_file(monkeypatch, tmp_path / "best.ckpt", {}, **older)
    config, weights = lightning.read(path)
    assert config["architectures"] == ["MDLM"]
    close(answers(mdlm.read(source(config, weights)), weights), expected((0.0, 0.0)))


def test_an_average_that_does_not_fit_is_refused(monkeypatch, tmp_path):
    ema = Average(TENSORS).state_dict()
    ema["shadow_params"] = ema["shadow_params"][1:]
    path = training_file(monkeypatch, tmp_path / "a.ckpt", {"name": "duo"}, ema)
    with pytest.raises(CheckpointError, match="moving average"):
        lightning.read(path)


@pytest.mark.parametrize("name", ["sedd", "ar"])
def test_a_method_without_a_reader_is_named(monkeypatch, tmp_path, name):
    path = training_file(monkeypatch, tmp_path / "a.ckpt", {"name": name})
    with pytest.raises(CheckpointError, match=f"trained by {name}"):
        lightning.read(path)


class Trap:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('sprung').touch()",)


def test_reading_a_training_checkpoint_runs_nothing_in_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "hyper_parameters": {"config": Trap()}}, "trap.ckpt")
    with pytest.raises(CheckpointError, match="unknown method"):
        lightning.read(Path("trap.ckpt"))
    assert not Path("sprung").exists()
    torch.load("trap.ckpt", weights_only=False)  # what a careless reader does
    assert Path("sprung").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_a_damaged_training_checkpoint_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "cut.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cut\.ckpt"):
        lightning.read(path)


def test_files_of_several_networks_are_refused():
    two = {f"{name}.{dit.EMBEDDING}": torch.empty(3, 2) for name in ("student", "other")}
    with pytest.raises(CheckpointError, match="found 2"):
        duo.read(source(DUO, two))


# The whole way, from files


@every_family
@torch.no_grad()
def test_a_folder_is_opened_and_answers(tmp_path, family, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    held = TENSORS | {"backbone.sampling_eps_max": torch.tensor(1.0)}
    save_file(held, tmp_path / "model.safetensors")
    opened = reading.open_checkpoint(tmp_path)
    made, blueprint = reading.build(opened, None, torch.device("cpu"))
    assert opened.name == family.__name__.rsplit(".", 1)[-1]
    assert torch.equal(made(TOKENS, LEVELS), answers(blueprint))


@torch.no_grad()
def test_a_training_checkpoint_is_opened_and_answers_by_its_average(monkeypatch, tmp_path):
    better = oracle.tensors(VOCAB, HIDDEN, DEPTH, HEADS, seed=5)
    path = training_file(
        monkeypatch, tmp_path / "last.ckpt", {"name": "duo"}, Average(better).state_dict()
    )
    opened = reading.open_checkpoint(path)
    made, blueprint = reading.build(opened, None, torch.device("cpu"))
    assert (opened.name, blueprint.process) == ("duo", "uniform")
    close(made(TOKENS, LEVELS)[1], oracle.logits(better, TOKENS[1], 3.0, HEADS))
