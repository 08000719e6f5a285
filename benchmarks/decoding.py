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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import measure
from tests.oracle import published
from unison.decode import Canvas, decode, start
from unison.decode.diffusion.guided import Guided
from unison.decode.presets import PRESETS, eoser_ass, learn2pd
from unison.decode.select.learned import Filter, save_filter
from unison.decode.temper import Temper
from unison.denoising import RowDenoiser
from unison.models import Transformer, TransformerConfig
from unison.models.view import View
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Uniform
from unison.types import Focus

CANVAS, ANSWER, BLOCK, ROWS, STEPS = 256, 128, 32, 8, 2
PROMPTS = (16, 128)  # shortest and longest, in tokens
VOCABS = (50257, 256)
SHARPNESS = 4.0  # standard deviation of a logit
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
        shifted: The same weights, whose output i is taken to speak of position i + 1, as Dream's.
        prompts: One row each.
    """

    process: Absorbing
    network: Transformer
    shifted: Transformer
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


class Pair(NamedTuple):
    """A published loop and the preset that does the same.

    Attributes:
        name: Of both.
        loop: Published.
        preset: Ours.
        shifted: Whether the network's output i speaks of position i + 1: the loop then shifts the
            logits, ours asks the network for the right ones.
    """

    name: str
    loop: Loop
    preset: Any
    shifted: bool


def network(vocab: int, shape: dict[str, int], states: int) -> Transformer:
    """Return random weights that say something, and something else at every position.

    Where all masks look alike, which of them goes first is a matter of the last bit.
    """
    built = Transformer(
        TransformerConfig(
            vocab_size=vocab, num_states=states, max_length=CANVAS, time="none", **shape
        )
    )
    for weight in built.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    torch.nn.init.normal_(built.head.weight, std=SHARPNESS * built.head.in_features**-0.5)  # pyright: ignore
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


def by_preset(task: Task, pair: Pair) -> Tensor:
    """Run the ragged batch through a preset."""
    net = task.shifted if pair.shifted else task.network
    tokens, valid = task.padded(left=False)
    given = tokens != task.process.mask_id
    denoise = RowDenoiser(net, task.process, None if bool(valid.all()) else valid)
    key = Key(rng.rows(0, 0, len(tokens)))
    canvas = Canvas(tokens, given, valid=valid)
    return task.answers(decode(pair.preset, task.process, denoise, canvas, key).tokens, left=False)


def pairs(steps: int) -> Iterator[Pair]:
    """Yield what is compared, at temperature 0, where both sides must write the same tokens."""

    def llada(f: published.LogitsFn, x: Tensor, mask: int) -> Tensor:
        return published.llada(f, x, mask, steps=steps, block_length=BLOCK).tokens

    def dream(f: published.LogitsFn, x: Tensor, mask: int) -> Tensor:
        return published.dream(f, x, mask, steps=steps, shifted=True).tokens

    for name, loop, shifted in (("llada", llada, False), ("dream", dream, True)):
        preset = dataclasses.replace(PRESETS[name](), steps=steps, temper=Temper())  # pyright: ignore
        yield Pair(name, loop, preset, shifted)


def loops(arguments: argparse.Namespace) -> None:
    """Compare presets with published loops: the same tokens, and how many times the cost."""
    ratios, seconds, same = [], {}, {}
    for vocab in VOCABS:
        process = Absorbing(vocab)
        built = network(vocab, WIDTH, process.num_states)
        shifted = Transformer(dataclasses.replace(built.config, shifted=True)).eval()
        shifted.load_state_dict(built.state_dict(), assign=True)
        for rows in (1, ROWS):
            task = Task(process, built, shifted, prompts(vocab, rows))
            for pair in pairs(arguments.steps):
                label = f"{pair.name}, V = {vocab}, batch {rows}"
                spent, same[label] = compared(task, pair, arguments.rounds)
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


def prompts(vocab: int, rows: int) -> tuple[Tensor, ...]:
    """Return prompts of evenly spread lengths; one alone is of the longest."""
    lengths = torch.linspace(*PROMPTS, rows).long().tolist() if rows > 1 else PROMPTS[1:]
    return tuple(torch.randint(vocab, (length,)) for length in lengths)


def compared(task: Task, pair: Pair, rounds: int) -> tuple[dict[str, list[float]], str]:
    """Return the seconds of both sides, and how many of their tokens agree."""
    texts: dict[str, Tensor] = {}
    work: dict[str, measure.Work] = {
        "published": lambda: texts.update(published=by_published(task, pair.loop)),
        "preset": lambda: texts.update(preset=by_preset(task, pair)),
    }
    spent = measure.take_turns(work, rounds, warm=0)
    agree = texts["published"] == texts["preset"]
    return spent, f"{int(agree.sum())} of {agree.numel()}"


@dataclass(frozen=True)
class Remembered:
    """A denoiser that costs nothing: it returns a belief computed beforehand, without a copy.

    Attributes:
        belief: At as many positions as may be asked for.
    """

    belief: Tensor

    def __call__(
        self, xt: Tensor, t: Tensor, focus: Focus | None = None, earlier: Tensor | None = None
    ) -> Tensor:
        """Return the belief."""
        return self.belief if focus is None else self.belief[:, : focus.positions.shape[1]]

    def shadow(self, xt: Tensor, t: Tensor, focus: Focus) -> tuple[Tensor, Tensor]:
        """Return the belief twice."""
        said = self(xt, t, focus)
        return said, said


def strategies(belief: Tensor, folder: Path) -> dict[str, Any]:
    """Return every preset, ready to run."""
    layers = [torch.randn(shape) for shape in ((BLOCK, BLOCK), (BLOCK,)) * 2]
    save_filter(folder / "filter.safetensors", Filter(*layers))
    ready = {
        "eoser-ass": lambda: dataclasses.replace(eoser_ass(), eos_ids=(0,)),
        "guided": lambda: Guided(judge=Remembered(belief)),
        "learn2pd": lambda: learn2pd(str(folder / "filter.safetensors")),
    }
    return {name: build() for name, build in (PRESETS | ready).items()}


def overhead(arguments: argparse.Namespace) -> None:
    """Compare what each preset does in its first steps with what the network does in them."""
    vocab = VOCABS[0]
    built = network(vocab, GPT2, vocab + 1)
    belief = (3 * torch.randn(1, CANVAS, vocab)).log_softmax(-1)
    ratios, seconds, asked = [], {}, {}
    with TemporaryDirectory() as folder:
        made = strategies(belief, Path(folder))
        for name, strategy in made.items():
            steps, passes, widths = sides(name, strategy, built, belief)
            asked[name] = widths
            spent = measure.take_turns({"steps": steps, "network": passes}, arguments.rounds)
            seconds |= {f"{name}, {side}": s for side, s in spent.items()}
            ratios.append(
                measure.ratio(
                    f"{name}: steps / network", spent["steps"], spent["network"], "<= 0.05"
                )
            )
    facts = {
        "canvas": CANVAS,
        "answer": ANSWER,
        "vocab": vocab,
        "steps": STEPS,
        "positions read": asked,
        "network": GPT2,
        "batch": 1,
        "dtype": "float32",
        "seed": arguments.seed,
    }
    measure.report(ratios, seconds, facts, arguments.out)


def sides(
    name: str, strategy: Any, built: Transformer, belief: Tensor
) -> tuple[Callable[[], None], Callable[[], None], list[int]]:
    """Return the steps without their network, the network's passes, and how much each answers.

    The network runs over the whole canvas and answers where the step reads, logits alone.
    """
    vocab = belief.shape[-1]
    process = Uniform(vocab) if name == "diffusion-gemma" else Absorbing(vocab)
    key = Key(rng.rows(0, 0, 1))
    given = torch.arange(CANVAS)[None] < CANVAS - ANSWER
    canvas = start(process, torch.randint(vocab, (1, CANVAS)), given, key)
    seen: list[tuple[Tensor, Tensor]] = []

    def noting(
        xt: Tensor, t: Tensor, focus: Focus | None = None, earlier: Tensor | None = None
    ) -> Tensor:
        places = torch.arange(CANVAS)[None] if focus is None else focus.positions
        seen.append((xt.clamp(max=vocab), places))
        return Remembered(belief)(xt, t, focus)

    def run(denoise: Any) -> None:
        now = canvas
        for step in range(STEPS):
            now, _ = strategy.step(process, denoise, now, key.at(step))

    def passes() -> None:
        for xt, places in seen:
            built(xt, torch.zeros(1), None, None, View(read=places))

    if name == "wino":
        place = torch.arange(CANVAS - ANSWER, CANVAS)[None]
        seen += [(canvas.tokens, place)] * STEPS
    else:
        run(noting)
    return lambda: run(Remembered(belief)), passes, [places.shape[1] for _, places in seen]


def gemma(arguments: argparse.Namespace) -> None:
    """Compare the preset diffusion-gemma with transformers' own ``generate``."""
    from benchmarks import decoding_gemma

    found, seconds, same = [], {}, {}
    targets = {rows: TARGETS[VOCABS[0], rows] for rows in (1, ROWS)}
    for ratio, spent, agree in decoding_gemma.ratios(targets, PROMPTS, arguments.rounds):
        print(f"{ratio.name}: {agree} tokens the same", flush=True)
        found.append(ratio)
        seconds |= spent
        same[ratio.name] = agree
    facts = {
        "canvas": decoding_gemma.CANVAS,
        "prompts": PROMPTS,
        "steps": decoding_gemma.STEPS,
        "network": decoding_gemma.TEXT,
        "same tokens": same,
        "dtype": "float32",
        "seed": arguments.seed,
    }
    measure.report(found, seconds, facts, arguments.out)


def main() -> None:
    """Run the part that is named first."""
    parser = measure.options(__doc__, rounds=1)
    parser.add_argument("part", choices=("loops", "gemma", "overhead"))
    parser.add_argument("--steps", type=int, default=8, help="of each run of a loop")
    arguments = parser.parse_args()
    measure.one_thread(arguments.seed)
    with torch.no_grad():
        {"loops": loops, "gemma": gemma, "overhead": overhead}[arguments.part](arguments)


if __name__ == "__main__":
    main()
