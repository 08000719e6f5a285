"""What does a newcomer see? Train, distil, sample, score and report, in one go."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unison import box, files
from unison.decode import Canvas, StepInfo
from unison.evaluate import figures
from unison.evaluate.judge import Judge
from unison.evaluate.quality import sample_quality
from unison.evaluate.report import ModelSamples, Picture, Report, Sample, Trace, write_report
from unison.generation import generate
from unison.language_model import LanguageModel
from unison.recipes.recipe import Recipe
from unison.recipes.run import Finished, load
from unison.train import log
from unison.types import Estimate

Scores = dict[int, dict[str, Estimate]]
SWEEP = (1, 2, 4, 8, 16, 64)


@dataclass(frozen=True)
class Shown:
    """One of the two models of the demonstration.

    Attributes:
        name: For people.
        folder: Its run.
        model: Itself.
        strategy: How it is sampled.
        finished: What its run left behind.
    """

    name: str
    folder: Path
    model: LanguageModel
    strategy: str
    finished: Finished


def sweep(shown: Shown, judge: Judge, num: int, seed: int, tick: Callable[[str], None]) -> Scores:
    """Score samples at each number of steps."""
    scores: Scores = {}
    for steps in SWEEP:
        tick(f"{shown.name}, {steps} steps")
        scores[steps] = sample_quality(
            shown.model, judge, num=num, strategy=shown.strategy, steps=steps, seed=seed
        )
    return scores


def trace(model: LanguageModel, strategy: str, steps: int, seed: int) -> tuple[str, Trace]:
    """Write one text and keep every step of it."""
    frames: list[list[int]] = []
    changed: list[list[bool]] = []

    def keep(step: int, canvas: Canvas, info: StepInfo) -> None:
        frames.append(canvas.tokens[0].tolist())
        changed.append(info.changed[0].tolist())

    [sample] = generate(model, num=1, strategy=strategy, steps=steps, seed=seed, on_step=keep)
    words = [[_word(model, token) for token in frame] for frame in frames]
    return sample.text, Trace(words, changed)


def _word(model: LanguageModel, token: int) -> str:
    if token >= model.tokenizer.vocab_size:
        return "▁"
    return model.tokenizer.decode([token], show_special=True)


def write(
    folder: Path,
    pair: Sequence[Shown],
    scores: Mapping[str, Scores],
    recipe: Recipe,
    judge: Judge,
    beside: Sequence[ModelSamples] = (),
) -> Path:
    """Write figures, numbers and ``report.html``; return the path of the page.

    Args:
        folder: Where.
        pair: The base and its student.
        scores: Of both, by name and steps.
        recipe: How they were made.
        judge: Who scored.
        beside: What other models wrote, shown after theirs.
    """
    base, student = pair
    pictures = {
        "losses": (_losses(pair, dark=False), _losses(pair, dark=True)),
        "steps_vs_quality": (
            figures.steps_vs_quality(scores),
            figures.steps_vs_quality(scores, dark=True),
        ),
    }
    for name, (light, _) in pictures.items():
        files.write_bytes(folder / f"{name}.png", light)
    files.write_json(folder / "results.json", _numbers(pair, scores))
    report = Report(
        title="unison: a diffusion language model, from text to few steps",
        summary=_summary(base, student, judge),
        headlines=_headlines(base, scores),
        pictures=[
            Picture(light, *_CAPTIONS[name], dark) for name, (light, dark) in pictures.items()
        ],
        models=[
            *(_samples(shown, scores[shown.name], recipe.train.seed) for shown in pair),
            *beside,
        ],
        settings=_settings(recipe),
    )
    path = folder / "report.html"
    write_report(report, path)
    return path


_CAPTIONS = {
    "losses": (
        "Training loss (the curriculum's reads lower than the true bound, on purpose) and the "
        "bound on held-out text.",
        "Loss over training steps.",
    ),
    "steps_vs_quality": (
        "Perplexity of samples under the judge and entropy within a sample, over denoiser "
        "evaluations; bars are 95 % intervals. Low perplexity with low entropy is repetition, "
        "not quality.",
        "Perplexity and entropy of samples over decoding steps, base and student.",
    ),
}


def _samples(shown: Shown, scores: Scores, seed: int) -> ModelSamples:
    samples = []
    for steps in SWEEP:
        text, steps_trace = trace(shown.model, shown.strategy, steps, seed)
        samples.append(Sample(steps, text, scores[steps], steps_trace))
    nucleus = shown.model.defaults.top_p
    law = "the model's own law" if nucleus == 1 else f"a nucleus of {nucleus}"
    return ModelSamples(shown.name, samples, f"sampled with {shown.strategy}, {law}")


def boxed(seed: int, device: str) -> ModelSamples:
    """Return what the model that comes with unison writes, to be shown beside the fresh ones."""
    model = load(box.DEFAULT, device)
    strategy = model.defaults.strategy
    samples = [
        Sample(steps, text, {}, steps_trace)
        for steps in SWEEP
        for text, steps_trace in [trace(model, strategy, steps, seed)]
    ]
    size = sum(weight.numel() for weight in model.network.parameters())
    note = (
        f"comes with unison: {size:,} parameters, trained longer, on children's stories; without "
        "scores, because the judge has read other text"
    )
    return ModelSamples(box.DEFAULT, samples, note)


def _losses(pair: Sequence[Shown], *, dark: bool) -> bytes:
    lines = log.read(pair[0].folder)
    series = {
        "training": _smoothed([(line["step"], line["loss"]) for line in lines]),
        "held-out": [
            (line["step"], line["held_out"]["value"]) for line in lines if "held_out" in line
        ],
    }
    return figures.loss_curves(series, dark=dark)


def _smoothed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average each point with the few before it."""
    window = 8
    return [
        (x, sum(y for _, y in points[max(0, i - window + 1) : i + 1]) / min(window, i + 1))
        for i, (x, _) in enumerate(points)
    ]


def _headlines(base: Shown, scores: Mapping[str, Scores]) -> dict[str, Estimate]:
    headlines: dict[str, Estimate] = {}
    if base.finished.bits_per_byte is not None:
        headlines["base: bound on held-out text"] = base.finished.bits_per_byte
    for (name, steps), what in {
        ("base", 64): "base, 64 steps",
        ("student", 8): "student, 8 steps",
    }.items():
        headlines[f"{what}: perplexity"] = scores[name][steps]["gen_ppl"]
        headlines[f"{what}: entropy"] = scores[name][steps]["entropy"]
    return headlines


def _summary(base: Shown, student: Shown, judge: Judge) -> list[str]:
    size = sum(weight.numel() for weight in base.model.network.parameters())
    return [
        f"A uniform-state diffusion language model of {size:,} parameters learnt the text, with "
        "Duo's curriculum, and was then distilled to need fewer steps. Both models start each "
        "text from random tokens and rewrite all of it at every step.",
        f"The base is sampled from its own law, the student within a nucleus of "
        f"{student.model.defaults.top_p}: its default.",
        f"The judge is {judge.name}; its perplexities are comparable only with one another.",
    ]


def _numbers(pair: Sequence[Shown], scores: Mapping[str, Scores]) -> dict[str, object]:
    return {
        "held_out_bits_per_byte": {
            shown.name: shown.finished.bits_per_byte and shown.finished.bits_per_byte._asdict()
            for shown in pair
        },
        "samples": {
            name: {
                str(steps): {metric: e._asdict() for metric, e in metrics.items()}
                for steps, metrics in by_steps.items()
            }
            for name, by_steps in scores.items()
        },
    }


def _settings(recipe: Recipe) -> dict[str, str]:
    train, distil = recipe.train, recipe.distil
    return {
        "text": ", ".join(recipe.text),
        "model": f"{train.model.depth} blocks of width {train.model.hidden}, "
        f"{train.model.max_length} tokens",
        "training": f"{train.steps} steps of {train.batch_size} blocks, "
        f"objective {type(train.objective).__name__}",
        "distillation": f"{distil.rounds} rounds of {distil.round_steps} steps, "
        f"method {type(distil.method).__name__}",
        "seed": str(train.seed),
    }
