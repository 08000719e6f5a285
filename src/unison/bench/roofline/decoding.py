"""Which work writes? Steps of a strategy in the midst of a run, driven as ``generate`` drives them.

A step is taken from canvases a quarter and three quarters of the way through: that far the text
stands already, at random places, or from the left for strategies that write block by block.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch

from unison.bench.roofline.learning import text
from unison.bench.roofline.stage import Stage
from unison.bench.roofline.work import Pulse, Work, observed
from unison.decode import Canvas, StepInfo, Strategy, decode
from unison.decode.api import Rowwise
from unison.decode.diffusion.composed import Composed
from unison.drafters.lookup import Lookup
from unison.engine.reading import target_of
from unison.generation.canvases import Row
from unison.generation.ordering import Asked, ordered
from unison.generation.settings import Sampling, settings_of, strategy_named
from unison.generation.write import Beginning, beginning
from unison.language_model import LanguageModel
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Uniform
from unison.speculation import Speculation
from unison.speculation.builders.given import Given
from unison.speculation.loop import Ask, speculate
from unison.speculation.parts import Text
from unison.types import Denoiser, Law, Tokens

MOMENTS = (0.25, 0.75)  # shares of a run that lie behind
STEPS = 2  # taken from each
_WRITTEN = 8  # tokens a left-to-right model writes in one call
_SITE_PLACES = 1


@dataclass(frozen=True)
class Resumed:
    """A few steps of a strategy from somewhere in a run.

    Attributes:
        strategy: Whose steps.
        first: Number of the first.
        count: How many.
        pulse: Told of each.
    """

    law: ClassVar[Law] = Law.BIASED
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform", "sequential")
    strategy: Strategy
    first: int
    count: int
    pulse: Pulse

    def budget(self, length: int) -> int:
        """Return how many there are, whatever the length."""
        del length
        return self.count

    def step(
        self, process: Any, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Take the strategy's step of that number."""
        self.pulse.beat()
        at = key._replace(step=key.step + self.first)
        return self.strategy.step(process, denoise, canvas, at)


def writing(stage: Stage, strategy: str, process: str, name: str) -> Work:
    """Return steps of a strategy on canvases of a process.

    Args:
        stage: Where the model stands.
        strategy: A strategy's or a preset's name.
        process: Name in ``PROCESSES``.
        name: Of the row.

    Raises:
        ValueError: The strategy does not fit the model, or needs what nobody has.
    """
    model = stage.model(process)
    judge = stage.model("sequential") if "judge" in settings_of(strategy_named(strategy)) else None
    asked = Asked(parts=[stage.length], num=stage.settings.rows, seed=stage.settings.seed)
    order = ordered(model, asked, Sampling(strategy=strategy, judge=judge))
    begun = beginning(order, [part.row for part in order.texts], order.key)
    pulse = Pulse()
    parts = [
        (
            Resumed(begun.strategy, int(share * _pace(begun.strategy, stage.length)), STEPS, pulse),
            begun.canvas._replace(tokens=_midway(stage, model, begun, share)),
        )
        for share in MOMENTS
    ]

    @torch.no_grad()
    def run() -> None:
        for resumed, canvas in parts:
            decode(resumed, model.process, begun.denoise, canvas, order.key)

    return Work(name, run, begun.canvas.tokens.numel(), pulse, decodes=True)


def _pace(strategy: Strategy, length: int) -> int:
    """Return how many steps a run has, or positions where nobody says."""
    steps = strategy.steps if "steps" in settings_of(strategy) else None  # pyright: ignore
    return length if steps is None else steps


def _midway(stage: Stage, model: LanguageModel, begun: Beginning, share: float) -> Tokens:
    """Return canvases on which a share of the run has been done."""
    process, blank = model.process, begun.canvas.tokens
    clean = text(stage, len(blank))
    u = rng.uniform(Key(rng.rows(stage.settings.seed, 0, len(blank))), _SITE_PLACES, stage.length)
    u = u.to(stage.device)
    if isinstance(process, Uniform):
        time = torch.full((len(blank),), 1 - share, dtype=torch.float64, device=stage.device)
        return process.corrupt(clean, process.schedule.alpha(time), u)
    if isinstance(begun.strategy, Composed) and begun.strategy.block_length is not None:
        place = torch.arange(stage.length, device=stage.device)
        return torch.where(place < share * stage.length, clean, blank)
    return torch.where(u < share, clean, blank)


def left_to_right(stage: Stage) -> Work:
    """Return tokens of an autoregressive model that remembers its keys and values.

    Half of the canvas was read before; when the rest is full, writing begins anew behind it.

    Raises:
        ValueError: There is no such model.
    """
    model, rows, half = stage.model("sequential"), stage.settings.rows, stage.length // 2
    sampling = Sampling(strategy="left_to_right", cache="exact")
    order = ordered(model, Asked(parts=[2 * half], num=rows), sampling)
    said = (*text(stage, 1)[0, :half].tolist(), *[0] * half)
    given = Row(said, (True,) * half + (False,) * half)
    begun = beginning(order, [given] * rows, order.key)
    pulse, count = Pulse(), min(_WRITTEN, half - 1)
    read = _resumed(model, begun, begun.canvas, Resumed(begun.strategy, 0, 1, pulse), order.key)
    more, every = Resumed(begun.strategy, 0, count, pulse), torch.arange(rows, device=stage.device)
    canvas, left, denoise = read, 0, begun.denoise

    def run() -> None:
        nonlocal canvas, left, denoise
        if left < count:
            canvas, left, denoise = read, half - 1, cast(Rowwise, begun.denoise).keep(every)
        at = begun._replace(denoise=denoise)
        canvas, left = _resumed(model, at, canvas, more, order.key), left - count

    return Work("ar", run, rows, pulse, decodes=True)


@torch.no_grad()
def _resumed(
    model: LanguageModel, begun: Beginning, canvas: Canvas, steps: Resumed, key: Key
) -> Canvas:
    """Return a canvas after some steps."""
    done = decode(steps, model.process, begun.denoise, canvas, key)
    return canvas._replace(tokens=done.tokens)


def speculating(stage: Stage) -> Work:
    """Return rounds of speculation by copying from the text, its reading at the beginning included.

    Raises:
        ValueError: There is no left-to-right model, or it cannot be a target.
    """
    target, rows = target_of(stage.model("sequential")), stage.settings.rows
    prompt = text(stage, rows)[:, : stage.length // 4]
    begin = torch.full_like(prompt[:, :1], target.begin)
    tokens = torch.cat([begin, prompt], dim=1)
    length = torch.full((rows,), tokens.shape[1], device=stage.device)
    seed = rng.rows(stage.settings.seed, 0, rows)
    ask = Ask(Text(tokens, length), [stage.length // 4] * rows, seed)
    pulse = Pulse()

    @torch.no_grad()
    def run() -> None:
        speculate(Speculation(Lookup(), Given()), target, ask, observed(pulse))

    return Work("speculation", run, rows, pulse)
