"""Text that is sent is never taken back, whatever the tokens that follow."""

import dataclasses

import pytest

pytest.importorskip("fastapi")

import tiny

from unison.data import train_tokenizer
from unison.serve.http.texts import committed, pieces, text_of

TEXTS = [
    "naïve Zoë — 東京 \N{GRINNING FACE}!",
    "plain",
    "\N{REPLACEMENT CHARACTER} told as such",
    "ends in half \N{GRINNING FACE}",
]


@pytest.fixture(scope="module")
def bytes_model():
    made = tiny.model("mdlm")
    return dataclasses.replace(made, tokenizer=train_tokenizer("byte", [tiny.TEXT]), eos_ids=())


def sent(model, tokens, start, stop):
    """What a stream sends as one more token settles each time, the end included."""
    said = []
    for past in range(start, len(tokens) + 1):
        text, _ = committed(model, tokens[:past], start, stop)
        said.append(text)
    return said


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("start", [0, 3])
def test_each_committed_text_begins_the_next_and_the_answer(text, start, bytes_model):
    tokens = bytes_model.tokenizer.encode("é: " * (start > 0))[:start]
    tokens = [*tokens, *bytes_model.tokenizer.encode(text)]
    for cut in range(len(tokens), start, -1):  # also where the last character is not whole
        answer = text_of(bytes_model, tokens[:cut], start)
        said = sent(bytes_model, tokens[:cut], start, ())
        for before, after in zip(said, [*said[1:], answer], strict=True):
            assert after.startswith(before)


def test_all_but_a_character_that_is_not_whole_is_sent_at_once(bytes_model):
    tokens = bytes_model.tokenizer.encode("ab東c")
    said = sent(bytes_model, tokens, 0, ())
    assert said == ["", "a", "ab", "ab", "ab", "ab東", "ab東c"]


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("abcabd", ("abd",), ["", "", "", "abc", "abc", "abc", "abc"]),
        ("aab", ("ab",), ["", "", "a", "a"]),
        ("ab", ("abc", "b"), ["", "", ""]),
        ("xyz", ("q",), ["", "x", "xy", "xyz"]),
        ("xyx", ("yz", "xx"), ["", "", "x", "xy"]),
    ],
)
def test_what_may_begin_a_stop_string_is_held_back(text, stop, expected, bytes_model):
    tokens = bytes_model.tokenizer.encode(text)
    assert sent(bytes_model, tokens, 0, stop) == expected


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_joined_are_the_answer_wherever_it_was_cut(text, bytes_model):
    tokens = bytes_model.tokenizer.encode(text)
    for cut in range(len(text) + 1):
        said = pieces(bytes_model, tokens, 0, text[:cut])
        assert "".join(said) == text[:cut]
        assert len(said) == len(tokens)


def test_a_character_belongs_to_the_last_of_its_tokens(bytes_model):
    tokens = bytes_model.tokenizer.encode("a東b")
    assert pieces(bytes_model, tokens, 0, "a東b") == ["a", "", "", "東", "b"]
