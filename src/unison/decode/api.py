"""The decoding contract: a strategy is a frozen dataclass with a pure step; one driver runs all."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Process
from unison.types import Denoiser, Law, Mask, Tokens

SITE_JUMP, SITE_TARGET, SITE_EXTRA = 0, 1, 2


class Canvas(NamedTuple):
    """The text being written.

    Rows are ragged: a short one is padded at the right. Full-canvas, semi-autoregressive and
    block-causal writing differ in ``block`` alone.

    Attributes:
        tokens: x_t; noise, or the mask id, where undecided.
        given: True where the token is fixed: prompt, suffix, template, padding.
        memory: What the strategy carries from step to step: ``None``, a tensor with rows first,
            or a tuple of such.
        valid: False at padding; ``None`` if there is none.
        block: The block each position belongs to, non-decreasing along a row: a strategy that
            works in blocks finishes the lowest open one first. ``None`` leaves the division to
            the strategy.
        level: Noise level of each position, 0 where decided and 1 where nothing is known yet;
            ``None`` from strategies with one level for all.
    """

    tokens: Tokens
    given: Mask
    memory: Any = None
    valid: Mask | None = None
    block: Int[Tensor, "B L"] | None = None
    level: Float[Tensor, "B L"] | None = None


class StepInfo(NamedTuple):
    """What one step did.

    Attributes:
        changed: True where the step wrote a token.
        done: True for rows that need no further step.
        candidate: The token the step would write at each position, -1 where it had no opinion;
            ``None`` from strategies that keep it to themselves.
        confidence: Probability of the candidate, 0 where there is none.
    """

    changed: Mask
    done: Bool[Tensor, " B"]
    candidate: Tokens | None = None
    confidence: Float[Tensor, "B L"] | None = None


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


@runtime_checkable
class Apart(Strategy, Protocol):
    """A strategy whose rows may stand at different steps, so that one can join a batch under way.

    ``key.steps`` may then name a step for each row.
    """

    @property
    def apart(self) -> bool:
        """Whether it does so with the settings it has."""
        ...

    def joined(self, process: Any, canvases: Sequence[Canvas]) -> Any:
        """Return the memory of several batches as one; rows without any get what a first step has.

        Args:
            process: One of those the strategy names.
            canvases: The batches, all of one length.
        """
        ...


@runtime_checkable
class Rowwise(Denoiser, Protocol):
    """A denoiser that can go on with some of its rows: finished ones then cost nothing."""

    def keep(self, rows: Int[Tensor, " R"]) -> Denoiser:
        """Return the denoiser of some of the rows, by number."""
        ...


@runtime_checkable
class Counted(Denoiser, Protocol):
    """A denoiser that does not pass every question on to its network, and says how many it did."""

    def evaluations(self) -> Int[Tensor, " B"]:
        """Return how often each row was evaluated since the first call; never waits."""
        ...


OnStep = Callable[[int, Canvas, StepInfo], None]


class Decoded(NamedTuple):
    """The driver's result.

    Attributes:
        tokens: Final text.
        nfe: Denoiser evaluations each row needed, one a step unless the denoiser is ``Counted``;
            a finished row stops counting.
        step: The step, from 1, that wrote each final token; 0 where it was given.
        confidence: Probability the model gave the token when it was written; 1 where given, NaN
            where the strategy does not say.
    """

    tokens: Tokens
    nfe: Int[Tensor, " B"]
    step: Int[Tensor, "B L"]
    confidence: Float[Tensor, "B L"]


def start(
    process: Process, tokens: Tokens, given: Mask, key: Key, valid: Mask | None = None
) -> Canvas:
    """Return a canvas whose open positions are drawn from the process's prior.

    Args:
        process: Whose prior.
        tokens: What is given; anything where it is not.
        given: True where fixed; padding counts as given.
        key: One random stream per row.
        valid: False at padding.
    """
    noise = process.prior(rng.uniform(key, rng.SITE_PRIOR, tokens.shape[1]))
    return Canvas(torch.where(given, tokens, noise), given, valid=valid)


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
    result = _Progress(
        canvas,
        torch.zeros_like(canvas.given[:, 0], dtype=torch.int64),
        canvas.given.all(1),
        torch.zeros_like(canvas.tokens),
        torch.where(canvas.given, 1.0, torch.nan),
    )
    if on_step is not None:
        on_step(0, canvas, StepInfo(torch.zeros_like(canvas.given), result.done))
    rows = torch.arange(len(canvas.tokens), device=canvas.tokens.device)
    for step in range(strategy.budget(canvas.tokens.shape[1])):
        done = result.done[rows]
        if bool(done.all()):
            break
        if isinstance(denoise, Rowwise) and bool(done.any()):
            left = (~done).nonzero()[:, 0]
            canvas, denoise, rows = selected(canvas, left), denoise.keep(left), rows[left]
        done, at = result.done[rows], Key(key.seed[rows], step)
        canvas, info = stepped(strategy, process, denoise, (canvas, done), at)
        counted = denoise.evaluations() if isinstance(denoise, Counted) else None
        result = _merged(result, rows, canvas, info, step + 1, counted)
        if on_step is not None:
            on_step(step + 1, result.canvas, _widened(info, rows, result))
    return Decoded(result.canvas.tokens, result.nfe, result.written, result.confidence)


def stepped(
    strategy: Strategy,
    process: Process,
    denoise: Denoiser,
    now: tuple[Canvas, Bool[Tensor, " B"]],
    key: Key,
) -> tuple[Canvas, StepInfo]:
    """Return the canvases after a step, what was given and rows that are done left as they are.

    Args:
        strategy: What to do.
        process: The corruption the denoiser was trained to undo.
        denoise: The model.
        now: The canvases, and which are done.
        key: One random stream per row, and the step.
    """
    canvas, done = now
    after, info = strategy.step(process, denoise, canvas, key)
    held = canvas.given | done[:, None]
    tokens = torch.where(held, canvas.tokens, after.tokens)
    canvas = after._replace(tokens=tokens, given=canvas.given, valid=canvas.valid)
    return canvas, info._replace(changed=info.changed & ~held)


class _Progress(NamedTuple):
    """What is known of every row, finished ones included; fields as in ``Decoded``."""

    canvas: Canvas
    nfe: Tensor
    done: Tensor
    written: Tensor
    confidence: Tensor


def _merged(
    so_far: _Progress,
    rows: Tensor,
    canvas: Canvas,
    info: StepInfo,
    step: int,
    counted: Tensor | None,
) -> _Progress:
    """Return what is known after a step of some of the rows, each evaluated once unless counted."""
    written = torch.where(info.changed, step, so_far.written[rows])
    sure = so_far.confidence[rows]
    if info.confidence is not None:
        sure = torch.where(info.changed, info.confidence.float(), sure)
    going, before = ~so_far.done[rows], so_far.nfe[rows]
    spent = before + 1 if counted is None else counted
    whole = so_far.canvas
    level = (
        whole.level
        if canvas.level is None
        else _put(
            torch.zeros_like(so_far.confidence) if whole.level is None else whole.level,
            rows,
            canvas.level,
        )
    )
    return _Progress(
        whole._replace(
            tokens=_put(whole.tokens, rows, canvas.tokens), memory=canvas.memory, level=level
        ),
        _put(so_far.nfe, rows, torch.where(going, spent, before)),
        _put(so_far.done, rows, ~going | info.done),
        _put(so_far.written, rows, written),
        _put(so_far.confidence, rows, sure),
    )


def _widened(info: StepInfo, rows: Tensor, result: _Progress) -> StepInfo:
    """Return what a step of some rows did as seen from the whole batch."""
    quiet = torch.zeros_like(result.canvas.given)
    return StepInfo(
        _put(quiet, rows, info.changed),
        result.done,
        None if info.candidate is None else _put(quiet.long() - 1, rows, info.candidate),
        None if info.confidence is None else _put(quiet.float(), rows, info.confidence.float()),
    )


def _put(whole: Tensor, rows: Tensor, part: Tensor) -> Tensor:
    return whole.index_copy(0, rows, part.to(whole.dtype))


def selected(state: Any, rows: Tensor) -> Any:
    """Return some rows of a canvas, whatever its memory is made of."""
    if isinstance(state, Tensor):
        return state[rows]
    if isinstance(state, tuple):
        parts = [selected(part, rows) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state
