"""How much faster than the published loops is our best, on equal weights and at equal accuracy?

    python -m benchmarks.reference_loops --masked runs/masked --uniform runs/uniform --out x.json

Two trained models (``benchmarks.problem_model --plan large``) answer problems that have one right
answer. The masked one is decoded by LLaDA's published loop (``tests/oracle/published.py``), one
token per step; the uniform one by DiffusionGemma's, 48 steps that may end early. Both look at the
whole canvas in every step, in float32.

Ours is searched for on problems of its own, part after part: strategies first, then a cache, then
a format of weights, each time the fastest that is not less accurate than the published loop. What
was found is then timed on fresh problems, batch by batch, in turns with the published loop. A
ratio is of tokens of right and wrong answers per CPU second; both write as many.
Differs: DiffusionGemma feeds its belief back (self-conditioning) and keeps its prompt in a causal
cache; the small model does neither.
"""

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import unison
from benchmarks import measure, problems
from tests.oracle import diffusion_gemma as oracle
from tests.oracle import published
from unison.decode import Strategy
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.presets import PRESETS
from unison.decode.select import EntropyBound, LocalLeap, Threshold
from unison.decode.stop import Prophet, Stable
from unison.decode.temper import Temper
from unison.engine import precision
from unison.engine.quantised import Precision
from unison.language_model import LanguageModel

LENGTH, BLOCK, ROWS = problems.PROMPT + problems.ANSWER, 32, 18
CACHES = ("prefix", "dual", "free", "dkv")
FORMATS: tuple[Precision, ...] = ("bfloat16", "dynamic8", "8", "4")
ROLES = ("strategy alone", "with a cache")  # of what was found before the best
MARGIN = 0.5  # points of accuracy by which a candidate may lie below while it is searched for
Asked = Sequence[problems.Problem]
Writer = Callable[[Asked], list[str]]


class Candidate(NamedTuple):
    """One way of ours to decode.

    Attributes:
        label: In words.
        strategy: Chooses what is written when.
        cache: What is remembered between steps.
        weights: A format of ``unison generate --weights``, or float32.
    """

    label: str
    strategy: Strategy
    cache: str = "none"
    weights: str = "float32"


class Found(NamedTuple):
    """What a way of decoding did on a set of problems."""

    right: np.ndarray
    seconds: float


class Difference(NamedTuple):
    """Accuracy next to the published loop, in points, problem by problem.

    Attributes:
        mean: Ours less theirs.
        interval: Half of the 95 % interval.
    """

    mean: float
    interval: float


def drawn(seed: int, count: int) -> list[problems.Problem]:
    """Return problems, as many of each kind."""
    random = np.random.default_rng([seed, 11])
    kinds = list(problems.KINDS)
    return [problems.problem(random, LENGTH, kinds[i % len(kinds)]) for i in range(count)]


def tried(write: Writer, asked: Asked) -> Found:
    """Answer all problems, and tell which answers are right as a whole."""
    begin = time.process_time()
    texts = [text for i in range(0, len(asked), ROWS) for text in write(asked[i : i + ROWS])]
    seconds = time.process_time() - begin
    right = [text == one.prompt + one.answer for text, one in zip(texts, asked, strict=True)]
    return Found(np.array(right), seconds)


def difference(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Return the paired difference of two accuracies."""
    points = 100 * (ours.astype(float) - theirs)
    return Difference(float(points.mean()), 1.96 * float(points.std(ddof=1)) / math.sqrt(len(ours)))


def fastest(some: Iterable[tuple[Candidate, Found]], theirs: np.ndarray) -> Candidate:
    """Return the fastest candidate that is at most ``MARGIN`` points less accurate.

    Raises:
        ValueError: None is.
    """
    good = [
        (found.seconds, number, one)
        for number, (one, found) in enumerate(some)
        if difference(found.right, theirs).mean >= -MARGIN
    ]
    if not good:
        raise ValueError(
            "no candidate is as accurate as the published loop; train the model further or add "
            "slower candidates."
        )
    return min(good)[2]


def by_llada(model: LanguageModel, asked: Asked) -> list[str]:
    """Answer by LLaDA's published loop: the surest token of a block of 32, one per step."""
    level = torch.zeros(len(asked))

    def logits(x: Tensor) -> Tensor:
        return model.network(x, level)

    mask = model.process.mask_id  # pyright: ignore[reportAttributeAccessIssue]
    canvas = torch.full((len(asked), LENGTH), mask)
    canvas[:, : problems.PROMPT] = prompts(model, asked)
    out = published.llada(logits, canvas, mask, steps=problems.ANSWER, block_length=BLOCK)
    return texts(model, out.tokens)


def by_gemma(model: LanguageModel, asked: Asked) -> list[str]:
    """Answer by DiffusionGemma's published loop, at its published settings."""
    level, given = torch.zeros(len(asked)), prompts(model, asked)

    def logits(x: Tensor) -> Tensor:
        return model.network(torch.cat([given, x], 1), level)[:, problems.PROMPT :]

    def uniforms(what: str, step: int) -> Tensor:
        return torch.rand(len(asked), problems.ANSWER, dtype=torch.float64)

    written = gemma(logits, model.process.vocab_size, oracle.Settings(), uniforms)
    return texts(model, torch.cat([given, written], 1))


def gemma(
    logits_fn: published.LogitsFn,
    size: int,
    how: oracle.Settings,
    uniforms: Callable[[str, int], Tensor],
) -> Tensor:
    """Return what DiffusionGemma's loop writes, several rows at once.

    As ``tests/oracle/diffusion_gemma.py`` has it for one: a row keeps what it had when it came to
    rest, and the loop runs on until all have.

    Args:
        logits_fn: Tokens [B, L] to logits [B, L, V], all of the canvas.
        size: V.
        how: Steps, bound, temperatures, and when a row rests.
        uniforms: (what for: ``start``, ``token`` or ``noise``; step) to float64 [B, L].
    """
    x = oracle.tokens_at(uniforms("start", 0), size)
    best, resting = torch.full_like(x, -1), torch.zeros(len(x), dtype=torch.bool)
    for step in range(1, how.steps + 1):
        heat = how.t_min + (how.t_max - how.t_min) * ((how.steps + 1 - step) / how.steps)
        z = logits_fn(x) / heat
        drawn = oracle.inverse(z.softmax(-1).flatten(0, 1), uniforms("token", step).flatten())
        entropy = oracle.entropies(z)
        keep = torch.stack([oracle.accepted(row, how.bound) for row in entropy])
        noise = oracle.tokens_at(uniforms("noise", step), size)
        x = torch.where(keep, drawn.view_as(x), noise)
        likeliest = z.argmax(-1)
        same = (likeliest == best).all(1) & (entropy.mean(1) < how.confident)
        best = torch.where(resting[:, None], best, likeliest)
        resting = resting | same
        if resting.all():
            break
    return best


def prompts(model: LanguageModel, asked: Asked) -> Tensor:
    """Return the prompts as tokens, all of one length."""
    return torch.tensor([model.tokenizer.encode(one.prompt) for one in asked])


def texts(model: LanguageModel, tokens: Tensor) -> list[str]:
    """Return rows as text, to their first end."""
    ends = [(*row, model.tokenizer.eos_id).index(model.tokenizer.eos_id) for row in tokens.tolist()]
    return [model.text(row[:end]) for row, end in zip(tokens.tolist(), ends, strict=True)]


def by_ours(models: dict[str, LanguageModel], one: Candidate) -> Writer:
    """Return what answers in a way of ours."""

    def write(asked: Asked) -> list[str]:
        samples = unison.generate(
            models[one.weights],
            [problem.prompt for problem in asked],
            new_tokens=problems.ANSWER,
            strategy=one.strategy,
            cache=one.cache,
            batch_size=ROWS,
        )
        return [sample.text for sample in samples]

    return write


def for_masked() -> Iterator[Candidate]:
    """Yield strategies that may take the place of LLaDA's loop."""
    for name in ("fast-dllm", "entropy-bound", "localleap", "prophet", "dus", "eoser-ass"):
        yield Candidate(name, PRESETS[name]())
    for length in (BLOCK, problems.ANSWER):
        for value in (0.6, 0.75, 0.95):
            label = f"threshold {value}, blocks of {length}"
            yield Candidate(label, Composed(select=Threshold(value), block_length=length))
        for value in (0.5, 0.65):
            label = f"localleap {value}, blocks of {length}"
            yield Candidate(label, Composed(select=LocalLeap(relaxed=value), block_length=length))
        label = f"prophet, blocks of {length}"
        stop = Prophet(early=5.0, middle=4.0, late=2.5)
        yield Candidate(label, Composed(select=Threshold(0.9), stop=stop, block_length=length))


def for_uniform() -> Iterator[Candidate]:
    """Yield strategies that may take the place of DiffusionGemma's loop."""
    preset = PRESETS["diffusion-gemma"]()
    assert isinstance(preset, Composed)
    yield Candidate("diffusion-gemma", preset)
    for bound in (0.3, 1.0, 3.0):
        for rest in (0.005, 0.05):
            changed = dataclasses.replace(
                preset,
                select=EntropyBound(bound),
                stop=Stable(patience=1, entropy=rest),
                temper=Temper(),
            )
            yield Candidate(f"bound {bound}, rest {rest}, likeliest", changed)
    for steps in (4, 8, 16):
        yield Candidate(f"ancestral {steps}", Ancestral(steps=steps))


def in_formats(model: LanguageModel) -> dict[str, LanguageModel]:
    """Return the model in every format of weights that is tried, and as it is."""
    return {"float32": model, **{name: precision.quantised(model, name) for name in FORMATS}}


def search(
    models: dict[str, LanguageModel], pool: Iterable[Candidate], asked: Asked, theirs: np.ndarray
) -> list[Candidate]:
    """Return the best strategy, the best with a cache, and the best with another format too."""
    chain: list[Candidate] = []
    known: dict[Candidate, Found] = {}

    def best(some: Iterable[Candidate]) -> Candidate:
        for one in some:
            write = by_ours(models, one)
            try:
                write(asked[:1])  # kernels are compiled at their first use
                known[one] = tried(write, asked)
            except ValueError as error:
                print(f"{said(one):64} left out: {error}", flush=True)
                continue
            apart = difference(known[one].right, theirs)
            print(
                f"{said(one):64} {apart.mean:+5.1f} ± {apart.interval:4.1f} points  "
                f"{known[one].seconds:7.2f} s",
                flush=True,
            )
        chain.append(fastest(known.items(), theirs))
        return chain[-1]

    first = best(pool)
    second = best(first._replace(cache=cache) for cache in CACHES)
    best(second._replace(weights=name) for name in models if name != "float32")
    return chain


def said(one: Candidate) -> str:
    """Return a candidate in words."""
    return f"{one.label}, cache {one.cache}, weights {one.weights}"


class Part(NamedTuple):
    """A published loop, and what may take its place.

    Attributes:
        name: Of the loop.
        loop: It, given a model.
        pool: Strategies of ours.
        folder: Of the model.
    """

    name: str
    loop: Callable[[LanguageModel, Asked], list[str]]
    pool: Callable[[], Iterator[Candidate]]
    folder: Path


class Outcome(NamedTuple):
    """What a part came to."""

    ratios: list[measure.Ratio]
    seconds: dict[str, list[float]]
    facts: dict[str, Any]


def ran(part: Part, options: argparse.Namespace) -> Outcome:
    """Search on some problems, then measure on others."""
    models = in_formats(unison.load(part.folder, "cpu"))
    model = models["float32"]

    def loop(asked: Asked) -> list[str]:
        return part.loop(model, asked)

    learnt = drawn(options.seed + 1, options.batches_to_search * ROWS)
    base = tried(loop, learnt)
    print(f"{part.name}: {100 * base.right.mean():.1f} % right, {base.seconds:.1f} s", flush=True)
    chain = list(dict.fromkeys(search(models, part.pool(), learnt, base.right)))

    fresh = drawn(options.seed + 2, options.rounds * ROWS)
    runs: dict[str, list[Found]] = {part.name: [], **{said(one): [] for one in chain}}
    for i in range(0, len(fresh), ROWS):
        runs[part.name].append(tried(loop, fresh[i : i + ROWS]))
        for one in chain:
            runs[said(one)].append(tried(by_ours(models, one), fresh[i : i + ROWS]))
    return outcome(part.name, runs)


def outcome(name: str, runs: dict[str, list[Found]]) -> Outcome:
    """Return the ratios of one part; the first of ``runs`` is the published loop."""
    seconds = {label: [found.seconds for found in some] for label, some in runs.items()}
    right = {label: np.concatenate([found.right for found in some]) for label, some in runs.items()}
    theirs, *ours = runs
    facts: dict[str, Any] = {f"{name}, % right": 100 * float(right[theirs].mean())}
    count = right[theirs].size * problems.ANSWER
    facts[f"{name}, tokens per CPU second"] = count / sum(seconds[theirs])
    ratios = []
    for label in ours:
        apart = difference(right[label], right[theirs])
        facts[label] = {
            "points": apart.mean,
            "interval": apart.interval,
            "tokens per CPU second": count / sum(seconds[label]),
        }
        print(f"{label}: {apart.mean:+.1f} ± {apart.interval:.1f} points", flush=True)
        best = label == ours[-1]
        role = "best" if best else ROLES[ours.index(label)]
        called, target = f"{name}, {role}: published / ours", ">= 5" if best else ""
        ratios.append(measure.ratio(called, seconds[theirs], seconds[label], target))
        facts[called] = label
    return Outcome(ratios, seconds, facts)


def main() -> None:
    """Run the parts whose models are named."""
    parser = measure.options(__doc__, rounds=6)
    parser.add_argument("--masked", type=Path, help="folder of the masked model")
    parser.add_argument("--uniform", type=Path, help="folder of the uniform-state model")
    parser.add_argument("--batches-to-search", type=int, default=2, help=f"of {ROWS} problems")
    options = parser.parse_args()
    measure.one_thread(options.seed)
    parts = (
        Part("llada", by_llada, for_masked, options.masked),
        Part("diffusion-gemma", by_gemma, for_uniform, options.uniform),
    )
    with torch.no_grad():
        done = [ran(part, options) for part in parts if part.folder is not None]
    measure.report(
        [ratio for one in done for ratio in one.ratios],
        {label: spent for one in done for label, spent in one.seconds.items()},
        {key: fact for one in done for key, fact in one.facts.items()},
        options.out,
    )


if __name__ == "__main__":
    main()
