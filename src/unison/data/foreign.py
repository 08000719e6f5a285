"""How is the tokenizer of someone else's checkpoint read, as one file or as words and merges?"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from unison.data.tokenizer import Tokenizer, TokenizerError

# How Qwen2 cuts text before it merges; GPT-2's own cut is the library's default.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CUT_AS_QWEN2 = ("Qwen2", "Dream")


def checkpoint_tokenizer(path: Path, eos: int | None = None) -> Tokenizer:
    """Return the tokenizer of a checkpoint's folder, or of one ``tokenizer.json``.

    Args:
        path: The folder or file.
        eos: The end-of-document token, should the tokenizer name none.

    Raises:
        TokenizerError: There is no tokenizer, or it cannot be read.
    """
    file = path if path.is_file() else path / "tokenizer.json"
    if file.exists():
        try:
            return Tokenizer(file.read_bytes().decode("utf-8"), eos)
        except (OSError, UnicodeDecodeError, TokenizerError) as error:
            raise TokenizerError(f"{file} cannot be read: {error}") from None
    if (path / "vocab.json").exists() and (path / "merges.txt").exists():
        return Tokenizer(_from_merges(path), eos)
    raise TokenizerError(
        f"{path} holds no tokenizer (tokenizer.json, or vocab.json and merges.txt); name one with "
        "tokenizer=: a folder, a tokenizer.json, or hf:NAME."
    )


def _from_merges(path: Path) -> str:
    """Return the ``tokenizer.json`` text of a byte-level BPE stored as words and merges."""
    settings = _content(path / "tokenizer_config.json")
    try:
        model = models.BPE.from_file(str(path / "vocab.json"), str(path / "merges.txt"))
    except Exception as error:  # the library raises nothing more precise
        raise TokenizerError(f"{path}: vocab.json and merges.txt do not fit ({error}).") from error
    backend = tokenizers.Tokenizer(model)
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    cut: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if str(settings.get("tokenizer_class")).startswith(_CUT_AS_QWEN2):
        backend.normalizer = normalizers.NFC()  # pyright: ignore[reportAttributeAccessIssue]
        cut = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(_QWEN2), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    backend.pre_tokenizer = cut
    _add(backend, path, settings)
    return backend.to_str()


def _add(backend: tokenizers.Tokenizer, path: Path, settings: Mapping[str, Any]) -> None:
    """Add what stands beside the merges, each token at its own id."""
    plain = _content(path / "added_tokens.json")
    described = {
        entry["content"]: (int(number), bool(entry.get("special")))
        for number, entry in (settings.get("added_tokens_decoder") or {}).items()
    }
    named = {
        value["content"] if isinstance(value, dict) else value
        for source in (settings, _content(path / "special_tokens_map.json"))
        for name, value in source.items()
        if name.endswith("_token") and value
    }
    known = {text: (number, text in named) for text, number in plain.items()} | described
    for text in named:
        if text not in known and backend.token_to_id(text) is not None:
            known[text] = (backend.token_to_id(text), True)
    for text, (number, special) in sorted(known.items(), key=lambda item: item[1][0]):
        backend.add_tokens([tokenizers.AddedToken(text, special=special or text in named)])
        if backend.token_to_id(text) != number:
            raise TokenizerError(
                f"{path}: the added token {text!r} should be {number} and would become "
                f"{backend.token_to_id(text)}: tokens between are missing. Save the tokenizer as "
                "tokenizer.json where it was made."
            )


def _content(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path} is not valid JSON ({error}); copy it again.") from None
    if not isinstance(content, dict):
        raise TokenizerError(f"{path} must hold one JSON object, got {type(content).__name__}.")
    return content
