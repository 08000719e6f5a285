"""How is a strategy that writes text searched? Its canvas can be kept, copied and noised again."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.decode.api import Canvas, Rowwise, Strategy, selected, start, stepped
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.process import Absorbing, Process, Sequential, Uniform
from unison.search.api import Moved
from unison.search.events import check_back
from unison.types import Belief, Denoiser, Focus, Time, Tokens

SITE_NEAR, SITE_MOVED, SITE_BACK, SITE_GUESS = 0x7FFFFF64, 0x7FFFFF65, 0x7FFFFF66, 0x7FFFFF67


class Answer(NamedTuple):
    """What the model said of canvases, at all positions.

    Attributes:
        tokens: What it was shown.
        t: The time it was told.
        belief: What it said.
        own: Whether it said what the network itself says, of decided positions too; strategies
            hear that if they ask about positions.
    """

    tokens: Tokens
    t: Time
    belief: Belief
    own: bool


class TextState(NamedTuple):
    """Texts under way.

    Attributes:
        tokens: The text, noise where undecided.
        canvas: All of the canvas.
        denoise: Who is asked about it.
        done: Which rows need no further step.
        step: How many steps are behind them.
        answer: What the model said, if it was asked.
    """

    tokens: Tokens
    canvas: Canvas
    denoise: Denoiser
    done: Bool[Tensor, " R"]
    step: int
    answer: Answer | None = None


@dataclass(frozen=True)
class TextRun:
    """A strategy at work on canvases, as searches see it.

    Attributes:
        strategy: What is done each step.
        process: What is undone.
        denoise: The model. What it remembers from step to step is not kept: give one without a
            cache. One with ``keep`` is asked about the rows it is kept for.
        canvas: What is given; other tokens are drawn. Without padding: how many steps there are
            hangs on the length, and no row's search may hang on its neighbours' length.
        timeless: Whether the model ignores the time, so that an answer about a canvas serves
            copies that have another time.
    """

    strategy: Strategy
    process: Process
    denoise: Denoiser
    canvas: Canvas
    timeless: bool = False

    def __post_init__(self) -> None:
        if self.canvas.valid is not None:
            raise ValueError(
                "rows that are searched together must be of one length, without padding; make one "
                "run for each length."
            )

    @property
    def steps(self) -> int:
        """The most steps the strategy can take."""
        return self.strategy.budget(self.canvas.tokens.shape[1])

    def start(self, key: Key, rows: Int[Tensor, " R"]) -> TextState:
        """Draw open positions from the process's prior."""
        asked: Canvas = selected(self.canvas, rows)
        noise = start(self.process, asked.tokens, asked.given, key.at(0))
        canvas = asked._replace(tokens=noise.tokens)
        denoise = _of_rows(self.denoise, rows)
        return TextState(canvas.tokens, canvas, denoise, canvas.given.all(1), 0)

    def look(self, state: TextState, key: Key) -> Moved:
        """Ask what the strategy's next step would ask, at all positions."""
        ended = state.done.all() if state.step < self.steps else True
        if state.answer is not None or bool(ended):
            return Moved(state, torch.zeros_like(state.done, dtype=torch.int64))
        asked = _Asked(state, whole=True)
        now = state.canvas, state.done
        stepped(self.strategy, self.process, asked, now, key.at(state.step))
        return Moved(state._replace(answer=asked.answer), asked.cost)

    def guess(self, state: TextState, key: Key | None = None) -> Tokens:
        """Return texts from p(x_0 | x_t): each position's mode, or independent draws.

        Raises:
            ValueError: A left-to-right model has no belief about what is further on.
        """
        if isinstance(self.process, Sequential):
            raise ValueError(
                "a left-to-right model has no belief about the rest of a text, so no guess can be "
                "judged before its end; use best_of, or give the search a value of its own."
            )
        ended = state.done | (state.step == self.steps)
        if bool(ended.all()):
            return state.tokens
        if state.answer is None:
            raise ValueError("a guess needs the model's answer; look at the states first.")
        belief, alpha = state.answer.belief, self.process.schedule.alpha(state.answer.t)
        log_x0 = self.process.log_posterior(state.tokens, belief, torch.ones_like(alpha), alpha)
        if key is None:
            said = log_x0.argmax(-1)
        else:
            u = rng.uniform(key.at(state.step), SITE_GUESS, state.tokens.shape[1])
            said = categorical.sample(log_x0, u)
        return torch.where(state.canvas.given | ended[:, None], state.tokens, said)

    def advance(self, state: TextState, key: Key) -> Moved:
        """Take the strategy's next step in the rows that are not done."""
        if state.step == self.steps or bool(state.done.all()):
            step = min(state.step + 1, self.steps)
            idle = torch.zeros_like(state.done, dtype=torch.int64)
            return Moved(state._replace(step=step, answer=None), idle)
        asked = _Asked(state, timeless=self.timeless)
        now = state.canvas, state.done
        canvas, info = stepped(self.strategy, self.process, asked, now, key.at(state.step))
        done = state.done | info.done
        moved = TextState(canvas.tokens, canvas, state.denoise, done, state.step + 1)
        return Moved(moved, asked.cost)

    def finish(self, state: TextState) -> Tokens:
        """Return the tokens."""
        return state.tokens

    def fork(self, state: TextState, rows: Int[Tensor, " R"]) -> TextState:
        """Copy rows, the strategy's memory and answers included."""
        canvas: Canvas = selected(state.canvas, rows)
        denoise, answer = _of_rows(state.denoise, rows), selected(state.answer, rows)
        return TextState(canvas.tokens, canvas, denoise, state.done[rows], state.step, answer)

    def near(self, state: TextState, spread: float, key: Key) -> TextState:
        """Draw a share of the first tokens again."""
        if not isinstance(self.process, Uniform):
            raise ValueError(
                "zero-order search moves the noise a text starts from, and this process starts "
                "from a canvas of masks, always the same; use paths, which masks again, or svdd."
            )
        if not 0 <= spread <= 1:
            raise ValueError(f"spread must be in [0, 1], got {spread}.")
        size = state.tokens.shape[1]
        fresh = self.process.prior(rng.uniform(key.at(0), SITE_NEAR, size))
        moved = rng.uniform(key.at(0), SITE_MOVED, size) < spread
        return self._noised(state, torch.where(moved, fresh, state.tokens), 0)

    def back(self, state: TextState, to: int, key: Key) -> TextState:
        """Corrupt by q(x_t | x_s) with step i at time 1 - i / steps; memories begin anew."""
        check_back(state.step, to)
        if not isinstance(self.process, Absorbing | Uniform):
            raise ValueError(
                "going back needs a process that adds noise, absorbing or uniform; left-to-right "
                "text is searched with best_of, svdd or particles."
            )
        before, after = self._survival(state.step), self._survival(to)
        ratio = (after / before).expand(len(state.tokens)).to(state.tokens.device)
        u = rng.uniform(key.at(to), SITE_BACK, state.tokens.shape[1])
        return self._noised(state, self.process.corrupt(state.tokens, ratio, u), to)

    def _noised(self, state: TextState, tokens: Tokens, step: int) -> TextState:
        given = state.canvas.given
        tokens = torch.where(given, state.tokens, tokens)
        canvas = state.canvas._replace(tokens=tokens, memory=None, level=None)
        return TextState(tokens, canvas, state.denoise, given.all(1), step)

    def _survival(self, step: int) -> Float[Tensor, "1"]:
        t = torch.tensor([1 - step / self.steps], dtype=torch.float64)
        return self.process.schedule.alpha(t)  # pyright: ignore[reportAttributeAccessIssue]


class _Asked:
    """A denoiser that is asked about rows under way, and not twice about the same.

    Attributes:
        answer: What is known at all positions.
        cost: Evaluations of each row.
    """

    def __init__(self, state: TextState, whole: bool = False, timeless: bool = False) -> None:
        self.state, self.whole, self.answer = state, whole, state.answer
        self.timeless = timeless
        self.cost = torch.zeros_like(state.done, dtype=torch.int64)

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        known, live = self.answer, ~self.state.done
        if known is None and not self.whole:
            return self._asked(live, (xt, t, focus, earlier))
        if known is None:
            everywhere = None if focus is None else focus._replace(positions=_all(xt))
            said = self._asked(live, (xt, t, everywhere, None))
            known = self.answer = Answer(xt, t, said, focus is not None)
        said = known.belief
        if focus is not None:
            at = focus.positions[..., None].expand(-1, -1, said.shape[-1])
            said = said.gather(1, at)
        if self.whole:  # what the strategy makes of it is thrown away
            return said
        same = (known.tokens == xt).all(1) & ((known.t == t) | self.timeless)
        alike = earlier is None and known.own is (focus is not None)
        new = live & ~(same & alike)
        if not bool(new.any()):
            return said
        return torch.where(new[:, None, None], self._asked(new, (xt, t, focus, earlier)), said)

    def _asked(
        self,
        live: Tensor,
        question: tuple[Tokens, Time, Focus | None, Belief | None],
    ) -> Belief:
        """Evaluate some rows; the others are said to be anything, for nobody reads it."""
        self.cost = self.cost + live
        if bool(live.all()):
            return self.state.denoise(*question)
        rows = live.nonzero()[:, 0]
        said = _of_rows(self.state.denoise, rows)(*(selected(part, rows) for part in question))
        blank = -torch.tensor(float(said.shape[-1])).log().to(said)
        whole = blank.expand(len(live), *said.shape[1:]).clone()
        return whole.index_copy(0, rows, said)


def _all(xt: Tokens) -> Tokens:
    return torch.arange(xt.shape[1], device=xt.device).expand_as(xt)


def _of_rows(denoise: Denoiser, rows: Tensor) -> Denoiser:
    return denoise.keep(rows) if isinstance(denoise, Rowwise) else denoise
