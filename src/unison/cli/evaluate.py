"""unison evaluate: score a model on held-out text, and its samples."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from unison.cli import shared
from unison.data import read_all
from unison.evaluate.likelihood import interval
from unison.evaluate.panel import Panel
from unison.evaluate.quality import judge_of, sample_quality
from unison.evaluate.text import evaluate
from unison.recipes.run import load


@dataclass(frozen=True)
class Flags:
    """Score a model on text. The first argument is a run or a model folder.

    Likelihoods of diffusion models are upper bounds (the NELBO). With --samples, the model also
    writes, and its samples are scored: generative perplexity under the judge always together with
    entropy, distinct n-grams and repetition, and what --metrics names beside.

    Attributes:
        text: Files, folders, or the built-in corpora python-docs and python-stdlib.
        split: Where one document of a text file ends.
        passes: Noise draws per block; more draws, smaller error.
        samples: Samples to write and score.
        judge: ngram (trained on the text), smollm2 (extra judge), or a transformers folder.
        steps: Denoiser evaluations per sample.
        metrics: Of samples: compression, duplicates, mauve, novelty, vendi.
        reference: Text that people wrote, in the syntax of text; for mauve and compression.
        training: What the model was trained on, for novelty; the reference if not given.
        features: What vendi and mauve see: words, chars (words:3 says n), minilm, or the folder
            of an encoder.
        batch_size: Blocks per forward pass; does not change the noise.
        seed: Names all randomness.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    text: tuple[str, ...]
    split: Literal["auto", "file", "blank", "line"] = "auto"
    passes: int = 4
    samples: int = 0
    judge: str = "ngram"
    steps: int | None = None
    metrics: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    features: str = "words"
    batch_size: int = 32
    seed: int = 0
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "evaluate", arguments)
    if flags.samples < 0:
        raise ValueError(f"samples must be at least 0, got {flags.samples}.")
    if flags.metrics and not flags.samples:
        raise ValueError(
            f"{', '.join(flags.metrics)}: measured on samples; say how many with --samples."
        )
    panel = _panel(flags)
    model = load(name or shared.unnamed(), flags.device)
    judge = judge_of(flags.judge, flags.text) if flags.samples else None
    scores = evaluate(
        model,
        flags.text,
        split=flags.split,
        passes=flags.passes,
        batch_size=flags.batch_size,
        seed=flags.seed,
    )
    if judge is not None:
        shared.log(f"writing {flags.samples} samples")
        scores |= sample_quality(
            model, judge, num=flags.samples, steps=flags.steps, seed=flags.seed, panel=panel
        )
    if flags.json:
        shared.emit({name: shared.jsonable(score) for name, score in scores.items()})
        return
    for name, score in scores.items():
        low, high = interval(score)
        known = f"95 % [{low:.4f}, {high:.4f}]" if isfinite(score.stderr) else "no interval"
        print(f"{name:24} {score.value:10.4f} {score.unit:12} {known}")


def _panel(flags: Flags) -> Panel:
    reference, training = (
        [document.text for document in read_all(sources, "file")] if sources else []
        for sources in (flags.reference, flags.training)
    )
    return Panel(flags.metrics, reference, training, features=flags.features, seed=flags.seed)
