"""What is to be continued? Prompts from flags and files."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Part = str | int


@dataclass(frozen=True)
class Prompts:
    """What ``generate`` takes: prompts with suffixes, or canvases in parts.

    Attributes:
        prompt: One, or several.
        suffix: One for all, or one for each.
        parts: Canvases instead.
    """

    prompt: str | list[str] = ""
    suffix: str | list[str] = ""
    parts: Sequence[Part] | Sequence[Sequence[Part]] | None = None


def read(path: Path, suffix: str = "") -> Prompts:
    """Read a file of prompts: one per line, or JSON objects if its name ends in .jsonl.

    Args:
        path: The file; ``-`` for the standard input, JSON if its first line is an object.
        suffix: Of every prompt, unless the file has its own.

    Raises:
        ValueError: A line is not what it should be; the message names it.
        OSError: The file cannot be read.
    """
    standard = str(path) == "-"
    text = sys.stdin.read() if standard else path.read_text(encoding="utf-8")
    lines = [(i + 1, line) for i, line in enumerate(text.split("\n")) if line.strip()]
    if not lines:
        raise ValueError(f"{path} holds no prompt; write one on each line.")
    if path.suffix == ".jsonl" or (standard and lines[0][1].lstrip().startswith("{")):
        return _objects([(f"{path} line {i}", line) for i, line in lines], suffix)
    return Prompts([line for _, line in lines], suffix)


def canvas(text: str, what: str = "--canvas") -> list[Part]:
    """Return a canvas in parts from JSON.

    Raises:
        ValueError: It is no list of texts and numbers.
    """
    try:
        parts = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{what} is not valid JSON: {error}.") from None
    return _parts(parts, what)


def _parts(parts: Any, what: str) -> list[Part]:
    if not isinstance(parts, list) or not all(
        isinstance(part, str | int) and not isinstance(part, bool) for part in parts
    ):
        raise ValueError(f'{what} must be a list of texts and numbers, such as ["a ", 4, " b"].')
    return parts


def _objects(lines: list[tuple[str, str]], suffix: str) -> Prompts:
    records = [_record(where, line) for where, line in lines]
    canvases = [record["parts"] for record in records if "parts" in record]
    if canvases and len(canvases) < len(records):
        odd = next(where for (where, _), r in zip(lines, records, strict=True) if "parts" not in r)
        raise ValueError(f"{odd} has no parts and other lines do; give one kind in one file.")
    if canvases:
        if suffix:
            raise ValueError("parts already say the whole canvas: leave --suffix out.")
        return Prompts(parts=canvases)
    return Prompts(
        [record.get("prompt", "") for record in records],
        [record.get("suffix", suffix) for record in records],
    )


def _record(where: str, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where} is not valid JSON: {error}.") from None
    known = ("prompt", "suffix", "parts")
    if not isinstance(record, dict) or not record or not record.keys() <= set(known):
        raise ValueError(f"{where} must be an object with prompt and suffix, or parts.")
    if "parts" in record:
        if len(record) > 1:
            raise ValueError(f"{where} has parts, which say the whole canvas: no prompt, suffix.")
        return {"parts": _parts(record["parts"], f"{where}: parts")}
    if not all(isinstance(text, str) for text in record.values()):
        raise ValueError(f"{where}: prompt and suffix must be text.")
    return record
