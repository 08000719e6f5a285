"""What does decoding cost, next to a plain loop and next to the network alone?

``loops`` runs a preset and the published loop of the same method on the same weights. The loop is
the one of ``tests/oracle/published.py``: the whole canvas through the network in every step,
logits everywhere, a float64 softmax of them where the publication takes one. Prompts of different
lengths are padded at the left to the longest, as a user of the published script has to, and every
row runs until the last is done. ``overhead`` times a step whose belief was computed beforehand
against the network that would have computed it.

Run: ``python -m benchmarks.decoding loops --out x.json``.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import measure
from tests.oracle import published
from unison.decode import Canvas, decode
from unison.decode.presets import PRESETS
from unison.denoising import RowDenoiser
from unison.models import Transformer, TransformerConfig
from unison.models.view import View
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing

CANVAS, ANSWER, BLOCK, ROWS = 256, 128, 32, 8
PROMPTS = (16, 128)  # shortest and longest, in tokens
VOCABS = (50257, 256)
WIDTH = {"hidden": 512, "depth": 8, "heads": 8}
GPT2 = {"hidden": 768, "depth": 12, "heads": 12}
TARGETS = {(50257, 1): ">= 1.3", (50257, 8): ">= 3"}
Loop = Callable[[published.LogitsFn, Tensor, int], Tensor]


@dataclass(frozen=True)
class Task:
    """Prompts of different lengths, all to be answered at the same length.

    Attributes:
        process: With the mask.
        network: Answers.
        prompts: One row each.
    """

    process: Absorbing
    network: Transformer
    prompts: tuple[Tensor, ...]

    def padded(self, left: bool) -> tuple[Tensor, Tensor]:
        """Return the rows with masks for an answer, padded on one side, and what is no padding."""
        rows = [torch.cat([p, p.new_full((ANSWER,), self.process.mask_id)]) for p in self.prompts]
        longest = max(len(row) for row in rows)
        tokens = torch.zeros(len(rows), longest, dtype=torch.long)
        valid = torch.zeros(len(rows), longest, dtype=torch.bool)
        for number, row in enumerate(rows):
            here = slice(longest - len(row), None) if left else slice(len(row))
            tokens[number, here], valid[number, here] = row, True
        return tokens, valid

    def answers(self, tokens: Tensor, left: bool) -> Tensor:
        """Return what was written."""
        if left:
            return tokens[:, -ANSWER:]
        written = zip(tokens, self.prompts, strict=True)
        return torch.stack([row[len(p) : len(p) + ANSWER] for row, p in written])


def network(vocab: int, shape: dict[str, int], states: int) -> Transformer:
    """Return random weights that say something: a head of zeros would tie everywhere."""
    built = Transformer(
        TransformerConfig(
            vocab_size=vocab, num_states=states, max_length=CANVAS, time="none", **shape
        )
    )
    for weight in built.parameters():
        torch.nn.init.normal_(weight, std=1.5 * weight.shape[-1] ** -0.5)
    return built.eval()


def by_published(task: Task, loop: Loop) -> Tensor:
    """Run the padded batch through a published loop."""
    tokens, valid = task.padded(left=True)
    place = (valid.cumsum(1) - 1).clamp(min=0)
    seen = None if bool(valid.all()) else valid
    level = torch.zeros(len(tokens))

    def logits(x: Tensor) -> Tensor:
        return task.network(x, level, seen, None, View(positions=place))

    return task.answers(loop(logits, tokens, task.process.mask_id), left=True)


def by_preset(task: Task, strategy: Any) -> Tensor:
    """Run the ragged batch through a preset."""
    tokens, valid = task.padded(left=False)
    given = tokens != task.process.mask_id
    denoise = RowDenoiser(task.network, task.process, None if bool(valid.all()) else valid)
    key = Key(rng.rows(0, 0, len(tokens)))
    canvas = Canvas(tokens, given, valid=valid)
    return task.answers(decode(strategy, task.process, denoise, canvas, key).tokens, left=False)


def pairs(steps: int) -> Iterator[tuple[str, Loop, Any]]:
    """Yield a name, the published loop and the preset that does the same."""
    preset = dataclasses.replace(PRESETS["llada"](), steps=steps, block_length=BLOCK)  # pyright: ignore
    yield (
        "llada",
        lambda f, x, mask: published.llada(f, x, mask, steps=steps, block_length=BLOCK).tokens,
        preset,
    )
    preset = dataclasses.replace(PRESETS["dream"](), steps=steps)  # pyright: ignore
    yield "dream", lambda f, x, mask: published.dream(f, x, mask, steps=steps).tokens, preset


def loops(arguments: argparse.Namespace) -> None:
    """Compare presets with published loops: the same tokens, and how many times the cost."""
    ratios, seconds, same = [], {}, {}
    for vocab in VOCABS:
        process = Absorbing(vocab)
        built = network(vocab, WIDTH, process.num_states)
        for rows in (1, ROWS):
            lengths = torch.linspace(*PROMPTS, rows).long().tolist() if rows > 1 else [PROMPTS[1]]
            prompts = tuple(torch.randint(vocab, (length,)) for length in lengths)
            task = Task(process, built, prompts)
            for name, loop, strategy in pairs(arguments.steps):
                label = f"{name}, V = {vocab}, batch {rows}"
                texts: dict[str, Tensor] = {}
                work = {
                    "published": lambda loop=loop: texts.update(a=by_published(task, loop)),
                    "preset": lambda strategy=strategy: texts.update(b=by_preset(task, strategy)),
                }
                spent = measure.take_turns(work, arguments.rounds, warm=0)
                same[label] = f"{int((texts['a'] == texts['b']).sum())} of {texts['a'].numel()}"
                print(f"{label}: {same[label]} tokens the same", flush=True)
                seconds |= {f"{label}, {side}": s for side, s in spent.items()}
                ratios.append(
                    measure.ratio(
                        f"{label}: published / preset",
                        spent["published"],
                        spent["preset"],
                        TARGETS.get((vocab, rows), ""),
                    )
                )
    facts = {
        "canvas": CANVAS,
        "answer": ANSWER,
        "block_length": BLOCK,
        "prompts": PROMPTS,
        "steps": arguments.steps,
        "network": WIDTH,
        "same tokens": same,
        "dtype": "float32",
        "seed": arguments.seed,
    }
    measure.report(ratios, seconds, facts, arguments.out)
