"""How good is what a model writes? Samples, read by a judge, in one call."""

from collections.abc import Sequence

from unison.data import read_all
from unison.decode import Strategy
from unison.evaluate.judge import Judge, make_judge
from unison.evaluate.panel import Panel
from unison.evaluate.samples import sample_metrics
from unison.generation import generate
from unison.language_model import LanguageModel
from unison.types import Estimate


def sample_quality(
    model: LanguageModel,
    judge: Judge,
    *,
    num: int,
    strategy: Strategy | str | None = None,
    steps: int | None = None,
    seed: int = 0,
    panel: Panel | None = None,
) -> dict[str, Estimate]:
    """Write ``num`` texts and score them: perplexity under the judge together with diversity.

    Args:
        model: Writes, on canvases of its default length.
        judge: Reads.
        num: Texts.
        strategy: How to write; the model's default if ``None``.
        steps: Denoiser evaluations; the model's default if ``None``.
        seed: Names all randomness of writing.
        panel: What else is measured, and against what.

    Raises:
        ValueError: A setting is out of range or unsupported by the model.
    """
    samples = generate(model, num=num, strategy=strategy, steps=steps, seed=seed)
    rows = [sample.tokens for sample in samples]
    # The judge reads the whole canvas, end-of-document tokens left out: a short text earns nothing.
    texts = [model.tokenizer.decode(row) for row in rows]
    return sample_metrics(rows, texts, judge, panel)


def judge_of(name: str, text: Sequence[str]) -> Judge:
    """Return a judge by name; ``ngram`` is trained on the text.

    Raises:
        ValueError: The judge is unknown or its extra is not installed.
    """
    needs_text = name == "ngram"
    return make_judge(name, [doc.text for doc in read_all(text)] if needs_text else None)
