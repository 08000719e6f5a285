"""Small problems with known answers, for models that fit on a laptop: lists, sums and stories.

A canvas is a prompt, an answer and ends of document to its full length. Prompts may be preceded by
idle text, which makes the canvas long without making the problem harder.

    python -m benchmarks.problems > problems.txt
"""

import argparse
import string
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch

from unison.data import Tokenizer, train_tokenizer

PROMPT, ANSWER = 32, 64  # tokens; one character is one token
LETTERS = string.ascii_lowercase
NAMES = ("Tom", "Mia", "Ben", "Ada", "Sam", "Eve", "Max", "Zoe")
THINGS = ("ball", "book", "kite", "coin", "lamp", "shoe")
PLACES = ("box", "bag", "bed", "car", "tub", "hat")


@dataclass(frozen=True)
class Problem:
    """One question and its only right answer."""

    kind: str
    prompt: str
    answer: str


def _letters(random: np.random.Generator) -> str:
    return "".join(random.choice(list(LETTERS), size=random.integers(8, 25)))


def _digits(random: np.random.Generator, below: int, low: int, high: int) -> list[int]:
    return random.integers(0, below, size=random.integers(low, high)).tolist()


def _copy(random: np.random.Generator) -> tuple[str, str]:
    items = _letters(random)
    return items, items


def _sort(random: np.random.Generator) -> tuple[str, str]:
    items = _letters(random)
    return items, "".join(sorted(items))


def _next(random: np.random.Generator) -> tuple[str, str]:
    items = _letters(random)
    return items, "".join(LETTERS[(LETTERS.index(item) + 1) % 26] for item in items)


def _add(random: np.random.Generator) -> tuple[str, str]:
    """Digits below 5, column by column: no carry, so every column stands alone."""
    first = _digits(random, 5, 4, 13)
    second = random.integers(0, 5, size=len(first)).tolist()
    shown = "".join(map(str, first)).ljust(12) + "+" + "".join(map(str, second))
    return shown, "".join(str(a + b) for a, b in zip(first, second, strict=True))


def _run(random: np.random.Generator) -> tuple[str, str]:
    """Running sums modulo 10 of digits below 3: each answer needs the one before it."""
    digits = _digits(random, 3, 8, 25)
    return "".join(map(str, digits)), "".join(str(s % 10) for s in accumulate(digits))


def _story(random: np.random.Generator) -> tuple[str, str]:
    name, thing, place = (str(random.choice(words)) for words in (NAMES, THINGS, PLACES))
    told = f"{name} lost the {thing}. {name} looked in the {place}. The {thing} was there."
    return f"{name} {thing} {place}", told


KINDS: dict[str, Callable[[np.random.Generator], tuple[str, str]]] = {
    "copy": _copy,
    "sort": _sort,
    "next": _next,
    "add": _add,
    "run": _run,
    "tell": _story,
}


SHARES = {"copy": 1, "sort": 3, "next": 1, "add": 3, "run": 3, "tell": 2}  # by how hard they are


def tokenizer() -> Tokenizer:
    """Return the characters all problems are written with."""
    return train_tokenizer("char", [string.ascii_letters + string.digits + " .+>|"])


def drawn_kind(random: np.random.Generator) -> str:
    """Draw a kind for training."""
    shares = np.array([SHARES[kind] for kind in KINDS])
    return str(random.choice(list(KINDS), p=shares / shares.sum()))


def problem(random: np.random.Generator, length: int, kind: str) -> Problem:
    """Draw one problem for a canvas of ``length`` tokens."""
    shown, answer = KINDS[kind](random)
    prompt = f"{kind} {shown}".ljust(PROMPT - 1) + ">"
    idle = length - PROMPT - ANSWER
    return Problem(kind, (_idle(random, idle) if idle else "") + prompt, answer)


def _idle(random: np.random.Generator, length: int) -> str:
    text = ""
    while len(text) < length - 1:
        text += _story(random)[1] + " "
    return text[: length - 1] + "|"


def canvases(
    random: np.random.Generator, rows: int, length: int, codec: Tokenizer
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return clean tokens [rows, length] and which of them belong to the answer."""
    tokens = np.full((rows, length), codec.eos_id, dtype=np.int64)
    for row in tokens:
        drawn = problem(random, length, drawn_kind(random))
        ids = codec.encode(drawn.prompt + drawn.answer)
        row[: len(ids)] = ids
    asked = torch.arange(length) >= length - ANSWER
    return torch.from_numpy(tokens), asked.expand(rows, length)


def main() -> None:
    """Print problems with their answers, one per line: text to train a commit filter on."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    random = np.random.default_rng([options.seed, 3])
    kinds = list(KINDS)
    for i in range(options.count):
        asked = problem(random, PROMPT + ANSWER, kinds[i % len(kinds)])
        print(asked.prompt + asked.answer)


if __name__ == "__main__":
    main()
