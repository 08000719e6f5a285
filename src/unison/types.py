"""The shape alphabet of the whole project, and the contracts several rooms speak.

B  batch rows            L  sequence positions     V  clean vocabulary (mask excluded)
D  width                 H  heads                  K  states kept by a soft token
t  diffusion time in [0, 1]: 0 is clean data, 1 is the prior
alpha  survival probability of a token at a time;  sigma = -log(alpha) is what networks see
E  shape of one event: what continuous data are made of;  s  noise over signal, u = log s
"""

from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens = Int[Tensor, "B L"]
Mask = Bool[Tensor, "B L"]
Time = Float[Tensor, " B"]
Logits = Float[Tensor, "B L V"]
LogProbs = Float[Tensor, "B L V"]
Belief = Float[Tensor, "B F V"]  # log-probabilities at the positions asked for: all L, or F of them
Event = Float[Tensor, "B *E"]  # continuous data: points, images, waves
Level = Float[Tensor, " B"]  # how noisy each row is: s for Gaussian processes, t for others


class Law(Enum):
    """What a decoding strategy promises about the distribution of its output."""

    EXACT = "samples the law its docstring names, for every denoiser"
    GREEDY = "a deterministic function of the denoiser"
    BIASED = "a heuristic; only structural invariants hold"


class Nats(NamedTuple):
    """A sum of losses and what it is a sum over; the mean is taken once, after all are added.

    Attributes:
        total: Nats, summed over positions. Differentiable.
        count: Number of positions the sum is over.
    """

    total: Float[Tensor, ""]
    count: Int[Tensor, ""]


class Estimate(NamedTuple):
    """A number that was measured: never quoted without its error and its unit.

    Attributes:
        value: The estimate.
        stderr: Its standard error, in the same unit; 0 for exact numbers.
        n: Independent observations behind it.
        unit: For example ``bits/byte``.
    """

    value: float
    stderr: float
    n: int
    unit: str


class SoftTokens(NamedTuple):
    """Positions that hold a mixture of tokens; the network embeds the weighted mean.

    Attributes:
        weights: Mixture weights, over the whole vocabulary or over ``ids`` only.
        ids: The tokens the weights speak of; ``None`` means all V, in order.
    """

    weights: Float[Tensor, "B L K"]
    ids: Int[Tensor, "B L K"] | None = None


@runtime_checkable
class Network(Protocol):
    """A trainable model as objectives see it: noisy tokens and noise level in, logits out.

    Position i of the answer speaks of position i; ``sigma`` is -log(alpha) per row.
    """

    def __call__(
        self, inputs: Tokens | SoftTokens, sigma: Time, valid: Mask | None = None
    ) -> Logits:
        """Return unnormalised logits over the clean vocabulary."""
        ...


class Focus(NamedTuple):
    """Where a step works and which answers it will read: what spares a model the rest.

    Attributes:
        positions: Canvas positions whose belief is wanted; a row with fewer repeats one of its
            own.
        block: The first position of each row's active block, and one past its last.
    """

    positions: Int[Tensor, "B F"]
    block: Int[Tensor, "B 2"]


@runtime_checkable
class Denoiser(Protocol):
    """A trained model as decoding sees it."""

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        """Return log p(x_0 | x_t), float32, normalised over the clean vocabulary.

        Args:
            xt: Noisy tokens.
            t: Time of each row.
            focus: The positions wanted, answered [batch, focus, vocab]; ``None`` for all,
                answered [batch, length, vocab].
            earlier: The belief of an earlier step at the same positions, for self-conditioned
                models; -inf everywhere in a row that has none.
        """
        ...


@runtime_checkable
class Shadowing(Protocol):
    """A denoiser that can also judge a token without seeing it."""

    def shadow(self, xt: Tokens, t: Time, focus: Focus) -> tuple[Belief, Belief]:
        """Return the belief at ``focus``, and the belief there that leaves the own token out.

        Both in one evaluation.
        """
        ...


@runtime_checkable
class Energy(Protocol):
    """What corrects a belief of independent tokens: p(x_0 | x_t) is p_diff exp(-E) / Z(x_t)."""

    def __call__(
        self,
        x0: Int[Tensor, "B K L"],
        xt: Tokens,
        t: Time,
        log_diff: Float[Tensor, "B K"],
        valid: Mask | None = None,
    ) -> Float[Tensor, "B K"]:
        """Return E(x_0, x_t, t) in nats, float64, of K texts for each row.

        A row's energies depend on that row alone.

        Args:
            x0: Clean texts that agree with ``xt`` wherever it is decided.
            xt: Noisy tokens.
            t: Time of each row.
            log_diff: log p_diff(x_0 | x_t) of each text, a sum over undecided positions.
            valid: False at padding, which then influences nothing; ``None`` if there is none.
        """
        ...


@runtime_checkable
class EventDenoiser(Protocol):
    """A trained model of continuous data as solvers see it.

    The frame is the process's own. Gaussian processes speak of y = x_t / alpha and the level
    s = sigma / alpha; all others of x_t and the level t. A condition (a class, a degraded image)
    is bound when the denoiser is made.
    """

    def __call__(self, x: Event, level: Level) -> Event:
        """Return E[x_0 | x_t], the belief's mean, for every row at its level."""
        ...


@runtime_checkable
class Spreading(Protocol):
    """A denoiser of events that can also say how sure it is."""

    def moments(self, x: Event, level: Level) -> tuple[Event, Event]:
        """Return E[x_0 | x_t] and the variance of each element, in one evaluation."""
        ...


@runtime_checkable
class Ranged(Protocol):
    """A denoiser of events that was trained on some levels only."""

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest level it may be asked about."""
        ...


@runtime_checkable
class EventNetwork(Protocol):
    """A trainable model of continuous data: scaled events and how noisy they are, an answer out.

    What the answer means is said by whoever calls it (``event_denoising``).
    """

    def __call__(
        self,
        x: Event,
        noise: Level,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Event:
        """Return an answer of the shape of ``x``.

        Args:
            x: Noisy events, scaled to variance near 1.
            noise: A bounded function of the level of each row, for example log(s) / 4.
            label: Class of each row, -1 for none said; ``None`` from networks without classes.
            beside: What else is known of each row, such as a degraded image, of the same grid.
        """
        ...
