"""What reading a corpus promises."""

import importlib.util
import inspect
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unison.data import CorpusError, Division, Document, hold_out, hub, read, read_all
from unison.data import builtin as builtin_corpora
from unison.data.documents import chunk


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_a_folder_is_read_recursively_in_path_order_without_hidden_or_foreign_files(tmp_path):
    for name in ("b.txt", "a/z.md", "a/c.py", "e.rst", ".hidden/x.txt", "a/.y.txt", "image.png"):
        write(tmp_path / name, f"text of {name}")
    write(tmp_path / "empty.txt", "")
    texts = [document.text for document in read(str(tmp_path))]
    assert texts == [f"text of {name}" for name in ("a/c.py", "a/z.md", "b.txt", "e.rst")]


def test_a_file_is_read_byte_for_byte(tmp_path):
    text = "\ufeffa\r\nb\rc\u2028d\x0c é 😀 \n\n"
    source = write(tmp_path / "notes.anything", text)
    assert read(source, "file") == [Document(source, text)]


def test_a_single_file_is_cut_into_chunks_that_concatenate_to_it(tmp_path):
    text = "".join(f"paragraph {i} " + "word " * 40 + "\n\n" for i in range(500))
    documents = read(write(tmp_path / "book.txt", text))
    assert "".join(document.text for document in documents) == text
    assert all(document.text.endswith("\n\n") for document in documents)
    sizes = [len(document.text.encode()) for document in documents]
    assert max(sizes) <= 8192
    assert min(sizes[:-1]) >= 4096
    assert len({document.name for document in documents}) == len(documents)


@given(st.text(), st.integers(1, 300))
def test_chunks_concatenate_to_any_text(text, size):
    assert "".join(part.text for part in chunk(Document("x", text), size)) == text


def test_a_small_file_still_has_something_to_hold_out(tmp_path):
    documents = read(write(tmp_path / "tiny.txt", "a few words and then some more of them " * 5))
    assert len(documents) >= 20


def test_two_files_stay_whole_under_auto(tmp_path):
    sources = [write(tmp_path / name, "long text\n\n" * 5000) for name in ("a.txt", "b.txt")]
    assert [document.name for document in read_all(sources)] == sources


def test_documents_end_at_blank_lines_or_line_ends_when_asked(tmp_path):
    source = write(tmp_path / "p.txt", "one\ntwo\n \t\n\n    three\r\n\r\nfour\n")
    assert [d.text for d in read(source, "blank")] == ["one\ntwo", "    three", "four\n"]
    assert [d.text for d in read(source, "line")] == ["one", "two", "    three", "four"]


def test_each_json_record_is_a_document(tmp_path):
    lines = [json.dumps({"text": text, "id": 1}) for text in ("one\n\ntwo", "  ", "drei é")]
    documents = read(write(tmp_path / "r.jsonl", "\n".join(lines) + "\n\n"))
    assert [document.text for document in documents] == ["one\n\ntwo", "drei é"]


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "line 2 is not JSON"), ('{"body": "x"}', "expected a record"), ("[1]", "expected a")],
)
def test_a_malformed_record_is_named_by_its_line(tmp_path, line, message):
    source = write(tmp_path / "r.jsonl", '{"text": "fine"}\n' + line)
    with pytest.raises(CorpusError, match=message):
        read(source)


def test_a_missing_source_is_refused_before_anything_is_read(tmp_path):
    latin = write(tmp_path / "latin.txt", "é".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"no corpus 'nowhere\.txt'.*python-docs.*hf:NAME"):
        read_all([latin, "nowhere.txt"])


def test_latin_1_is_refused_with_the_file_and_the_byte_offset(tmp_path):
    source = write(tmp_path / "latin.txt", "caf\xe9 au lait".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"latin\.txt is not UTF-8: byte 0xe9 at offset 3"):
        read(source)


def test_a_binary_file_is_refused_with_the_offset(tmp_path):
    source = write(tmp_path / "data.txt", b"abc\0def")
    with pytest.raises(CorpusError, match=r"data\.txt is not text: .*offset 3"):
        read(source)


@pytest.mark.parametrize("content", ["", "  \n\t\n"])
def test_an_empty_file_is_refused(tmp_path, content):
    with pytest.raises(CorpusError, match="is empty"):
        read(write(tmp_path / "empty.txt", content))


def test_a_folder_without_text_is_refused_with_the_suffixes(tmp_path):
    write(tmp_path / "x.png", "not read")
    with pytest.raises(CorpusError, match=r"\.txt, \.md, \.rst, \.py, \.jsonl"):
        read(str(tmp_path))


def test_naming_nothing_or_an_unknown_boundary_is_refused():
    with pytest.raises(CorpusError, match="no corpus was named"):
        read_all([])
    with pytest.raises(CorpusError, match="no corpus ''"):
        read("")
    with pytest.raises(CorpusError, match="'page' is not a document boundary"):
        inspect.unwrap(read_all)(["python-docs"], "page")  # behind the type checker


def test_python_docs_are_large_sorted_and_the_same_every_time():
    documents = read("python-docs")
    names = [document.name for document in documents]
    assert sum(len(document.text.encode()) for document in documents) > 300_000
    assert names == sorted(names)
    assert documents == read("python-docs")


@pytest.fixture
def small_library(tmp_path, monkeypatch):
    monkeypatch.setattr(builtin_corpora.sysconfig, "get_path", lambda name: str(tmp_path))
    return tmp_path


def test_the_standard_library_leaves_out_tests_packages_and_undecodable_files(small_library):
    kept = ("zipapp.py", "json/decoder.py")
    left = (
        "test/a.py",
        "json/tests/b.py",
        "site-packages/c.py",
        "idlelib/d.py",
        "_sysconfigdata.py",
    )
    for name in kept + left:
        write(small_library / name, "pass\n")
    write(small_library / "old.py", b"# caf\xe9\n")
    documents, num_skipped = builtin_corpora.standard_library()
    assert [d.name for d in documents] == [
        "python-stdlib/json/decoder.py",
        "python-stdlib/zipapp.py",
    ]
    assert num_skipped == 1


def test_a_python_without_sources_is_explained(small_library):
    with pytest.raises(CorpusError, match="Use python-docs"):
        read("python-stdlib")


def test_hub_names_are_parsed_with_config_split_and_column():
    assert hub.parse("hf:owner/name") == ("owner/name", None, "train", None)
    assert hub.parse("hf:o/n:conf-1@train[:1%]#body") == ("o/n", "conf-1", "train[:1%]", "body")
    with pytest.raises(CorpusError, match="write hf:NAME"):
        hub.parse("hf:a/b/c")


def test_a_missing_hub_library_is_refused_with_the_install_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CorpusError, match=r"pip install 'unison\[hf\]'"):
        read("hf:owner/name")


FAKE_DATASETS = """
class Table(dict):
    column_names = property(list)

def load_dataset(name, config, split):
    if name == "absent":
        raise FileNotFoundError("no such data set")
    assert (name, config, split) == ("owner/name", "small", "test")
    return Table(text=["first", " ", "second"], label=[0, 1, 0])
"""


@pytest.fixture
def fake_datasets(tmp_path, monkeypatch):
    write(tmp_path / "datasets.py", FAKE_DATASETS)
    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("datasets", None)


@pytest.mark.usefixtures("fake_datasets")
def test_a_hub_data_set_gives_a_document_per_row():
    documents = read("hf:owner/name:small@test")
    assert [document.text for document in documents] == ["first", "second"]


@pytest.mark.usefixtures("fake_datasets")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:owner/name:small@test#body", "no column 'body'; it has text, label"),
        ("hf:owner/name:small@test#label", "not text"),
        ("hf:absent", "could not be loaded"),
    ],
)
def test_hub_mistakes_are_explained(source, message):
    with pytest.raises(CorpusError, match=message):
        read(source)


def documents_of(texts):
    return [Document(str(i), text) for i, text in enumerate(texts)]


@given(
    st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=30).filter(
        lambda texts: len(set(texts)) > 1
    ),
    st.floats(0.01, 0.5),
    st.integers(0, 2**64 - 1),
)
def test_each_document_is_on_one_side_and_no_side_is_empty(texts, holdout, seed):
    documents = documents_of(texts)
    train, valid = hold_out(documents, holdout, seed)
    assert train
    assert valid
    assert sorted(train + valid) == sorted(documents)
    assert not {d.text for d in train} & {d.text for d in valid}


def test_the_held_out_bytes_are_close_to_the_fraction_and_follow_the_seed():
    documents = documents_of(f"{i} " + "x" * (i % 97) for i in range(1000))
    total = sum(len(document.text) for document in documents)
    chosen = [hold_out(documents, 0.05, seed).valid for seed in (0, 1)]
    for valid in chosen:
        assert abs(sum(len(d.text) for d in valid) / total - 0.05) < 0.001
    assert chosen[0] == hold_out(documents, 0.05, 0).valid
    assert chosen[0] != chosen[1]


def test_the_side_of_a_document_does_not_depend_on_the_order_of_the_corpus():
    documents = documents_of(f"text {i}" for i in range(100))
    forward, backward = hold_out(documents, 0.2, 7), hold_out(documents[::-1], 0.2, 7)
    assert forward == Division(backward.train[::-1], backward.valid[::-1])


def test_one_large_document_is_learnt_from_rather_than_held_out():
    documents = documents_of(["x" * 10_000, "small one", "small two"])
    for seed in range(20):
        assert documents[0] in hold_out(documents, 0.05, seed).train


@pytest.mark.parametrize("holdout", [0.0, -0.1, 0.51, 1.0, float("nan")])
def test_an_unusable_fraction_is_refused(holdout):
    with pytest.raises(CorpusError, match="usable fraction"):
        hold_out(documents_of("ab"), holdout, 0)


def test_copies_of_one_document_cannot_be_divided():
    with pytest.raises(CorpusError, match="1 different document"):
        hold_out(documents_of(["same", "same"]), 0.5, 0)
