"""How is a belief conditioned on a language, row by row and step by step?"""

import numpy as np
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import Tensor

from unison.constrain.joint.law import Conditioned
from unison.constrain.joint.lead import Lead, led
from unison.constrain.joint.pieces import Pieces, cut
from unison.constrain.joint.stretch import Stretch
from unison.constrain.joint.walk import Effort, Layers, Nodes, Walker
from unison.constrain.joint.weights import Weights
from unison.constrain.language import ConstraintError
from unison.constrain.tokens import Atoms, TokenMachine


class Conditioner:
    """Conditions one row's beliefs on a language, step after step of a run.

    It remembers what it found out about the language and which text was possible last; neither
    changes an answer, both spare work. Where a language's states are found on the way, only the
    likeliest are kept, and those of the text that was possible last, so that a run whose tokens
    were all drawn jointly never comes to a dead end.

    Attributes:
        tokens: The language.
        width: How many states before each slot are kept where they are found on the way; as many
            more as it takes to find a text.
    """

    def __init__(self, tokens: TokenMachine, width: int = 32) -> None:
        if width < 1:
            raise ValueError(f"the width is {width}; it must be at least 1.")
        self.tokens, self.width = tokens, width
        self._walker = Walker(tokens)
        self._cut: tuple[Atoms, Pieces] | None = None
        self._lead: Lead | None = None

    def law(self, stretch: Stretch, logp: Float[Tensor, "F V"]) -> Conditioned:
        """Return the law of a stretch's tokens, given that their text is in the language.

        Args:
            stretch: What stands in each slot, and which row of the belief speaks of it.
            logp: The belief: log-weights, -inf for never.

        Raises:
            ConstraintError: No text that the belief allows fits.
        """
        if len(stretch.reads) and stretch.read_columns.max() >= len(logp):
            raise ValueError(
                f"a slot reads row {stretch.read_columns.max()} of a belief of {len(logp)} rows."
            )
        self._lead = lead = led(self.tokens, stretch, self._lead)
        rest = stretch.behind(len(lead.tokens))
        if lead.node < 0:
            raise _impossible(stretch)
        columns = np.sort(stretch.read_columns)
        weights = Weights(self.tokens, self._pieces(), logp, columns)
        eager = self.tokens.machine.size is not None
        effort = Effort(None if eager else self.width, hopeful=not eager)
        while True:
            layers = self._walker.walk(rest, weights, effort, lead)
            law = Conditioned(rest, layers, weights, self._pieces, self._remember, lead)
            if law.log_total > -np.inf:
                return law
            effort = self._further(effort, layers, stretch)

    def remember(self, text: Int64[ndarray, " N"], hole: Int64[ndarray, " N"]) -> None:
        """Take a text that is known to be possible for the one found last.

        Args:
            text: A token for each slot.
            hole: As in ``Stretch``.
        """
        # A hole behind it, so that all of the text leads.
        none, beyond = np.full(len(text) + 1, -1, np.int64), int(hole.max()) + 1
        whole = Stretch(np.append(text, -1), none, np.append(hole, beyond))
        self._remember(led(self.tokens, whole, None).nodes[1:])

    def _further(self, effort: Effort, layers: Layers, stretch: Stretch) -> Effort:
        """Return how to search where less effort found nothing."""
        if layers.narrowed and effort.width is not None:
            return effort._replace(width=2 * effort.width)
        if layers.guessed:
            return Effort(self.width, hopeful=False)
        raise _impossible(stretch)

    def _pieces(self) -> Pieces:
        """Return the sets of tokens known by now, cut anew only if there are more."""
        atoms = self.tokens.atoms()
        if self._cut is None or self._cut[0] is not atoms:
            self._cut = atoms, cut(atoms, self.tokens.vocabulary.nulls)
        return self._cut[1]

    def _remember(self, witness: Nodes | None) -> None:
        self._walker.witness = witness


def _impossible(stretch: Stretch) -> ConstraintError:
    return ConstraintError(
        f"no text of the language that the belief allows fits these {len(stretch)} slots, "
        f"{int((stretch.token >= 0).sum())} of which hold a token; leave more slots open, or "
        "change what stands there."
    )
