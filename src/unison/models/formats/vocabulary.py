"""Which special and added tokens does a folder's tokenizer name? Read without building it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def special_tokens(folder: Path) -> dict[str, int]:
    """Return special and added tokens, text to id; empty where no file says.

    Args:
        folder: The folder, or one ``tokenizer.json``.
    """
    if folder.is_file():
        return dict(_added(_content(folder))) if folder.suffix == ".json" else {}
    found = dict(_added(_content(folder / "tokenizer.json")))
    found |= {
        text: number
        for text, number in _content(folder / "added_tokens.json").items()
        if isinstance(number, int)
    }
    settings = _content(folder / "tokenizer_config.json")
    for number, token in (settings.get("added_tokens_decoder") or {}).items():
        found[token["content"]] = int(number)
    words = _content(folder / "vocab.json")
    named = _content(folder / "special_tokens_map.json") | settings
    found |= {text: words[text] for text in _named(named) if text in words}
    return found


def _added(content: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for token in content.get("added_tokens") or ():
        yield token["content"], int(token["id"])


def _named(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if name.endswith("_token"):
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                yield text


def _content(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty where there is none: the tokenizer's reader complains, not we."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
