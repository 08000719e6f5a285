"""Which bytes does each token add to a text?

What a token spells is what the decoder of its ``tokenizer.json`` makes of it *inside* a text, with
something before it. Some decoders treat the text's two ends differently, and only there does a
text differ from the spellings of its tokens, one after the other:

- Metaspace, WordPiece, a Strip behind a Fuse, and no decoder at all (words, joined by spaces) take
  the space away with which the spelling of the first token may begin;
- BPEDecoder takes away the one with which that of the last token may end.

What a normaliser or a splitter of words lost on the way to tokens (case, line ends, the space
before a full stop) is lost in spellings, too. A token that a text holds and yet is no text, being
special, the end of a document or what stands for unknown characters, spells nothing.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from unison.data.tokenizer import Tokenizer, TokenizerError
from unison.data.vocabulary import byte_symbols

_Piece = str | bytes  # a token on its way through the decoder: bytes once it need not be characters
_Step = Callable[[_Piece], _Piece]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_NEITHER = "\uffff"  # stands for what is no symbol of a byte and could be taken for one
_SYMBOLS = {
    **{code: _NEITHER for code in range(256)},
    **{ord(symbol): chr(byte) for byte, symbol in enumerate(byte_symbols())},
}
# The spaces WordPiece takes back; each word is cleaned alone.
_CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@lru_cache(maxsize=8)
def spellings(tokenizer: Tokenizer) -> tuple[bytes | None, ...]:
    """Return the bytes each id adds inside a text, ``None`` where it is no text.

    Added tokens that are not special are text like any other.

    Raises:
        TokenizerError: The decoder is of a kind that has no spelling of single tokens.
    """
    content = json.loads(tokenizer.json)
    step = _step(content["decoder"])
    names = _names(content["model"]["vocab"])
    added = {token["id"]: token for token in content["added_tokens"]}
    names.update((i, token["content"]) for i, token in added.items())
    silent = {i for i, token in added.items() if token["special"]}
    silent |= {tokenizer.eos_id, tokenizer.unk_id}
    said: list[bytes | None] = [None] * tokenizer.vocab_size
    for i, name in names.items():
        if i not in silent:
            piece = step(name)
            said[i] = piece.encode() if isinstance(piece, str) else piece
    return tuple(said)


def _names(vocab: Mapping[str, int] | list[list[Any]]) -> dict[int, str]:
    """Return the name of each id, from names with ids or from names with scores in a row."""
    if isinstance(vocab, Mapping):
        return {i: name for name, i in vocab.items()}
    return {i: name for i, (name, _) in enumerate(vocab)}


def _step(decoder: Mapping[str, Any] | None) -> _Step:
    """Return what a decoder does to a token that is not a text's first or last."""
    if decoder is None:
        return _on_text(lambda token: f" {token}")
    kind = decoder["type"]
    if kind not in _STEPS:
        raise TokenizerError(
            f"the tokenizer has a decoder of kind {kind!r}, whose tokens have no spellings of "
            f"their own; choose a tokenizer with one of {', '.join(_STEPS)}."
        )
    return _STEPS[kind](decoder)


def _on_text(change: Callable[[str], str]) -> _Step:
    """Leave bytes alone: a token that is one byte is no longer changed."""
    return lambda piece: change(piece) if isinstance(piece, str) else piece


def _sequence(decoder: Mapping[str, Any]) -> _Step:
    kinds = [inner["type"] for inner in decoder["decoders"]]
    fused = kinds.index("Fuse") if "Fuse" in kinds else len(kinds)
    steps = [
        _step(inner)
        for i, inner in enumerate(decoder["decoders"])
        if i < fused or inner["type"] != "Strip"  # strips the ends of the whole text
    ]

    def run(piece: _Piece) -> _Piece:
        for step in steps:
            piece = step(piece)
        return piece

    return run


def _bytes_of_symbols(piece: _Piece) -> _Piece:
    if isinstance(piece, bytes):
        return piece
    try:
        return piece.translate(_SYMBOLS).encode("latin-1")
    except UnicodeEncodeError:  # an added token, which is written as it is
        return piece.encode()


def _byte_of_name(piece: _Piece) -> _Piece:
    named = _BYTE.fullmatch(piece) if isinstance(piece, str) else None
    return bytes([int(named[1], 16)]) if named else piece


def _replace(decoder: Mapping[str, Any]) -> _Step:
    pattern = decoder["pattern"].get("String")
    if pattern is None:
        raise TokenizerError(
            f"the tokenizer's decoder replaces {decoder['pattern']!r}, whose matches may span "
            "tokens; choose a tokenizer whose decoder replaces plain strings."
        )
    return _on_text(lambda token: token.replace(pattern, decoder["content"]))


def _strip(decoder: Mapping[str, Any]) -> _Step:
    char, start, stop = decoder["content"], decoder["start"], decoder["stop"]

    def strip(token: str) -> str:
        left = min(start, len(token) - len(token.lstrip(char)))
        token = token[left:]
        right = min(stop, len(token) - len(token.rstrip(char)))
        return token[: len(token) - right]

    return _on_text(strip)


def _word_piece(decoder: Mapping[str, Any]) -> _Step:
    prefix = decoder["prefix"]

    def write(token: str) -> str:
        token = token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
        for spaced, clean in _CLEANED if decoder["cleanup"] else ():
            token = token.replace(spaced, clean)
        return token

    return _on_text(write)


_STEPS: Mapping[str, Callable[[Mapping[str, Any]], _Step]] = {
    "ByteLevel": lambda decoder: _bytes_of_symbols,
    "ByteFallback": lambda decoder: _byte_of_name,
    "Replace": _replace,
    "Strip": _strip,
    "Fuse": lambda decoder: lambda piece: piece,
    "Metaspace": lambda decoder: _on_text(lambda token: token.replace(decoder["replacement"], " ")),
    "WordPiece": _word_piece,
    "BPEDecoder": lambda decoder: _on_text(lambda token: token.replace(decoder["suffix"], " ")),
    "Sequence": _sequence,
}
