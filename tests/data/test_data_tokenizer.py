"""What tokenizers promise."""

import inspect
import pickle
import sys

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

from unison.data import (
    Tokenizer,
    TokenizerError,
    TokenizerSpec,
    build_tokenizer,
    byte_tokenizer,
    read,
    train_tokenizer,
)
from unison.data.vocabulary import byte_symbols

TEXTS = [document.text for document in read("python-docs")[:12]]
BYTE = byte_tokenizer()
BPE = train_tokenizer("bpe", TEXTS, 600)
CHAR = train_tokenizer("char", TEXTS)
TRICKY = "a\x00b\r\n\u2028 \x0c  <|eos|><|unk|> é 😀 \u0301\ufffd\ufeff tail  "


@given(st.text())
def test_a_byte_id_is_a_byte_and_any_text_round_trips(text):
    ids = BYTE.encode(text)
    assert ids == list(text.encode())
    assert BYTE.decode(ids) == text


@settings(max_examples=200)
@given(st.text())
def test_any_text_round_trips_through_bpe(text):
    assert BPE.decode(BPE.encode(text)) == text


@pytest.mark.parametrize("tokenizer", [BYTE, BPE])
def test_awkward_text_round_trips(tokenizer):
    assert tokenizer.decode(tokenizer.encode(TRICKY)) == TRICKY


@pytest.mark.parametrize(
    "restore",
    [
        lambda tokenizer, folder: tokenizer,
        lambda tokenizer, folder: pickle.loads(pickle.dumps(tokenizer)),
        lambda tokenizer, folder: (
            tokenizer.save(folder / "tokenizer.json"),
            Tokenizer.load(folder),
        )[1],
    ],
    ids=["new", "pickled", "reloaded"],
)
@pytest.mark.parametrize("tokenizer", [BYTE, BPE, train_tokenizer("char", ["<|eos|>x"])])
def test_a_special_name_in_a_text_is_ordinary_text(tokenizer, restore, tmp_path):
    tokenizer = restore(tokenizer, tmp_path)
    ids = tokenizer.encode("x<|eos|>x")
    assert tokenizer.eos_id not in ids
    assert tokenizer.decode(ids) == "x<|eos|>x"


def test_the_vocabulary_counts_every_id_and_ends_with_the_end_of_document():
    assert (BYTE.vocab_size, BYTE.eos_id, BYTE.unk_id) == (257, 256, None)
    assert (BPE.vocab_size, BPE.eos_id, BPE.unk_id) == (600, 599, None)
    size = len(set("".join(TEXTS))) + 2
    assert (CHAR.vocab_size, CHAR.eos_id, CHAR.unk_id) == (size, size - 1, size - 2)


def test_the_byte_alphabet_is_the_one_the_library_uses():
    assert set(byte_symbols()) == set(pre_tokenizers.ByteLevel.alphabet())


def test_bpe_training_is_deterministic_and_shortens_its_corpus():
    again = train_tokenizer("bpe", iter(TEXTS), 600)
    assert again == BPE
    assert again.fingerprint == BPE.fingerprint
    assert len(BPE.encode(TEXTS[0])) < 0.6 * len(TEXTS[0].encode())


def test_a_char_id_is_a_character_and_strangers_become_unknown():
    tokenizer = train_tokenizer("char", ["abba\n", "cab"])
    assert tokenizer.encode("ab\nc") == [1, 2, 0, 3]
    assert tokenizer.encode("aéz") == [1, tokenizer.unk_id, tokenizer.unk_id]
    assert tokenizer.decode(tokenizer.encode("bé")) == "b<|unk|>"


def test_a_limited_char_vocabulary_keeps_the_most_frequent():
    tokenizer = train_tokenizer("char", ["aaabbc"], 4)
    assert tokenizer.encode("abc") == [0, 1, tokenizer.unk_id]


def test_texts_of_a_batch_are_encoded_as_if_alone():
    texts = [*TEXTS, "", "tail"]
    assert BPE.encode_batch(texts) == [BPE.encode(text) for text in texts]
    assert BPE.encode_batch([]) == []


def test_special_tokens_are_written_by_name_only_on_request():
    ids = [*BYTE.encode("a"), BYTE.eos_id, *BYTE.encode("b")]
    assert BYTE.decode(ids) == "ab"
    assert BYTE.decode(ids, show_special=True) == "a<|eos|>b"


@pytest.mark.parametrize("stranger", [-1, 257, 10**9])
def test_an_id_outside_the_vocabulary_is_refused(stranger):
    with pytest.raises(TokenizerError, match=rf"id {stranger} is not in the vocabulary 0 \.\. 256"):
        BYTE.decode([1, stranger])


def test_a_lone_surrogate_is_refused():
    with pytest.raises(TokenizerError, match="surrogate"):
        BYTE.encode("\ud800")


def test_a_saved_tokenizer_is_the_same_when_loaded(tmp_path):
    BPE.save(tmp_path / "t.json")
    loaded = Tokenizer.load(tmp_path / "t.json")
    assert loaded == BPE
    assert loaded.fingerprint == BPE.fingerprint
    assert loaded.encode(TEXTS[1]) == BPE.encode(TEXTS[1])
    assert len({BPE.fingerprint, BYTE.fingerprint, CHAR.fingerprint}) == 3


@pytest.mark.parametrize(
    ("content", "message"), [("{}", "not a tokenizer.json"), ("\0", "not a"), (None, "not be read")]
)
def test_an_unreadable_tokenizer_is_refused_with_its_path(tmp_path, content, message):
    path = tmp_path / "broken.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TokenizerError, match=rf"broken\.json.*{message}"):
        Tokenizer.load(path)


def foreign(eos):
    backend = tokenizers.Tokenizer(models.WordLevel({"[U]": 0, "a": 1, "b": 2}, unk_token="[U]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if eos is not None:
        backend.add_special_tokens([eos])
        backend.post_processor = processors.TemplateProcessing(
            single=f"$A {eos}", special_tokens=[(eos, 3)]
        )
    backend.enable_truncation(3)
    backend.enable_padding(length=8)
    return backend.to_str()


@pytest.mark.parametrize("eos", ["<|endoftext|>", "</s>", "[SEP]", "<|im_end|>", "<|eos|>"])
def test_an_existing_tokenizer_adds_cuts_and_pads_nothing(tmp_path, eos):
    path = tmp_path / "tokenizer.json"
    path.write_text(foreign(eos))
    tokenizer = build_tokenizer(TokenizerSpec("existing", source=str(tmp_path)), ())
    assert (tokenizer.eos_id, tokenizer.unk_id, tokenizer.vocab_size) == (3, 0, 4)
    assert tokenizer.encode("a b a b z") == [1, 2, 1, 2, 0]


def test_an_existing_tokenizer_without_an_end_of_document_is_refused():
    with pytest.raises(TokenizerError, match="no end-of-document token"):
        Tokenizer(foreign(None))


def test_a_hub_tokenizer_comes_through_the_one_door(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.json").write_text(foreign("</s>"))
    (tmp_path / "transformers.py").write_text(
        "import tokenizers\n"
        "class AutoTokenizer:\n"
        "    is_fast = True\n"
        f"    backend_tokenizer = tokenizers.Tokenizer.from_file({str(tmp_path)!r}"
        " + '/tokenizer.json')\n"
        "    @classmethod\n"
        "    def from_pretrained(cls, name, use_fast):\n"
        "        if name != 'owner/model':\n"
        "            raise OSError('no such model')\n"
        "        return cls()\n"
    )
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        loaded = build_tokenizer(TokenizerSpec("existing", source="hf:owner/model"), ())
        with pytest.raises(TokenizerError, match="no such model"):
            build_tokenizer(TokenizerSpec("existing", source="hf:owner/other"), ())
    finally:
        sys.modules.pop("transformers", None)
    assert loaded == Tokenizer(foreign("</s>"))


@pytest.mark.parametrize(
    ("kind", "texts", "size", "message"),
    [
        ("byte", ["x"], 300, "always has 257"),
        ("char", ["abc"], 6, "3 different characters, so 3 to 5 are possible"),
        ("char", ["abc"], 2, "3 to 5 are possible"),
        ("char", [], None, "0 different characters"),
        ("bpe", ["abc"], None, "must be more than 257"),
        ("bpe", ["abc"], 257, "must be more than 257"),
        ("bpe", ["abab abab"], 5000, "Choose at most 259"),
        ("word", ["abc"], None, "choose one of byte, char, bpe"),
    ],
)
def test_an_impossible_vocabulary_is_refused(kind, texts, size, message):
    with pytest.raises(TokenizerError, match=message):
        inspect.unwrap(train_tokenizer)(kind, texts, size)  # behind the type checker


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "existing"}, "needs a source"),
        ({"kind": "byte", "source": "x"}, "the other kinds take none"),
        ({"kind": "existing", "source": "x", "vocab_size": 9}, "has its own"),
        ({"kind": "bpe"}, "must be more than 257"),
        ({"kind": "byte", "vocab_size": 12}, "always has 257"),
    ],
)
def test_a_contradictory_specification_is_refused_before_any_text_is_read(fields, message):
    with pytest.raises(TokenizerError, match=message):
        TokenizerSpec(**fields)
