"""Which way does a random choice fall? All randomness of drafting and verifying comes from here.

A part asks for choices; who answers decides what is learnt: ``Keyed`` draws them from the random
streams of the rows, ``Scripted`` goes through all of them, which turns a sampler into its exact
law.
"""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.decode.api import SITE_TARGET
from unison.prob import categorical, rng
from unison.prob.rng import Key

SITE_ACCEPT, SITE_ORDER, SITE_NOISE = 48, 49, 50
SITE_GUESS = 64  # guesses of rank r at SITE_GUESS + r

Row = Int[Tensor, " B"]
Live = Bool[Tensor, " B"]
Weights = Float[Tensor, "B V"]


@runtime_checkable
class Chooser(Protocol):
    """Makes the random choices of one round.

    ``live`` is False where a row does not need the answer, which may then be anything.
    """

    def accept(self, chance: Float[Tensor, " B"], node: Row, live: Live) -> Live:
        """Return True with a probability; at most once for each node of a round."""
        ...

    def write(self, logp: Weights, depth: Row, live: Live) -> Row:
        """Draw the token after a node of some depth, which is then written.

        At most once for each depth of a round, and never again for the same place of the text.
        """
        ...

    def guess(self, logq: Weights, node: Row, rank: int, live: Live) -> Row:
        """Draw a child of a node; draws of different ranks are independent."""
        ...

    def deal(self, logq: Weights, count: int, node: Row, live: Live) -> Int[Tensor, "B K"]:
        """Draw several children of a node without replacement, in the order drawn.

        Where fewer tokens are possible, what stands behind the last of them may be anything.
        """
        ...

    def noise(self, count: int, node: Row, live: Live) -> Float[Tensor, "B K"]:
        """Draw uniforms on (0, 1), float64, of a node; at most once for each node of a round."""
        ...


class Keyed(NamedTuple):
    """Choices from the random streams of the rows: a row's do not depend on its batch.

    What is written is drawn by the place in the text alone, with the number that plain decoding
    (``LeftToRight``) would use there: a verifier that draws from the target and looks whether a
    draft agrees (``match``) writes, seed by seed, the very text of plain decoding.

    Attributes:
        seed: Row seeds.
        round: Number of the round, from 0, of each row.
        written: Tokens each row has written so far.
    """

    seed: Row
    round: Row
    written: Row

    def accept(self, chance: Float[Tensor, " B"], node: Row, live: Live) -> Live:
        """See ``Chooser``."""
        del live
        u = rng.uniform_at(self._of_round(), SITE_ACCEPT, node[:, None])[:, 0]
        return u < chance

    def write(self, logp: Weights, depth: Row, live: Live) -> Row:
        """See ``Chooser``."""
        del live
        u = rng.uniform_step(self.seed, self.written + depth, SITE_TARGET)
        return categorical.sample(logp, u)

    def guess(self, logq: Weights, node: Row, rank: int, live: Live) -> Row:
        """See ``Chooser``."""
        del live
        u = rng.uniform_at(self._of_round(), SITE_GUESS + rank, node[:, None])[:, 0]
        return categorical.sample(logq, u)

    def deal(self, logq: Weights, count: int, node: Row, live: Live) -> Int[Tensor, "B K"]:
        """See ``Chooser``; by an exponential race of all tokens (Gumbel top-k)."""
        del live
        streams = rng.derived(self._of_round().seed, node)
        u = rng.uniform(Key(streams), SITE_ORDER, logq.shape[-1])
        # Arrival of token v: an exponential of rate q(v); the first k arrivals are the draws.
        arrival = (-u.log()).log() - logq.double()
        return arrival.topk(count, dim=-1, largest=False, sorted=True).indices

    def noise(self, count: int, node: Row, live: Live) -> Float[Tensor, "B K"]:
        """See ``Chooser``."""
        del live
        return rng.uniform(Key(rng.derived(self._of_round().seed, node)), SITE_NOISE, count)

    def _of_round(self) -> Key:
        """Return streams of the round's own: what was drawn for a place may be drawn again."""
        return Key(rng.derived(self.seed, self.round))
