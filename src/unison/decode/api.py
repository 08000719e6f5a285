"""The decoding contract: a strategy is a frozen dataclass with a pure step; one driver runs all."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Process
from unison.types import Denoiser, Law, Mask, Tokens

SITE_JUMP, SITE_TARGET, SITE_EXTRA = 0, 1, 2


class Canvas(NamedTuple):
    """The text being written.

    Attributes:
        tokens: x_t; noise, or the mask id, where undecided.
        given: True where the token is fixed: prompt, suffix, template, padding.
        memory: What the strategy carries from step to step; opaque to the driver.
    """

    tokens: Tokens
    given: Mask
    memory: Any = None


class StepInfo(NamedTuple):
    """What one step did.

    Attributes:
        changed: True where the step wrote a token.
        done: True for rows that need no further step.
    """

    changed: Mask
    done: Bool[Tensor, " B"]


@runtime_checkable
class Strategy(Protocol):
    """One way to turn a denoiser into text.

    Implementations are frozen dataclasses whose fields *are* the configuration, so the command
    line, the run manifest and the tests all read the same object. A step costs one denoiser
    evaluation.
    """

    law: ClassVar[Law]
    processes: ClassVar[tuple[str, ...]]  # names in unison.process.PROCESSES it can undo

    def budget(self, length: int) -> int:
        """Return the largest number of steps a canvas of that length can take."""
        ...

    def step(
        self,
        process: Any,  # each strategy narrows it to the processes it can undo
        denoise: Denoiser,
        canvas: Canvas,
        key: Key,
    ) -> tuple[Canvas, StepInfo]:
        """Advance every row by one step. Pure: equal arguments give equal results.

        ``process`` is one of those the strategy names in ``processes``; the caller checks.

        May write anything at given positions: the driver puts them back.
        """
        ...


OnStep = Callable[[int, Canvas, StepInfo], None]


class Decoded(NamedTuple):
    """The driver's result.

    Attributes:
        tokens: Final text.
        nfe: Denoiser evaluations each row needed; a finished row stops counting.
    """

    tokens: Tokens
    nfe: Int[Tensor, " B"]


def start(process: Process, tokens: Tokens, given: Mask, key: Key) -> Canvas:
    """Return a canvas whose open positions are drawn from the process's prior."""
    noise = process.prior(rng.uniform(key, rng.SITE_PRIOR, tokens.shape[1]))
    return Canvas(torch.where(given, tokens, noise), given)


def decode(
    strategy: Strategy,
    process: Process,
    denoise: Denoiser,
    canvas: Canvas,
    key: Key,
    on_step: OnStep | None = None,
) -> Decoded:
    """Run ``strategy`` until every row is done or its step budget is spent.

    Args:
        strategy: What to do each step.
        process: The corruption the denoiser was trained to undo.
        denoise: The model.
        canvas: Prompt and holes.
        key: One random stream per row.
        on_step: Observer for progress bars, traces and tests; must not mutate. Called with 0 and
            the first canvas, then with the number of steps done and the canvas after them.
    """
    done = canvas.given.all(1)
    if on_step is not None:
        on_step(0, canvas, StepInfo(torch.zeros_like(canvas.given), done))
    nfe = torch.zeros_like(done, dtype=torch.int64)
    for step in range(strategy.budget(canvas.tokens.shape[1])):
        if bool(done.all()):
            break
        after, info = strategy.step(process, denoise, canvas, key.at(step))
        held = canvas.given | done[:, None]
        tokens = torch.where(held, canvas.tokens, after.tokens)
        canvas = Canvas(tokens, canvas.given, after.memory)
        nfe = nfe + (~done).long()
        done = done | info.done
        if on_step is not None:
            on_step(step + 1, canvas, StepInfo(info.changed & ~held, done))
    return Decoded(canvas.tokens, nfe)
