"""How was the model in the box made? Text, recipe and numbers, each a command.

``prepare FILE OUT.jsonl`` turns a TinyStories file (a single newline ends a story, a blank line a
paragraph) into records that ``unison train stories --text OUT.jsonl`` reads.
"""

import json
import re
import sys
from pathlib import Path

STORY_END = re.compile(r"(?<!\n)\n(?!\n)")
QUOTES = {
    "â€œ": '"', "â€\x9d": '"', "â€": '"', "â€™": "'", "â€˜": "'", "â€“": "-", "â€”": "-", "â€¦": "...",
    "“": '"', "”": '"', "’": "'", "‘": "'", "–": "-", "—": "-", "…": "...",
}  # fmt: skip


def stories(text):
    """Return the stories of a file: plain punctuation, a newline between paragraphs, each once."""
    for found in sorted(QUOTES, key=len, reverse=True):
        text = text.replace(found, QUOTES[found])
    cleaned = (re.sub(r"\n+", "\n", story).strip() for story in STORY_END.split(text))
    return list(dict.fromkeys(story for story in cleaned if story and story.isascii()))


def prepare(source, out):
    """Write the stories as records."""
    found = stories(Path(source).read_text(encoding="utf-8"))
    lines = (json.dumps({"text": story}) for story in found)
    Path(out).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(found)} stories, {sum(map(len, found)):,} characters -> {out}")


if __name__ == "__main__":
    {"prepare": prepare}[sys.argv[1]](*sys.argv[2:])
