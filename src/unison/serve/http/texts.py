"""Which text do the tokens of an answer make, one by one, and which of it is certain already?"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache

from unison.data import Tokenizer
from unison.generation.canvases import Row
from unison.language_model import UNREADABLE, LanguageModel

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def span(row: Row) -> tuple[int, int]:
    """Return where a canvas's answer begins and ends: its first open position to its last."""
    given = row.given
    start = next((i for i, known in enumerate(given) if not known), len(given))
    past = next((i for i in range(len(given), start, -1) if not given[i - 1]), start)
    return start, past


def text_of(model: LanguageModel, tokens: Sequence[int], start: int) -> str:
    """Return the text of tokens from ``start`` on, as it follows the text before them.

    It is cut at the first end token. Some tokenizers write the first word of a text otherwise than
    the same word inside it.
    """
    ends = model.eos_ids
    last = next((i for i in range(start, len(tokens)) if tokens[i] in ends), len(tokens))
    prompt, whole = model.text(tokens[:start]), model.text(tokens[:last])
    return whole[len(prompt) :] if whole.startswith(prompt) else model.text(tokens[start:last])


def pieces(model: LanguageModel, tokens: Sequence[int], start: int, answer: str) -> list[str]:
    """Return the text each token from ``start`` on adds; together they are the answer.

    A character of several tokens belongs to the last of them. Tokens behind the end, or behind a
    stop string, add nothing.

    Args:
        model: Knows the tokens.
        tokens: Of the canvas, up to the last of the answer.
        start: The first of the answer.
        answer: Its text, which may be cut short.
    """
    made, said = [], ""
    for past in range(start + 1, len(tokens) + 1):
        text = text_of(model, tokens[:past], start).rstrip(UNREADABLE)
        if past == len(tokens) or len(text) > len(answer):
            text = answer
        grown = text if text.startswith(said) and answer.startswith(text) else said
        made.append(grown[len(said) :])
        said = grown
    return made


def committed(
    model: LanguageModel, tokens: Sequence[int], start: int, stop: Sequence[str]
) -> tuple[str, bool]:
    """Return the text of settled tokens that no later token changes, and whether it has ended.

    Held back are characters that later tokens may complete, bytes that stand in a row with them,
    and what may be the beginning of a stop string.

    Args:
        model: Knows the tokens.
        tokens: Of the canvas, the settled ones.
        start: Where the answer begins.
        stop: Strings that end it.
    """
    ended = any(token in model.eos_ids for token in tokens[start:])
    past = len(tokens)
    while not ended and past > start and tokens[past - 1] in _bytes_of(model.tokenizer):
        past -= 1
    text = text_of(model, tokens[:past], start)
    if not ended:
        text = text.rstrip(UNREADABLE)
    return text[: _certain(text, stop)], ended


def _certain(text: str, stop: Sequence[str]) -> int:
    """Return how much of a text comes before any stop string, or what may become one."""
    places = [len(text)]
    for one in stop:
        found = text.find(one)
        if found >= 0:
            places.append(found)
        for size in range(min(len(one) - 1, len(text)), 0, -1):
            if text.endswith(one[:size]):
                places.append(len(text) - size)
                break
    return min(places)


@lru_cache(maxsize=8)
def _bytes_of(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the tokens that are single bytes by name, whose text depends on those beside them."""
    content = json.loads(tokenizer.json)
    if "ByteFallback" not in json.dumps(content["decoder"]):
        return frozenset()
    words = content["model"]["vocab"]
    names = words.items() if isinstance(words, dict) else ((w[0], i) for i, w in enumerate(words))
    return frozenset(i for name, i in names if _BYTE.fullmatch(name))
