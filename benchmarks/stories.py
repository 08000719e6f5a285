"""How were the models in the box made, and how good are they? Each step is a command.

    python -m benchmarks.stories prepare FILE REAL.jsonl   # TinyStories, a newline between stories
    unison train stories --text REAL.jsonl --out runs/first
    python -m benchmarks.stories_teacher FOLDER TOLD1.jsonl --temperature 0.8 --seed 1
    python -m benchmarks.stories_teacher FOLDER TOLD2.jsonl --temperature 0.7 --seed 2
    unison train stories_continued --base runs/first --text REAL.jsonl TOLD1.jsonl TOLD2.jsonl ...
    unison distil runs/base --recipe stories --out runs/student
    python -m benchmarks.stories pack runs/base runs/student
    python -m benchmarks.stories measure REAL.jsonl --beside TOLD1.jsonl TOLD2.jsonl ...
    python -m benchmarks.stories_card docs/results/stories.json

``prepare`` writes records that ``unison train`` reads; ``pack`` stores both models as levels of 8
bits in the package; ``measure`` scores what lies there.
"""

import argparse
import dataclasses
import json
import re
import shutil
import time
from pathlib import Path

import torch

import unison
from benchmarks import measure as machine
from unison import box, checkpoints, files
from unison.data import read_all
from unison.data.holdout import hold_out
from unison.engine.quantised.storage import packing
from unison.evaluate.judge import make_judge
from unison.evaluate.novelty import novelty
from unison.evaluate.quality import sample_quality
from unison.generation import generate
from unison.language_model import Defaults
from unison.recipes import RECIPES

STORY_END = re.compile(r"(?<!\n)\n(?!\n)")
PLAIN = {
    "\u201c": '"',
    "\u201d": '"',
    "\u2018": "'",
    "\u2019": "'",
    "\u2013": "-",
    "\u2014": "-",
    "\u2026": "...",
}
MISREAD = {mark.encode().decode("cp1252", "ignore"): plain for mark, plain in PLAIN.items()}
BASE_STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
STUDENT_STEPS = (1, 2, 4, 8, 16, 32, 64)
NUCLEI = {8: (0.8, 0.95, 1.0), 16: (0.8, 0.95, 1.0)}  # beside 0.9
WEIGHTS = ("float32", "dynamic8")
OPENING = "once upon a time"


def stories(text):
    """Return the stories of a file: plain punctuation, a newline between paragraphs, each once."""
    marks = MISREAD | PLAIN
    for mark in sorted(marks, key=len, reverse=True):
        text = text.replace(mark, marks[mark])
    cleaned = (re.sub(r"\n+", "\n", story).strip() for story in STORY_END.split(text))
    return list(dict.fromkeys(story for story in cleaned if story and story.isascii()))


def prepare(arguments):
    """Write the stories as records."""
    found = stories(arguments.source.read_text(encoding="utf-8"))
    lines = (json.dumps({"text": story}) for story in found)
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(found)} stories, {sum(map(len, found)):,} characters -> {arguments.out}")


def pack(arguments):
    """Store both models in the package, weights as levels of 8 bits."""
    steps = {"stories-base": 64, "stories": arguments.steps}
    for name, run in {"stories-base": arguments.base, "stories": arguments.student}.items():
        model = unison.load(run, "cpu")
        top_p = arguments.top_p if name == box.DEFAULT else 1.0
        defaults = Defaults("ancestral", steps[name], model.max_length, top_p=top_p)
        notes = {"card": "MODEL_CARD.md", "recipe": "stories"}
        place = box.folder(name)
        shutil.rmtree(place, ignore_errors=True)
        kept = dataclasses.replace(model, defaults=defaults, notes=notes)
        checkpoints.save(kept, place, pack=packing(8))
        size = sum(path.stat().st_size for path in place.iterdir())
        print(f"{name}: {size / 1e6:.2f} MB")


def measure(arguments):
    """Score the models in the box on held-out stories, and what they write."""
    torch.set_num_threads(arguments.threads)
    held, known, told = material(arguments.text, arguments.beside)
    judge = make_judge(arguments.judge, known)
    student = unison.load(box.DEFAULT, "cpu")
    record = {
        "judge": judge.name,
        "samples": arguments.samples,
        "parameters": sum(weight.numel() for weight in student.network.parameters()),
        "steps": student.defaults.steps,
        "training_tokens": sum(map(len, student.tokenizer.encode_batch(known))),
        "told_stories": len(told),
        "told_characters": sum(map(len, told)),
        "compute": arguments.compute,
        "limits": arguments.limits,
        "held_out_stories": len(held),
        "held_out": {name: likelihood(name, held, arguments) for name in box.NAMES},
        "reference": text_quality(judge, held, arguments.samples),
        "quality": sweeps(judge, arguments.samples),
        "novelty": copying(known, held, arguments.samples),
        "speed": [speed(steps, weights) for weights in WEIGHTS for steps in (8, 16)],
        "examples": examples(),
        "machine": machine.machine(),
    }
    files.write_json(arguments.out, record)
    print(json.dumps(record, indent=2))


def material(real, beside):
    """Return held-out real stories, all that was learnt from, and what a teacher told of it.

    The base learnt twice, from the real stories and from all of them: a story is held out if it
    was both times.
    """
    settings = RECIPES["stories"]().train
    told = [document.text for document in read_all([str(path) for path in beside])]
    paths = [str(path) for path in (real, *beside)]
    first, second = (
        hold_out(read_all(read), settings.data.holdout, settings.seed)
        for read in (paths[:1], paths)
    )
    held = {document.text for document in first.valid} & {
        document.text for document in second.valid
    }
    known = [document.text for document in second.train]
    return [document.text for document in first.valid if document.text in held], known, told


def likelihood(name, held, arguments):
    """Return the bound on held-out stories, in bits per byte."""
    place = arguments.out.with_suffix(".held_out.jsonl")
    place.write_text("".join(json.dumps({"text": story}) + "\n" for story in held))
    try:
        found = unison.evaluate(unison.load(name, "cpu"), [str(place)], split="file", passes=2)
    finally:
        place.unlink()
    return plain({key: found[key] for key in ("bits_per_byte",) if key in found})


def text_quality(judge, texts, num):
    """Return what the judge thinks of real stories, cut to a canvas's length."""
    nats = judge.nats([text[:480] for text in texts[:num]])
    total, count = (sum(part) for part in zip(*nats, strict=True))
    return {"gen_ppl": float(torch.tensor(total / count).exp())}


def sweeps(judge, num):
    """Return perplexity under the judge and entropy, over steps and nuclei."""
    ways = [("stories-base", steps, 1.0) for steps in BASE_STEPS]
    ways += [
        ("stories", steps, top_p)
        for steps in STUDENT_STEPS
        for top_p in sorted((0.9, *NUCLEI.get(steps, ())))
    ]
    rows = []
    for name, steps, top_p in ways:
        model = unison.load(name, "cpu")
        defaults = dataclasses.replace(model.defaults, top_p=top_p)
        model = dataclasses.replace(model, defaults=defaults)
        score = plain(sample_quality(model, judge, num=num, steps=steps, seed=11))
        rows.append({"model": name, "steps": steps, "top_p": top_p, **score})
        print(name, steps, top_p, score["gen_ppl"]["value"], score["entropy"]["value"], flush=True)
    return rows


def copying(known, held, num):
    """Return how much of what is written, and of held-out stories, is in the training text."""
    texts = [sample.text for sample in generate(unison.load("stories", "cpu"), num=num, seed=3)]
    real = [story[:480] for story in held[:num]]
    return {"student": plain(novelty(texts, known)), "held_out": plain(novelty(real, known))}


def speed(steps, weights):
    """Return tokens per second of one text at a time, wall and CPU."""
    model = unison.load("stories", "cpu")
    if weights != "float32":
        model = unison.quantised(model, weights)
    generate(model, num=1, steps=steps, seed=0)
    wall, cpu, tokens = time.perf_counter(), time.process_time(), 0
    for seed in range(5):
        tokens += len(generate(model, num=1, steps=steps, seed=seed)[0].tokens)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rates = {"tokens_per_second": tokens / wall, "tokens_per_cpu_second": tokens / cpu}
    return {"weights": weights, "steps": steps, **rates}


def examples():
    """Return a few texts, none chosen: the first seeds."""
    model = unison.load("stories", "cpu")
    found = []
    for steps in (8, 16):
        for seed in range(3):
            [sample] = generate(model, OPENING, num=1, steps=steps, seed=seed)
            found.append({"steps": steps, "seed": seed, "text": sample.text})
    return found


def plain(estimates):
    """Return estimates as JSON values."""
    return {name: estimate._asdict() for name, estimate in estimates.items()}


def main():
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("prepare")
    part.add_argument("source", type=Path)
    part.add_argument("out", type=Path)
    part = parts.add_parser("pack")
    part.add_argument("base", type=Path)
    part.add_argument("student", type=Path)
    part.add_argument("--steps", type=int, default=16)
    part.add_argument("--top-p", type=float, default=0.9)
    part = parts.add_parser("measure")
    part.add_argument("text", type=Path)
    part.add_argument("--beside", type=Path, nargs="*", default=[], help="what a teacher told")
    part.add_argument("--judge", default="smollm2")
    part.add_argument("--samples", type=int, default=32)
    part.add_argument("--threads", type=int, default=2)
    part.add_argument("--compute", required=True, help="what the training took, in a sentence")
    part.add_argument("--limits", required=True, help="what a reader of its texts will notice")
    part.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    {"prepare": prepare, "pack": pack, "measure": measure}[arguments.part](arguments)


if __name__ == "__main__":
    main()
