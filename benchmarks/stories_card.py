"""What must be said of the models in the box? Their card, from the record alone.

    python -m benchmarks.stories_card docs/results/stories.json

No number that was measured is written by hand.
"""

import json
import sys
from pathlib import Path

from unison import box, files
from unison.recipes import RECIPES

_HEAD = """# The models in the box

`stories-base` is a uniform-state diffusion language model (Duo, arXiv:2506.10892) of {size} million
weights; `stories` is its student, distilled to write in {steps} steps. Both write lower-case
children's stories in English, on canvases of 128 tokens (about 95 words), and fill holes in them.
They are there so that something is written the minute unison is installed, and so that examples,
tests and documentation have a real model. They are not good at anything else.

```bash
unison generate stories --prompt "once upon a time" --steps 16
unison generate stories --canvas '["tom went to the", 12, " and then he went home."]'
unison evaluate stories-base --text my_stories.txt
```
"""

_DATA = """
## Data

The head of the TinyStories training split (Eldan & Li, 2023, arXiv:2305.07759), lower-cased, 5,506
stories, 4.15 MB, licence CDLA-Sharing-1.0; stories that GPT-3.5 and GPT-4 wrote. `python -m
benchmarks.stories prepare` turns the file into `stories.jsonl`: plain quotation marks, a newline
between paragraphs, each story once, those with other characters left out. 5 % of the bytes are held
out by document. The vocabulary, 2,048 byte-level BPE tokens, was learnt from the training part.

Beside them, in the second half of the training: {count:,} stories ({size:.1f} million characters)
that a teacher told, `stories260K` of llama2.c (a left-to-right Llama of 260,032 weights that was
trained on all of TinyStories; MIT), drawn at temperatures of 0.8 and 0.7 by `python -m
benchmarks.stories_teacher`. A teacher's texts are easier to learn than what it learnt from
(sequence-level distillation, arXiv:1606.07947). They are well spelt, and make little sense.

## Licence

The weights, like unison, Apache-2.0; the real stories CDLA-Sharing-1.0, which asks nothing of
results computed from data; the teacher's weights MIT.
"""


def card(record):
    """Return the card of a record."""
    recipe = RECIPES["stories"]()
    parts = [
        _HEAD.format(size=f"{record['parameters'] / 1e6:.1f}", steps=record["steps"]),
        _DATA.format(count=record["told_stories"], size=record["told_characters"] / 1e6),
        _recipe(recipe, record),
        _quality(record),
        _copies(record),
        _speed(record),
        _examples(record),
        _limits(record),
    ]
    return "".join(parts)


def _recipe(recipe, record):
    train, distil = recipe.train, recipe.distil
    longer = RECIPES["stories_continued"]().train
    tokens = (train.steps + longer.steps) * train.batch_size * train.model.max_length
    return f"""
## Recipe and compute

`unison train stories`, `unison train stories_continued --base`, `unison distil --recipe stories`,
`python -m benchmarks.stories pack`: {train.model.depth} blocks of width {train.model.hidden},
{train.steps:,} steps on the real stories and {longer.steps:,} on all, of {train.batch_size} x
{train.model.max_length} tokens ({tokens / 1e6:.1f} million in all), Muon, bfloat16 products;
distillation of {distil.rounds} rounds of {distil.round_steps} steps. {record["compute"]}
Weights are stored as levels of 8 bits in groups of 32 (`unison.models.formats.levels`).
"""


def _quality(record):
    held = record["held_out"]
    bits = {name: _interval(found["bits_per_byte"], 3) for name, found in held.items()}
    lines = [
        "\n## Quality\n",
        f"Bound on held-out stories ({record['held_out_stories']}), bits per byte, 95 % interval: "
        f"`stories-base` {bits['stories-base']}, `stories` {bits['stories']}.\n",
        f"Perplexity under {record['judge']} and entropy of a text's own tokens (nats), "
        f"{record['samples']} unconditional texts a row; real held-out stories of that length "
        f"have a perplexity of {record['reference']['gen_ppl']:.1f}. Low perplexity with low "
        "entropy is repetition, not quality.\n",
        "| model | nucleus | steps | perplexity | entropy |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in record["quality"]:
        ppl, entropy = row["gen_ppl"], row["entropy"]
        lines.append(
            f"| `{row['model']}` | {row['top_p']:g} | {row['steps']} | {_interval(ppl, 0)} | "
            f"{entropy['value']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _interval(estimate, digits):
    return f"{estimate['value']:.{digits}f} ± {1.96 * estimate['stderr']:.{digits}f}"


def _copies(record):
    rows = []
    for name, label in (("student", "`stories`"), ("held_out", "held-out stories")):
        found = record["novelty"][name]
        rows.append(
            f"| {label} | {found['novel_4']['value']:.2f} | {found['novel_8']['value']:.2f} | "
            f"{found['longest_copy']['value']:.1f} | {found['longest_copy_max']['value']:.0f} |"
        )
    return (
        "\n## Memorisation\n\nShare of word 4-grams and 8-grams that the training text does not "
        "hold, and the longest span that it does, in words: what the model writes beside held-out "
        "stories.\n\n| text | new 4-grams | new 8-grams | longest copy, mean | longest of all |\n"
        "|---|---:|---:|---:|---:|\n" + "\n".join(rows) + "\n"
    )


def _speed(record):
    facts = record["machine"]
    lines = [
        "\n## Speed\n",
        f"One text at a time, {facts['cpu']}, {facts['threads']} threads; `dynamic8` is "
        "`--weights dynamic8`.\n",
        "| weights | steps | tokens/s | tokens per CPU second |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {found['weights']} | {found['steps']} | {found['tokens_per_second']:.0f} | "
        f"{found['tokens_per_cpu_second']:.0f} |"
        for found in record["speed"]
    ]
    return "\n".join(lines) + "\n"


def _examples(record):
    lines = ["\n## What it writes\n", "The first seeds, none chosen.\n"]
    for example in record["examples"]:
        text = " ".join(example["text"].split())
        lines.append(f"- {example['steps']} steps, seed {example['seed']}: {text}")
    return "\n".join(lines) + "\n"


def _limits(record):
    return f"""
## Limits

{record["limits"]} It knows no facts, answers no questions, and can write nonsense, or what its
data's prejudices suggest; do not put its texts before children unread.
"""


def main():
    """Write the card."""
    record = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    files.write_text(box.CARD, card(record))
    print(box.CARD)


if __name__ == "__main__":
    main()
