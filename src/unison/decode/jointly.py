"""What if tokens may not be drawn apart? Beliefs about whole texts, and strategies fed with them.

A constraint ties the tokens of a text together: drawn one by one from their own beliefs they
would break it. A ``Joint`` denoiser draws them as one text. A strategy that knows of this takes
its candidates from such a draw; for every other one ``Jointly`` puts a draw where it expects a
belief: certainty about the tokens of one text. Whatever part of that text a step writes, the rest
of it is still a way to go on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode.api import Canvas, StepInfo, Strategy
from unison.decode.temper import Temper
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Uniform
from unison.types import Belief, Denoiser, Focus, Law, Time, Tokens

SITE_STATES, SITE_TOKENS = 1 << 16, (1 << 16) + 1  # beyond those that strategies count up to

LAST_RESORT = 1e4  # nats by which tokens that are excluded stand behind all others

Shape = Callable[[Belief], Belief]
Uniforms = Float[Tensor, "B L 2"]


@runtime_checkable
class Tied(Protocol):
    """The law of texts that obey the constraint, under one belief."""

    def marginals(self) -> Belief:
        """Return the log-probabilities of each position's token by itself."""
        ...

    def draw(self, u: Uniforms) -> Int[Tensor, "B F"]:
        """Return the tokens of one text drawn from the law, at the positions heard."""
        ...

    def likeliest(self) -> Int[Tensor, "B F"]:
        """Return the tokens of the likeliest text, at the positions heard."""
        ...


@runtime_checkable
class Heard(Protocol):
    """What the model said about the positions asked for, before and after the constraint."""

    @property
    def said(self) -> Belief:
        """What it said by itself."""
        ...

    def under(self, shape: Shape | None = None) -> Tied:
        """Return the law of texts under its belief, reshaped.

        Args:
            shape: From its own belief to that whose texts are asked for; tokens that this excludes
                are taken where the constraint leaves nothing else. ``None`` for no change.
        """
        ...


@runtime_checkable
class Joint(Protocol):
    """A denoiser whose positions are tied: its tokens are drawn together."""

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        """Return the marginals."""
        ...

    def hear(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Heard:
        """Return what the model says, arguments as for a denoiser."""
        ...

    @property
    def shadow(self) -> Callable[[Tokens, Time, Focus], tuple[Heard, Belief]] | None:
        """As in ``Shadowing``, the first belief as it is heard; ``None`` where there are none."""
        ...


@dataclass(frozen=True)
class Told:
    """A denoiser that is certain of the tokens of one text, drawn anew for each call.

    Attributes:
        denoise: Draws it.
        process: What the belief is plugged into.
        key: Random streams of this step.
        temper: How sharply it is drawn.
        sharp: Whether it is the likeliest text instead.
        plain: Whether the evidence of the tokens that stand there is left aside (see
            ``_with_evidence``).
        weighed: Whether tokens keep the probabilities the model gives them, instead of certainty.
    """

    denoise: Joint
    process: Any
    key: Key
    temper: Temper
    sharp: bool = False
    plain: bool = False
    weighed: bool = False

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        """Return -inf everywhere but at one token of each position."""
        heard = self.denoise.hear(xt, t, focus, earlier)
        law = heard.under(partial(self._shaped, xt, t, focus))
        token = self._text(law, xt.shape[1])
        token = token.clamp(max=heard.said.shape[-1] - 1)
        point, at = torch.full_like(heard.said, -torch.inf), token[..., None]
        if not self.weighed:
            return point.scatter_(-1, at, 0.0)
        said = self._shaped(xt, t, focus, heard.said).gather(-1, at)
        return point.scatter_(-1, at, said.clamp(min=-LAST_RESORT))

    def drafts(self, xt: Tokens, t: Time) -> tuple[Belief, Callable[[int], Tokens]]:
        """Return the belief texts are drawn from, and a way to draw the n-th of them."""
        heard = self.denoise.hear(xt, t)
        shaped = partial(self._shaped, xt, t, None)
        return shaped(heard.said), partial(self._text, heard.under(shaped), xt.shape[1])

    def _text(self, law: Tied, length: int, number: int = 0) -> Int[Tensor, "B F"]:
        if self.sharp or self.temper.greedy:
            return law.likeliest()
        sites = (SITE_STATES + 2 * number, SITE_TOKENS + 2 * number)
        u = torch.stack([rng.uniform(self.key, site, length) for site in sites], dim=-1)
        return law.draw(u)

    def _shaped(self, xt: Tokens, t: Time, focus: Focus | None, belief: Belief) -> Belief:
        whole = torch.ones_like(t)
        shaped = belief if self.temper.greedy else self.temper.shape(belief, whole)
        if self.plain or self.temper.greedy or not isinstance(self.process, Uniform):
            return shaped
        return _with_evidence(self.process, shaped, xt, t, focus)


def _with_evidence(
    process: Uniform, belief: Belief, xt: Tokens, t: Time, focus: Focus | None
) -> Belief:
    """Return log p(x_0 | x_t) up to a constant, where the belief leaves the own token out.

    Plugging the belief x into the posterior mixes q(x_s | x_t, x_0 = v) with weights
    x(v) q(x_t | v), so a text to be certain of must be drawn with these: x(v) times
    K alpha_t 1[v = x_t] + 1 - alpha_t.
    """
    alpha = process.schedule.alpha(t.double())[:, None]
    gain = torch.log1p(process.vocab_size * alpha / (1 - alpha)).to(belief.dtype)
    here = xt if focus is None else xt.gather(1, focus.positions)
    return belief.scatter_add(-1, here[..., None], gain.expand_as(here)[..., None])


def likeliest(denoise: Denoiser, *, plain: bool = False) -> Denoiser:
    """Return the denoiser, one that would draw a text telling the likeliest instead.

    Args:
        denoise: Any.
        plain: By the belief alone, without the evidence of the tokens that stand there.
    """
    return replace(denoise, sharp=True, plain=plain) if isinstance(denoise, Told) else denoise


def weighed(denoise: Denoiser) -> Denoiser:
    """Return the denoiser, one that draws a text saying how probable the model finds its tokens."""
    return replace(denoise, weighed=True) if isinstance(denoise, Told) else denoise


@dataclass(frozen=True)
class Jointly:
    """A strategy that expects independent tokens, told the tokens of one text every step.

    Law: where the belief is plugged into the process's posterior, that posterior averaged over
    texts of the constrained law; without a constraint, the strategy's own.

    Attributes:
        strategy: What is done with them.
        temper: How sharply texts are drawn.
    """

    law: ClassVar[Law] = Law.EXACT
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform", "sequential")
    strategy: Strategy
    temper: Temper = field(default_factory=lambda: Temper(temperature=1.0))

    def budget(self, length: int) -> int:
        """Return the strategy's."""
        return self.strategy.budget(length)

    def step(
        self, process: Any, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Take the strategy's step with a text drawn from ``denoise``, a ``Joint`` one."""
        told = Told(cast(Joint, denoise), process, key, self.temper)
        return self.strategy.step(process, told, canvas, key)
