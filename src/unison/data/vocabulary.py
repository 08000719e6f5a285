"""Which symbols does a corpus become?

``byte`` and ``bpe`` write any text exactly; ``char`` writes exactly the characters it was trained
on. The end-of-document token is always the last id. Byte-level alphabet: Radford et al. (2019),
"Language models are unsupervised multitask learners"; merges: Sennrich et al. (2015),
arXiv:1508.07909.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from unison.data.hub import PREFIX
from unison.data.tokenizer import EOS, UNK, Tokenizer, TokenizerError, hub_tokenizer

Kind = Literal["byte", "char", "bpe"]
SpecKind = Literal["byte", "char", "bpe", "existing"]

BYTE_VOCAB = 257  # 256 bytes and the end of a document
_MIN_CHARS = 3  # one character, the unknown one, the end of a document
_MIN_MERGED = 2  # a pair seen once is not worth a symbol


def byte_symbols() -> list[str]:
    """Return the printable character that stands for each byte in byte-level vocabularies."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (chr(code) for code in range(0x100, 0x200))
    return [chr(byte) if byte in printable else next(others) for byte in range(256)]


def _finished(backend: tokenizers.Tokenizer) -> Tokenizer:
    backend.add_special_tokens([tokenizers.AddedToken(EOS, special=True, normalized=False)])
    return Tokenizer(backend.to_str())


def byte_tokenizer() -> Tokenizer:
    """Return the tokenizer whose id i < 256 is the byte i; nothing is trained."""
    vocab = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _finished(backend)


def _train_byte(texts: Iterable[str], vocab_size: int | None) -> Tokenizer:
    if vocab_size not in (None, BYTE_VOCAB):
        raise TokenizerError(
            f"vocab_size={vocab_size} with a byte tokenizer, which always has {BYTE_VOCAB} ids; "
            "leave vocab_size out, or choose bpe."
        )
    return byte_tokenizer()


def _train_char(texts: Iterable[str], vocab_size: int | None) -> Tokenizer:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    largest = len(counts) + 2
    size = largest if vocab_size is None else vocab_size
    if not counts or not _MIN_CHARS <= size <= largest:
        raise TokenizerError(
            f"vocab_size={size} with a character tokenizer; this corpus has {len(counts)} "
            f"different characters, so {_MIN_CHARS} to {largest} are possible. Leave vocab_size "
            "out to keep every character."
        )
    ranked = sorted(counts, key=lambda char: (-counts[char], char))
    kept = sorted(ranked[: size - 2])
    vocab = {symbol: i for i, symbol in enumerate([*kept, UNK])}
    model = models.BPE(vocab=vocab, merges=[], unk_token=UNK, fuse_unk=False)
    backend = tokenizers.Tokenizer(model)
    backend.decoder = decoders.Fuse()
    return _finished(backend)


def _train_bpe(texts: Iterable[str], vocab_size: int | None) -> Tokenizer:
    if vocab_size is None or vocab_size <= BYTE_VOCAB:
        raise TokenizerError(
            f"vocab_size={vocab_size} with a bpe tokenizer; it must be more than {BYTE_VOCAB} (256 "
            "bytes and the end of a document). 4096 suits a few megabytes; byte needs no size."
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=_MIN_MERGED,
        initial_alphabet=byte_symbols(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    reached = backend.get_vocab_size() + 1
    if reached < vocab_size:
        raise TokenizerError(
            f"vocab_size={vocab_size} with a bpe tokenizer; this corpus has repeated pairs for "
            f"{reached} only. Choose at most {reached}, or give more text."
        )
    return _finished(backend)


_TRAINERS: Mapping[str, Callable[[Iterable[str], int | None], Tokenizer]] = {
    "byte": _train_byte,
    "char": _train_char,
    "bpe": _train_bpe,
}


def train_tokenizer(kind: Kind, texts: Iterable[str], vocab_size: int | None = None) -> Tokenizer:
    """Train a tokenizer; the same texts and size give the same one.

    Args:
        kind: ``byte``, ``char`` or ``bpe``.
        texts: The documents; no symbol spans two of them.
        vocab_size: V, with every special token. ``byte`` has 257; ``char`` keeps the most frequent
            characters, or all of them without a size; ``bpe`` needs one.

    Raises:
        TokenizerError: The size is impossible for the kind or too large for the texts.
    """
    if kind not in _TRAINERS:
        raise TokenizerError(f"kind={kind!r} is unknown; choose one of {', '.join(_TRAINERS)}.")
    return _TRAINERS[kind](texts, vocab_size)


@dataclass(frozen=True)
class TokenizerSpec:
    """Which tokenizer a corpus gets.

    Attributes:
        kind: ``byte``, ``char`` and ``bpe`` are made for the corpus; ``existing`` is loaded.
        vocab_size: V, with every special token; required by ``bpe``, optional for ``char``.
        source: For ``existing``: the path of a ``tokenizer.json`` or its folder, or ``hf:NAME``.

    Raises:
        TokenizerError: The fields contradict each other.
    """

    kind: SpecKind = "byte"
    vocab_size: int | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        """Refuse contradictions before any text is read."""
        existing = self.kind == "existing"
        if self.kind not in (*_TRAINERS, "existing"):
            raise TokenizerError(
                f"kind={self.kind!r} is unknown; choose one of {', '.join(_TRAINERS)}, existing."
            )
        if existing != (self.source is not None):
            raise TokenizerError(
                f"kind={self.kind!r} with source={self.source!r}; existing needs a source "
                "(a tokenizer.json or hf:NAME), and the other kinds take none."
            )
        if existing and self.vocab_size is not None:
            raise TokenizerError(
                f"vocab_size={self.vocab_size} with an existing tokenizer, which has its own; "
                "leave vocab_size out."
            )
        if self.kind == "byte":
            _train_byte((), self.vocab_size)
        if self.kind == "bpe" and (self.vocab_size is None or self.vocab_size <= BYTE_VOCAB):
            _train_bpe((), self.vocab_size)


def existing_tokenizer(source: str) -> Tokenizer:
    """Load a tokenizer from a path or from the hub (``hf:NAME``).

    Raises:
        TokenizerError: It cannot be read, or has no end-of-document token.
    """
    return hub_tokenizer(source) if source.startswith(PREFIX) else Tokenizer.load(source)


def build_tokenizer(spec: TokenizerSpec, texts: Iterable[str]) -> Tokenizer:
    """Load or train what a specification asks for.

    Raises:
        TokenizerError: It cannot be loaded, or its size does not suit the texts.
    """
    if spec.kind == "existing":
        return existing_tokenizer(spec.source or "")
    return train_tokenizer(spec.kind, texts, spec.vocab_size)
