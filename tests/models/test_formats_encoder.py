"""Masked language models behind our contract answer as transformers' own classes do."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from unison.denoising import RowDenoiser
from unison.models import View
from unison.models.formats import encoder, reading
from unison.models.formats.blueprint import CheckpointError, Source
from unison.models.formats.encoder import EncoderNetwork
from unison.models.view import KeyValues
from unison.process import Absorbing
from unison.types import Focus, SoftTokens

transformers = pytest.importorskip("transformers", minversion="5.23")

V = 40
BERT_TOKENS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
ROBERTA_TOKENS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 39}
SHAPE = {
    "vocab_size": V,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
DISTILLED = {"vocab_size": V, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
MODERN = {"local_attention": 6, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
MODERN |= {"bos_token_id": 2, "eos_token_id": 3, "layer_types": ["full_attention"] * 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "Albert": {**SHAPE, "embedding_size": 8, "pad_token_id": 0},
    "Bert": SHAPE,
    "Camembert": {**SHAPE, "pad_token_id": 1},
    "DistilBert": {**DISTILLED, "max_position_embeddings": 20},
    "Electra": {**SHAPE, "embedding_size": 8},
    "ModernBert": {**SHAPE, **MODERN, "layer_types": ["full_attention", "sliding_attention"]},
    "Roberta": {**SHAPE, "pad_token_id": 1},
    "XLMRoberta": {**SHAPE, "pad_token_id": 1},
}
FROM_PADDING = ("Camembert", "Roberta", "XLMRoberta")
SIGMA = torch.zeros(1)


def tokens_of(family: str) -> dict[str, int]:
    return ROBERTA_TOKENS if family in FROM_PADDING else BERT_TOKENS


def made(family: str) -> Any:
    """Weights large enough that every part matters."""
    config = getattr(transformers, f"{family}Config")(**SETTINGS[family])
    model = getattr(transformers, f"{family}ForMaskedLM")(config).eval()
    generator = torch.Generator().manual_seed(5)
    for tensor in model.parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        tensor.data.copy_(0.4 * noise if tensor.dim() > 1 else 1 + 0.3 * noise)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    found = {}
    for family in SETTINGS:
        path = tmp_path_factory.mktemp(family)
        model = made(family)
        model.save_pretrained(path)
        found[family] = model, path
    return found


def source_of(path: Path, tokens: dict[str, int]) -> Source:
    with safe_open(path / "model.safetensors", "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return Source(path, json.loads((path / "config.json").read_text()), {}, shapes, tokens)


def built(path: Path, family: str) -> EncoderNetwork:
    network, _ = encoder.build(source_of(path, tokens_of(family)), torch.float32)
    assert isinstance(network, EncoderNetwork)
    return network


def text(*shape: int) -> Tensor:
    return torch.randint(5, 39, shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def call(network: EncoderNetwork, *args: Any) -> Tensor:
    return network(*args)


@pytest.fixture(params=SETTINGS)
def pair(request: pytest.FixtureRequest, folders: Any) -> tuple[str, Any, EncoderNetwork]:
    family = request.param
    model, path = folders[family]
    return family, model, built(path, family)


def test_every_architecture_served_is_tested() -> None:
    assert sorted(encoder.ARCHITECTURES) == sorted(f"{family}ForMaskedLM" for family in SETTINGS)


@torch.no_grad()
def test_logits_are_those_of_transformers(pair) -> None:
    _, model, network = pair
    rows = text(2, 18)
    said = call(network, rows, SIGMA.expand(2))
    torch.testing.assert_close(said, model(input_ids=rows).logits, atol=1e-5, rtol=0)


def test_positions_read_are_answered_as_if_all_were(pair) -> None:
    _, _, network = pair
    rows = text(2, 18)
    whole = call(network, rows, SIGMA.expand(2))
    read = torch.tensor([[3, 17, 3], [0, 1, 16]])
    said = call(network, rows, SIGMA.expand(2), None, None, View(read=read))
    wanted = torch.stack([whole[0, read[0]], whole[1, read[1]]])
    torch.testing.assert_close(said, wanted, atol=1e-5, rtol=0)


def test_padded_rows_answer_as_they_do_alone(pair) -> None:
    _, _, network = pair
    rows = text(3, 18)
    lengths = (18, 11, 4)
    valid = torch.arange(18) < torch.tensor(lengths)[:, None]
    said = call(network, rows, SIGMA.expand(3), valid)
    for row, length, answer in zip(rows, lengths, said, strict=True):
        alone = call(network, row[None, :length], SIGMA)[0]
        torch.testing.assert_close(answer[:length], alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_longest_canvas_is_what_the_table_of_positions_holds(pair) -> None:
    family, model, network = pair
    longest = 18 if family in FROM_PADDING else 20
    assert network.config.max_length == longest
    rows = text(1, longest)
    torch.testing.assert_close(
        call(network, rows, SIGMA), model(input_ids=rows).logits, atol=1e-5, rtol=0
    )
    with pytest.raises(ValueError, match=rf"has {longest} positions.*rows of {longest + 1} tokens"):
        call(network, text(1, longest + 1), SIGMA)


def test_saved_and_loaded_again_it_answers_the_same(pair, tmp_path: Path) -> None:
    family, _, network = pair
    source = source_of(Path(network.model.config.name_or_path), tokens_of(family))
    _, blueprint = encoder.build(source, torch.float32)
    encoder.save(network, blueprint, tmp_path)
    again, told = encoder.build(source_of(tmp_path, tokens_of(family)), torch.float32)
    assert told == blueprint
    assert isinstance(again, EncoderNetwork)
    rows = text(1, 18)
    assert torch.equal(call(again, rows, SIGMA), call(network, rows, SIGMA))


@pytest.mark.parametrize(
    ("family", "mask", "frame", "pad"),
    [
        ("Bert", 4, ((2,), (3,)), 0),
        ("ModernBert", 4, ((2,), (3,)), 0),
        ("Roberta", 39, ((0,), (2,)), 1),
        ("DistilBert", 4, ((2,), (3,)), 0),
    ],
)
def test_the_checkpoint_says_what_it_is(folders, family, mask, frame, pad) -> None:
    _, plain = encoder.build(source_of(folders[family][1], tokens_of(family)), torch.float32)
    assert (plain.process, plain.pieces, plain.mask_id) == ("absorbing", (), mask)
    assert plain.extra["frame"] == frame
    assert (plain.eos_ids, plain.pad_id) == (frame[1], pad)
    assert len(plain.inferred) == 1
    config = plain.config
    assert (config.attention, config.time, config.shifted) == ("bidirectional", "none", False)
    assert (config.vocab_size, config.num_states, config.hidden, config.depth) == (V, V, 16, 2)


def test_a_mask_token_in_the_settings_goes_before_the_tokenizers(folders) -> None:
    source = source_of(folders["Bert"][1], BERT_TOKENS)
    stated = replace(source, config={**source.config, "mask_token_id": 7})
    assert encoder.build(stated, torch.float32)[1].mask_id == 7


@torch.no_grad()
def test_padding_tokens_within_a_text_take_a_place_like_others(folders) -> None:
    model, path = folders["Roberta"]
    rows = text(1, 12)
    rows[0, 5] = ROBERTA_TOKENS["<pad>"]
    places = torch.arange(2, 14)[None]
    wanted = model(input_ids=rows, position_ids=places).logits
    assert (wanted - model(input_ids=rows).logits).abs().max() > 1e-2
    torch.testing.assert_close(call(built(path, "Roberta"), rows, SIGMA), wanted, atol=1e-5, rtol=0)


def test_the_belief_never_names_the_mask_and_keeps_what_is_written(folders) -> None:
    model, path = folders["Bert"]
    rows = text(1, 10)
    rows[0, [2, 6]] = 4
    denoise = RowDenoiser(built(path, "Bert"), Absorbing(V, mask_id=4))
    focus = Focus(torch.tensor([[2, 6]]), torch.tensor([[0, 10]]))
    with torch.no_grad():
        logits = model(input_ids=rows).logits[0, [2, 6]]
    logits[:, 4] = -torch.inf
    said = denoise(rows, torch.ones(1), focus)
    torch.testing.assert_close(said[0], logits.log_softmax(-1), atol=1e-5, rtol=0)
    everywhere = denoise(rows, torch.ones(1))[0]
    torch.testing.assert_close(everywhere[[2, 6]], said[0], atol=1e-5, rtol=0)
    assert everywhere[3].argmax() == rows[0, 3]
    assert everywhere[3].max() == 0


@pytest.mark.parametrize(
    ("view", "part"),
    [
        (View(compute=torch.tensor([[3]])), "compute"),
        (View(memory=KeyValues((), ())), "memory"),
        (View(positions=torch.arange(8)[None]), "positions"),
        (View(mask=torch.ones(1, 8, 8, dtype=torch.bool)), "mask"),
    ],
)
def test_a_view_that_needs_a_cache_is_refused(folders, view, part) -> None:
    with pytest.raises(ValueError, match=f"BertForMaskedLM .*cannot take view.{part}"):
        call(built(folders["Bert"][1], "Bert"), text(1, 8), SIGMA, None, None, view)


def test_mixtures_of_tokens_are_refused(folders) -> None:
    with pytest.raises(ValueError, match="reads tokens, not mixtures"):
        call(built(folders["Bert"][1], "Bert"), SoftTokens(torch.ones(1, 4, V)), SIGMA)


def _bert(folders: Any, to: Path, drop: str, add: dict[str, Tensor]) -> Source:
    path = folders["Bert"][1]
    tensors = load_file(path / "model.safetensors")
    tensors = {name: w for name, w in tensors.items() if name != drop} | add
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    (to / "config.json").write_text((path / "config.json").read_text())
    return source_of(to, BERT_TOKENS)


def test_what_pretraining_needed_beside_the_words_is_left_unread(folders, tmp_path: Path) -> None:
    beside = {
        "bert.pooler.dense.weight": torch.ones(16, 16),
        "bert.pooler.dense.bias": torch.ones(16),
        "cls.seq_relationship.weight": torch.ones(2, 16),
        "cls.seq_relationship.bias": torch.ones(2),
    }
    network, _ = encoder.build(_bert(folders, tmp_path, "", beside), torch.float32)
    rows = text(1, 10)
    assert isinstance(network, EncoderNetwork)
    plain = call(built(folders["Bert"][1], "Bert"), rows, SIGMA)
    assert torch.equal(call(network, rows, SIGMA), plain)


def test_missing_and_unknown_tensors_are_named(folders, tmp_path: Path) -> None:
    name = "bert.encoder.layer.1.output.dense.weight"
    with pytest.raises(CheckpointError, match=f"lacks 1 tensors: {name}"):
        encoder.build(_bert(folders, tmp_path, name, {}), torch.float32)
    other = {"bert.encoder.layer.2.output.dense.weight": torch.ones(16, 24)}
    with pytest.raises(CheckpointError, match=r"does not know.*bert\.encoder\.layer\.2"):
        encoder.build(_bert(folders, tmp_path, "", other), torch.float32)


def test_without_a_tokenizer_the_mask_is_asked_for(folders) -> None:
    with pytest.raises(CheckpointError, match=r"names no mask token.*copy tokenizer\.json"):
        encoder.build(source_of(folders["Bert"][1], {}), torch.float32)
    with pytest.raises(CheckpointError, match="mask token 40 is not among the model's 40"):
        encoder.build(source_of(folders["Bert"][1], {"[MASK]": 40}), torch.float32)


def test_decoders_and_other_heads_are_refused(folders) -> None:
    source = source_of(folders["Bert"][1], BERT_TOKENS)
    causal = replace(source, config={**source.config, "is_decoder": True})
    with pytest.raises(CheckpointError, match="attention is causal"):
        encoder.build(causal, torch.float32)
    other = replace(source, config={**source.config, "architectures": ["BertModel"]})
    assert not encoder.recognises(other)
    with pytest.raises(CheckpointError, match=r"\['BertModel'\], expected one of Albert"):
        encoder.build(other, torch.float32)


def test_an_unreadable_folder_is_told(folders, tmp_path: Path) -> None:
    source = replace(source_of(folders["Bert"][1], BERT_TOKENS), path=tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read as BertForMaskedLM"):
        encoder.build(source, torch.float32)


def test_a_single_file_is_not_taken_for_its_folder(folders) -> None:
    source = source_of(folders["Bert"][1], BERT_TOKENS)
    file = replace(source, path=source.path / "model.safetensors")
    with pytest.raises(CheckpointError, match="is not a folder"):
        encoder.build(file, torch.float32)


def test_the_loader_finds_it_and_its_mask_in_the_tokenizers_file(folders, tmp_path: Path) -> None:
    source = _bert(folders, tmp_path, "", {})
    added = [{"content": text, "id": number} for text, number in BERT_TOKENS.items()]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    opened = reading.open_checkpoint(tmp_path)
    assert opened.name == "encoder"
    network, blueprint = reading.build(opened, None, torch.device("cpu"))
    assert (blueprint.mask_id, blueprint.extra["frame"]) == (4, ((2,), (3,)))
    rows = text(1, 10)
    direct, _ = encoder.build(source, torch.float32)
    assert isinstance(network, EncoderNetwork)
    assert isinstance(direct, EncoderNetwork)
    assert torch.equal(call(network, rows, SIGMA), call(direct, rows, SIGMA))
