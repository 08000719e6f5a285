"""What the spellings of tokens promise: one after the other they are the text."""

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from unison.data import Tokenizer, TokenizerError, byte_tokenizer, read, train_tokenizer
from unison.data.spellings import spellings
from unison.data.vocabulary import byte_symbols

TEXTS = [document.text for document in read("python-docs")[:6]]
EXACT = {
    "byte": byte_tokenizer(),
    "bpe": train_tokenizer("bpe", TEXTS, 500),
}
CHAR = train_tokenizer("char", ["abc xyz é😀\n"])
GPT2 = Path(__file__).parents[3] / "shared/data/tokenizer_gpt2"


def finished(backend, *added):
    backend.add_tokens([tokenizers.AddedToken(name, normalized=False) for name in added])
    backend.add_special_tokens(["</s>"])
    return Tokenizer(backend.to_str())


def written(tokenizer, text):
    """Return what the tokens of a text spell together."""
    said = spellings(tokenizer)
    return b"".join(said[i] or b"<none>" for i in tokenizer.encode(text))


def llama():
    """Like SentencePiece's BPE: spaces are letters, unknown characters bytes."""
    pieces = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), *"▁abcdeé", "ab", "▁a", "▁ab", "▁▁"]
    merges = [("a", "b"), ("▁", "a"), ("▁a", "b"), ("▁", "▁")]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    model = models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return finished(backend, "<tool>")


def unigram(scheme):
    """Like SentencePiece's unigrams: ids in a row, spaces by the splitter."""
    letters = [("<unk>", 0.0), *((c, -3.0) for c in "▁abcde"), ("▁ab", -1.0), ("cd", -2.0)]
    backend = tokenizers.Tokenizer(models.Unigram(letters, 0, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme)
    backend.decoder = decoders.Metaspace("▁", scheme)
    return finished(backend)


def words(cleanup):
    names = ["[UNK]", "a", "b", "##a", "##b", "##ab", "do", "not", ".", "'", "##'", "n't"]
    model = models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.WordPiece("##", cleanup)
    return finished(backend)


def levels():
    model = models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return finished(backend)


def suffixed():
    vocab = {name: i for i, name in enumerate(["a", "b", "a</w>", "b</w>", "ab</w>"])}
    model = models.BPE(vocab, [("a", "b</w>")], end_of_word_suffix="</w>")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.BPEDecoder("</w>")
    return finished(backend)


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_byte_level_tokens_spell_any_text(name, text):
    assert written(EXACT[name], text) == text.encode()


@settings(max_examples=50, deadline=None)
@given(st.text(st.sampled_from("abc xyz é😀\n")))
def test_characters_spell_themselves(text):
    assert written(CHAR, text) == text.encode()


def test_a_character_a_tokenizer_lacks_spells_nothing():
    assert written(CHAR, "aßc") == b"a<none>c"


LLAMA = llama()


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("  abcdeé😀\n<0xA>")) | st.text())
def test_sentencepiece_spells_any_text_behind_a_space(text):
    said = written(LLAMA, text)
    assert said == (b" " if text else b"") + text.encode()
    assert said.decode().removeprefix(" ") == LLAMA.decode(LLAMA.encode(text))


def test_a_token_that_is_a_byte_spells_that_byte_and_others_like_it_their_characters():
    said = spellings(LLAMA)
    assert [said[LLAMA.id_of(name) or 0] for name in ("<0x0A>", "<0xFF>", "▁ab", "é", "▁▁")] == [
        b"\n",
        b"\xff",
        b" ab",
        "é".encode(),
        b"  ",
    ]


@pytest.mark.parametrize(("scheme", "front"), [("always", b" "), ("first", b" "), ("never", b"")])
@settings(max_examples=50, deadline=None)
@given(st.text(st.sampled_from("abcde "), min_size=1).filter(lambda text: text[0] != " "))
def test_unigrams_spell_a_text_behind_the_space_their_splitter_adds(scheme, front, text):
    assert written(unigram(scheme), text) == front + text.encode()


@pytest.mark.parametrize("cleanup", [False, True])
@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 11), min_size=1, max_size=8))
def test_word_pieces_spell_what_their_decoder_writes_behind_another_word(cleanup, ids):
    tokenizer = words(cleanup)
    said = spellings(tokenizer)
    behind = tokenizer.decode([1, *ids]).removeprefix("a")
    assert b"".join(said[i] or b"<none>" for i in ids) == behind.encode()


def test_words_start_with_a_space_and_their_continuations_do_not():
    tokenizer = words(False)
    assert written(tokenizer, "ab a bab") == b" ab a bab"
    assert spellings(tokenizer)[:5] == (None, b" a", b" b", b"a", b"b")


def test_words_without_a_decoder_start_with_the_space_that_joins_them():
    tokenizer = levels()
    assert written(tokenizer, "one two one") == b" one two one"
    assert tokenizer.decode(tokenizer.encode("one two one")) == "one two one"


def test_words_that_end_in_a_mark_end_in_a_space():
    tokenizer = suffixed()
    assert written(tokenizer, "ab a bb") == b"ab a bb "
    assert tokenizer.decode(tokenizer.encode("ab a bb")) == "ab a bb"


def test_special_tokens_spell_nothing_and_other_added_ones_their_names():
    said = spellings(LLAMA)
    assert said[LLAMA.id_of("<tool>") or 0] == b"<tool>"
    assert said[LLAMA.eos_id] is None
    assert said[LLAMA.unk_id or 0] is None
    assert len(said) == LLAMA.vocab_size
    backend = tokenizers.Tokenizer.from_str(EXACT["byte"].json)
    backend.add_tokens(["<tool é>", "  "])
    tokenizer = Tokenizer(backend.to_str())
    assert spellings(tokenizer)[256:] == (None, "<tool é>".encode(), b"  ")
    assert written(tokenizer, "a <tool é>  b") == "a <tool é>  b".encode()


def test_ids_without_a_token_spell_nothing():
    content = json.loads(levels().json)
    content["model"]["vocab"]["far"] = 9
    said = spellings(Tokenizer(json.dumps(content)))
    assert said[4:] == (None, None, None, None, None, b" far")


def test_a_decoder_without_spellings_is_named():
    content = json.loads(levels().json)
    content["decoder"] = {
        "type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True,
    }  # fmt: skip
    with pytest.raises(TokenizerError, match="kind 'CTC'"):
        spellings(Tokenizer(json.dumps(content)))


def test_a_decoder_that_replaces_patterns_is_refused():
    backend = tokenizers.Tokenizer.from_str(levels().json)
    backend.decoder = decoders.Replace(tokenizers.Regex("a+"), "b")
    with pytest.raises(TokenizerError, match="may span"):
        spellings(Tokenizer(backend.to_str()))


def test_a_strip_before_the_fuse_works_on_each_token():
    backend = tokenizers.Tokenizer.from_str(levels().json)
    backend.decoder = decoders.Sequence([decoders.Strip("o", 2, 1), decoders.Fuse()])
    tokenizer = Tokenizer(backend.to_str())
    assert spellings(tokenizer)[1:3] == (b"ne", b"tw")
    assert tokenizer.decode([1, 2]) == "netw"


@pytest.fixture(scope="module")
def gpt2():
    if not GPT2.exists():
        pytest.skip(f"no vocabulary of GPT-2 in {GPT2}")
    model = models.BPE.from_file(str(GPT2 / "vocab.json"), str(GPT2 / "merges.txt"))
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    return Tokenizer(backend.to_str())


def test_a_published_vocabulary_spells_any_text(gpt2):
    for text in [*TEXTS, 'naïve ✓ 😀\x00\r\n\t  {"a": [1, 2]} <|endoftext|> 日本語']:
        assert written(gpt2, text) == text.encode()
    said = spellings(gpt2)
    assert said.count(None) == 1
    assert said[gpt2.eos_id] is None


def test_a_tokenizer_is_read_once():
    assert spellings(byte_tokenizer()) is spellings(byte_tokenizer())


def test_every_byte_has_its_symbol_once():
    symbols = byte_symbols()
    assert len(set(symbols)) == 256
    said = spellings(byte_tokenizer())
    assert said[:256] == tuple(bytes([b]) for b in range(256))
