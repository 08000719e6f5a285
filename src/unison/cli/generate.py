"""unison generate: let a model write, complete or fill in."""

import dataclasses
import json as json_format
from dataclasses import dataclass

from unison.cli import shared
from unison.cli.suggest import nearest
from unison.decode import STRATEGIES, Strategy
from unison.generation import Sample, generate, takes_steps
from unison.language_model import LanguageModel
from unison.recipes.run import load


@dataclass(frozen=True)
class Flags:
    """Write text. The first argument is a run or a model folder; the newest run if left out.

    --strategy NAME chooses the sampler; its own settings then become flags (see
    --strategy NAME --help).

    Attributes:
        prompt: Given text at the left.
        suffix: Given text at the right.
        canvas: The whole canvas instead, as JSON: given text and numbers of open tokens, such as
            ["def f(", 4, ")"].
        num: Texts to write.
        length: Tokens of the canvas, prompt and suffix included.
        steps: Denoiser evaluations.
        temperature: 0 for the most probable token, 1 for the model's own law.
        top_k: Keep this many tokens of the belief.
        top_p: Keep the smallest set of tokens with this mass.
        seed: Names all randomness; text i depends on it and on i, not on --num.
        batch_size: Texts written together; changes speed, never text.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    prompt: str = ""
    suffix: str = ""
    canvas: str | None = None
    num: int = 1
    length: int | None = None
    steps: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    batch_size: int = 64
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    chosen, arguments = shared.take_flag(arguments, "--strategy")
    if chosen is None:
        flags, strategy = shared.parse(Flags, "generate", arguments), None
    else:
        flags, strategy = _with_strategy(chosen, arguments)
    samples = write(load(name, flags.device), flags, strategy)
    if flags.json:
        shared.emit({"samples": [dataclasses.asdict(sample) for sample in samples]})
        return
    for number, sample in enumerate(samples):
        if len(samples) > 1:
            print(f"--- {number} ({sample.nfe} evaluations)")
        print(sample.text)


def write(model: LanguageModel, flags: Flags, strategy: Strategy | None) -> list[Sample]:
    """Write what the flags ask for.

    Raises:
        ValueError: A flag is out of range or does not fit the model.
    """
    steps = flags.steps
    if steps is None and strategy is not None and takes_steps(strategy):
        steps = model.defaults.steps  # as for a strategy chosen by name in Python
    return generate(
        model,
        flags.prompt,
        suffix=flags.suffix,
        parts=None if flags.canvas is None else _canvas(flags.canvas),
        length=flags.length,
        num=flags.num,
        strategy=strategy,
        steps=steps,
        temperature=flags.temperature,
        top_k=flags.top_k,
        top_p=flags.top_p,
        seed=flags.seed,
        batch_size=flags.batch_size,
    )


def _with_strategy(chosen: str, arguments: list[str]) -> tuple[Flags, Strategy]:
    """Parse with the strategy's settings beside the other flags.

    A strategy's own ``steps`` is the same thing as the common flag: whoever sets it sets both.
    """
    if chosen not in STRATEGIES:
        raise ValueError(
            f"unknown strategy {chosen!r}{nearest(chosen, STRATEGIES)}; "
            f"known: {', '.join(STRATEGIES)}."
        )
    return shared.parse_with(Flags, STRATEGIES[chosen](), "generate", arguments)


def _canvas(text: str) -> list[str | int]:
    try:
        parts = json_format.loads(text)
    except ValueError as error:
        raise ValueError(f"--canvas is not valid JSON: {error}.") from None
    if not isinstance(parts, list) or not all(
        isinstance(part, str | int) and not isinstance(part, bool) for part in parts
    ):
        raise ValueError('--canvas must be a list of texts and numbers, such as ["a ", 4, " b"].')
    return parts
