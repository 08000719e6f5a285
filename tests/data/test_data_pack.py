"""What packing, caching, blocks and the stream promise."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unison.data import (
    Blocks,
    BlockStream,
    CorpusError,
    Document,
    Split,
    TokenizerError,
    TokenizerSpec,
    batch,
    byte_tokenizer,
    encode_split,
    evaluation_blocks,
    pack_documents,
    prepare,
    store,
)

BYTE = TokenizerSpec("byte")
DOCUMENTS = [Document(f"d{i}", f"document {i} " + "é" * (i % 5)) for i in range(60)]


def texts_of(split, tokenizer):
    ends = np.flatnonzero(split.tokens == tokenizer.eos_id)
    pieces = np.split(np.asarray(split.tokens), ends + 1)
    assert len(pieces.pop()) == 0
    return [tokenizer.decode(piece[:-1].tolist()) for piece in pieces]


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_every_document_is_stored_once_and_ended_once(tmp_path):
    corpus = pack_documents(DOCUMENTS, BYTE, cache=tmp_path, holdout=0.1)
    train, valid = (texts_of(split, corpus.tokenizer) for split in (corpus.train, corpus.valid))
    assert sorted(train + valid) == sorted(document.text for document in DOCUMENTS)
    assert not set(train) & set(valid)
    for split, texts in ((corpus.train, train), (corpus.valid, valid)):
        assert split.num_documents == len(texts)
        assert split.num_bytes == sum(len(text.encode()) for text in texts)
        assert split.num_chars == sum(len(text) for text in texts)
        assert split.num_tokens == split.num_bytes + split.num_documents
        assert split.num_unknown == 0
        assert isinstance(split.tokens, np.memmap)
        assert split.tokens.dtype == np.uint16


def test_no_token_spans_two_documents():
    tokenizer = byte_tokenizer()
    parts = [Document("a", "ab"), Document("b", "cd")]
    assert encode_split(parts, tokenizer).tokens.tolist() == [97, 98, 256, 99, 100, 256]


def test_a_vocabulary_beyond_16_bits_gets_32(tmp_path):
    texts = ["".join(map(chr, range(0x10000, 0x10000 + 70_000)))]
    spec = TokenizerSpec("char")
    documents = [Document("wide", texts[0]), Document("narrow", "\U00010000\U00010001")]
    corpus = pack_documents(documents, spec, cache=tmp_path)
    assert corpus.train.tokens.dtype == np.uint32
    assert corpus.train.tokens.max() == corpus.tokenizer.vocab_size - 1 == 70_001


def test_the_tokenizer_is_trained_on_the_training_split_only(tmp_path):
    documents = [Document(c, c * 20) for c in "abcdefghij"]
    corpus = pack_documents(documents, TokenizerSpec("char"), cache=tmp_path, holdout=0.1)
    assert corpus.train.num_unknown == 0
    assert corpus.tokenizer.vocab_size == 9 + 2
    assert corpus.valid.num_unknown == corpus.valid.num_chars == 20


def test_an_intact_cache_is_reused_without_writing_or_encoding(tmp_path, monkeypatch):
    first = pack_documents(DOCUMENTS, BYTE, cache=tmp_path)
    before = stamps(first.folder)
    monkeypatch.setattr("unison.data.pack.encode_split", None)
    again = pack_documents(DOCUMENTS, BYTE, cache=tmp_path)
    assert again.fingerprint == first.fingerprint
    assert stamps(again.folder) == before
    assert np.array_equal(again.train.tokens, first.train.tokens)
    assert again.tokenizer == first.tokenizer


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "train.npy").write_bytes((folder / "train.npy").read_bytes()[:-4]),
        lambda folder: (folder / "valid.npy").write_bytes(
            (folder / "valid.npy").read_bytes()[:-1] + b"\x07"
        ),
        lambda folder: (folder / "train.npy").unlink(),
        lambda folder: (folder / "valid.npy").write_bytes(b""),
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        lambda folder: (folder / "corpus.json").write_text('{"form'),
        lambda folder: (folder / "corpus.json").write_text("[]"),
        lambda folder: (folder / "corpus.json").unlink(),
    ],
    ids=["cut", "altered", "missing", "emptied", "tokenizer", "half", "foreign", "unsigned"],
)
def test_a_damaged_cache_is_written_anew(tmp_path, damage):
    first = pack_documents(DOCUMENTS, BYTE, cache=tmp_path)
    expected = [np.array(first.train.tokens), np.array(first.valid.tokens)]
    folder = first.folder
    del first
    damage(folder)
    again = pack_documents(DOCUMENTS, BYTE, cache=tmp_path)
    assert again.folder == folder
    assert np.array_equal(again.train.tokens, expected[0])
    assert np.array_equal(again.valid.tokens, expected[1])
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_anything_the_tokens_depend_on_names_another_folder(tmp_path):
    corpora = [
        pack_documents(DOCUMENTS, BYTE, cache=tmp_path),
        pack_documents(DOCUMENTS, BYTE, cache=tmp_path, seed=1),
        pack_documents(DOCUMENTS, BYTE, cache=tmp_path, holdout=0.2),
        pack_documents(DOCUMENTS, TokenizerSpec("char"), cache=tmp_path),
        pack_documents(DOCUMENTS, TokenizerSpec("bpe", 262), cache=tmp_path),
        pack_documents(DOCUMENTS[:-1], BYTE, cache=tmp_path),
        pack_documents([Document("a", "ab"), Document("b", "c")], BYTE, cache=tmp_path),
        pack_documents([Document("a", "a"), Document("b", "bc")], BYTE, cache=tmp_path),
    ]
    assert len({corpus.folder for corpus in corpora}) == len(corpora)


def test_an_interrupted_write_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "file"
    store.write_bytes(path, b"old")

    def fail(file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(CorpusError, match=r"No space left.*UNISON_CACHE"):
        store.write_file(path, fail)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_cache_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CorpusError, match="could not be written"):
        pack_documents(DOCUMENTS, BYTE, cache=tmp_path / "file")


def test_the_cache_is_chosen_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISON_CACHE", str(tmp_path / "here"))
    assert pack_documents(DOCUMENTS, BYTE).folder.is_relative_to(tmp_path / "here")
    monkeypatch.setenv("UNISON_CACHE", "")
    assert store.default_cache().parts[-2:] == (".cache", "unison")


def test_a_single_small_file_can_be_prepared(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_text("\n".join(f"line {i} of a short poem" for i in range(30)))
    corpus = prepare([str(path)], BYTE, cache=tmp_path / "cache", holdout=0.1)
    total = corpus.train.num_bytes + corpus.valid.num_bytes
    assert total == path.stat().st_size
    assert 0.05 < corpus.valid.num_bytes / total < 0.15


def test_python_docs_prepare_to_a_held_out_twentieth(tmp_path):
    corpus = prepare(["python-docs"], TokenizerSpec("bpe", 1000), cache=tmp_path)
    total = corpus.train.num_bytes + corpus.valid.num_bytes
    assert corpus.valid.num_bytes / total == pytest.approx(0.05, abs=0.01)
    assert corpus.tokenizer.vocab_size == 1000
    manifest = json.loads((corpus.folder / "corpus.json").read_text())
    assert manifest["splits"]["train"]["num_tokens"] == corpus.train.num_tokens


def test_mistakes_are_refused_before_the_corpus_is_read(tmp_path):
    with pytest.raises(CorpusError, match="usable fraction"):
        prepare(["nowhere"], BYTE, cache=tmp_path, holdout=2.0)
    with pytest.raises(TokenizerError, match="could not be read"):
        prepare(["nowhere"], TokenizerSpec("existing", source="no.json"), cache=tmp_path)
    with pytest.raises(CorpusError, match="no documents"):
        encode_split([], byte_tokenizer())
    with pytest.raises(CorpusError, match="0 different document"):
        pack_documents([], BYTE, cache=tmp_path)


@given(st.integers(1, 200), st.integers(1, 40))
def test_every_token_is_in_the_evaluation_blocks_exactly_once(num_bytes, length):
    row = (np.arange(num_bytes) % 251 + 1).astype(np.uint16)
    split = Split(row, num_documents=1, num_bytes=num_bytes, num_chars=num_bytes, num_unknown=0)
    tokens, valid = evaluation_blocks(split, length)
    assert tokens.dtype == torch.int64
    assert tokens.shape == valid.shape == (-(-num_bytes // length), length)
    assert tokens[valid].tolist() == row.tolist()
    assert bool(valid[:-1].all())
    assert not (~valid[-1, :-1] & valid[-1, 1:]).any()  # real tokens come first


@given(st.integers(0, 100), st.integers(1, 30))
def test_blocks_and_their_tail_are_the_row(size, length):
    row = np.arange(size, dtype=np.uint16)
    blocks = Blocks(row, length)
    whole = [blocks[i] for i in range(len(blocks))]
    assert all(block.shape == (length,) and block.dtype == np.int64 for block in whole)
    assert np.concatenate([*whole, blocks.tail()]).tolist() == list(range(size))
    with pytest.raises(IndexError):
        blocks[len(blocks)]
    with pytest.raises(IndexError):
        blocks[-1]


def test_a_batch_holds_the_blocks_that_were_asked_for():
    row = np.arange(10, dtype=np.uint16)
    tokens = batch(row, 3, np.array([2, 0]))
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[6, 7, 8], [0, 1, 2]]
    tokens += 1
    assert row.tolist() == list(range(10))
    for outside in (3, -1):
        with pytest.raises(CorpusError, match="there are 3 of 3 tokens"):
            batch(row, 3, np.array([outside]))


@given(st.integers(2, 50), st.integers(1, 60), st.integers(0, 2**64 - 1))
def test_batches_flow_through_permutations_without_dropping_anything(blocks, size, seed):
    stream = BlockStream(blocks, size, seed)
    steps = -(-3 * blocks // size)
    flow = np.concatenate([stream.indices(step) for step in range(steps)])[: 3 * blocks]
    for epoch in flow.reshape(3, blocks):
        assert sorted(epoch.tolist()) == list(range(blocks))


def test_a_step_sees_the_same_blocks_in_any_order_of_asking():
    stream = BlockStream(37, 8, 5)
    forward = [stream.indices(step).tolist() for step in range(40)]
    resumed = BlockStream(37, 8, 5)
    assert [resumed.indices(step).tolist() for step in reversed(range(40))] == forward[::-1]
    stream.indices(3)[:] = 0
    assert stream.indices(3).tolist() == forward[3]


def test_the_flow_does_not_depend_on_how_it_is_batched():
    small = np.concatenate([BlockStream(10, 3, 1).indices(step) for step in range(8)])
    large = np.concatenate([BlockStream(10, 12, 1).indices(step) for step in range(2)])
    assert small.tolist() == large.tolist()


def test_epochs_and_seeds_order_the_blocks_differently():
    orders = {tuple(BlockStream(50, 50, seed).indices(e)) for seed in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


def test_every_block_is_equally_likely_to_come_first():
    counts = np.bincount([BlockStream(4, 1, seed).indices(0)[0] for seed in range(2000)])
    # 4 cells, expected 500, sd 19.4: 5.5 sd keeps the false alarm below 1e-6
    assert np.abs(counts - 500).max() < 107


def test_the_order_is_pinned_across_versions_of_numpy():
    assert BlockStream(8, 8, 1234).indices(0).tolist() == [7, 3, 0, 1, 4, 2, 5, 6]


def test_too_few_blocks_are_explained_with_the_numbers():
    with pytest.raises(CorpusError, match=r"100 tokens.*1 whole block\(s\) of 64.*at most 50"):
        BlockStream.over(np.zeros(100, dtype=np.uint16), 64, 8, 0)
    assert BlockStream.over(np.zeros(128, dtype=np.uint16), 64, 8, 0).num_blocks == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [((1, 1, 0), "shorter blocks"), ((5, 0, 0), "batch_size=0"), ((5, 1, -1), "seed=-1")],
)
def test_an_impossible_stream_is_refused(fields, message):
    with pytest.raises(CorpusError, match=message):
        BlockStream(*fields)
    with pytest.raises(CorpusError, match="step=-1"):
        BlockStream(5, 1, 0).indices(-1)
    with pytest.raises(CorpusError, match="a block of 0 tokens"):
        BlockStream.over(np.zeros(9, dtype=np.uint16), 0, 1, 0)
